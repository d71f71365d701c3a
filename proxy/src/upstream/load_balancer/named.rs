//! Members that requests name: in a session, or in headers and metadata (`OverrideHost`). They go before the
//! policy.
//!
//! As in Envoy a session is held to the health of the member, a header is not; and each attempt takes
//! the next of the members that headers name. Metadata is that of connections: a stream can be led by what a
//! PROXY protocol header says, a request cannot.

use std::collections::HashMap;
use std::sync::OnceLock;

use foldhash::fast::RandomState;
use http::HeaderMap;
use http::HeaderName;

use super::Asked;
use crate::config::load_balancing::HealthStatuses;
use crate::config::load_balancing::LoadBalancing;
use crate::config::load_balancing::NameSource;
use crate::downstream::Label;
use crate::http::headers::lookup;
use crate::upstream::host::Member;

/// Finds members by their addresses.
#[derive(Debug)]
pub struct ByName {
    sources: Box<[NameSource]>,
    statuses: HealthStatuses,
    /// Places of members by their addresses. Made when the first request names one: no other cluster pays
    /// for it.
    places: OnceLock<HashMap<Box<[u8]>, u32, RandomState>>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody may take it.
    Nobody,
    /// The policy decides.
    Open,
    /// This member takes it.
    Place(usize),
}

impl ByName {
    /// Of a cluster of this configuration.
    pub fn new(config: &LoadBalancing) -> Self {
        Self {
            sources: config.override_sources.clone().into(),
            statuses: config.override_statuses,
            places: OnceLock::new(),
        }
    }

    /// Who takes a request.
    pub fn find(&self, members: &[Member], asked: Asked<'_>) -> Verdict {
        if let Some(named) = asked.host {
            let found = self.place(members, named.address.as_bytes());
            let is_fit = |place: &usize| {
                let member = members.get(*place);
                member.is_some_and(|member| self.statuses.has(member.status()))
            };
            match found.filter(is_fit) {
                Some(place) => return Verdict::Place(place),
                None if named.is_strict => return Verdict::Nobody,
                None => {}
            }
        }
        if self.sources.is_empty() {
            return Verdict::Open;
        }
        self.of_sources(members, asked)
            .map_or(Verdict::Open, Verdict::Place)
    }

    fn of_sources(&self, members: &[Member], asked: Asked<'_>) -> Option<usize> {
        let texts = || self.sources.iter().filter_map(|source| text(source, asked));
        if asked.attempts_before == 0
            && let Some(first) = texts().next()
            && let Some(place) = self.place(members, first)
        {
            return Some(place); // mostly one member is named
        }
        let named = texts().flat_map(|text| text.split(|byte| *byte == b','));
        let mut known = named.filter_map(|text| self.place(members, text.trim_ascii()));
        known.nth(asked.attempts_before as usize)
    }

    fn place(&self, members: &[Member], address: &[u8]) -> Option<usize> {
        let places = self.places.get_or_init(|| {
            let mut places =
                HashMap::with_capacity_and_hasher(members.len(), RandomState::default());
            for (place, member) in (0..).zip(members) {
                let address = member.host.label.as_bytes();
                // Of two at one address the first.
                places.entry(address.into()).or_insert(place);
            }
            places
        });
        places.get(address).map(|place| *place as usize)
    }
}

/// What a source says. Of a header the first line counts.
fn text<'r>(source: &NameSource, asked: Asked<'r>) -> Option<&'r [u8]> {
    match source {
        NameSource::Header(name) => first_line(asked.headers?, name),
        NameSource::Metadata { namespace, path } => {
            let [key] = &**path else {
                return None;
            };
            let is_it = |label: &Label| {
                !label.is_state && label.namespace == *namespace && label.key == *key
            };
            let mut found = asked.metadata.iter();
            let found = found.find(|found| is_it(&found.label))?;
            Some(found.value.as_bytes())
        }
    }
}

