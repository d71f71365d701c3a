//! The proxy in its group, before its origins.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use bench::origin::Origin;
use bench::origin::Reply;
use bench::peer::Admin;
use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

use super::ACTIONS;
use super::LIMIT;
use super::clients::Told;
use super::clients::ask;
use super::group::Group;
use crate::support::bootstrap;
use crate::support::child::Child;
use crate::support::child::weir;
use crate::support::streams::StreamOrigin;
use crate::support::until;

/// Reads whatever comes, and never answers.
pub(super) struct Sink {
    address: SocketAddr,
    pub(super) read: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Sink {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let read = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&read);
        let task = tokio::spawn(async move {
            let mut all = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                all.spawn(async move {
                    let mut buffer = vec![0; 16 * 1024];
                    while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
                        count.fetch_add(bytes, Ordering::Relaxed);
                    }
                });
            }
        });
        Self {
            address,
            read,
            task,
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The proxy in its group, before its origins.
pub(super) struct World {
    pub(super) child: Child,
    admin: Admin,
    pub(super) sink: Sink,
    _endless: StreamOrigin,
    _origins: [Origin; 2],
    // After the process that is in it.
    group: Option<Group>,
}

fn monitor(is_group: bool) -> Value {
    let (package, message, more) = if is_group {
        ("cgroup_memory", "CgroupMemoryConfig", json!({}))
    } else {
        (
            "fixed_heap",
            "FixedHeapConfig",
            json!({"max_heap_size_bytes": LIMIT}),
        )
    };
    let mut config = more;
    let kind = format!("envoy.extensions.resource_monitors.{package}.v3.{message}");
    config["@type"] = format!("type.googleapis.com/{kind}").into();
    json!({"name": "memory", "typed_config": config})
}

fn overload(is_group: bool) -> Value {
    let named = |name: &str, level: Value| {
        let mut trigger = level;
        trigger["name"] = "memory".into();
        json!({"name": format!("envoy.overload_actions.{name}"), "triggers": [trigger]})
    };
    let at = |(name, value): (&str, f64)| named(name, json!({"threshold": {"value": value}}));
    let mut actions: Vec<Value> = ACTIONS.map(at).into();
    // What was begun before goes on; should that be too much, the largest go.
    let scaled = json!({"scaled": {"scaling_threshold": 0.8, "saturation_threshold": 0.9}});
    actions.push(named("reset_high_memory_stream", scaled));
    json!({
        "refresh_interval": "0.01s",
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 14},
        "resource_monitors": [monitor(is_group)],
        "actions": actions,
    })
}

fn cluster(name: &str, address: SocketAddr) -> Value {
    let address = json!({"address": "127.0.0.1", "port_value": address.port()});
    let most = 100_000;
    let limits =
        json!({"max_connections": most, "max_requests": most, "max_pending_requests": most});
    json!({
        "name": name,
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"socket_address": address}}},
        ]}]},
    })
}

impl World {
    pub(super) async fn start() -> Self {
        // What of the program is read for the first time belongs to who reads it.
        let mut program = fs::File::open(weir().get_program()).expect("it was built");
        std::io::copy(&mut program, &mut std::io::sink()).expect("it can be read");
        let group = Group::make();
        let is_group = group.is_some();
        let _ = writeln!(std::io::stderr(), "in a control group: {is_group}");
        let (sink, endless) = (Sink::start().await, StreamOrigin::start().await);
        let origins = ["origin", "spare"].map(|name| Origin::start(name).expect("a free port"));
        origins
            .iter()
            .for_each(|origin| origin.reply(Reply::body("fine")));
        let admin = ReservedPort::new().expect("a free port");
        let policy = json!({"retry_on": "5xx"});
        let routes = json!([
            {"match": {"prefix": "/keep"}, "route": {
                "cluster": "sink", "timeout": "0s", "retry_policy": policy,
            }},
            {"match": {"prefix": "/spare"}, "route": {"cluster": "spare"}},
            {"match": {"prefix": "/endless"}, "route": {"cluster": "endless", "timeout": "0s"}},
            {"match": {"prefix": "/"}, "route": {"cluster": "origin"}},
        ]);
        let clusters = [
            cluster("sink", sink.address),
            cluster("spare", origins[1].addr()),
            cluster("endless", endless.addr),
        ];
        let text = |port: u16| {
            let text = bootstrap::fixed(port, origins[0].addr(), false);
            let admin = format!("port_value: {}", admin.number());
            let text = text.replacen("port_value: 0", &admin, 1);
            let plain = "[{match: {prefix: /}, route: {cluster: origin, timeout: 0s}}]";
            let text = text.replacen(plain, &routes.to_string(), 1);
            let clusters = clusters
                .each_ref()
                .map(|cluster| format!("  - {cluster}\n"));
            let overload = overload(is_group);
            format!("{text}{}overload_manager: {overload}\n", clusters.concat())
        };
        let command = match &group {
            Some(group) => group.command(&weir()),
            None => weir(),
        };
        let child = Child::start(command, text).await;
        Self {
            admin: Admin::new(admin.addr()),
            child,
            sink,
            _endless: endless,
            _origins: origins,
            group,
        }
    }

    pub(super) async fn number(&self, name: &str) -> u64 {
        let found = self.admin.stat(name).await.expect("it answers");
        found.unwrap_or_default()
    }

    /// Which of the actions are taken.
    pub(super) async fn taken(&self) -> [bool; ACTIONS.len()] {
        let stats = self.admin.stats().await.expect("it answers");
        ACTIONS.map(|(name, _)| {
            let name = format!("overload.envoy.overload_actions.{name}.active");
            stats.get(&name) == Some(&1)
        })
    }

    /// It lives, within what it has.
    pub(super) fn check(&mut self) {
        let running = self.child.process.check_running();
        let output = self.child.process.whole_output();
        assert!(running.is_ok(), "{running:?} {output}");
        match &self.group {
            Some(group) => assert_eq!(group.killed(), 0),
            None => {
                let memory = self.child.process.memory().expect("it runs");
                assert!(memory.anonymous < LIMIT, "{memory:?}");
            }
        }
    }

    pub(super) async fn recovers(&mut self) {
        until("nothing to be shed", async || {
            let is_quiet = self.taken().await == [false; ACTIONS.len()];
            (is_quiet && ask(self.child.addr(), "/").await == Told::Kept).then_some(())
        })
        .await;
        self.check();
    }
}
