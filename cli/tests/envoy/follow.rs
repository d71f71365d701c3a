//! A stock Envoy is served by our control plane in all four ways, and does what Weir does.
//!
//! Envoy may answer 503 for a moment while a change arrives, for it does not warm routes; Weir may
//! not: each of its answers belongs to the configuration before the change or to the one after it.

use std::net::SocketAddr;

use bench::client;
use bench::client::ClientError;
use bench::origin::Origin;
use bench::origin::Reply;
use bench::peer::Envoy;
use bench::ports::ReservedPort;
use bytes::Bytes;
use control_plane::stream::SyncState;
use http::Request;
use http_body_util::Empty;
use serde_json::Value;
use serde_json::json;

use crate::setting::ControlPlane;
use crate::setting::Weir;
use crate::setting::envoy_is_there;
use crate::setting::seed;
use crate::setting::until;
use crate::world::Answers;
use crate::world::Expected;
use crate::world::LASTING;
use crate::world::LISTENERS;
use crate::world::REVISION_PATH;
use crate::world::Site;
use crate::world::World;
use crate::world::origin_name;

/// Random changes that each way of subscribing is followed through.
const CHANGES: u32 = 50;

/// Everything is asked, refusals included, after so many changes; what changed is asked after each.
const WHOLE_EVERY: u32 = 10;

const ORIGINS: usize = 4;

