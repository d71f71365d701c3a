//! The control plane is away while a certificate grows old: traffic goes on and warnings rise, and it is
//! renewed as soon as the control plane is back. One whose end comes is good for nothing, and the
//! reason is told.

use std::time::Duration;

use proxy::telemetry::stats::Group;
use proxy::telemetry::stats::Reading;

use super::authority::Authority;
use super::authority::Leaf;
use super::authority::trust;
use super::caller::Caller;
use super::caller::ask_plainly;
use super::peers::now;
use super::site;
use crate::identity::free_ports;
use crate::setting::ControlPlane;
use crate::setting::Weir;
use crate::setting::until;

/// How long the first certificate lives.
const LIFE: Duration = Duration::from_secs(10);

/// How long the control plane is away for certain: more than half of it.
const AWAY: Duration = Duration::from_secs(6);

/// How long a certificate lives whose end is waited for.
const BRIEF: Duration = Duration::from_secs(4);

/// A number of the certificate that comes by this name.
fn gauge(weir: &Weir, name: &str) -> i64 {
    let stats = weir.live().registry.certificate("leaf");
    let place = stats.fields().iter().position(|field| field.name == name);
    match place.and_then(|place| stats.read(place)) {
        Some(Reading::Gauge(value)) => value,
        _ => -1,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t09_traffic_goes_on_without_the_control_plane_and_recovery_renews_at_once() {
    let root = Authority::new("root");
    let control_plane = ControlPlane::start().await;
    let address = control_plane.address;
    let port = free_ports(1).remove(0);
    let commit = |control_plane: &ControlPlane, leaf: &Leaf| {
        let tls = site::downstream(site::named("leaf", &site::ads()), None);
        let listener = site::answering("l", port.number(), &tls);
        control_plane.commit("weir", &[listener, leaf.secret("leaf")]);
    };
    let began = now();
    commit(&control_plane, &root.living("old", began, began + LIFE));
    let weir = Weir::start(&site::dynamic("weir", "DELTA_GRPC", address)).await;
    let caller = Caller::trusting(&[&root]);
    control_plane.stop().await;
    let mut asked = 0;
    while now() < began + AWAY {
        caller.leaf(port.addr()).await.expect("traffic goes on");
        asked += 1;
    }
    assert!(asked > 0);
    assert_eq!(gauge(&weir, "is_expiring"), 0, "there is time");
    let warned = until(|| async {
        let is_warned = gauge(&weir, "is_expiring") == 1;
        is_warned.then_some(()).ok_or_else(|| "silent".to_owned())
    });
    warned
        .await
        .expect("a certificate that ends soon is told of");
    let control_plane = ControlPlane::start_at(address).await;
    let new = root.issue("new");
    commit(&control_plane, &new);
    let renewed = until(|| async {
        let seen = caller.leaf(port.addr()).await;
        let seen = seen.map_err(|error| error.to_string())?;
        let is_new = seen == new.der;
        is_new.then_some(()).ok_or_else(|| "old".to_owned())
    });
    renewed.await.expect("it is renewed as soon as it can be");
    let calm = until(|| async {
        let is_calm = gauge(&weir, "is_expiring") == 0;
        is_calm.then_some(()).ok_or_else(|| "warns".to_owned())
    });
    calm.await.expect("nothing ends soon any more");
    weir.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t09_a_certificate_that_ended_is_good_for_nothing_and_the_reason_is_told() {
    let root = Authority::new("root");
    let control_plane = ControlPlane::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let mut ports = free_ports(2);
    let (front, back) = (ports.remove(0), ports.remove(0));
    let began = now();
    let brief = root.living("brief", began, began + BRIEF);
    let ads = site::ads();
    let server = site::downstream(site::named("leaf", &ads), None);
    let client = site::upstream(site::named("leaf", &ads), site::named("roots", &ads));
    let all = [
        site::answering("back", back.number(), &server),
        site::logging("front", front.number(), &log, "c"),
        site::cluster("c", back.number(), Some(&client)),
        brief.secret("leaf"),
        trust("roots", &[&root]),
    ];
    control_plane.commit("weir", &all);
    let weir = Weir::start(&site::dynamic("weir", "DELTA_GRPC", control_plane.address)).await;
    let first = ask_plainly(front.addr()).await;
    if now() < began + BRIEF {
        assert_eq!(first, Ok(200));
    }
    control_plane.stop().await;
    let ended = until(|| async {
        let answer = ask_plainly(front.addr()).await?;
        let is_closed = answer == 503 && now() > began + BRIEF;
        is_closed
            .then_some(())
            .ok_or_else(|| format!("{answer} still"))
    });
    ended.await.expect("what has ended opens no door");
    let told = until(|| async {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let reason = "UF TLS_error:_invalid_peer_certificate:_";
        let mut lines = text.lines();
        let is_told = lines.any(|line| line.starts_with(reason) && line.contains("xpired"));
        is_told.then_some(()).ok_or(text)
    });
    told.await.expect("the exact reason is told");
    assert_eq!(gauge(&weir, "seconds_to_expiration"), 0);
    weir.stop().await;
}
