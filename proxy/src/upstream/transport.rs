//! What stands between an upstream's socket and what is spoken on it, ready for use: a PROXY protocol
//! header, TLS.
//!
//! Hosts of one transport share TLS sessions; hosts of different transports share nothing.

use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use crate::config;
use crate::config::cluster::AutoNames;
use crate::config::cluster::ProxyHeader;
use crate::config::cluster::UpstreamTransport;
use crate::config::endpoint::Labels;
use crate::downstream::Downstream;
use crate::net::NetStream;
use crate::net::proxy_protocol;
use crate::net::proxy_protocol::Version;
use crate::net::tls::Facts;
use crate::telemetry::stats::TlsStats;
use crate::tls;
use crate::tls::ClientContext;
use crate::tls::Failure;
use crate::tls::client::Target;

/// A transport.
#[derive(Debug, Default)]
pub struct Transport {
    proxy_protocol: Option<ProxyHeader>,
    /// A context that cannot be made ready makes every connection fail; nothing is sent in clear
    /// text because of it.
    tls: Option<(Result<ClientContext, String>, Arc<TlsStats>)>,
}

/// The transports of a cluster.
#[derive(Debug, Default)]
pub struct Transports {
    default: Arc<Transport>,
    matches: Vec<(Labels, Arc<Transport>)>,
}

impl Transports {
    /// Makes ready what is configured; `stats` is asked if there is TLS among it.
    pub fn new(config: &config::Cluster, stats: impl Fn() -> Arc<TlsStats>) -> Self {
        let names = &config.auto_names;
        let ready = |transport| Arc::new(Transport::new(transport, names, &stats));
        let matches = config.transport_matches.iter();
        Self {
            default: ready(&config.transport),
            matches: matches
                .map(|candidate| (candidate.labels.clone(), ready(&candidate.transport)))
                .collect(),
        }
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

/// Why a transport did not come about.
#[derive(Debug)]
pub(super) enum TransportFailure {
    Io(io::Error),
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
        stats: impl Fn() -> Arc<TlsStats>,
    ) -> Self {
        let tls = config.tls.as_ref();
        let tls = tls.map(|tls| (ClientContext::new(tls, names), stats()));
        if let Some((Err(error), _)) = &tls {
            tracing::error!(%error, "a cluster's TLS cannot be used, its connections will fail");
        }
        Self {
            proxy_protocol: config.proxy_protocol.clone(),
            tls,
        }
    }

    /// Whether a connection says who its client is, and so belongs to that client.
    pub(super) fn names_client(&self) -> bool {
        self.proxy_protocol.is_some()
    }

    /// Whether the host of a request makes a difference, so that connections belong to one.
    pub fn minds_host(&self) -> bool {
        let tls = self.tls.as_ref().and_then(|(tls, _)| tls.as_ref().ok());
        tls.is_some_and(ClientContext::minds_host)
    }

    /// Brings a connected socket to where something can be spoken on it.
    pub(super) async fn establish(
        &self,
        mut stream: NetStream,
        target: Target<'_>,
        client: Option<&Downstream>,
    ) -> Result<(NetStream, Option<Facts>), TransportFailure> {
        if let Some(header) = &self.proxy_protocol {
            stream.write_all(&introduction(header, client)).await?;
        }
        match &self.tls {
            None => Ok((stream, None)),
            Some((Ok(tls), stats)) => match tls.connect(stream, target).await {
                Ok((stream, facts)) => {
                    tls::count::handshake(stats, &facts);
                    Ok((stream, Some(facts)))
                }
                Err(failure) => {
                    tls::count::failure(stats, failure.kind);
                    Err(TransportFailure::Tls(failure))
                }
            },
            Some((Err(error), _)) => Err(io::Error::other(error.clone()).into()),
        }
    }
}

/// Who the client is, as a PROXY protocol header; of a connection for several it says nothing.
fn introduction(header: &ProxyHeader, client: Option<&Downstream>) -> Vec<u8> {
    let addresses = client.and_then(|client| client.peer.zip(client.local));
    match header.version {
        Version::V1 => proxy_protocol::write_v1(addresses),
        Version::V2 => {
            let own = client.map_or(&[][..], |client| &client.found().tlvs);
            let passed = own.iter().filter(|tlv| header.passed_tlvs.keeps(tlv.kind));
            proxy_protocol::write_v2(addresses, header.added_tlvs.iter().chain(passed))
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
        let transports = Transports::new(&config, || unreachable!("there is no TLS"));
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
