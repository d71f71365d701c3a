//! Secrets, clusters and their removal in any order: what lives has the credentials of now, or none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::Strategy;
use proptest::prop_oneof;
use proptest::proptest;
use tokio::sync::mpsc;

use super::clusters::Clusters;
use crate::config::Cluster;
use crate::config::Name;
use crate::config::Secrets;
use crate::config::Snapshot;
use crate::config::cluster::UpstreamTransport;
use crate::config::secret::Secret;
use crate::config::secret::SecretNames;
use crate::config::tls::CommonTls;
use crate::config::tls::Parameters;
use crate::config::tls::Trust;
use crate::config::tls::UpstreamTls;
use crate::config::tls::Validation;
use crate::telemetry::stats::Registry;
use crate::tls::fixtures::Authority;
use crate::upstream::health::Monitor;
use crate::xds::stage::fixtures;

/// Names are numbers below this, so that collisions are common.
const NAMES: u8 = 3;

/// Roots are dear, so the same few are in all secrets.
static ROOTS: LazyLock<Vec<Authority>> = LazyLock::new(|| {
    let names = ["a", "b", "c"].into_iter();
    names.map(Authority::new).collect()
});

#[derive(Clone, Debug)]
enum Op {
    /// This cluster names that secret.
    Cluster(u8, u8),
    /// The clusters are as they were; only secrets are handed out.
    OnlySecrets,
    RemoveCluster(u8),
    RemoveSecret(u8),
    /// This secret trusts that root.
    Secret(u8, u8),
    /// Everything is handed out.
    Whole,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => ((0..NAMES), (0..NAMES)).prop_map(|(n, s)| Op::Cluster(n, s)),
        3 => proptest::strategy::Just(Op::OnlySecrets),
        1 => (0..NAMES).prop_map(Op::RemoveCluster),
        1 => (0..NAMES).prop_map(Op::RemoveSecret),
        3 => ((0..NAMES), 0..3u8).prop_map(|(n, root)| Op::Secret(n, root)),
        3 => proptest::strategy::Just(Op::Whole),
    ];
    vec(op, 1..40)
}

fn cluster(number: u8, secret: u8) -> (Name, Arc<Cluster>) {
    let name: Name = format!("c{number}").into();
    let plain = fixtures::cluster(&name, fixtures::eds(&name), 1);
    let common = CommonTls {
        parameters: Parameters::default(),
        certificates: Vec::new(),
        validation: None,
        alpn: Vec::new(),
        secrets: SecretNames {
            validation: Some(fixtures::named(&format!("s{secret}"))),
            ..SecretNames::default()
        },
    };
    let tls = UpstreamTls {
        common,
        sni: None,
        auto_host_sni: false,
        auto_sni_san_validation: false,
        session_keys_max: 0,
    };
    let transport = UpstreamTransport {
        tls: Some(tls),
        ..UpstreamTransport::default()
    };
    let cluster = Cluster {
        transport,
        ..Cluster::clone(&plain)
    };
    (name, Arc::new(cluster))
}

fn secret(root: u8) -> Secret {
    Secret::Validation(Arc::new(Validation {
        trust: Trust::Roots(vec![ROOTS[usize::from(root)].der.clone()]),
        ..Validation::anyone()
    }))
}

/// What is wanted, and what lives.
struct World {
    clusters: BTreeMap<Name, Arc<Cluster>>,
    secrets: Secrets,
    live: Clusters,
    /// What was handed out last.
    handed: (BTreeMap<Name, Arc<Cluster>>, Arc<Secrets>),
}

impl World {
    fn run(&mut self, op: Op) {
        let key = |number: u8| fixtures::named(&format!("s{number}")).key;
        match op {
            Op::Cluster(number, secret) => {
                let (name, config) = cluster(number, secret);
                self.clusters.insert(name, config);
            }
            Op::RemoveCluster(number) => {
                self.clusters.remove(&*format!("c{number}"));
            }
            Op::Secret(number, root) => {
                self.secrets.insert(key(number), secret(root));
            }
            Op::RemoveSecret(number) => {
                self.secrets.remove(&key(number));
            }
            Op::OnlySecrets => {
                self.handed.1 = Arc::new(self.secrets.clone());
                self.live.set_secrets(&self.handed.1);
            }
            Op::Whole => {
                self.handed = (self.clusters.clone(), Arc::new(self.secrets.clone()));
                let snapshot = Snapshot {
                    clusters: self.handed.0.clone(),
                    secrets: Arc::clone(&self.handed.1),
                    ..Snapshot::default()
                };
                self.live.add(&snapshot);
                self.live.remove(&snapshot);
            }
        }
        self.check();
    }

    fn check(&self) {
        let (clusters, secrets) = &self.handed;
        let names = self.live.iter().map(|cluster| cluster.name().clone());
        assert!(names.eq(clusters.keys().cloned()));
        for cluster in self.live.iter() {
            let current = cluster.load();
            assert_eq!(&current.config, &clusters[cluster.name()]);
            let tls = current.config.transport.tls.as_ref().unwrap();
            let wanted: Vec<CommonTls> = tls.common.resolve(secrets).into_iter().collect();
            // Without its secret it has no TLS at all, and so no connection.
            assert_eq!(current.transports.resolved(&current.config), wanted);
        }
    }
}

proptest! {
    #[test]
    fn what_lives_has_the_credentials_of_now_or_none(ops in ops()) {
        let registry = Arc::new(Registry::new(1));
        let mut world = World {
            clusters: BTreeMap::new(),
            secrets: Secrets::new(),
            live: Clusters::new(registry, 1, Monitor::new(mpsc::channel(1).0)),
            handed: (BTreeMap::new(), Arc::default()),
        };
        for op in ops {
            world.run(op);
        }
        world.run(Op::Whole);
    }
}
