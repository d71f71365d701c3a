//! What stands between an upstream's socket and what is spoken on it, ready for use: a PROXY protocol
//! header, TLS.
//!
//! Hosts of one transport share TLS sessions; hosts of different transports share nothing.

use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use crate::config;
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
        let ready = |transport| Arc::new(Transport::new(transport, &stats));
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
    fn new(config: &UpstreamTransport, stats: impl Fn() -> Arc<TlsStats>) -> Self {
        let tls = config.tls.as_ref();
        let tls = tls.map(|tls| (ClientContext::new(tls, false), stats()));
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
