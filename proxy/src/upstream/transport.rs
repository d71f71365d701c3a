//! What stands between an upstream's socket and what is spoken on it, ready for use: a PROXY protocol
//! header, TLS.
//!
//! Hosts of one transport share TLS sessions; hosts of different transports share nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use tokio::io::AsyncWriteExt;

use crate::config;
use crate::config::Secrets;
use crate::config::cluster::AutoNames;
use crate::config::cluster::ProxyHeader;
use crate::config::cluster::UpstreamTransport;
use crate::config::endpoint::Address;
use crate::config::endpoint::Labels;
use crate::config::tls::CommonTls;
use crate::config::tls::UpstreamTls;
use crate::downstream::Downstream;
use crate::net::NetStream;
use crate::net::tls::Facts;
use crate::telemetry::stats::TlsStats;
use crate::tls;
use crate::tls::ClientContext;
use crate::tls::Failure;
use crate::tls::client::Target;
use crate::tls::live::Following;
use crate::upstream::introduction;

/// A transport.
#[derive(Debug, Default)]
pub struct Transport {
    proxy_protocol: Option<ProxyHeader>,
    tls: Option<Tls>,
}

/// TLS of a transport. A context that cannot be made ready makes every connection fail; nothing is
/// sent in clear text because of it.
#[derive(Debug)]
struct Tls {
    context: Following<ClientContext>,
    /// What it is made of, if that can change.
    followed: Option<Box<(UpstreamTls, AutoNames)>>,
    /// The generation from which on it is trusted whom it is trusted now.
    trust_since: AtomicU32,
    stats: Arc<TlsStats>,
}

impl Tls {
    fn new(
        config: &UpstreamTls,
        names: &AutoNames,
        secrets: &Secrets,
        stats: Arc<TlsStats>,
    ) -> Self {
        let named = &config.common.secrets;
        let followed = (!named.is_empty()).then(|| Box::new((config.clone(), names.clone())));
        Self {
            context: Following::new(named, secrets, || make(config, names, secrets)),
            followed,
            trust_since: AtomicU32::new(0),
            stats,
        }
    }
}

fn make(
    config: &UpstreamTls,
    names: &AutoNames,
    secrets: &Secrets,
) -> Result<ClientContext, String> {
    ClientContext::new(&config.resolve(secrets)?, names)
}

/// The transports of a cluster.
#[derive(Debug, Default)]
pub struct Transports {
    default: Arc<Transport>,
    matches: Vec<(Labels, Arc<Transport>)>,
}

impl Transports {
    /// Makes ready what is configured; `stats` is asked if there is TLS among it.
    pub fn new(
        config: &config::Cluster,
        secrets: &Secrets,
        stats: impl Fn() -> Arc<TlsStats>,
    ) -> Self {
        let names = &config.auto_names;
        let ready = |transport| Arc::new(Transport::new(transport, names, secrets, &stats));
        let matches = config.transport_matches.iter();
        Self {
            default: ready(&config.transport),
            matches: matches
                .map(|candidate| (candidate.labels.clone(), ready(&candidate.transport)))
                .collect(),
        }
    }

    /// Takes in changed secrets: handshakes from now on use them. Returns the transports that may
    /// trust others now. Called by `apply`.
    pub fn refresh(&self, secrets: &Secrets) -> Vec<Arc<Transport>> {
        let all = self.matches.iter().map(|(_, transport)| transport);
        let changed = all
            .chain([&self.default])
            .filter(|transport| transport.refresh(secrets));
        changed.cloned().collect()
    }

    /// The TLS that can be used, with the secrets in use; `config` is the cluster's.
    pub fn resolved(&self, config: &config::Cluster) -> Vec<CommonTls> {
        let matches = config.transport_matches.iter().map(|one| &one.transport);
        let configured = matches.chain([&config.transport]);
        let live = self.matches.iter().map(|(_, transport)| transport);
        let live = live.chain([&self.default]);
        let both = configured.zip(live);
        both.filter_map(|(configured, live)| {
            let (configured, live) = (configured.tls.as_ref()?, live.tls.as_ref()?);
            let current = live.context.load();
            current.context.as_ref().ok()?;
            configured.common.resolve(&current.all_secrets()).ok()
        })
        .collect()
    }

    /// That of members about which nothing is said.
    pub fn usual(&self) -> &Arc<Transport> {
        &self.default
    }

    /// That of a member: the labels of its own come before those of its locality.
    pub fn of(&self, labels: Option<&Labels>, locality: Option<&Labels>) -> &Arc<Transport> {
        let fits = |labels: Option<&Labels>| {
            let mut matches = self.matches.iter();
            matches.find(|(wanted, _)| are_among(wanted, labels))
        };
        fits(labels)
            .or_else(|| fits(locality))
            .map_or(&self.default, |(_, transport)| transport)
    }
}

fn are_among(wanted: &Labels, labels: Option<&Labels>) -> bool {
    let mut wanted = wanted.iter();
    wanted.all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value))
}

/// A stream that can be spoken on.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) stream: NetStream,
    /// What is known of its TLS.
    pub(super) tls: Option<Facts>,
    /// That of the secrets it was made with.
    pub(super) generation: u32,
}

/// Why a transport did not come about.
#[derive(Debug)]
pub(super) enum TransportFailure {
    Io(io::Error),
    /// The TLS cannot be used, for want of its secrets.
    NotReady,
    Tls(Failure),
}

