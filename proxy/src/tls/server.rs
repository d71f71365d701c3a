//! The server's side: contexts of filter chains, and the handshake with a client.
//!
//! The ClientHello is read before the context decides, so that a client whose protocols we do not
//! have goes on without one, as with Envoy, where rustls would refuse it.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use rustls::server::ClientHello;
use rustls::server::NoClientAuth;
use rustls::server::NoServerSessionStorage;
use rustls::server::UnbufferedServerConnection;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::UnixTime;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::config::tls::DownstreamTls;
use crate::net::NetStream;
use crate::net::TlsStream;
use crate::net::tls::Facts;
use crate::net::tls::facts::Names;
use crate::tls::Failure;
use crate::tls::credential::Credential;
use crate::tls::provider;
use crate::tls::selector::Selector;
use crate::tls::ticket::Ticketer;
use crate::tls::verifier::Chain;
use crate::tls::verifier::Role;
use crate::tls::verifier::Verifier;

/// First read of a connection: a ClientHello with a post-quantum key share has about 1,800 bytes.
const HELLO_READ_BYTES: usize = 2048;

/// A fatal handshake_failure alert (RFC 8446 section 6.2), for clients refused before rustls is asked.
const HANDSHAKE_FAILURE: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// The TLS of a filter chain, ready for handshakes. Never changes: a new one is made when the
/// configuration or one of its secrets does, and its tickets are its own.
#[derive(Debug)]
pub struct ServerContext {
    with_alpn: Arc<ServerConfig>,
    /// For clients that offer only protocols we do not have.
    without_alpn: Arc<ServerConfig>,
    selector: Arc<Selector>,
    verifier: Option<Arc<Verifier>>,
    require_sni: bool,
}

impl ServerContext {
    /// Makes ready what `config` names.
    ///
    /// # Errors
    /// What cannot be used, for the configuration's author.
    pub fn new(config: &DownstreamTls) -> Result<Self, String> {
        let credentials = config.common.certificates.iter();
        let credentials = credentials.map(|certificate| Credential::new(certificate).map(Arc::new));
        let credentials: Vec<_> = credentials.collect::<Result<_, _>>()?;
        let selector = Arc::new(Selector::new(credentials, config.full_scan_on_mismatch));
        // As Envoy: rules that hold for everybody ask for no certificate.
        let validation = config.common.validation.as_ref();
        let validation = validation
            .filter(|validation| validation.proves_something() || validation.accepts_untrusted);
        let verifier = validation.map(|validation| {
            Verifier::new(validation)
                .map(|verifier| Arc::new(verifier.required(config.require_client_certificate)))
                .map_err(|unusable| format!("{}: {}", unusable.field, unusable.reason))
        });
        let verifier = verifier.transpose()?;
        if config.require_client_certificate && verifier.is_none() {
            return Err("a client certificate is required but nothing says which".to_owned());
        }
        let with_alpn = rustls_config(config, &selector, verifier.as_ref())?;
        let mut without_alpn = with_alpn.clone();
        without_alpn.alpn_protocols = Vec::new();
        Ok(Self {
            with_alpn: Arc::new(with_alpn),
            without_alpn: Arc::new(without_alpn),
            selector,
            verifier,
            require_sni: config.require_sni,
        })
    }

    /// Whether it depends on the name a client asks for which certificate it is shown.
    pub(crate) fn minds_name(&self) -> bool {
        self.selector.has_choice()
    }

    /// Whether a client that asks for `host`, in lower case, is shown a certificate for it that the
    /// client of this connection was not shown.
    pub(crate) fn shows_another(&self, host: &str, facts: &Facts) -> bool {
        let shown = facts.local.as_ref();
        shown.is_some_and(|shown| self.selector.shows_another(host, shown))
    }

    /// Makes the handshake with a client; `first` was read from it before.
    ///
    /// # Errors
    /// It did not come about by `deadline`; nothing of it is left then.
    pub async fn accept(
        &self,
        stream: NetStream,
        first: Vec<u8>,
        deadline: Instant,
    ) -> Result<(NetStream, Facts), Failure> {
        let handshake = Box::pin(self.handshake(stream, first));
        match tokio::time::timeout_at(deadline, handshake).await {
            Ok(result) => result,
            Err(_) => Err(Failure::timeout()),
        }
    }

    async fn handshake(
        &self,
        mut stream: NetStream,
        mut first: Vec<u8>,
    ) -> Result<(NetStream, Facts), Failure> {
        let hello = self.read_hello(&mut stream, &mut first).await?;
        if self.require_sni && hello.server_name.is_none() {
            // The client may be gone; it is refused in any case.
            let _ = stream.write_all(&HANDSHAKE_FAILURE).await;
            return Err(Failure::connection("the client names no server"));
        }
        let config = if hello.has_common_protocol {
            &self.with_alpn
        } else {
            &self.without_alpn
        };
        let connection = UnbufferedServerConnection::new(Arc::clone(config))
            .map_err(|error| Failure::of(&error))?;
        let mut stream = Box::new(TlsStream::server(stream, connection, first));
        stream
            .handshake()
            .await
            .map_err(|error| Failure::of_io(&error))?;
        let mut facts = Facts::new(stream.state());
        facts.is_validated = self.verify_again(&facts)?;
        if facts.is_validated {
            let verifier = self.verifier.as_ref();
            facts.trusted = verifier.map(|verifier| Arc::clone(verifier.validation()));
        }
        facts.server_name = hello.server_name;
        facts.local = hello.local;
        Ok((NetStream::Tls(stream), facts))
    }

