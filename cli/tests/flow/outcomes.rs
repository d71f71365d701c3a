//! A breaker that looks at what came of requests: it opens, answers instead or sends elsewhere, lets a few
//! try, and closes (`weir.circuit_breaking.v1.OutcomeBreaker`). curl asks.

use std::time::Duration;

use bench::origin::Origin;
use bench::origin::Reply;
use bench::peer::Admin;
use bench::ports::ReservedPort;
use http::StatusCode;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::bootstrap;
use crate::support::child::weir;
use crate::support::curl;
use crate::support::servers::Proxy;
use crate::support::until;

const FORMAT: &str =
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_CLUSTER%\\n";

/// A proxy before an origin whose breaker has these settings, and a second cluster.
struct World {
    origin: Origin,
    spare: Origin,
    proxy: Proxy,
    admin: Admin,
    port: ReservedPort,
    folder: TempDir,
}

fn endpoint(origin: &Origin) -> String {
    let port = origin.addr().port();
    format!("endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}")
}

impl World {
    async fn start(settings: &str) -> Self {
        Self::with(settings, |text, _| text).await
    }

    /// `edit` gets the bootstrap and the second origin.
    async fn with(settings: &str, edit: impl Fn(String, &Origin) -> String) -> Self {
        let origin = Origin::start("origin").expect("a free port");
        let spare = Origin::start("spare").expect("a free port");
        origin.reply(Reply::body("fine"));
        spare.reply(Reply::body("spare"));
        let port = ReservedPort::new().expect("a free port");
        let folder = tempfile::tempdir().expect("a directory");
        let text = bootstrap::fixed(port.number(), origin.addr(), false);
        let spare_cluster = format!(
            "  - name: spare
    load_assignment:
      cluster_name: spare
      endpoints:
      - lb_endpoints:
        - {}
",
            endpoint(&spare)
        );
        let breaker = format!(
            "type: STATIC
    metadata:
      typed_filter_metadata:
        weir.circuit_breaking.v1:
          '@type': type.googleapis.com/weir.circuit_breaking.v1.OutcomeBreaker
          {settings}"
        );
        let log = format!(
            "stat_prefix: main
          access_log:
          - name: file
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {}
              log_format: {{text_format_source: {{inline_string: \"{FORMAT}\"}}}}",
            folder.path().join("log").display()
        );
        let text = text.replacen("type: STATIC", &breaker, 1) + &spare_cluster;
        let text = edit(text.replacen("stat_prefix: main", &log, 1), &spare);
        let proxy = Proxy::start(&text).await;
        proxy.listens("main").await;
        let admin = Admin::new(proxy.admin());
        Self {
            origin,
            spare,
            proxy,
            admin,
            port,
            folder,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.port.addr())
    }

    /// Status, whether it says that it is overloaded, and body.
    async fn ask(&self) -> (u16, bool, String) {
        let said = curl::run(&["--silent", "--include", &self.url()]).await;
        let (head, body) = said.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let overloaded = head.contains("x-envoy-overloaded: true");
        (status.expect("a status"), overloaded, body.to_owned())
    }

    async fn number(&self, name: &str) -> u64 {
        let found = self.admin.stat(name).await.expect("it answers");
        found.unwrap_or_default()
    }

    async fn breaker(&self, name: &str) -> u64 {
        self.number(&format!("cluster.origin.circuit_breakers.outcome.{name}"))
            .await
    }

    fn fail(&self) {
        self.origin
            .reply(Reply::status(StatusCode::INTERNAL_SERVER_ERROR));
    }

    /// Waits for a line of the log.
    async fn logged(&self, line: &str) {
        let file = self.folder.path().join("log");
        until(line, async || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            text.lines().any(|each| each == line).then_some(())
        })
        .await;
    }

    /// What `weir breaker show` says of it.
    fn shown(&self) -> String {
        let admin = self.admin.addr().to_string();
        let shown = ["breaker", "show", "origin", "--admin", &admin];
        let shown = tokio::task::block_in_place(|| weir().args(shown).output());
        String::from_utf8_lossy(&shown.expect("it runs").stdout).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_open_it_and_who_tries_in_vain_keeps_it_open_until_all_is_well() {
    if !curl::is_there() {
        return;
    }
    let settings = "error_percent: 50
          min_requests: 10
          open_time: 0.2s
          probes: 2";
    let world = World::start(settings).await;
    for _ in 0..10 {
        assert_eq!(world.ask().await, (200, false, "fine".to_owned()));
    }
    world.fail();
    until("it to open", async || {
        let (status, overloaded, text) = world.ask().await;
        let told = (status, &*text) == (503, "circuit breaker open") && overloaded;
        assert!(told || status == 500, "{status} {text}");
        told.then_some(())
    })
    .await;
    world
        .logged("503 UO weir_breaker_open{error_percent} origin")
        .await;
    // One tries from time to time, and as long as it fails all others are refused.
    let before = world.origin.seen().len();
    until("some to try in vain", async || {
        world.ask().await;
        (world.origin.seen().len() >= before + 2).then_some(())
    })
    .await;
    assert!(world.breaker("opened").await >= 3);
    world.origin.reply(Reply::body("fine"));
    until("it to close", async || {
        world.ask().await;
        (world.breaker("state").await == 0).then_some(())
    })
    .await;
    assert_eq!(world.ask().await, (200, false, "fine".to_owned()));
    assert!(
        world
            .number("cluster.origin.upstream_rq_breaker_open")
            .await
            >= 1
    );
    assert!(
        world.shown().lines().any(|line| {
            line.starts_with("outcome  closed: opened") && line.contains("last by probe")
        }),
        "{}",
        world.shown()
    );
    world.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_try_at_once_and_no_more() {
    if !curl::is_there() {
        return;
    }
    const OPEN_TIME: Duration = Duration::from_secs(1);
    let settings = "error_count: 1
          open_time: 1s
          probes: 3";
    let world = World::start(settings).await;
    // After its time others may try instead of those that say nothing: a look that took as long is not one.
    until("a look that was quick enough", async || {
        world.fail();
        while world.ask().await.0 != 500 {}
        let before = world.origin.seen().len();
        world.origin.reply(Reply::body("fine"));
        world.origin.pause();
        let mut clients = JoinSet::new();
        let mut began = Instant::now();
        while world.origin.seen().len() < before + 1 {
            began = Instant::now();
            let url = world.url();
            clients.spawn(async move { curl::run(&["--silent", &url]).await });
            tokio::task::yield_now().await;
            let looks = until("an answer or a try", async || {
                let tries = world.origin.seen().len() > before;
                (tries || clients.try_join_next().is_some()).then_some(())
            });
            looks.await;
        }
        for _ in 0..12 {
            let url = world.url();
            clients.spawn(async move { curl::run(&["--silent", &url]).await });
        }
        let mut refused = 0;
        while refused < 10 && began.elapsed() < OPEN_TIME {
            if let Ok(Some(said)) = tokio::time::timeout(OPEN_TIME, clients.join_next()).await {
                refused += usize::from(said.expect("no panic") == "circuit breaker open");
            }
        }
        let tried = world.origin.seen().len() - before;
        let was_quick = began.elapsed() < OPEN_TIME;
        let shown = world.shown();
        world.origin.resume();
        clients.join_all().await;
        if was_quick {
            assert_eq!((tried, refused), (3, 10), "{shown}");
        }
        was_quick.then_some(())
    })
    .await;
    assert_eq!(world.ask().await, (200, false, "fine".to_owned()));
    world.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_requests_open_it_and_another_answer_is_given() {
    if !curl::is_there() {
        return;
    }
    let settings = "slow_requests: {slower_than: 0.05s, percent: 100}
          min_requests: 3
          open_time: 600s
          answer: {status: 200, body: '{\"stale\": true}', content_type: application/json}";
    let world = World::start(settings).await;
    let slow = Reply::body("slow").with_delay(Duration::from_millis(80));
    world.origin.reply(slow);
    for _ in 0..3 {
        assert_eq!(world.ask().await, (200, false, "slow".to_owned()));
    }
    let url = world.url();
    let format = " %{http_code} %{content_type}";
    let said = curl::run(&["--silent", "--write-out", format, &url]).await;
    assert_eq!(said, "{\"stale\": true} 200 application/json");
    assert_eq!(world.origin.seen().len(), 3);
    world
        .logged("200 UO weir_breaker_open{slow_requests} origin")
        .await;
    let why = "outcome  open: opened 1 times, last by slow_requests, before that with 3 requests in the \
               window, 0 failed, 3 slow; 1 refused;";
    let shown = world.shown();
    assert!(shown.lines().any(|line| line.starts_with(why)), "{shown}");
    world.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_takes_what_is_refused_and_a_retry_too() {
    if !curl::is_there() {
        return;
    }
    let settings = "error_count: 4
          open_time: 600s
          cluster: spare";
    let retries = |text: String, _: &Origin| {
        let policy = "timeout: 0s, retry_policy: {retry_on: 5xx, num_retries: 5}";
        text.replacen("timeout: 0s", policy, 1)
    };
    let world = World::with(settings, retries).await;
    world.fail();
    // The fifth attempt of the first goes elsewhere, and so does all that follows.
    for _ in 0..5 {
        assert_eq!(world.ask().await, (200, false, "spare".to_owned()));
    }
    assert_eq!(
        (world.origin.seen().len(), world.spare.seen().len()),
        (4, 5)
    );
    world.logged("200 - via_upstream spare").await;
    for cluster in ["origin", "spare"] {
        let active = format!("cluster.{cluster}.upstream_rq_active");
        assert_eq!(world.number(&active).await, 0, "{cluster}");
    }
    world.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_past_a_member_that_fails() {
    if !curl::is_there() {
        return;
    }
    let settings = "error_percent: 90
          min_requests: 5
          open_time: 600s
          per_host: true";
    let two = |text: String, spare: &Origin| {
        let first = "      - lb_endpoints:\n";
        let both = format!("{first}        - {}\n", endpoint(spare));
        text.replacen(first, &both, 1)
    };
    let world = World::with(settings, two).await;
    world.fail();
    until("the member to be left out", async || {
        world.ask().await;
        let shown = world.shown();
        let of_member = format!("outcome {}  open", world.origin.addr());
        shown.contains(&of_member).then_some(())
    })
    .await;
    assert_eq!(world.origin.seen().len(), 5);
    for _ in 0..6 {
        assert_eq!(world.ask().await, (200, false, "spare".to_owned()));
    }
    assert_eq!(world.breaker("state").await, 0, "that of the cluster");
    world.proxy.stop().await;
}