fn first_line<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    lookup::first(headers, name).map(|value| value.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Endpoints;
    use crate::config::endpoint::Address;
    use crate::config::endpoint::Endpoint;
    use crate::config::endpoint::HealthStatus;
    use crate::config::endpoint::LocalityEndpoints;
    use crate::downstream::Metadatum;
    use crate::upstream::HostSet;
    use crate::upstream::load_balancer::Named;
    use crate::upstream::transport::Transports;

    /// Members at ports from 1 on with these healths.
    fn set(config: &LoadBalancing, healths: &[HealthStatus]) -> HostSet {
        let endpoint = |(port, health): (u16, &HealthStatus)| Endpoint {
            address: Address::Socket(([127, 0, 0, 1], port).into()),
            hostname: "".into(),
            weight: 1,
            health: *health,
            labels: None,
            traits: None,
            hash_key: None,
            check: None,
        };
        let locality = LocalityEndpoints {
            endpoints: (1..).zip(healths).map(endpoint).collect(),
            ..LocalityEndpoints::default()
        };
        let endpoints = Endpoints {
            localities: vec![locality],
            ..Endpoints::default()
        };
        HostSet::new(config, &endpoints, &Transports::default(), None)
    }

    fn pick(set: &HostSet, asked: Asked<'_>) -> Option<String> {
        let host = set.pick_for(&mut 0, 1, asked);
        host.map(|host| host.label.to_string())
    }

    #[test]
    fn a_session_names_a_member_that_is_fit() {
        use HealthStatus::Degraded;
        use HealthStatus::Draining;
        use HealthStatus::Healthy;
        use HealthStatus::Unhealthy;
        use HealthStatus::Unknown;
        let healths = [Healthy, Unhealthy, Degraded, Unknown, Draining];
        let usual = set(&LoadBalancing::default(), &healths);
        let draining = LoadBalancing {
            override_statuses: [Draining].into_iter().collect(),
            ..LoadBalancing::default()
        };
        let draining = set(&draining, &healths);
        fn named(address: &str, is_strict: bool) -> Asked<'_> {
            Asked {
                host: Some(Named { address, is_strict }),
                ..Asked::default()
            }
        }
        for (port, expected) in [
            (1, true),
            (2, false),
            (3, true),
            (4, true),
            (5, false),
            (6, false),
        ] {
            let address = format!("127.0.0.1:{port}");
            let found = pick(&usual, named(&address, true));
            assert_eq!(found.is_some(), expected, "{port}");
            assert!(found.is_none_or(|found| found == address));
            let other = pick(&usual, named(&address, false)).expect("another one may");
            assert_eq!(other == address, expected, "{port}");
            let found = pick(&draining, named(&address, true));
            assert_eq!(found.is_some(), port == 5, "{port}");
        }
        assert_eq!(pick(&usual, named("", true)), None);
    }

    #[test]
    fn headers_name_members_for_one_attempt_after_another() {
        let config = LoadBalancing {
            override_sources: ["x-a", "x-b"]
                .map(|name| NameSource::Header(HeaderName::from_static(name)))
                .to_vec(),
            ..LoadBalancing::default()
        };
        let healths = [
            HealthStatus::Healthy,
            HealthStatus::Healthy,
            HealthStatus::Unhealthy,
        ];
        let set = set(&config, &healths);
        let mut headers = HeaderMap::new();
        let mut at = |attempts_before: u32, change: &dyn Fn(&mut HeaderMap)| {
            change(&mut headers);
            let asked = Asked {
                headers: Some(&headers),
                attempts_before,
                ..Asked::default()
            };
            pick(&set, asked)
        };
        let text = "127.0.0.1:3 , 127.0.0.1:9,,127.0.0.1:2";
        let first = |headers: &mut HeaderMap| {
            headers.insert("x-a", text.parse().expect("a value"));
            headers.append("x-a", "127.0.0.1:1".parse().expect("a value"));
        };
        let nothing = |_: &mut HeaderMap| {};
        assert_eq!(
            at(0, &first).as_deref(),
            Some("127.0.0.1:3"),
            "though unfit"
        );
        assert_eq!(at(1, &nothing).as_deref(), Some("127.0.0.1:2"));
        assert!(at(2, &nothing).is_some(), "the policy decides");
        let second = |headers: &mut HeaderMap| {
            headers.insert("x-b", "127.0.0.1:1".parse().expect("a value"));
        };
        assert_eq!(at(2, &second).as_deref(), Some("127.0.0.1:1"));
        let many = |headers: &mut HeaderMap| {
            for number in 0..20 {
                let name = HeaderName::from_bytes(format!("x-{number}").as_bytes());
                headers.insert(name.expect("a name"), "1".parse().expect("a value"));
            }
        };
        assert_eq!(at(2, &many).as_deref(), Some("127.0.0.1:1"));
        let odd = |headers: &mut HeaderMap| {
            let value = http::HeaderValue::from_bytes(b"\xff,127.0.0.1:2");
            headers.insert("x-a", value.expect("a value"));
        };
        assert_eq!(at(0, &odd).as_deref(), Some("127.0.0.1:2"));
        assert_eq!(at(1, &nothing).as_deref(), Some("127.0.0.1:1"));
        let none = Asked::default();
        assert!(pick(&set, none).is_some());
    }

    #[test]
    fn metadata_of_a_connection_names_members_as_a_header_does() {
        let source = |path: &[&str]| NameSource::Metadata {
            namespace: "own".into(),
            path: path.iter().copied().map(Box::from).collect(),
        };
        let config = LoadBalancing {
            override_sources: vec![source(&["host", "inner"]), source(&["host"])],
            ..LoadBalancing::default()
        };
        let set = set(&config, &[HealthStatus::Healthy; 3]);
        let metadata = [("other", false), ("own", true), ("own", false)];
        let metadata = metadata.map(|(namespace, is_state)| Metadatum {
            label: Arc::new(Label {
                namespace: namespace.into(),
                key: "host".into(),
                is_state,
            }),
            value: match is_state || namespace == "other" {
                true => "127.0.0.1:1".into(),
                false => "127.0.0.1:9,127.0.0.1:3, 127.0.0.1:2".into(),
            },
        });
        for (attempts_before, expected) in [(0, "127.0.0.1:3"), (1, "127.0.0.1:2")] {
            for _ in 0..4 {
                let asked = Asked {
                    metadata: &metadata,
                    attempts_before,
                    ..Asked::default()
                };
                assert_eq!(pick(&set, asked).as_deref(), Some(expected));
            }
        }
    }
}
