//! Every example in `configs/` is loaded and answers requests. Ports are swapped for free ones;
//! nothing else is changed.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says no by panicking"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use bench::client;
use bench::client::Answer;
use bench::origin::Origin;
use bench::ports::ReservedPort;
use control_plane::ca::Authority;
use control_plane::ca::authority;
use control_plane::source::secrets::Tls;
use http::Request;
use http::StatusCode;
use proxy::server::Options;
use proxy::server::Server;
use rustls_pki_types::UnixTime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longest wait for a proxy to be ready, or for a change to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// A copy of one folder of examples, with free ports in place of those written there.
struct World {
    ports: BTreeMap<u16, ReservedPort>,
    origins: Vec<Origin>,
    directory: tempfile::TempDir,
}

impl World {
    /// Backends stand on what the examples call 9000 to 9002.
    async fn new(folder: &str) -> Self {
        let mut world = Self {
            ports: BTreeMap::new(),
            origins: Vec::new(),
            directory: tempfile::tempdir().unwrap(),
        };
        for port in [8080, 8081, 9901, 18000] {
            world.ports.insert(port, ReservedPort::new().unwrap());
        }
        for name in ["9000", "9001", "9002"] {
            world.origins.push(Origin::start(name).unwrap());
        }
        let examples = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../configs")
            .join(folder);
        world.copy(&examples, world.directory.path());
        world
    }

    fn copy(&self, from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let target = to.join(path.file_name().unwrap());
            if path.is_dir() {
                std::fs::create_dir(&target).unwrap();
                self.copy(&path, &target);
            } else {
                std::fs::write(target, self.swap(std::fs::read_to_string(path).unwrap())).unwrap();
            }
        }
    }

    fn swap(&self, mut text: String) -> String {
        let reserved = self
            .ports
            .iter()
            .map(|(port, reserved)| (*port, reserved.number()));
        let origins = (9000..).zip(self.origins.iter().map(|origin| origin.addr().port()));
        for (written, free) in reserved.chain(origins) {
            text = text.replace(
                &format!("port_value: {written}}}"),
                &format!("port_value: {free}}}"),
            );
        }
        text
    }

    async fn run(&self, file: &str) -> Running {
        let path: PathBuf = self.directory.path().join(file);
        let folder = path.parent().unwrap().display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        // A proxy started inside the folder would find these by themselves.
        Running::start(
            &path,
            &text
                .replace("source: {path: ", &format!("source: {{path: {folder}/"))
                .replace("{filename: ", &format!("{{filename: {folder}/")),
        )
        .await
    }

    async fn get(&self, port: u16, host: &str, path: &str) -> Answer {
        self.send(port, Request::get(path).header("host", host))
            .await
    }

    async fn send(&self, port: u16, request: http::request::Builder) -> Answer {
        let request = request
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        client::http1(self.address(port), request).await.unwrap()
    }

    fn address(&self, port: u16) -> SocketAddr {
        self.ports[&port].addr()
    }
}