impl From<io::Error> for TransportFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Transport {
    fn new(
        config: &UpstreamTransport,
        names: &AutoNames,
        secrets: &Secrets,
        stats: impl Fn() -> Arc<TlsStats>,
    ) -> Self {
        let tls = config.tls.as_ref();
        Self {
            proxy_protocol: config.proxy_protocol.clone(),
            tls: tls.map(|tls| Tls::new(tls, names, secrets, stats())),
        }
    }

    /// Says whether whom we trust may have changed.
    fn refresh(&self, secrets: &Secrets) -> bool {
        let Some(tls) = &self.tls else { return false };
        let Some((config, names)) = tls.followed.as_deref() else {
            return false;
        };
        let named = &config.common.secrets;
        let make = || make(config, names, secrets);
        let old = tls.context.load();
        if !tls.context.refresh(named, secrets, make) {
            return false;
        }
        tls.stats.context_update_by_sds().inc();
        let trust = named.validation.as_ref();
        let new = tls.context.load();
        let is_another = old.secret(trust) != new.secret(trust);
        if is_another {
            tls.trust_since.store(new.generation, Ordering::Release);
        }
        is_another
    }

    /// Whether what has changed since that generation is only what we show of ourselves.
    pub(super) fn only_shows_another(&self, generation: u32) -> bool {
        self.tls.as_ref().is_some_and(|tls| {
            let is_usable = tls.context.load().context.is_ok();
            is_usable && tls.trust_since.load(Ordering::Acquire) <= generation
        })
    }

    /// Whether a server at this address that was let be what it says would be now, as far as that can
    /// be told.
    pub(super) fn trusts(&self, facts: &Facts, address: &Address) -> bool {
        let current = self.tls.as_ref().map(|tls| tls.context.load());
        let context = current.as_ref().and_then(|one| one.context.as_ref().ok());
        context.is_none_or(|context| context.trusts(facts, address))
    }

    /// Whether a server's certificate may have ended.
    pub(super) fn allows_expired(&self) -> bool {
        let current = self.tls.as_ref().map(|tls| tls.context.load());
        let context = current.as_ref().and_then(|one| one.context.as_ref().ok());
        context.is_none_or(ClientContext::allows_expired)
    }

    /// Tells connections made with older secrets from those made with the secrets of now.
    pub(super) fn generation(&self) -> u32 {
        self.tls.as_ref().map_or(0, |tls| tls.context.generation())
    }

    /// Whether what is spoken on it is encrypted.
    pub(super) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether a connection says who its client is, and so belongs to that client.
    pub(super) fn names_client(&self) -> bool {
        self.proxy_protocol.is_some()
    }

    /// Whether the host of a request makes a difference, so that connections belong to one.
    pub fn minds_host(&self) -> bool {
        let tls = self.tls.as_ref().map(|tls| tls.context.load());
        let context = tls.as_ref().and_then(|tls| tls.context.as_ref().ok());
        context.is_some_and(ClientContext::minds_host)
    }

    /// Brings a connected socket to where something can be spoken on it.
    pub(super) async fn establish(
        &self,
        mut stream: NetStream,
        target: Target<'_>,
        client: Option<&Downstream>,
    ) -> Result<Established, TransportFailure> {
        if let Some(header) = &self.proxy_protocol {
            let place = (target.address, stream.local_address());
            let header = introduction::write(header, client, place);
            stream.write_all(&header).await?;
        }
        let Some(tls) = &self.tls else {
            return Ok(Established {
                stream,
                tls: None,
                generation: 0,
            });
        };
        let current = tls.context.load();
        let Ok(context) = &current.context else {
            return Err(TransportFailure::NotReady);
        };
        match context.connect(stream, target).await {
            Ok((stream, facts)) => {
                tls::count::handshake(&tls.stats, &facts);
                Ok(Established {
                    stream,
                    tls: Some(facts),
                    generation: current.generation,
                })
            }
            Err(failure) => {
                tls::count::failure(&tls.stats, failure.kind);
                Err(TransportFailure::Tls(failure))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::cluster::TransportMatch;
    use crate::xds::stage::fixtures;

    fn labels(text: &[(&str, &str)]) -> Labels {
        let pairs = text.iter();
        pairs
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn labels_of_a_member_come_before_those_of_its_locality() {
        let matches = [&[("a", "1")][..], &[("a", "1"), ("b", "2")], &[("c", "3")]];
        let config = config::Cluster {
            transport_matches: matches
                .map(|wanted| TransportMatch {
                    labels: labels(wanted),
                    transport: UpstreamTransport::default(),
                })
                .into(),
            ..config::Cluster::clone(&fixtures::cluster("c", fixtures::eds("c"), 1))
        };
        let transports =
            Transports::new(&config, &Secrets::new(), || unreachable!("there is no TLS"));
        let of = |own: &[(&str, &str)], locality: &[(&str, &str)]| {
            let chosen = transports.of(Some(&labels(own)), Some(&labels(locality)));
            let mut all = transports.matches.iter();
            all.position(|(_, transport)| Arc::ptr_eq(transport, chosen))
        };
        assert_eq!(
            of(&[("a", "1"), ("b", "2")], &[]),
            Some(0),
            "the first that fits"
        );
        assert_eq!(of(&[("c", "3")], &[("a", "1")]), Some(2));
        assert_eq!(of(&[("a", "2")], &[("a", "1")]), Some(0));
        assert_eq!(of(&[("a", "2")], &[]), None);
        assert!(Arc::ptr_eq(transports.of(None, None), transports.usual()));
    }
}
