//! Who the client is: Envoy and Weir tell upstreams, routes and logs the same.
//!
//! | file | holds |
//! |---|---|
//! | `announced` | TLVs of PROXY protocol headers |
//! | `certificates` | the authority and everybody it vouches for |
//! | `client` | one request, over TLS or not |
//! | `forwarded` | `x-forwarded-client-cert` |
//! | `logged` | access logs and edited headers |
//! | `refused` | access logs of listeners, however far a connection came |
//! | `routed` | routes that ask for the client's certificate |
//! | `written` | TLVs that are written by templates, and kept as filter state |

pub(crate) mod announced;
mod certificates;
mod client;
mod forwarded;
mod logged;
mod refused;
mod routed;
mod written;

use bench::peer::Envoy;
use bench::peer::StartOptions;
use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpStream;

use crate::setting::Weir;
use crate::setting::until;
use certificates::Certificates;

pub(crate) fn typed(name: &str, more: Value) -> Value {
    let mut typed = more;
    typed["@type"] = format!("type.googleapis.com/envoy.{name}").into();
    typed
}

/// A cluster with one member on this port of this machine.
pub(crate) fn cluster(name: &str, port: u16) -> Value {
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let members = json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
    json!({"name": name, "load_assignment": {"cluster_name": name, "endpoints": members}})
}

/// A listener of one chain with this filter; TLS if there are certificates for it.
fn listener(port: u16, filter: &Value, certificates: Option<&Certificates>) -> Value {
    let mut chain = json!({"filters": [{"name": "filter", "typed_config": filter}]});
    if let Some(certificates) = certificates {
        chain["transport_socket"] = certificates.downstream();
    }
    json!({
        "name": port.to_string(),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [chain],
    })
}

/// A connection manager with these routes of one virtual host, and `more`.
pub(crate) fn manager(routes: &Value, more: &Value) -> Value {
    let router = typed("extensions.filters.http.router.v3.Router", json!({}));
    let hosts = json!([{"name": "all", "domains": ["*"], "routes": routes}]);
    let mut manager = json!({
        "stat_prefix": "http",
        // Time Envoy waits after an early answer, which only makes the test longer.
        "delayed_close_timeout": "0.01s",
        "http_filters": [{"name": "router", "typed_config": router}],
        "route_config": {"virtual_hosts": hosts},
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        manager[name] = value.clone();
    }
    let name = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    typed(name, manager)
}

/// The outermost level in block style, so that an admin section can be put beside it.
pub(crate) fn bootstrap(listeners: &[Value], clusters: &[Value]) -> String {
    let resources = json!({"listeners": listeners, "clusters": clusters});
    format!("static_resources: {resources}\n")
}

/// What `look` sees of Envoy and then of Weir, both on the same bootstrap and ports.
pub(crate) async fn of_both<T, F>(
    bootstrap: &str,
    ports: &[ReservedPort],
    look: impl Fn() -> F,
) -> (T, T)
where
    F: Future<Output = T>,
{
    let options = StartOptions {
        // Log entries are waited for.
        arguments: vec!["--file-flush-interval-msec".into(), "10".into()],
        ..StartOptions::default()
    };
    let envoy = Envoy::start_with(bootstrap, &options).await;
    let envoy = envoy.expect("Envoy takes the bootstrap");
    open(ports).await;
    let wanted = look().await;
    drop(envoy);
    let weir = Weir::start(bootstrap).await;
    open(ports).await;
    let found = look().await;
    weir.stop().await;
    (wanted, found)
}

/// What both see, line by line the same. Now and then an Envoy gives a connection TLVs of one before it; it is
/// asked again then.
pub(crate) async fn of_both_alike<F>(
    bootstrap: &str,
    ports: &[ReservedPort],
    look: impl Fn() -> F,
) -> Vec<String>
where
    F: Future<Output = Vec<String>>,
{
    const TRIES: usize = 3;
    let mut all = Vec::new();
    for _ in 0..TRIES {
        let (envoy, weir) = Box::pin(of_both(bootstrap, ports, &look)).await;
        if envoy == weir {
            return weir;
        }
        all.push((envoy, weir));
    }
    for (envoy, weir) in all {
        envoy
            .iter()
            .zip(&weir)
            .for_each(|(envoy, weir)| assert_eq!(envoy, weir));
        assert_eq!(envoy.len(), weir.len());
    }
    unreachable!("they were not the same")
}

/// Both proxies are ready a moment before their listeners are open.
pub(crate) async fn open(ports: &[ReservedPort]) {
    for port in ports {
        let open = until(|| async {
            let connected = TcpStream::connect(port.addr()).await;
            connected.map(drop).map_err(|error| error.to_string())
        });
        open.await.expect("the listener opens");
    }
}

pub(crate) fn free_ports(count: usize) -> Vec<ReservedPort> {
    let ports = (0..count).map(|_| ReservedPort::new().expect("a free port"));
    ports.collect()
}
