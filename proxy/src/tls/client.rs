//! The client's side: contexts of clusters, and the handshake with a server.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use rustls::ClientConfig;
use rustls::client::ClientSessionMemoryCache;
use rustls::client::Resumption;
use rustls::client::UnbufferedClientConnection;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use webpki::EndEntityCert;

use crate::config::cluster::AutoNames;
use crate::config::endpoint::Address;
use crate::config::tls::UpstreamTls;
use crate::config::tls::Validation;
use crate::net::NetStream;
use crate::net::TlsStream;
use crate::net::tls::Facts;
use crate::net::tls::facts::Names;
use crate::tls::Failure;
use crate::tls::credential::Credential;
use crate::tls::provider;
use crate::tls::verifier::Chain;
use crate::tls::verifier::Mismatch;
use crate::tls::verifier::Role;
use crate::tls::verifier::Verifier;

/// Hosts whose sessions a context keeps: a session is about 2 KB, and full handshakes are what is
/// saved.
const SESSION_HOSTS_MAX: usize = 1024;

/// The TLS of a cluster, ready for handshakes. Never changes, and its sessions are its own: a new
/// one is made when the configuration or one of its secrets does.
#[derive(Debug)]
pub struct ClientContext {
    config: ClientConfig,
    verifier: Arc<Verifier>,
    sni: Option<ServerName<'static>>,
    auto_host_sni: bool,
    /// What is to be done with the host of a request.
    auto_names: AutoNames,
    local: Option<Arc<Names>>,
    session_keys_max: usize,
    /// By host: servers behind one name do not open each other's tickets. Locked once a handshake.
    sessions: Mutex<HashMap<Address, Arc<ClientSessionMemoryCache>>>,
}

/// Whom to call.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Where it is.
    pub address: &'a Address,
    /// The host's name, or empty.
    pub hostname: &'a str,
    /// The host of the request, for what the cluster wants with it.
    pub request_host: Option<&'a str>,
    /// Offered if the context offers nothing.
    pub alpn: &'static [&'static [u8]],
    /// Offered whatever the context offers.
    pub alpn_instead: Option<&'a [Vec<u8>]>,
}

impl ClientContext {
    /// Makes ready what `config` names.
    ///
    /// # Errors
    /// What cannot be used, for the configuration's author.
    pub fn new(config: &UpstreamTls, auto_names: &AutoNames) -> Result<Self, String> {
        let anyone = || Arc::new(Validation::anyone());
        let validation = config.common.validation.clone().unwrap_or_else(anyone);
        let verifier = Verifier::new(&validation)
            .map_err(|unusable| format!("{}: {}", unusable.field, unusable.reason))?;
        let verifier = verifier.checking_server_name(config.auto_sni_san_validation);
        let verifier = Arc::new(verifier);
        let certificate = config.common.certificates.first();
        let credential = certificate.map(|certificate| Credential::new(certificate));
        let credential = credential.transpose()?;
        let sni = config.sni.as_deref().map(server_name).transpose()?;
        Ok(Self {
            config: rustls_config(config, &verifier, credential.as_ref())?,
            verifier,
            sni,
            auto_host_sni: config.auto_host_sni,
            auto_names: auto_names.clone(),
            local: credential.map(|credential| credential.names),
            session_keys_max: config.session_keys_max,
            sessions: Mutex::default(),
        })
    }

    /// Whether the host of a request makes a difference, so that connections belong to one.
    pub fn minds_host(&self) -> bool {
        self.auto_names.sni || self.auto_names.san
    }

    /// Makes the handshake with a server.
    ///
    /// # Errors
    /// It did not come about; nothing of it is left then.
    ///
    /// # Cancel safety
    /// The connection is dropped.
    pub async fn connect(
        &self,
        stream: NetStream,
        target: Target<'_>,
    ) -> Result<(NetStream, Facts), Failure> {
        let name = self.name(target)?;
        let connection = UnbufferedClientConnection::new(self.config_for(target), name.clone())
            .map_err(|error| Failure::of(&error))?;
        let mut stream = Box::new(TlsStream::client(stream, connection));
        stream
            .handshake()
            .await
            .map_err(|error| Failure::of_io(&error))?;
        let mut facts = Facts::new(stream.state());
        facts.is_validated = self.verify_again(&facts, &name)?;
        if let Some(host) = target.request_host.filter(|_| self.auto_names.san) {
            verify_host(&facts, host)?;
        }
        if let ServerName::DnsName(name) = &name {
            facts.server_name = Some(name.as_ref().into());
        }
        facts.local.clone_from(&self.local);
        Ok((NetStream::Tls(stream), facts))
    }

