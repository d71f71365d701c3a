//! The configuration of each proxy for each setup: the files of `peers/`, filled in.

use super::contestant::Contestant;
use super::scenario::Setup;

/// The template; else why the proxy has none.
pub(super) fn template(contestant: Contestant, setup: Setup) -> Result<&'static str, &'static str> {
    match contestant {
        Contestant::Floor => floor(setup),
        Contestant::Weir | Contestant::Envoy => Ok(envoy(setup)),
        Contestant::Haproxy => haproxy(setup),
        Contestant::Nginx => nginx(setup),
    }
}

/// The relay has no configuration, and serves where bytes may pass as they are.
fn floor(setup: Setup) -> Result<&'static str, &'static str> {
    match setup {
        Setup::Http1ToHttp1 | Setup::Http2ToHttp2 | Setup::Tcp => Ok(""),
        Setup::Http1ToHttp2 | Setup::Http2ToHttp1 => Err("a relay of bytes changes no protocol"),
        Setup::TlsToHttp1 | Setup::MutualTls => Err("a relay of bytes ends no TLS"),
        Setup::Http1Logged
        | Setup::Http1Guarded
        | Setup::Http2Guarded
        | Setup::Http1InTurn
        | Setup::Http1Latency
        | Setup::Routes
        | Setup::Clusters
        | Setup::Endpoints => Err("a relay of bytes has no such thing"),
    }
}

/// Health, limits and retries of HAProxy and nginx are not the same work.
const OTHER_GUARDS: &str = "protects in other terms";

/// Members in turn are not worth a file of their own where nothing follows latency.
const OTHER_BALANCING: &str = "has no weights by latency";

fn envoy(setup: Setup) -> &'static str {
    match setup {
        Setup::Http1ToHttp1 => include_str!("../../peers/envoy/h1-h1.yaml"),
        Setup::Http1Logged => include_str!("../../peers/envoy/h1-h1-log.yaml"),
        Setup::Http1Guarded => include_str!("../../peers/envoy/h1-h1-guarded.yaml"),
        Setup::Http1InTurn | Setup::Http1Latency => {
            include_str!("../../peers/envoy/h1-h1-two.yaml")
        }
        Setup::Http1ToHttp2 => include_str!("../../peers/envoy/h1-h2.yaml"),
        Setup::Http2ToHttp1 => include_str!("../../peers/envoy/h2-h1.yaml"),
        Setup::Http2ToHttp2 => include_str!("../../peers/envoy/h2-h2.yaml"),
        Setup::Http2Guarded => include_str!("../../peers/envoy/h2-h2-guarded.yaml"),
        Setup::TlsToHttp1 => include_str!("../../peers/envoy/tls-h1.yaml"),
        Setup::MutualTls => include_str!("../../peers/envoy/mtls-mtls.yaml"),
        Setup::Tcp => include_str!("../../peers/envoy/tcp.yaml"),
        Setup::Routes => include_str!("../../peers/envoy/routes.yaml"),
        Setup::Clusters => include_str!("../../peers/envoy/clusters.yaml"),
        Setup::Endpoints => include_str!("../../peers/envoy/endpoints.yaml"),
    }
}

fn haproxy(setup: Setup) -> Result<&'static str, &'static str> {
    Ok(match setup {
        Setup::Http1ToHttp1 => include_str!("../../peers/haproxy/h1-h1.cfg"),
        Setup::Http1Logged => include_str!("../../peers/haproxy/h1-h1-log.cfg"),
        Setup::Http1ToHttp2 => include_str!("../../peers/haproxy/h1-h2.cfg"),
        Setup::Http2ToHttp1 => include_str!("../../peers/haproxy/h2-h1.cfg"),
        Setup::Http2ToHttp2 => include_str!("../../peers/haproxy/h2-h2.cfg"),
        Setup::TlsToHttp1 => include_str!("../../peers/haproxy/tls-h1.cfg"),
        Setup::MutualTls => include_str!("../../peers/haproxy/mtls-mtls.cfg"),
        Setup::Tcp => include_str!("../../peers/haproxy/tcp.cfg"),
        Setup::Routes => include_str!("../../peers/haproxy/routes.cfg"),
        Setup::Clusters => include_str!("../../peers/haproxy/clusters.cfg"),
        Setup::Http1Guarded | Setup::Http2Guarded => return Err(OTHER_GUARDS),
        Setup::Http1InTurn | Setup::Http1Latency => return Err(OTHER_BALANCING),
        Setup::Endpoints => return Err("takes members by commands, not from a control plane"),
    })
}

fn nginx(setup: Setup) -> Result<&'static str, &'static str> {
    Ok(match setup {
        Setup::Http1ToHttp1 => include_str!("../../peers/nginx/h1-h1.conf"),
        Setup::Http1Logged => include_str!("../../peers/nginx/h1-h1-log.conf"),
        Setup::Http1ToHttp2 => include_str!("../../peers/nginx/h1-h2.conf"),
        Setup::Http2ToHttp1 => include_str!("../../peers/nginx/h2-h1.conf"),
        Setup::Http2ToHttp2 => include_str!("../../peers/nginx/h2-h2.conf"),
        Setup::TlsToHttp1 => include_str!("../../peers/nginx/tls-h1.conf"),
        Setup::MutualTls => include_str!("../../peers/nginx/mtls-mtls.conf"),
        Setup::Tcp => include_str!("../../peers/nginx/tcp.conf"),
        Setup::Routes => include_str!("../../peers/nginx/routes.conf"),
        Setup::Clusters => include_str!("../../peers/nginx/clusters.conf"),
        Setup::Http1Guarded | Setup::Http2Guarded => return Err(OTHER_GUARDS),
        Setup::Http1InTurn | Setup::Http1Latency => return Err(OTHER_BALANCING),
        Setup::Endpoints => return Err("takes members by a reload, not from a control plane"),
    })
}
