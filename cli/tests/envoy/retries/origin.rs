//! An origin that does with each attempt what its script says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Between two looks at what other connections have seen.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A response of that status once there is another attempt.
    AfterNext(u16),
    /// A response with these fields and an empty body.
    Answer(u16, &'static [(&'static str, &'static str)]),
    /// The connection is closed.
    Close,
    /// The connection is closed once there is another attempt.
    CloseAfterNext,
    /// A gRPC response: head, messages of one byte, trailers with this status.
    Grpc(usize, &'static str),
    /// Nothing.
    Hang,
    /// What is not HTTP.
    Nonsense,
    /// The stream is refused (HTTP/2), the connection reset (HTTP/1).
    Refuse,
    /// The stream or the connection is reset.
    Reset,
}

/// What was seen of an attempt: some fields of its head, and the length of its body.
pub(super) type Seen = String;

/// Listens until it is dropped.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Origin {
    /// The last step is done again and again.
    pub(super) async fn start(steps: &'static [Step]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let attempts = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let attempts = Arc::clone(&attempts);
                tokio::spawn(async move {
                    let script = Script { steps, attempts };
                    let _ = script.serve(stream).await; // proxies leave when they want
                });
            }
        });
        Self {
            address,
            seen,
            task,
        }
    }

    /// What was seen since the last time.
    pub(super) fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Script {
    steps: &'static [Step],
    attempts: Arc<Mutex<Vec<Seen>>>,
}

