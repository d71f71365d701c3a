//! The rules of the protocol, one test per id, against a scripted client.

use std::time::Duration;

use prost::Message;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::cluster::v3::cluster::ClusterDiscoveryType;
use xds_proto::pb::google::protobuf::Any;

use super::*;
use crate::resource::Resource;
use crate::types::CLUSTER;
use crate::types::ENDPOINT;
use crate::types::EXTENSION;
use crate::types::LISTENER;
use crate::types::ROUTE;
use crate::types::SECRET;

mod delta;
mod limits;
mod model;
mod ops;
mod order;
mod sotw;
mod ttl;

/// A resource whose content is `body`, valid for every type: it is an unknown field.
pub(super) fn resource(type_url: &str, name: &str, body: &str) -> Resource {
    let mut value = Vec::new();
    prost::encoding::string::encode(5000, &body.to_owned(), &mut value);
    Resource::named(
        &Any {
            type_url: type_url.to_owned(),
            value,
        },
        name,
    )
    .unwrap()
}

/// An EDS cluster whose content is `body`.
fn eds_cluster(name: &str, body: &str) -> Resource {
    let cluster = Cluster {
        name: name.to_owned(),
        alt_stat_name: body.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(3)),
        ..Default::default()
    };
    let any = Any {
        type_url: CLUSTER.to_owned(),
        value: cluster.encode_to_vec(),
    };
    Resource::new(&any).unwrap()
}

/// A client, its session, and what the server has.
struct Script {
    session: Session,
    snapshot: Arc<Snapshot>,
    desired: Vec<Arc<Resource>>,
    now: Moment,
    epoch: u64,
}

/// A response in the shape tests compare.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    type_url: String,
    items: Vec<String>,
    removed: Vec<String>,
}

fn seen(type_url: &str, items: &[&str], removed: &[&str]) -> Option<Seen> {
    let own = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
    Some(Seen {
        type_url: type_url.to_owned(),
        items: own(items),
        removed: own(removed),
    })
}

impl Script {
    fn new(variant: Variant) -> Self {
        Self::with(variant, Scope::Aggregated, Policy::default())
    }

    fn with(variant: Variant, scope: Scope, policy: Policy) -> Self {
        let mut script = Self {
            session: Session::new(variant, scope, policy),
            snapshot: Arc::new(Snapshot::empty(Arc::from(""), 1)),
            desired: Vec::new(),
            now: Duration::from_secs(100),
            epoch: 0,
        };
        script.publish();
        script
    }

    fn sotw() -> Self {
        Self::new(Variant::Sotw)
    }

    fn delta() -> Self {
        Self::new(Variant::Delta)
    }

    /// The same server, a new stream.
    fn reconnect(&mut self) {
        let variant = self.session.variant();
        self.session = Session::new(variant, Scope::Aggregated, Policy::default());
        self.session.handle_snapshot(self.now, &self.snapshot);
    }

    fn publish(&mut self) {
        self.epoch += 1;
        self.snapshot = Arc::new(self.snapshot.next(&self.desired, self.epoch).unwrap());
        self.session.handle_snapshot(self.now, &self.snapshot);
    }

    fn change(&mut self, put: Vec<Resource>, remove: &[(&str, &str)]) {
        let is = |r: &Resource, (t, n): (&str, &str)| &**r.type_url() == t && &**r.name() == n;
        self.desired.retain(|r| {
            !remove.iter().any(|gone| is(r, *gone))
                && !put.iter().any(|new| is(r, (new.type_url(), new.name())))
        });
        self.desired.extend(put.into_iter().map(Arc::new));
        self.publish();
    }

    fn put(&mut self, type_url: &str, name: &str, body: &str) {
        self.change(vec![resource(type_url, name, body)], &[]);
    }

