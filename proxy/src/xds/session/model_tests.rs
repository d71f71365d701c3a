//! The session against a model of a control plane that pushes, forgets, repeats and loses its
//! connection at random. Checked at every step: each response is answered once, with the right
//! version, and a new stream reports exactly what is held. Checked at rest: client and server agree.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::Just;
use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prop_oneof;
use proptest::proptest;
use xds_proto::pb::envoy::service::discovery::v3 as discovery;
use xds_proto::pb::google::protobuf::Any;

use super::Interest;
use super::Options;
use super::Request;
use super::Response;
use super::Session;
use super::Variant;
use crate::config::Name;
use crate::xds::resource::Refusal;
use crate::xds::resource::ResourceType;

const CDS: ResourceType = ResourceType::Cluster;
const EDS: ResourceType = ResourceType::Endpoints;

#[derive(Clone, Debug)]
enum Op {
    /// The client changes its mind about EDS names.
    Ask(Vec<u8>),
    /// A request reaches the server.
    Hear,
    Reconnect,
    /// A response reaches the client.
    Read,
    Remove(bool, u8),
    /// The server says all it has once more.
    Repeat(bool),
    /// A resource changes; every fifth value is refused by the client.
    Set(bool, u8, u8),
    /// The server sends what it thinks the client lacks.
    Tell(bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        2 => vec(0..5u8, 0..4).prop_map(Op::Ask),
        6 => Just(Op::Hear),
        1 => Just(Op::Reconnect),
        6 => Just(Op::Read),
        1 => (any::<bool>(), 0..5u8).prop_map(|(t, n)| Op::Remove(t, n)),
        1 => any::<bool>().prop_map(Op::Repeat),
        4 => (any::<bool>(), 0..5u8, 0..20u8).prop_map(|(t, n, v)| Op::Set(t, n, v)),
        4 => any::<bool>().prop_map(Op::Tell),
    ];
    vec(op, 1..80)
}

fn is_bad(value: u8) -> bool {
    value.is_multiple_of(5)
}

fn accept(_: ResourceType, body: &Bytes) -> Result<(Name, u8), Refusal> {
    let (&value, name) = body.split_last().unwrap();
    let name: Name = String::from_utf8(name.to_vec()).unwrap().into();
    let refusal = Refusal {
        name: name.clone(),
        detail: "bad".to_owned(),
    };
    if is_bad(value) {
        Err(refusal)
    } else {
        Ok((name, value))
    }
}

fn pick(is_cds: bool) -> ResourceType {
    if is_cds { CDS } else { EDS }
}

/// What the server knows of one type on one stream.
#[derive(Default)]
struct Side {
    is_asked: bool,
    names: BTreeSet<Name>,
    /// Delta: what it thinks the client has. SotW: unused.
    sent: BTreeMap<Name, String>,
}

struct World {
    variant: Variant,
    session: Session,
    /// What the client has made of the updates.
    view: BTreeMap<ResourceType, BTreeMap<Name, u8>>,
    /// What the server has.
    truth: BTreeMap<ResourceType, BTreeMap<Name, u8>>,
    sides: BTreeMap<ResourceType, Side>,
    to_client: VecDeque<Response>,
    nonce: u32,
    /// Versions accepted last, which the client must repeat (SotW).
    accepted: BTreeMap<ResourceType, String>,
    /// Answers due: nonce, whether it is a NACK, version.
    due: VecDeque<(String, bool, String)>,
    now: Duration,
}

impl World {
    fn new(variant: Variant) -> Self {
        let mut session = Session::new(Options {
            variant,
            ..Options::default()
        });
        session.subscribe(CDS, Interest::wildcard());
        session.on_stream_open();
        Self {
            variant,
            session,
            view: BTreeMap::from([(CDS, BTreeMap::new()), (EDS, BTreeMap::new())]),
            truth: BTreeMap::from([(CDS, BTreeMap::new()), (EDS, BTreeMap::new())]),
            sides: BTreeMap::from([(CDS, Side::default()), (EDS, Side::default())]),
            to_client: VecDeque::new(),
            nonce: 0,
            accepted: BTreeMap::new(),
            due: VecDeque::new(),
            now: Duration::ZERO,
        }
    }

