//! The shape of a row: what is started, what is sent, what is promised. The rows are in
//! [`super::scenarios`].

use bench::load::{Protocol, RequestShape};
use bytes::Bytes;

use super::contestant::Contestant;

/// What the proxies are configured to do; each has one file per peer in `peers/`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Setup {
    Http1ToHttp1,
    /// The same with an access log.
    Http1Logged,
    /// The same with all that protects.
    Http1Guarded,
    /// The same to two members, each in turn.
    Http1InTurn,
    /// The same to two members, by weights that follow latency.
    Http1Latency,
    Http1ToHttp2,
    Http2ToHttp1,
    Http2ToHttp2,
    /// The same with all that protects.
    Http2Guarded,
    /// TLS in front, clear behind.
    TlsToHttp1,
    /// TLS with certificates of both ends, in front and behind.
    MutualTls,
    Tcp,
    /// HTTP/1.1, a table of many routes to one cluster.
    Routes,
    /// HTTP/1.1, many clusters with a route each.
    Clusters,
    /// HTTP/1.1, members from a control plane.
    Endpoints,
}

impl Setup {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 15] = [
        Self::Http1ToHttp1,
        Self::Http1Logged,
        Self::Http1Guarded,
        Self::Http1InTurn,
        Self::Http1Latency,
        Self::Http1ToHttp2,
        Self::Http2ToHttp1,
        Self::Http2ToHttp2,
        Self::Http2Guarded,
        Self::TlsToHttp1,
        Self::MutualTls,
        Self::Tcp,
        Self::Routes,
        Self::Clusters,
        Self::Endpoints,
    ];

    /// Whether clients speak TLS with the proxy.
    pub(crate) fn has_tls_in_front(self) -> bool {
        matches!(self, Self::TlsToHttp1 | Self::MutualTls)
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) kind: Kind,
    pub(crate) goals: &'static [Goal],
}

/// How a scenario is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// CPU per request and rate in closed loop, latency in open loop.
    Traffic(Traffic),
    /// Memory per connection that made a request and went silent.
    Idle(Setup, Protocol),
    /// Memory of a process with so many clusters and no traffic.
    Rest(usize),
    /// Time from starting the process to its first answer.
    Start,
    /// Time from a new member in the control plane's file to the first request there, among so
    /// many clusters of [`MEMBERS`].
    EndpointChange(usize),
}

/// Members of each cluster that stays as it is.
pub(crate) const MEMBERS: usize = 100;

/// What an idle raw connection has passed once.
const ECHOED: &[u8] = b"once";

/// The traffic of a scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    pub(crate) setup: Setup,
    pub(crate) protocol: Protocol,
    pub(crate) connections: usize,
    /// Length of the answer's body, or of a gRPC answer's message.
    pub(crate) body_bytes: usize,
    /// Length of what is sent: the body, a gRPC message, or what a raw connection echoes.
    pub(crate) sent_bytes: usize,
    /// Extra header fields of request and answer.
    pub(crate) fields: usize,
    /// Size of the route table; the request takes the last route.
    pub(crate) routes: usize,
    /// Clients take up earlier TLS sessions.
    pub(crate) resume: bool,
    /// A fixed rate in place of saturation: CPU per request is then measured at it.
    pub(crate) rate: Option<f64>,
}

impl Traffic {
    /// Whether its requests can fall due at a rate: a download has none.
    pub(crate) fn can_be_paced(&self) -> bool {
        !matches!(self.protocol, Protocol::TcpDownload { .. })
    }
}

/// A promise about one metric of a scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) metric: Metric,
    pub(crate) against: Against,
    pub(crate) at_most: f64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Metric {
    /// The scenario's first number: CPU µs per request, bytes, or milliseconds.
    Main,
    P999,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Against {
    /// The number itself.
    Absolute,
    /// The best of Envoy, HAProxy and nginx.
    BestPeer,
    Peer(Contestant),
    /// Weir itself in another scenario, measured before this one.
    Scenario(&'static str),
}

impl Scenario {
    /// What is started for it.
    pub(crate) fn setup(&self) -> Setup {
        match self.kind {
            Kind::Traffic(traffic) => traffic.setup,
            Kind::Idle(setup, _) => setup,
            Kind::Start => Setup::Http1ToHttp1,
            Kind::Rest(_) => Setup::Clusters,
            Kind::EndpointChange(_) => Setup::Endpoints,
        }
    }

    /// How requests enter the proxy.
    pub(crate) fn protocol(&self) -> Protocol {
        match self.kind {
            Kind::Traffic(traffic) => traffic.protocol,
            Kind::Idle(_, protocol) => protocol,
            Kind::Rest(_) | Kind::Start | Kind::EndpointChange(_) => Protocol::Http1,
        }
    }

    /// The extra header fields, plausible in name and length.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let count = match self.kind {
            Kind::Traffic(traffic) => traffic.fields,
            _ => 0,
        };
        (0..count)
            .map(|at| {
                (
                    format!("x-field-{at}"),
                    format!("value {at} of a usual length, 32 bytes"),
                )
            })
            .collect()
    }

    /// The request of the scenario.
    pub(crate) fn request(&self) -> RequestShape {
        let mut request = RequestShape {
            headers: self.fields(),
            ..RequestShape::default()
        };
        if self.protocol() == Protocol::TcpEcho {
            request.body = Bytes::from_static(ECHOED);
        }
        if let Kind::Traffic(traffic) = self.kind {
            request.body = Bytes::from(vec![b'a'; traffic.sent_bytes]);
            if let Some(last) = traffic.routes.checked_sub(1) {
                request.path = format!("/route-{last}/");
            }
        }
        request
    }
}