    fn remove(&mut self, type_url: &str, name: &str) {
        self.change(Vec::new(), &[(type_url, name)]);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn batch(&mut self) -> Option<Batch> {
        self.session.next_batch(self.now)
    }

    /// The next response without an answer to it, and its nonce.
    fn receive(&mut self) -> (Option<Seen>, String) {
        let Some(batch) = self.batch() else {
            return (None, String::new());
        };
        let items = batch
            .items
            .iter()
            .map(|i| i.resource.name().to_string())
            .collect();
        let removed = batch.removed.iter().map(ToString::to_string).collect();
        (
            Some(Seen {
                type_url: batch.type_url.to_string(),
                items,
                removed,
            }),
            batch.nonce,
        )
    }

    /// A delta request.
    fn ask(&mut self, type_url: &str, subscribe: &[&str], unsubscribe: &[&str]) {
        self.ask_full(type_url, subscribe, unsubscribe, &[], "", None);
    }

    fn ask_full(
        &mut self,
        type_url: &str,
        subscribe: &[&str],
        unsubscribe: &[&str],
        held: &[(&str, &str)],
        nonce: &str,
        error: Option<&str>,
    ) {
        let request = wire::DeltaDiscoveryRequest {
            node: Some(node()),
            type_url: type_url.to_owned(),
            resource_names_subscribe: owned(subscribe),
            resource_names_unsubscribe: owned(unsubscribe),
            initial_resource_versions: held
                .iter()
                .map(|&(key, value)| wire::StringEntry {
                    key: key.to_owned(),
                    value: value.to_owned(),
                })
                .collect(),
            response_nonce: nonce.to_owned(),
            error_detail: error.map(status),
            ..Default::default()
        };
        self.session.handle_delta(self.now, &request).unwrap();
    }

    /// A SotW request.
    fn want(&mut self, type_url: &str, names: &[&str], nonce: &str) {
        self.want_full(type_url, names, nonce, "", None);
    }

    fn want_full(
        &mut self,
        type_url: &str,
        names: &[&str],
        nonce: &str,
        version: &str,
        error: Option<&str>,
    ) {
        let request = wire::DiscoveryRequest {
            version_info: version.to_owned(),
            node: Some(node()),
            resource_names: owned(names),
            type_url: type_url.to_owned(),
            response_nonce: nonce.to_owned(),
            error_detail: error.map(status),
            resource_locators: Vec::new(),
        };
        self.session.handle_sotw(self.now, &request).unwrap();
    }

    /// Receives and acknowledges; in SotW the subscription is repeated.
    fn acked(&mut self, names: &[&str]) -> Option<Seen> {
        let (seen, nonce) = self.receive();
        if let Some(seen) = &seen {
            match self.session.variant() {
                Variant::Delta => self.ask_full(&seen.type_url, &[], &[], &[], &nonce, None),
                Variant::Sotw => self.want(&seen.type_url, names, &nonce),
            }
        }
        seen
    }

    /// Receives and refuses.
    fn nacked(&mut self, names: &[&str], error: &str) -> Option<Seen> {
        let (seen, nonce) = self.receive();
        if let Some(seen) = &seen {
            let error = Some(error);
            match self.session.variant() {
                Variant::Delta => self.ask_full(&seen.type_url, &[], &[], &[], &nonce, error),
                Variant::Sotw => self.want_full(&seen.type_url, names, &nonce, "", error),
            }
        }
        seen
    }

    fn state(&self, type_url: &str) -> SyncState {
        self.session
            .reports()
            .find(|r| &*r.type_url == type_url)
            .unwrap()
            .state
    }

    /// Nothing is sent, now or in the next minute.
    fn assert_silent(&mut self) {
        assert_eq!(self.receive().0, None);
        let later = self.now + Duration::from_secs(60);
        assert!(self.session.next_batch(later).is_none());
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn status(message: &str) -> wire::Status {
    wire::Status {
        code: 13,
        message: message.to_owned(),
    }
}

fn node() -> wire::Node {
    wire::Node {
        id: "client".to_owned(),
        ..Default::default()
    }
}