impl Script {
    /// Waits until there is another attempt, or the case is over.
    async fn another(&self) {
        let count = || {
            let attempts = self.attempts.lock();
            attempts.unwrap_or_else(PoisonError::into_inner).len()
        };
        let before = count();
        while count() == before {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn next(&self, seen: Seen) -> Step {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let place = attempts.len().min(self.steps.len() - 1);
        attempts.push(seen);
        self.steps[place]
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut read = Vec::new();
        while read.len() < 3 {
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        }
        if read.starts_with(b"PRI") {
            self.serve_http2(stream, read).await
        } else {
            self.serve_http1(stream, read).await
        }
    }

    async fn serve_http1(&self, mut stream: TcpStream, mut read: Vec<u8>) -> std::io::Result<()> {
        loop {
            let (head, body) = loop {
                if let Some(message) = message(&mut read) {
                    break message;
                }
                if stream.read_buf(&mut read).await? == 0 {
                    return Ok(());
                }
            };
            let answer = match self.next(seen(&head, body)) {
                Step::AfterNext(status) => {
                    self.another().await;
                    answer(status, &[])
                }
                Step::Answer(status, fields) => answer(status, fields),
                Step::Close => return Ok(()),
                Step::CloseAfterNext => {
                    self.another().await;
                    return Ok(());
                }
                Step::Grpc(messages, status) => grpc_answer(messages, status),
                Step::Hang => {
                    while stream.read_buf(&mut read).await? > 0 {}
                    return Ok(());
                }
                Step::Nonsense => "nonsense\r\n\r\n".to_owned(),
                Step::Refuse | Step::Reset => return reset(&stream),
            };
            stream.write_all(answer.as_bytes()).await?;
        }
    }

    /// Streams that carry a body are not looked at before it has ended.
    async fn serve_http2(&self, mut stream: TcpStream, mut read: Vec<u8>) -> std::io::Result<()> {
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        while read.len() < PREFACE.len() {
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        }
        read.drain(..PREFACE.len());
        let mut owed: Option<Vec<u8>> = None;
        loop {
            let Some((kind, flags, id)) = next_frame(&mut read) else {
                if stream.read_buf(&mut read).await? == 0 {
                    return Ok(());
                }
                continue;
            };
            if kind == SETTINGS && flags == 0 {
                stream.write_all(&frame(SETTINGS, 1, 0, &[])).await?;
            }
            if !matches!(kind, DATA | HEADERS) || flags & END_STREAM == 0 {
                continue;
            }
            let step = self.next("a stream".to_owned());
            if let Some(answer) = owed.take() {
                stream.write_all(&answer).await?;
            }
            let answer = match step {
                Step::AfterNext(status) => {
                    let block = block(Some(status), &[]);
                    owed = Some(frame(HEADERS, END_HEADERS | END_STREAM, id, &block));
                    continue;
                }
                Step::Answer(status, fields) => {
                    let block = block(Some(status), fields);
                    frame(HEADERS, END_HEADERS | END_STREAM, id, &block)
                }
                Step::Close | Step::CloseAfterNext => return Ok(()),
                Step::Grpc(messages, status) => grpc_frames(id, messages, status),
                Step::Hang => continue,
                Step::Nonsense => frame(SETTINGS, 0, id, &[0]),
                Step::Refuse => frame(RST_STREAM, 0, id, &REFUSED_STREAM.to_be_bytes()),
                Step::Reset => frame(RST_STREAM, 0, id, &INTERNAL_ERROR.to_be_bytes()),
            };
            stream.write_all(&answer).await?;
        }
    }
}

/// A whole request, taken off.
fn message(read: &mut Vec<u8>) -> Option<(String, usize)> {
    let end = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
    let body = if head.contains("transfer-encoding: chunked") {
        let last = read[end..]
            .windows(5)
            .position(|five| five == b"0\r\n\r\n")?;
        last + 5
    } else {
        let length = field(&head, "content-length");
        length.map_or(0, |length| length.parse().expect("a length"))
    };
    if read.len() < end + body {
        return None;
    }
    read.drain(..end + body);
    Some((head, body))
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn seen(head: &str, body: usize) -> Seen {
    let names = [
        "x-envoy-attempt-count",
        "x-envoy-is-timeout-retry",
        "x-envoy-retry-on",
        "x-envoy-max-retries",
        "grpc-timeout",
    ];
    let fields = names.map(|name| field(head, name).unwrap_or("-"));
    // Later it depends on how long the others took.
    let is_first = fields[0] == "1";
    let expected = field(head, "x-envoy-expected-rq-timeout-ms").filter(|_| is_first);
    format!("{} {} {body}", fields.join(" "), expected.unwrap_or("-"))
}

fn answer(status: u16, fields: &[(&str, &str)]) -> String {
    let mut answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n");
    for (name, value) in fields {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer + "\r\n"
}

fn grpc_answer(messages: usize, status: &str) -> String {
    let head = "HTTP/1.1 200 x\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n";
    let body = "1\r\nx\r\n".repeat(messages);
    format!("{head}\r\n{body}0\r\ngrpc-status: {status}\r\n\r\n")
}

fn grpc_frames(id: u32, messages: usize, status: &'static str) -> Vec<u8> {
    let head = block(Some(200), &[("content-type", "application/grpc")]);
    let mut frames = frame(HEADERS, END_HEADERS, id, &head);
    for _ in 0..messages {
        frames.extend(frame(DATA, 0, id, b"x"));
    }
    let trailers = block(None, &[("grpc-status", status)]);
    frames.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, &trailers));
    frames
}

/// Fields without compression (RFC 7541 section 6.2.2); `:status` is the name at place 8.
fn block(status: Option<u16>, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    let text = |block: &mut Vec<u8>, text: &str| {
        block.push(u8::try_from(text.len()).expect("it is short"));
        block.extend_from_slice(text.as_bytes());
    };
    if let Some(status) = status {
        block.push(8);
        text(&mut block, &status.to_string());
    }
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("it is short");
    let mut frame = vec![0, 0, length, kind, flags];
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Kind, flags and stream of a whole frame, taken off.
fn next_frame(read: &mut Vec<u8>) -> Option<(u8, u8, u32)> {
    let [high, middle, low, kind, flags, id @ ..] = *read.first_chunk::<9>()?;
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    if read.len() < 9 + length {
        return None;
    }
    read.drain(..9 + length);
    Some((kind, flags, u32::from_be_bytes(id)))
}

fn reset(stream: &TcpStream) -> std::io::Result<()> {
    #[expect(deprecated, reason = "of zero, it does not block")]
    stream.set_linger(Some(Duration::ZERO))
}
