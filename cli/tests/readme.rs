//! Every command of README.md is run, and what it shows is compared. Ports are swapped for free
//! ones; nothing else is changed.

#![expect(clippy::unwrap_used, reason = "a test says no by panicking")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bench::client;
use bench::origin::Origin;
use bench::ports::ReservedPort;
use http::Request;
use http::StatusCode;
use tokio::time::Instant;

/// Longest wait for a started command to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Demos take the first ports that are free; two that look at the same moment find the same ones.
static DEMO: Mutex<()> = Mutex::new(());

/// The commands this file runs; a new one in the README fails `every_command_is_known`.
const KNOWN: [&str; 13] = [
    "cargo run --release -- demo",
    "cargo test --workspace",
    "curl -s http://127.0.0.1:8080/hello",
    "weir ca init --dir ca --trust-domain mesh.example",
    "weir ca issue --dir ca spiffe://mesh.example/cart --out cart",
    "weir cert show cart.pem",
    "weir check configs/edge.yaml",
    "weir control-plane --ca ca --tls-identity spiffe://mesh.example/control-plane --listen 127.0.0.1:18000",
    "weir control-plane --resources configs/ads/resources --listen 127.0.0.1:18000",
    "weir demo --mtls --script",
    "weir proxy --from :8080 --to 127.0.0.1:9000,127.0.0.1:9001",
    "weir proxy -c configs/ads/bootstrap.yaml",
    "weir proxy -c configs/edge.yaml",
];

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A started command, ended with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn weir(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .args(arguments.split_whitespace().skip(1))
        .current_dir(root());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Asks until the answer is 200.
async fn answer(address: SocketAddr, host: &str, path: &str) -> String {
    let asking = async {
        loop {
            let request = Request::get(path).header("host", host);
            let request = request
                .body(http_body_util::Empty::<bytes::Bytes>::new())
                .unwrap();
            match client::http1(address, request).await {
                Ok(answer) if answer.status == StatusCode::OK => return answer.text(),
                Ok(_) | Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .expect("an answer in time")
}

#[test]
fn every_command_is_known() {
    let readme = readme();
    let commands = readme.lines().filter_map(|line| line.strip_prefix("$ "));
    let mut commands: Vec<&str> = commands
        .map(|command| command.split("  #").next().unwrap_or(command).trim())
        .collect();
    commands.sort_unstable();
    assert_eq!(commands, KNOWN);
}

#[test]
fn the_demo_walks_by_itself() {
    let _alone = DEMO.lock().unwrap_or_else(PoisonError::into_inner);
    let output = weir("weir demo --script").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("9 steps right, 0 wrong"), "{text}");
}

#[test]
fn sidecars_keep_talking_while_their_certificates_are_replaced() {
    let _alone = DEMO.lock().unwrap_or_else(PoisonError::into_inner);
    let output = weir("weir demo --mtls --script").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("6 steps right, 0 wrong"), "{text}");
    assert!(text.contains("requests meanwhile, 0 failed"), "{text}");
}

#[test]
fn check_finds_nothing_in_the_examples() {
    let mut command = weir("weir check");
    for example in std::fs::read_dir(root().join("configs")).unwrap() {
        let path = example.unwrap().path();
        // It needs the roots of somebody's authority; its own test makes one.
        let is_example = path.is_dir() || path.extension().is_some_and(|of| of == "yaml");
        if is_example && !path.ends_with("identity") {
            command.arg(path);
        }
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn the_mistake_is_told_as_shown() {
    let readme = readme();
    let shown = readme
        .split("```text\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let routes = std::fs::read_to_string(root().join("configs/ads/resources/routes.yaml")).unwrap();
    let broken = routes.replace(
        "- match: {path_separated_prefix: /cart}",
        "- match: {prefxi: /}",
    );
    std::fs::write(directory.path().join("routes.yaml"), broken).unwrap();
    let output = weir("weir check routes.yaml")
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with(shown), "shown:\n{shown}\ntold:\n{text}");
}

#[tokio::test]
async fn a_reverse_proxy_without_a_file() {
    let origins = [
        Origin::start("9000").unwrap(),
        Origin::start("9001").unwrap(),
    ];
    let port = ReservedPort::new().unwrap();
    let command = format!(
        "weir proxy --from :{} --to {},{}",
        port.number(),
        origins[0].addr(),
        origins[1].addr()
    );
    let _running = Running(weir(&command).spawn().unwrap());
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let text = answer(port.addr(), "x", "/").await;
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        seen.insert(json["origin"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen.len(), 2, "they take turns");
}

/// A file of `configs/` with free ports, beside the original's name.
fn swapped(file: &str, swaps: &[(u16, u16)], to: &Path) -> String {
    let mut text = std::fs::read_to_string(root().join(file)).unwrap();
    for (written, free) in swaps {
        text = text.replace(
            &format!("port_value: {written}}}"),
            &format!("port_value: {free}}}"),
        );
    }
    let target = to.join(Path::new(file).file_name().unwrap());
    std::fs::write(&target, text).unwrap();
    target.display().to_string()
}

#[tokio::test]
async fn a_proxy_with_a_bootstrap() {
    let (port, admin) = (ReservedPort::new().unwrap(), ReservedPort::new().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let swaps = [(8080, port.number()), (9901, admin.number())];
    let file = swapped("configs/edge.yaml", &swaps, directory.path());
    let _running = Running(weir(&format!("weir proxy -c {file}")).spawn().unwrap());
    assert_eq!(answer(port.addr(), "x", "/healthz").await, "ok");
}

#[tokio::test]
async fn a_control_plane_and_its_proxy() {
    let [port, admin, xds] = [(); 3].map(|()| ReservedPort::new().unwrap());
    let origins = [
        Origin::start("9000").unwrap(),
        Origin::start("9001").unwrap(),
    ];
    let directory = tempfile::tempdir().unwrap();
    let swaps = [
        (8080, port.number()),
        (9901, admin.number()),
        (18000, xds.number()),
        (9000, origins[0].addr().port()),
        (9001, origins[1].addr().port()),
    ];
    let resources = directory.path().join("resources");
    std::fs::create_dir(&resources).unwrap();
    for file in ["listeners", "routes", "clusters"] {
        swapped(
            &format!("configs/ads/resources/{file}.yaml"),
            &swaps,
            &resources,
        );
    }
    let bootstrap = swapped("configs/ads/bootstrap.yaml", &swaps, directory.path());
    let serve = format!(
        "weir control-plane --resources {} --listen {}",
        resources.display(),
        xds.addr()
    );
    let _control_plane = Running(weir(&serve).spawn().unwrap());
    let _proxy = Running(weir(&format!("weir proxy -c {bootstrap}")).spawn().unwrap());
    assert!(
        answer(port.addr(), "x", "/cart/1")
            .await
            .contains("\"9001\"")
    );
}

#[tokio::test]
async fn an_authority_and_its_control_plane() {
    let directory = tempfile::tempdir().unwrap();
    let run = |command: &str| {
        let output = weir(command)
            .current_dir(directory.path())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let of = |beginning: &str| {
        KNOWN
            .iter()
            .find(|known| known.starts_with(beginning))
            .unwrap()
    };
    run(of("weir ca init"));
    run(of("weir ca issue"));
    assert!(run(of("weir cert show")).contains("URI spiffe://mesh.example/cart"));
    let port = ReservedPort::new().unwrap();
    let serve = of("weir control-plane --ca").replace("127.0.0.1:18000", &port.addr().to_string());
    let mut serve = weir(&serve);
    let _running = Running(serve.current_dir(directory.path()).spawn().unwrap());
    let show = format!("weir cert show {}", port.addr());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = weir(&show).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.contains("URI spiffe://mesh.example/control-plane") {
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
    }
}
