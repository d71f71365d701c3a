//! How long does a push take from decoded resources to what workers see, and does it grow with what
//! did not change?

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion};
use proxy::apply::Applier;
use proxy::config::ConnectionLimits;
use proxy::telemetry::access_log::AccessLogWriter;
use proxy::telemetry::stats::Registry;
use proxy::upstream::health::Monitor;
use proxy::xds::decode;
use proxy::xds::resource::{Resource, ResourceType};
use proxy::xds::stage::{Batch, Options, Stage, StaticResources};

use crate::resources;

const MEMBERS: u32 = 100;
/// All at one moment: nothing here waits.
const NOW: Duration = Duration::ZERO;

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot_apply");
    for clusters in [10_usize, 1_000] {
        let mut live = Live::new(clusters);
        let mut first = 1;
        group.bench_function(
            BenchmarkId::new("one_member_changes_among", clusters),
            |bencher| {
                bencher.iter_batched(
                    || {
                        first = first % 10_000 + 1;
                        batch(ResourceType::Endpoints, vec![endpoints(0, first)])
                    },
                    |batch| live.take(batch),
                    BatchSize::SmallInput,
                );
            },
        );
        let mut live = Live::new(clusters);
        let mut timeout = 1;
        group.bench_function(
            BenchmarkId::new("one_cluster_changes_among", clusters),
            |bencher| {
                bencher.iter_batched(
                    || {
                        timeout = timeout % 1_000 + 1;
                        batch(ResourceType::Cluster, vec![cluster(0, timeout)])
                    },
                    |batch| live.take(batch),
                    BatchSize::SmallInput,
                );
            },
        );
    }
    group.finish();
}

/// The stage and what it hands changes to, as `server` puts them together, without workers.
struct Live {
    stage: Stage,
    applier: Applier,
    runtime: tokio::runtime::Runtime,
    _logs: Arc<AccessLogWriter>,
}

impl Live {
    fn new(clusters: usize) -> Self {
        let options = Options {
            has_cds: true,
            has_lds: false,
            initial_fetch_timeout: None,
        };
        let registry = Arc::new(Registry::new(1));
        let logs = AccessLogWriter::start(Arc::clone(registry.access_log())).expect("a thread");
        let logs = Arc::new(logs);
        let limits = ConnectionLimits::default();
        let monitor = Monitor::new(tokio::sync::mpsc::channel(1).0);
        let mut live = Self {
            stage: Stage::new(options, StaticResources::default(), NOW),
            applier: Applier::new(Vec::new(), registry, Arc::clone(&logs), limits, monitor),
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime"),
            _logs: logs,
        };
        live.take(batch(
            ResourceType::Cluster,
            (0..clusters).map(|at| cluster(at, 1)).collect(),
        ));
        live.take(batch(
            ResourceType::Endpoints,
            (0..clusters).map(|at| endpoints(at, 1)).collect(),
        ));
        assert_eq!(live.applier.clusters().count(), clusters, "all are live");
        live
    }

    fn take(&mut self, batch: Batch) {
        self.stage.apply(batch, NOW);
        while let Some(change) = self.stage.next_change() {
            let applied = self.runtime.block_on(self.applier.apply(change));
            assert!(applied.is_ok(), "{applied:?}");
        }
    }
}

fn batch(resource_type: ResourceType, resources: Vec<(Arc<str>, Resource)>) -> Batch {
    Batch {
        upserted: resources,
        ..Batch::empty(resource_type)
    }
}

fn cluster(at: usize, timeout: u64) -> (Arc<str>, Resource) {
    let mut cluster = decode::cluster(&resources::cluster(at))
        .expect("a cluster")
        .value;
    cluster.connect_timeout = Duration::from_millis(timeout);
    (
        Arc::clone(&cluster.name),
        Resource::Cluster(Arc::new(cluster)),
    )
}

fn endpoints(at: usize, first: u32) -> (Arc<str>, Resource) {
    let bytes = resources::endpoints(at, first, MEMBERS);
    let (name, endpoints) = decode::endpoints(&bytes).expect("members").value;
    (name, Resource::Endpoints(Arc::new(endpoints)))
}
