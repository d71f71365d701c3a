//! Who is fit: Envoy and Weir, side by side on one bootstrap and with the same failing members, say the
//! same of every member after every fault.
//!
//! | file | holds |
//! |---|---|
//! | `active` | members that are asked |
//! | `knobs` | everything else that says how |
//! | `member` | a member that can be told how to fail |
//! | `outlier` | members that are judged by what they answer |
//! | `streams` | what becomes of streams to a member that is found unfit |
//! | `told` | over which transport, what the control plane says, what is written down |

mod active;
mod knobs;
mod member;
mod outlier;
mod streams;
mod told;

use std::collections::BTreeMap;

use bench::peer::Admin;
use bench::peer::Envoy;
use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;

use crate::identity::bootstrap;
use crate::setting::Weir;
use crate::setting::until;

/// Both, at the same time: each with a port of its own.
struct Both {
    ports: [ReservedPort; 2],
    envoy: Envoy,
    weir: Weir,
    weir_admin: Admin,
}

impl Both {
    /// `listener` is told its port.
    async fn start(listener: impl Fn(u16) -> Value, clusters: &[Value]) -> Self {
        let ports = [(); 2].map(|()| ReservedPort::new().expect("a free port"));
        let text = |port: &ReservedPort| bootstrap(&[listener(port.number())], clusters);
        let envoy = Envoy::start(&text(&ports[0])).await;
        let admin =
            json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}});
        let weir = Weir::start(&format!("{}admin: {admin}\n", text(&ports[1]))).await;
        let address = weir.live().admin_address().expect("it was asked for");
        Self {
            ports,
            envoy: envoy.expect("Envoy takes the bootstrap"),
            weir,
            weir_admin: Admin::new(address),
        }
    }

    fn admins(&self) -> [(&'static str, &Admin); 2] {
        [("Envoy", self.envoy.admin()), ("Weir", &self.weir_admin)]
    }

    /// Waits until both say this of the members of a cluster, by their ports.
    async fn say(&self, what: &str, cluster: &str, wanted: &[(u16, &str)]) {
        Self::says(&self.admins(), (what, cluster), wanted).await;
    }

    /// The same of Weir alone.
    async fn weir_says(&self, what: &str, cluster: &str, wanted: &[(u16, &str)]) {
        Self::says(&self.admins()[1..], (what, cluster), wanted).await;
    }

    async fn says(
        admins: &[(&'static str, &Admin)],
        (what, cluster): (&str, &str),
        wanted: &[(u16, &str)],
    ) {
        let wanted = wanted
            .iter()
            .map(|(port, flags)| (*port, (*flags).to_owned()));
        let wanted: BTreeMap<u16, String> = wanted.collect();
        for (name, admin) in admins {
            let said = until(|| async {
                let found = flags(admin, cluster).await;
                if found == wanted {
                    return Ok(());
                }
                Err(format!("{found:?} instead of {wanted:?}"))
            });
            let said = said.await;
            assert!(said.is_ok(), "{what}: {name} says of {cluster} {said:?}");
        }
    }

    async fn stop(self) {
        self.weir.stop().await;
    }
}

/// What is said of every member of a cluster.
async fn flags(admin: &Admin, cluster: &str) -> BTreeMap<u16, String> {
    let (_, text) = admin.get("/clusters").await.expect("it answers");
    let start = format!("{cluster}::127.0.0.1:");
    let lines = text.lines().filter_map(|line| line.strip_prefix(&start));
    let flags = lines.filter_map(|line| {
        let (port, flags) = line.split_once("::health_flags::")?;
        Some((port.parse().ok()?, flags.to_owned()))
    });
    flags.collect()
}

/// A cluster of these members, with `more`.
fn cluster(name: &str, members: &[u16], more: &Value) -> Value {
    let member = |port: &u16| {
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
        json!({"endpoint": {"address": address}})
    };
    let members: Vec<_> = members.iter().map(member).collect();
    let endpoints = json!([{ "lb_endpoints": members }]);
    let mut cluster = json!({
        "name": name,
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        cluster[name] = value.clone();
    }
    cluster
}