/// How Envoy subscribes. Weir takes the same protocol, always aggregated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) seed: u64,
    pub(crate) api_type: &'static str,
    pub(crate) aggregated: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_follows_sotw_ads() {
    follow(Way {
        seed: seed(1),
        api_type: "GRPC",
        aggregated: true,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_follows_delta_ads() {
    follow(Way {
        seed: seed(2),
        api_type: "DELTA_GRPC",
        aggregated: true,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_follows_separate_sotw_services() {
    follow(Way {
        seed: seed(3),
        api_type: "GRPC",
        aggregated: false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_follows_separate_delta_services() {
    follow(Way {
        seed: seed(4),
        api_type: "DELTA_GRPC",
        aggregated: false,
    })
    .await;
}

/// Both proxies, their control plane and what stands behind them.
struct Stage {
    way: Way,
    control_plane: ControlPlane,
    envoy: Envoy,
    weir: Weir,
    sites: [(&'static str, Site); 2],
    _ports: [ReservedPort; 4],
    _origins: Vec<Origin>,
}

async fn follow(way: Way) {
    if !envoy_is_there() {
        return;
    }
    let (mut world, stage) = Stage::set(way).await;
    let mut before = Expected::new();
    let mut expected = world.expected();
    stage.check(&Step::whole("start", &before, &expected)).await;
    for number in 1..=CHANGES {
        let change = format!("change {number}: {}", world.change());
        before = std::mem::replace(&mut expected, world.expected());
        stage.commit(&world);
        let step = if number % WHOLE_EVERY == 0 {
            Step::whole(&change, &before, &expected)
        } else {
            Step::changed(&change, &before, &expected)
        };
        stage.check(&step).await;
        if number % WHOLE_EVERY == 0 {
            stage.check_nothing_was_refused().await;
        }
    }
    stage.weir.stop().await;
}

/// What is asked after one change: listener and path, the answers wanted, and those of before.
struct Step<'a> {
    change: &'a str,
    asked: Vec<(usize, String, Answers, Answers)>,
}

impl<'a> Step<'a> {
    fn whole(change: &'a str, before: &Expected, after: &Expected) -> Self {
        let mut asked = Vec::new();
        for (place, wanted) in after {
            let earlier = before
                .get(place)
                .cloned()
                .unwrap_or_else(|| missing(before, place.0));
            asked.push((place.0, place.1.clone(), wanted.clone(), earlier));
        }
        for (place, earlier) in before {
            if !after.contains_key(place) {
                let wanted = missing(after, place.0);
                asked.push((place.0, place.1.clone(), wanted, earlier.clone()));
            }
        }
        Self { change, asked }
    }

    fn changed(change: &'a str, before: &Expected, after: &Expected) -> Self {
        let mut step = Self::whole(change, before, after);
        step.asked
            .retain(|(_, _, wanted, earlier)| wanted != earlier);
        step
    }
}

/// The answer on a path that is not in the table: 404, or none without the listener.
fn missing(expected: &Expected, listener: usize) -> Answers {
    let revision = expected.get(&(listener, REVISION_PATH.to_owned()));
    let is_open = revision.is_some_and(|answers| !answers.contains("closed"));
    Answers::from([if is_open { "404" } else { "closed" }.to_owned()])
}

impl Stage {
    async fn set(way: Way) -> (World, Self) {
        let origins: Vec<Origin> = (0..ORIGINS).map(origin).collect();
        let addresses = origins.iter().map(Origin::addr).collect();
        let world = World::new(way.seed, addresses);
        let control_plane = ControlPlane::start().await;
        let ports = [(); 4].map(|()| ReservedPort::new().expect("a free port"));
        let numbers = [0, 1, 2, 3].map(|index: usize| ports[index].number());
        let site = |ports, source| Site { ports, source };
        let sites = [
            ("envoy", site([numbers[0], numbers[1]], way.source())),
            ("weir", site([numbers[2], numbers[3]], ads())),
        ];
        for (group, site) in &sites {
            control_plane.commit(group, &world.resources(site));
        }
        let address = control_plane.address;
        let envoy = Envoy::start(&bootstrap("envoy", way, address)).await;
        let aggregated = Way {
            aggregated: true,
            ..way
        };
        let weir = Weir::start(&bootstrap("weir", aggregated, address)).await;
        let stage = Self {
            way,
            control_plane,
            envoy: envoy.expect("Envoy starts and gets ready"),
            weir,
            sites,
            _ports: ports,
            _origins: origins,
        };
        (world, stage)
    }

    fn commit(&self, world: &World) {
        for (group, site) in &self.sites {
            self.control_plane.commit(group, &world.resources(site));
        }
    }

    /// Waits until both proxies answer as they must.
    async fn check(&self, step: &Step<'_>) {
        let way = self.way;
        let [(envoy, at_envoy), (weir, at_weir)] = &self.sites;
        let outcomes = tokio::join!(
            Box::pin(settle(envoy, at_envoy, step, false)),
            Box::pin(settle(weir, at_weir, step, true)),
        );
        if let (Err(error), _) | (_, Err(error)) = outcomes {
            let clients = self.control_plane.handle.clients();
            unsettled(&format!("{way:?}, {}: {error}\n{clients:#?}", step.change));
        }
    }

    async fn check_nothing_was_refused(&self) {
        let way = self.way;
        let stats = self.envoy.admin().stats().await.expect("statistics");
        let ending = |suffix: &str| -> Vec<(&String, &u64)> {
            stats
                .iter()
                .filter(|(name, _)| name.ends_with(suffix))
                .collect()
        };
        let rejected = ending(".update_rejected");
        let endpoints = format!("cluster.{LASTING}.");
        for part in [
            "cluster_manager.cds.",
            "listener_manager.lds.",
            "http.first.rds.",
            &endpoints,
        ] {
            let is_counted = rejected.iter().any(|(name, _)| name.contains(part));
            assert!(is_counted, "{way:?}: no counter {part}: {rejected:?}");
        }
        assert!(
            rejected.iter().all(|(_, count)| **count == 0),
            "{way:?}: {rejected:?}"
        );
        let connected = ending("control_plane.connected_state");
        assert!(!connected.is_empty(), "{way:?}");
        assert!(
            connected.iter().all(|(_, state)| **state == 1),
            "{way:?}: {connected:?}"
        );
        let acknowledged = until(|| async { self.all_acknowledged() }).await;
        assert!(acknowledged.is_ok(), "{way:?}: {acknowledged:?}");
    }

    /// The control plane's own view: both clients have everything and refused nothing.
    fn all_acknowledged(&self) -> Result<(), String> {
        let clients = self.control_plane.handle.clients();
        for (group, _) in &self.sites {
            if !clients.iter().any(|client| &*client.group == *group) {
                return Err(format!("nobody of {group} is connected"));
            }
        }
        let mut types = clients.iter().flat_map(|client| &client.types);
        match types.find(|one| one.state != SyncState::Synced || one.report.refusal.is_some()) {
            Some(open) => Err(format!("{open:?}")),
            None => Ok(()),
        }
    }
}

#[expect(clippy::panic, reason = "the failure of a test, with all that helps")]
fn unsettled(message: &str) -> ! {
    panic!("{message}")
}

fn origin(index: usize) -> Origin {
    let origin = Origin::start(&origin_name(index)).expect("a free port");
    origin.reply(Reply::body(origin_name(index)));
    origin
}

impl Way {
    /// What resources for Envoy name as the source of others.
    fn source(self) -> Value {
        if self.aggregated {
            ads()
        } else {
            json!({"resource_api_version": "V3", "api_config_source": self.api()})
        }
    }

    fn api(self) -> Value {
        json!({
            "api_type": self.api_type,
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "control-plane"}}],
        })
    }
}

fn ads() -> Value {
    json!({"resource_api_version": "V3", "ads": {}})
}

/// JSON in block style as far as it goes, because a section is added to it behind.
pub(crate) fn bootstrap(group: &str, way: Way, control_plane: SocketAddr) -> String {
    let source = way.source();
    let ads = if way.aggregated {
        format!("  ads_config: {}\n", way.api())
    } else {
        String::new()
    };
    let port = control_plane.port();
    format!(
        "\
node: {{id: {group}-1, cluster: {group}}}
dynamic_resources:
{ads}  lds_config: {source}
  cds_config: {source}
static_resources:
  clusters:
  - name: control-plane
    type: STATIC
    connect_timeout: 5s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: control-plane
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}
"
    )
}

/// Asks until every question got each answer wanted, and only those since the first right one.
async fn settle(name: &str, site: &Site, step: &Step<'_>, strictly: bool) -> Result<(), String> {
    for (listener, path, wanted, earlier) in &step.asked {
        let place = format!("{name}, listener {}, {path}", LISTENERS[*listener]);
        let address = SocketAddr::from(([127, 0, 0, 1], site.ports[*listener]));
        let seen = std::cell::RefCell::new(Answers::new());
        let torn = std::cell::RefCell::new(None);
        let settled = until(|| async {
            let answer = ask(address, path).await;
            let mut seen = seen.borrow_mut();
            if !wanted.contains(&answer) {
                // Whoever stands in the queue of a socket that closes is turned away by the kernel.
                let closes = wanted.contains("closed") && answer.starts_with("broken");
                if strictly && !closes && !earlier.contains(&answer) {
                    *torn.borrow_mut() = Some(answer);
                    return Ok(());
                }
                seen.clear();
                return Err(format!("{answer:?} instead of {wanted:?}"));
            }
            seen.insert(answer);
            if *seen == *wanted {
                Ok(())
            } else {
                Err(format!("only {seen:?} of {wanted:?}"))
            }
        });
        settled.await.map_err(|error| format!("{place}: {error}"))?;
        if let Some(answer) = torn.into_inner() {
            return Err(format!(
                "{place}: torn: {answer:?}, before {earlier:?}, after {wanted:?}"
            ));
        }
    }
    Ok(())
}

/// Who answered: an origin's name, a status, or `closed`. Over a new connection each time, because
/// an old one may go on with the listener it was accepted by.
async fn ask(address: SocketAddr, path: &str) -> String {
    let request = Request::get(path)
        .body(Empty::<Bytes>::new())
        .expect("a path");
    match client::http1(address, request).await {
        Ok(answer) if answer.status == 200 => answer.text(),
        Ok(answer) => answer.status.as_u16().to_string(),
        Err(ClientError::Connect(_)) => "closed".to_owned(),
        Err(error) => format!("broken: {error}"),
    }
}
