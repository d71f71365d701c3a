//! rustls without buffers of its own: ciphertext comes in a caller's slice, leaves into a caller's
//! vector, and nothing is kept between calls.
//!
//! It does no I/O. What must hold: bytes that [`Engine::run`] did not consume are given again, as
//! they are, in front of what comes after them (rustls decrypts handshake fragments in place).

use std::fmt;

use rustls::client::ClientConnectionData;
use rustls::client::UnbufferedClientConnection;
use rustls::server::ServerConnectionData;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::ConnectionState;
use rustls::unbuffered::EncodeError;
use rustls::unbuffered::EncodeTlsData;
use rustls::unbuffered::EncryptError;
use rustls::unbuffered::UnbufferedConnectionCommon;
use rustls::unbuffered::UnbufferedStatus;

/// Plaintext of one record (RFC 8446 section 5.1).
const RECORD_PLAINTEXT_MAX: usize = 16 * 1024;

/// Header, nonce, tag and content type of a record, of any suite there is; a guess that saves
/// asking.
const RECORD_OVERHEAD: usize = 64;

/// One end of a TLS connection.
pub(super) enum Engine {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client(_) => "Client",
            Self::Server(_) => "Server",
        })
    }
}

/// What is wanted of the connection besides taking in what the peer sent.
pub(super) enum Job<'a> {
    /// Send close_notify.
    Close,
    /// Encrypt this.
    Encrypt(&'a [u8]),
    /// Nothing.
    Receive,
}

/// What one call did.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Bytes of `incoming` that are used up.
    pub(super) consumed: usize,
    /// The job is done; false while a handshake goes on.
    pub(super) open: bool,
    /// The peer said it sends nothing more.
    pub(super) peer_closed: bool,
}

/// Takes decrypted bytes.
pub(super) trait Sink {
    fn take(&mut self, plaintext: &[u8]);
}

impl Engine {
    /// Takes in `incoming`, hands plaintext to `sink`, does `job`, and appends what must be sent to
    /// `outgoing`: also when it fails, because then it is the alert. It must not be called again
    /// after it failed.
    pub(super) fn run(
        &mut self,
        incoming: &mut [u8],
        job: &Job<'_>,
        sink: &mut impl Sink,
        outgoing: &mut Vec<u8>,
    ) -> Result<Step, rustls::Error> {
        let mut step = Step::default();
        let result = self.step(incoming, job, sink, outgoing, &mut step);
        if result.is_err() {
            let rest = incoming.get_mut(step.consumed..).unwrap_or_default();
            match self {
                Self::Client(connection) => encode_queued(connection, rest, outgoing),
                Self::Server(connection) => encode_queued(connection, rest, outgoing),
            }
        }
        result.map(|()| step)
    }

    fn step(
        &mut self,
        incoming: &mut [u8],
        job: &Job<'_>,
        sink: &mut impl Sink,
        outgoing: &mut Vec<u8>,
        step: &mut Step,
    ) -> Result<(), rustls::Error> {
        match self {
            Self::Client(connection) => run(connection, incoming, job, sink, outgoing, step),
            Self::Server(connection) => run(connection, incoming, job, sink, outgoing, step),
        }
    }
}

/// The two kinds of connection have the method, but no trait has it.
trait Records {
    type Data;

    fn has_queued(&self) -> bool;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Records for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn has_queued(&self) -> bool {
        self.wants_write()
    }

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        UnbufferedConnectionCommon::<ClientConnectionData>::process_tls_records(self, incoming)
    }
}

impl Records for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn has_queued(&self) -> bool {
        self.wants_write()
    }

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        UnbufferedConnectionCommon::<ServerConnectionData>::process_tls_records(self, incoming)
    }
}

/// After an error: takes what is still to be sent, the alert last, and looks at nothing else. What
/// was not consumed must be there, as rustls remembers places in it.
fn encode_queued<C: Records>(connection: &mut C, incoming: &mut [u8], outgoing: &mut Vec<u8>) {
    while connection.has_queued() {
        let Ok(ConnectionState::EncodeTlsData(data)) = connection.process(incoming).state else {
            return;
        };
        if encode(data, outgoing).is_err() {
            return;
        }
    }
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> Result<(), rustls::Error> {
    append(outgoing, 0, |room| {
        data.encode(room).map_err(|error| match error {
            EncodeError::InsufficientSize(size) => Some(size.required_size),
            EncodeError::AlreadyEncoded => None,
        })
    })
}

/// Ends: each turn consumes input, empties a queue of rustls, or returns.
fn run<C: Records>(
    connection: &mut C,
    incoming: &mut [u8],
    job: &Job<'_>,
    sink: &mut impl Sink,
    outgoing: &mut Vec<u8>,
    step: &mut Step,
) -> Result<(), rustls::Error> {
    loop {
        let rest = incoming.get_mut(step.consumed..).unwrap_or_default();
        let UnbufferedStatus { discard, state, .. } = connection.process(rest);
        step.consumed += discard;
        let more = match state? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    step.consumed += record.discard;
                    sink.take(record.payload);
                }
                true
            }
            ConnectionState::EncodeTlsData(data) => {
                encode(data, outgoing)?;
                true
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done(); // the caller sends `outgoing` in any case
                true
            }
            ConnectionState::PeerClosed => {
                step.peer_closed = true;
                true
            }
            ConnectionState::WriteTraffic(mut traffic) => {
                let sent = |error| match error {
                    EncryptError::InsufficientSize(size) => Some(size.required_size),
                    EncryptError::EncryptExhausted => None,
                };
                match job {
                    Job::Close => {
                        append(outgoing, RECORD_OVERHEAD, |room| {
                            traffic.queue_close_notify(room).map_err(sent)
                        })?;
                    }
                    Job::Encrypt(plaintext) => {
                        let records = plaintext.len() / RECORD_PLAINTEXT_MAX + 1;
                        let room = plaintext.len() + records * RECORD_OVERHEAD;
                        append(outgoing, room, |room| {
                            traffic.encrypt(plaintext, room).map_err(sent)
                        })?;
                    }
                    Job::Receive => {}
                }
                step.open = true;
                false
            }
            ConnectionState::BlockedHandshake => false,
            ConnectionState::Closed => {
                step.open = true;
                step.peer_closed = true;
                false
            }
            // Early data is never offered nor accepted (security case T10).
            _ => return Err(rustls::Error::General("unexpected state".to_owned())),
        };
        if !more {
            return Ok(());
        }
    }
}

/// Appends what `write` makes in `room` bytes; it says how much it wants if that is too little, or
/// `None` if room does not help.
fn append(
    outgoing: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), rustls::Error> {
    let start = outgoing.len();
    // Twice at most: the second time there is as much room as was asked for.
    for _ in 0..2 {
        outgoing.resize(start + room, 0);
        let place = outgoing.get_mut(start..).unwrap_or_default();
        match write(place) {
            Ok(len) => {
                outgoing.truncate(start + len);
                return Ok(());
            }
            Err(Some(wanted)) => room = wanted,
            Err(None) => break,
        }
    }
    outgoing.truncate(start);
    Err(rustls::Error::EncryptError)
}