    async fn read_hello(
        &self,
        stream: &mut NetStream,
        first: &mut Vec<u8>,
    ) -> Result<Hello, Failure> {
        let mut acceptor = Acceptor::default();
        let mut fed = 0;
        loop {
            while let Some(fresh) = first.get(fed..).filter(|fresh| !fresh.is_empty()) {
                // It reads from memory, and refuses more than a ClientHello can have.
                fed += acceptor
                    .read_tls(&mut &*fresh)
                    .map_err(|error| Failure::connection(error.to_string()))?;
                match acceptor.accept() {
                    Ok(Some(accepted)) => return Ok(self.hello(&accepted.client_hello())),
                    Ok(None) => {}
                    Err((error, mut alert)) => {
                        let mut bytes = Vec::new();
                        let _ = alert.write_all(&mut bytes); // to memory
                        let _ = stream.write_all(&bytes).await; // it is refused in any case
                        return Err(Failure::of(&error));
                    }
                }
            }
            first.reserve(HELLO_READ_BYTES);
            let read = stream.read_buf(first).await;
            if read.map_err(|error| Failure::of_io(&error))? == 0 {
                let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(Failure::of_io(&ended));
            }
        }
    }

    fn hello(&self, hello: &ClientHello<'_>) -> Hello {
        let ours = &self.with_alpn.alpn_protocols;
        let has_common_protocol = hello
            .alpn()
            .is_none_or(|mut theirs| theirs.any(|theirs| ours.iter().any(|ours| ours == theirs)));
        Hello {
            server_name: hello.server_name().map(Into::into),
            has_common_protocol,
            local: self
                .selector
                .select(hello)
                .map(|credential| Arc::clone(&credential.names)),
        }
    }

    /// Whether a client that was verified once would pass now.
    pub fn trusts(&self, facts: &Facts) -> bool {
        let (Some(verifier), Some(peer)) = (&self.verifier, &facts.peer) else {
            return true;
        };
        let Some((leaf, intermediates)) = peer.chain().split_first() else {
            return false;
        };
        let chain = Chain {
            leaf,
            intermediates,
        };
        let checked = verifier.check(chain, Role::Client, None, UnixTime::now());
        checked.is_ok() || !verifier.is_strict()
    }

    /// Whether a client's certificate may have ended.
    pub fn allows_expired(&self) -> bool {
        let verifier = self.verifier.as_ref();
        verifier.is_none_or(|verifier| verifier.allows_expired())
    }

    /// A resumed session brings its certificate from the ticket, where nobody looked at it since: it
    /// may have expired or been revoked. Returns whether the client is validated.
    fn verify_again(&self, facts: &Facts) -> Result<bool, Failure> {
        let (Some(verifier), Some(peer)) = (&self.verifier, &facts.peer) else {
            return Ok(false);
        };
        if !facts.is_resumed && verifier.is_strict() {
            return Ok(verifier.proves_something()); // verified in this very handshake
        }
        let Some((leaf, intermediates)) = peer.chain().split_first() else {
            return Ok(false);
        };
        let chain = Chain {
            leaf,
            intermediates,
        };
        match verifier.check(chain, Role::Client, None, UnixTime::now()) {
            Ok(()) => Ok(verifier.proves_something()),
            Err(error) if verifier.is_strict() => Err(Failure::of(&error)),
            Err(_) => Ok(false),
        }
    }
}

/// What is kept of a ClientHello.
struct Hello {
    server_name: Option<Box<str>>,
    has_common_protocol: bool,
    local: Option<Arc<Names>>,
}

fn rustls_config(
    config: &DownstreamTls,
    selector: &Arc<Selector>,
    verifier: Option<&Arc<Verifier>>,
) -> Result<ServerConfig, String> {
    let provider = provider::provider(&config.common.parameters);
    let versions = provider::versions(&config.common.parameters);
    let verifier: Arc<dyn ClientCertVerifier> = match verifier {
        Some(verifier) => Arc::clone(verifier) as _,
        None => Arc::new(NoClientAuth),
    };
    let mut built = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(selector) as _);
    built.alpn_protocols = config
        .common
        .alpn
        .iter()
        .map(|name| name.to_vec())
        .collect();
    built.ignore_client_order = config.prefer_server_ciphers;
    built.max_early_data_size = 0; // off (security case T10)
    // State for sessions without tickets is memory a client chooses; those handshakes are full.
    built.session_storage = Arc::new(NoServerSessionStorage {});
    let scope = session_scope(config);
    match Ticketer::new(&config.tickets, &scope, config.session_timeout)? {
        Some(ticketer) => built.ticketer = Arc::new(ticketer),
        None => built.send_tls13_tickets = 0,
    }
    Ok(built)
}

/// What a session must not outlive: whom we trust, what clients must show, and who we are.
fn session_scope(config: &DownstreamTls) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    let policy = (&config.common.validation, config.require_client_certificate);
    context.update(format!("{policy:?}").as_bytes());
    for certificate in &config.common.certificates {
        context.update(format!("{:?}", certificate.chain).as_bytes());
    }
    let mut scope = [0; 32];
    scope.copy_from_slice(context.finish().as_ref());
    scope
}