    fn side(&mut self, t: ResourceType) -> &mut Side {
        self.sides.get_mut(&t).unwrap()
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Ask(numbers) => {
                let interest = Interest::names(numbers.iter().map(|n| format!("r{n}")));
                let view = self.view.get_mut(&EDS).unwrap();
                view.retain(|n, _| interest.covers(n));
                self.session.subscribe(EDS, interest);
            }
            Op::Hear => {
                self.hear();
            }
            Op::Read => {
                self.read();
            }
            Op::Reconnect => self.reconnect(),
            Op::Remove(t, n) => {
                let name: Name = format!("r{n}").into();
                self.truth.get_mut(&pick(t)).unwrap().remove(&name);
            }
            Op::Repeat(t) => {
                let sent = &mut self.side(pick(t)).sent;
                sent.values_mut().for_each(|version| version.push('?'));
                self.tell(pick(t));
            }
            Op::Set(t, n, value) => {
                let name: Name = format!("r{n}").into();
                self.truth.get_mut(&pick(t)).unwrap().insert(name, value);
            }
            Op::Tell(t) => self.tell(pick(t)),
        }
        self.check_held();
    }

    fn reconnect(&mut self) {
        self.session.on_stream_closed();
        self.to_client.clear();
        self.due.clear();
        self.sides = BTreeMap::from([(CDS, Side::default()), (EDS, Side::default())]);
        assert_eq!(self.session.next_request(self.now), None);
        self.session.on_stream_open();
    }

    /// One request goes from client to server; false if there was none.
    fn hear(&mut self) -> bool {
        // Held-back NACKs are due at once here; their pace has its own test.
        self.now += Duration::from_secs(10);
        let Some(request) = self.session.next_request(self.now) else {
            return false;
        };
        match request {
            Request::Delta(r) => self.hear_delta(&r),
            Request::Sotw(r) => self.hear_sotw(&r),
        }
        true
    }

    fn check_answer(&mut self, nonce: &str, is_nack: bool, version: Option<&str>) {
        let at = self.due.iter().position(|(n, ..)| n == nonce);
        let (_, expected_nack, expected_version) = at
            .and_then(|at| self.due.remove(at))
            .unwrap_or_else(|| panic!("{nonce} answered twice"));
        assert_eq!(is_nack, expected_nack, "{nonce}");
        if let Some(version) = version {
            assert_eq!(version, expected_version, "{nonce}");
        }
    }

    fn hear_sotw(&mut self, r: &discovery::DiscoveryRequest) {
        let t = ResourceType::from_type_url(&r.type_url).unwrap();
        let is_answer = self.due.iter().any(|(n, ..)| *n == r.response_nonce);
        if is_answer {
            self.check_answer(
                &r.response_nonce,
                r.error_detail.is_some(),
                Some(&r.version_info),
            );
        } else {
            assert_eq!(r.error_detail, None);
        }
        let side = self.side(t);
        if t == CDS {
            assert!(r.resource_names.is_empty(), "it wants all");
        }
        side.names = r.resource_names.iter().map(|n| n.as_str().into()).collect();
        side.is_asked = true;
    }

    fn hear_delta(&mut self, r: &discovery::DeltaDiscoveryRequest) {
        let t = ResourceType::from_type_url(&r.type_url).unwrap();
        if r.response_nonce.is_empty() {
            assert_eq!(r.error_detail, None);
        } else {
            self.check_answer(&r.response_nonce, r.error_detail.is_some(), None);
        }
        if self.sides[&t].is_asked {
            assert!(r.initial_resource_versions.is_empty(), "C-54: only first");
        } else {
            let versions = |(n, v): (&Name, &u8)| (n.to_string(), v.to_string());
            let held: BTreeMap<String, String> = self.view[&t].iter().map(versions).collect();
            let told = r.initial_resource_versions.clone().into_iter().collect();
            assert_eq!(held, told, "C-54");
            let side = self.side(t);
            side.sent = held.into_iter().map(|(n, v)| (n.into(), v)).collect();
            side.is_asked = true;
        }
        let side = self.side(t);
        for name in &r.resource_names_unsubscribe {
            assert!(
                side.names.remove(name.as_str()),
                "{name} was not subscribed"
            );
            side.sent.remove(name.as_str());
        }
        for name in &r.resource_names_subscribe {
            let is_first = r.response_nonce.is_empty() && !r.initial_resource_versions.is_empty();
            side.names.insert(name.as_str().into());
            if !is_first {
                // Whatever the client has, it wants to hear of this name (S-51, S-52).
                side.sent.insert(name.as_str().into(), "?".to_owned());
            }
        }
    }

    /// The server says what it has to say about one type.
    fn tell(&mut self, t: ResourceType) {
        if !self.sides[&t].is_asked {
            return;
        }
        self.nonce += 1;
        let nonce = self.nonce.to_string();
        let truth = self.truth[&t].clone();
        let side = self.side(t);
        let is_wanted = |n: &Name| t == CDS || side.names.contains(n);
        let wanted: Vec<(Name, u8)> = truth.into_iter().filter(|(n, _)| is_wanted(n)).collect();
        let body = |n: &Name, v: u8| Any {
            type_url: t.type_url().to_owned(),
            value: n.bytes().chain([v]).collect(),
        };
        let type_url = t.type_url().to_owned();
        let response = match self.variant {
            Variant::Sotw => Response::Sotw(Box::new(discovery::DiscoveryResponse {
                version_info: format!("v{nonce}"),
                nonce,
                type_url,
                resources: wanted.iter().map(|(n, v)| body(n, *v)).collect(),
                ..Default::default()
            })),
            Variant::Delta => {
                let side = self.sides.get_mut(&t).unwrap();
                let gone = side
                    .sent
                    .keys()
                    .filter(|n| !wanted.iter().any(|(w, _)| w == *n));
                let removed_resources: Vec<String> = gone.map(ToString::to_string).collect();
                let is_news = |(n, v): &&(Name, u8)| side.sent.get(n) != Some(&v.to_string());
                let wrap = |(n, v): &(Name, u8)| discovery::Resource {
                    name: n.to_string(),
                    version: v.to_string(),
                    resource: Some(body(n, *v)),
                    ..Default::default()
                };
                let resources = wanted.iter().filter(is_news).map(wrap).collect();
                side.sent = wanted
                    .iter()
                    .map(|(n, v)| (n.clone(), v.to_string()))
                    .collect();
                Response::Delta(Box::new(discovery::DeltaDiscoveryResponse {
                    nonce,
                    type_url,
                    resources,
                    removed_resources,
                    ..Default::default()
                }))
            }
        };
        self.to_client.push_back(response);
    }

    /// One response goes from server to client; false if there was none.
    fn read(&mut self) -> bool {
        if !self.session.is_reading() {
            return false;
        }
        let Some(response) = self.to_client.pop_front() else {
            return false;
        };
        let nonce = match &response {
            Response::Delta(r) => r.nonce.clone(),
            Response::Sotw(r) => r.nonce.clone(),
        };
        let update = self.session.on_response(response, self.now, &mut accept);
        let update = update.expect("the type is asked for");
        let t = update.resource_type;
        let is_nack = update.nack.is_some();
        assert_eq!(is_nack, !update.refused.is_empty());
        if !is_nack {
            self.accepted.insert(t, update.version.clone());
        }
        let version = self.accepted.get(&t).cloned().unwrap_or_default();
        self.due.push_back((nonce, is_nack, version));
        let interest = self.session.interest(t).unwrap();
        let view = self.view.get_mut(&t).unwrap();
        for accepted in update.accepted {
            assert!(interest.covers(&accepted.name), "C-30");
            view.insert(accepted.name, accepted.value);
        }
        for removal in update.removed {
            let was_held = view.remove(&removal.name).is_some();
            assert_eq!(was_held, removal.was_held, "{}", removal.name);
        }
        true
    }

    /// The session's idea of what is held is the sum of its updates.
    fn check_held(&self) {
        for t in [CDS, EDS] {
            let held: Vec<&Name> = self.session.held(t).map(|(n, _)| n).collect();
            let view: Vec<&Name> = self.view[&t].keys().collect();
            assert_eq!(held, view, "{t}");
        }
    }

    /// Lets everything in flight arrive, and the server say what is left to say.
    fn check_rest(&mut self) {
        for _ in 0..3 {
            while self.hear() || self.read() {}
            self.tell(CDS);
            self.tell(EDS);
        }
        while self.hear() || self.read() {}
        assert!(self.due.is_empty(), "never answered: {:?}", self.due);
        self.check_held();
        for t in [CDS, EDS] {
            let interest = self.session.interest(t).cloned().unwrap_or_default();
            for (name, value) in self.truth[&t].iter().filter(|(n, _)| interest.covers(n)) {
                let found = self.view[&t].get(name);
                if is_bad(*value) {
                    assert!(found.is_none_or(|v| !is_bad(*v)), "{t} {name}");
                } else {
                    assert_eq!(found, Some(value), "{t} {name}");
                }
            }
            // Absence from a partial response says nothing (S-27).
            let tells_absence = self.variant == Variant::Delta || t == CDS;
            for name in self.view[&t].keys().filter(|_| tells_absence) {
                assert!(self.truth[&t].contains_key(name), "{t} {name} is gone");
            }
        }
    }
}

fn check(variant: Variant, ops: Vec<Op>) {
    let mut world = World::new(variant);
    for op in ops {
        world.run(op);
    }
    world.check_rest();
}

proptest! {
    #[test]
    fn sotw_client_and_server_agree_at_rest(ops in ops()) {
        check(Variant::Sotw, ops);
    }

    #[test]
    fn delta_client_and_server_agree_at_rest(ops in ops()) {
        check(Variant::Delta, ops);
    }
}