    /// The server's name. rustls sends no address as a name, so an address stands for none.
    fn name(&self, target: Target<'_>) -> Result<ServerName<'static>, Failure> {
        let host = (self.auto_host_sni && !target.hostname.is_empty()).then_some(target.hostname);
        // An address is no name: the configured one holds then.
        let asked = target.request_host.filter(|_| self.auto_names.sni);
        let asked = asked.filter(|host| host.parse::<IpAddr>().is_err());
        if let Some(wanted) = asked.or(host) {
            return server_name(wanted).map_err(Failure::connection);
        }
        if let Some(name) = &self.sni {
            return Ok(name.clone());
        }
        Ok(name_of(target.address))
    }

    /// Whether a server at this address that was verified once would pass now.
    pub(crate) fn trusts(&self, facts: &Facts, address: &Address) -> bool {
        let peer = facts.peer.as_ref();
        let Some((leaf, intermediates)) = peer.and_then(|peer| peer.chain().split_first()) else {
            return true;
        };
        let chain = Chain {
            leaf,
            intermediates,
        };
        let sent = facts.server_name.as_deref();
        let name = sent.and_then(|name| server_name(name).ok());
        let name = name.unwrap_or_else(|| name_of(address));
        let now = UnixTime::now();
        let checked = self.verifier.check(chain, Role::Server, Some(&name), now);
        checked.is_ok() || !self.verifier.is_strict()
    }

    /// Whether a server's certificate may have ended.
    pub(crate) fn allows_expired(&self) -> bool {
        !self.verifier.proves_something() || self.verifier.allows_expired()
    }

    fn config_for(&self, target: Target<'_>) -> Arc<ClientConfig> {
        let mut config = self.config.clone();
        if let Some(instead) = target.alpn_instead {
            config.alpn_protocols = instead.to_vec();
        } else if config.alpn_protocols.is_empty() {
            config.alpn_protocols = target.alpn.iter().map(|name| name.to_vec()).collect();
        }
        if self.session_keys_max > 0 {
            config.resumption = Resumption::store(self.sessions_of(target.address));
        }
        Arc::new(config)
    }

    fn sessions_of(&self, address: &Address) -> Arc<ClientSessionMemoryCache> {
        let mut hosts = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= SESSION_HOSTS_MAX && !hosts.contains_key(address) {
            hosts.clear(); // rare, and worth one full handshake per host
        }
        let new = || Arc::new(ClientSessionMemoryCache::new(self.session_keys_max));
        Arc::clone(hosts.entry(address.clone()).or_insert_with(new))
    }

    /// As on the server's side: a resumed session's certificate may have expired since.
    fn verify_again(&self, facts: &Facts, name: &ServerName<'_>) -> Result<bool, Failure> {
        if !facts.is_resumed && self.verifier.is_strict() {
            return Ok(self.verifier.proves_something()); // verified in this very handshake
        }
        let chain = facts
            .peer
            .as_ref()
            .and_then(|peer| peer.chain().split_first());
        let Some((leaf, intermediates)) = chain else {
            return Err(Failure::connection("the server showed no certificate"));
        };
        let chain = Chain {
            leaf,
            intermediates,
        };
        match self
            .verifier
            .check(chain, Role::Server, Some(name), UnixTime::now())
        {
            Ok(()) => Ok(self.verifier.proves_something()),
            Err(error) if self.verifier.is_strict() => Err(Failure::of(&error)),
            Err(_) => Ok(false),
        }
    }
}

/// What stands for the name of a server that has none.
fn name_of(address: &Address) -> ServerName<'static> {
    let address = match address {
        Address::Socket(address) => address.ip(),
        Address::Pipe(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    ServerName::IpAddress(address.into())
}

/// The certificate must be for the host of the request (`auto_san_validation`).
fn verify_host(facts: &Facts, host: &str) -> Result<(), Failure> {
    let name = server_name(host).map_err(Failure::connection)?;
    let leaf = facts.peer.as_ref().and_then(|peer| peer.chain().first());
    let is_for_host = leaf
        .and_then(|leaf| EndEntityCert::try_from(leaf).ok())
        .is_some_and(|leaf| leaf.verify_is_valid_for_subject_name(&name).is_ok());
    if is_for_host {
        return Ok(());
    }
    Err(Failure::of(&Mismatch::Name.into()))
}

/// Whether a name can be sent.
///
/// # Errors
/// Why not, for the configuration's author.
pub fn check_name(text: &str) -> Result<(), String> {
    server_name(text).map(|_| ())
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned()).map_err(|_| format!("{text:?} is no server name"))
}

fn rustls_config(
    config: &UpstreamTls,
    verifier: &Arc<Verifier>,
    credential: Option<&Credential>,
) -> Result<ClientConfig, String> {
    let provider = provider::provider(&config.common.parameters);
    let versions = provider::versions(&config.common.parameters);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| error.to_string())?
        .dangerous() // rustls' word for a verifier that is not its own
        .with_custom_certificate_verifier(Arc::clone(verifier) as Arc<dyn ServerCertVerifier>);
    let mut built = match credential {
        Some(credential) => {
            let key = rustls::sign::SingleCertAndKey::from(Arc::clone(&credential.certified));
            builder.with_client_cert_resolver(Arc::new(key))
        }
        None => builder.with_no_client_auth(),
    };
    built.alpn_protocols = config
        .common
        .alpn
        .iter()
        .map(|name| name.to_vec())
        .collect();
    built.resumption = Resumption::disabled();
    Ok(built)
}