/// A proxy in this process.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(path: &Path, text: &str) -> Self {
        let loaded = proxy::bootstrap::load(path, text);
        let bootstrap = loaded.unwrap_or_else(|errors| panic!("{}", errors[0]));
        assert!(bootstrap.warnings.is_empty(), "{:?}", bootstrap.warnings);
        let options = Options {
            workers: 1,
            drain_timeout: Duration::from_secs(1),
            ..Options::default()
        };
        let server = Server::start(bootstrap, options).await.unwrap();
        let live = server.live();
        let mut applied = live.applied();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        let ready = async {
            while !live.is_ready() || live.listener_count() == 0 {
                applied.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, ready)
            .await
            .expect("ready in time");
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

/// Which origin answered, and the path it saw.
fn seen(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let seen: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    format!(
        "{} {}",
        seen["origin"].as_str().unwrap(),
        seen["path"].as_str().unwrap()
    )
}

#[tokio::test]
async fn edge() {
    let world = World::new("").await;
    let proxy = world.run("edge.yaml").await;
    assert_eq!(
        seen(&world.get(8080, "api.example.com", "/x?y=1").await),
        "9000 /x?y=1"
    );
    assert_eq!(
        seen(&world.get(8080, "eu.api.example.com", "/v2/x").await),
        "9001 //x"
    );
    assert_eq!(
        seen(&world.get(8080, "other", "/a//b/../c").await),
        "9002 /a/c"
    );
    assert_eq!(world.get(8080, "other", "/healthz").await.text(), "ok");
    let redirect = world.get(8080, "other", "/old/page").await;
    assert_eq!(redirect.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(redirect.headers["location"], "http://other/new/page");
    proxy.stop().await;
}

#[tokio::test]
async fn canary() {
    let world = World::new("").await;
    let proxy = world.run("canary.yaml").await;
    let always = Request::get("/")
        .header("host", "x")
        .header("x-canary", "always");
    assert_eq!(seen(&world.send(8080, always).await), "9002 /");
    let mut next = 0;
    for _ in 0..300 {
        next += u32::from(seen(&world.get(8080, "x", "/").await).starts_with("9002"));
    }
    assert!(
        (5..=75).contains(&next),
        "about one in ten of 300, saw {next}"
    );
    proxy.stop().await;
}

#[tokio::test]
async fn sidecar_pair() {
    let world = World::new("sidecar").await;
    let inbound = world.run("inbound.yaml").await;
    let outbound = world.run("outbound.yaml").await;
    assert_eq!(seen(&world.get(8080, "shop", "/item").await), "9000 /item");
    outbound.stop().await;
    inbound.stop().await;
}

#[tokio::test]
async fn files() {
    let world = World::new("files").await;
    let proxy = world.run("bootstrap.yaml").await;
    assert_eq!(seen(&world.get(8080, "x", "/").await), "9000 /");
    let clusters = world.directory.path().join("clusters.yaml");
    let text = std::fs::read_to_string(&clusters).unwrap();
    let [old, new, ..] = &*world.origins else {
        unreachable!("three were started")
    };
    let moved = text.replace(
        &old.addr().port().to_string(),
        &new.addr().port().to_string(),
    );
    let staged = world.directory.path().join("clusters.new");
    std::fs::write(&staged, moved).unwrap();
    std::fs::rename(staged, clusters).unwrap();
    let followed = async { while seen(&world.get(8080, "x", "/").await) != "9001 /" {} };
    tokio::time::timeout(PATIENCE, followed)
        .await
        .expect("the edit arrives");
    proxy.stop().await;
}

#[tokio::test]
async fn ads() {
    let world = World::new("ads").await;
    let listener = tokio::net::TcpListener::bind(world.address(18000))
        .await
        .unwrap();
    let server = control_plane::Server::builder()
        .resources_dir(world.directory.path().join("resources"))
        .build();
    let (stop, stopped) = oneshot::channel::<()>();
    let control_plane = tokio::spawn(server.serve(listener, async {
        let _ = stopped.await;
    }));
    let proxy = world.run("bootstrap.yaml").await;
    assert_eq!(seen(&world.get(8080, "x", "/").await), "9000 /");
    assert_eq!(seen(&world.get(8080, "x", "/cart/1").await), "9001 /cart/1");
    proxy.stop().await;
    stop.send(()).unwrap();
    control_plane.await.unwrap().unwrap();
}

#[tokio::test]
async fn identity() {
    let world = World::new("identity").await;
    let file = |name: &str| world.directory.path().join(name);
    let options = authority::Options::new("mesh.example".parse().unwrap());
    let now = UnixTime::now();
    let mut ca = Authority::init(&file("ca"), &options, now).unwrap();
    std::fs::write(file("roots.pem"), ca.bundle(now).unwrap().roots).unwrap();
    let shop = "spiffe://mesh.example/shop".parse().unwrap();
    let token = ca.token(now, &shop, Duration::from_mins(10), "a test");
    std::fs::write(file("token"), token.unwrap().expose()).unwrap();
    let tls = Tls {
        identity: "spiffe://mesh.example/control-plane".parse().unwrap(),
        requires_certificate: false,
    };
    let listener = tokio::net::TcpListener::bind(world.address(18000))
        .await
        .unwrap();
    let server = control_plane::Server::builder()
        .resources_dir(file("resources"))
        .authority(ca, Some(tls))
        .build();
    let (stop, stopped) = oneshot::channel::<()>();
    let control_plane = tokio::spawn(server.serve(listener, async {
        let _ = stopped.await;
    }));
    let proxy = world.run("bootstrap.yaml").await;
    assert_eq!(seen(&world.get(8080, "x", "/").await), "9000 /");
    let audit = std::fs::read_to_string(file("ca/audit.log")).unwrap();
    let mut of_shop = audit.lines().filter(|line| line.contains("/shop"));
    assert!(
        of_shop.all(|line| !line.contains("\"key\":\"made\"")),
        "{audit}"
    );
    proxy.stop().await;
    stop.send(()).unwrap();
    control_plane.await.unwrap().unwrap();
}
