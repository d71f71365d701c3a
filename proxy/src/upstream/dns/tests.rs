//! The resolver task on a paused clock, with a resolver that answers as it is told.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Found;
use super::Lookup;
use super::REFRESH_MIN;
use super::SystemLookup;
use super::of_family;
use super::run_with;
use crate::config::Name;
use crate::config::cluster::Dns;
use crate::config::cluster::DnsFamily;
use crate::config::cluster::DnsTarget;
use crate::config::endpoint::Address;
use crate::config::endpoint::HealthStatus;
use crate::config::endpoint::Locality;
use crate::config::endpoint::Policy;
use crate::xds::resource::DnsAnswer;
use crate::xds::resource::DnsQuery;

/// A name server in a table; a name that is not in it fails.
#[derive(Default)]
struct Table {
    names: Mutex<BTreeMap<String, Vec<SocketAddr>>>,
    lookups: Mutex<Vec<String>>,
}

impl Table {
    fn set(&self, host: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        self.names
            .lock()
            .unwrap()
            .insert(host.to_owned(), addresses);
    }

    fn fail(&self, host: &str) {
        self.names.lock().unwrap().remove(host);
    }

    fn lookups(&self) -> usize {
        std::mem::take(&mut *self.lookups.lock().unwrap()).len()
    }
}

impl Lookup for Table {
    fn lookup(&self, host: &Name, _: u16) -> Found {
        self.lookups.lock().unwrap().push(host.to_string());
        let found = self.names.lock().unwrap().get(&**host).cloned();
        Box::pin(async move { found.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }
}

struct Rig {
    table: Arc<Table>,
    queries: watch::Sender<Vec<DnsQuery>>,
    answers: mpsc::Receiver<DnsAnswer>,
    task: JoinHandle<()>,
}

fn start(lookup: Option<Arc<dyn Lookup>>) -> Rig {
    let table = Arc::new(Table::default());
    let (queries, queries_rx) = watch::channel(Vec::new());
    let (answers_tx, answers) = mpsc::channel(1);
    let lookup = lookup.unwrap_or_else(|| Arc::<Table>::clone(&table));
    let task = tokio::spawn(run_with(queries_rx, answers_tx, lookup));
    Rig {
        table,
        queries,
        answers,
        task,
    }
}

fn target(host: &str, priority: u32) -> DnsTarget {
    DnsTarget {
        host: host.into(),
        port: 80,
        locality: Locality::default(),
        priority,
        locality_weight: None,
        weight: 7,
        hostname: "h".into(),
        health: HealthStatus::Degraded,
        locality_labels: None,
        labels: None,
        hash_key: None,
        traits: None,
        check: None,
    }
}

fn query(cluster: &str, hosts: &[&str]) -> DnsQuery {
    DnsQuery {
        cluster: cluster.into(),
        dns: Dns {
            targets: hosts.iter().map(|h| target(h, 0)).collect(),
            refresh_rate: Duration::from_secs(5),
            family: DnsFamily::All,
            policy: Policy::default(),
        },
    }
}

impl Rig {
    async fn answer(&mut self) -> DnsAnswer {
        self.answers.recv().await.unwrap()
    }

    /// The addresses of the next answer, locality by locality.
    async fn addresses(&mut self) -> Option<Vec<Vec<String>>> {
        let localities = self.answer().await.endpoints?.localities;
        let show = |a: &Address| match a {
            Address::Socket(a) => a.to_string(),
            Address::Pipe(p) => p.display().to_string(),
        };
        let show_all = |l: &crate::config::endpoint::LocalityEndpoints| {
            l.endpoints.iter().map(|e| show(&e.address)).collect()
        };
        Some(localities.iter().map(show_all).collect())
    }

    /// Nothing is said for a long (virtual) while.
    async fn silence(&mut self) {
        let said = tokio::time::timeout(Duration::from_secs(62), self.answers.recv()).await;
        assert!(said.is_err(), "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_once_and_order_is_no_change() {
    let mut rig = start(None);
    rig.table
        .set("a", &["10.0.0.2:80", "10.0.0.1:80", "10.0.0.1:80"]);
    rig.queries.send(vec![query("c", &["a"])]).unwrap();
    assert_eq!(
        rig.addresses().await.unwrap(),
        [["10.0.0.1:80", "10.0.0.2:80"]]
    );
    rig.table.set("a", &["10.0.0.1:80", "10.0.0.2:80"]);
    rig.silence().await;
    rig.table.set("a", &["10.0.0.3:80"]);
    assert_eq!(rig.addresses().await.unwrap(), [["10.0.0.3:80"]]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_once_and_takes_nothing_away() {
    let mut rig = start(None);
    rig.queries.send(vec![query("c", &["a", "b"])]).unwrap();
    assert_eq!(rig.addresses().await, None);
    rig.silence().await;
    rig.table.set("a", &["10.0.0.1:80"]);
    assert_eq!(rig.addresses().await.unwrap(), [["10.0.0.1:80"]]);
    rig.table.fail("a");
    rig.table.set("b", &["10.0.0.2:80"]);
    assert_eq!(
        rig.addresses().await.unwrap(),
        [["10.0.0.1:80", "10.0.0.2:80"]]
    );
    rig.table.set("a", &[]);
    rig.silence().await;
}

#[tokio::test(start_paused = true)]
async fn it_looks_once_per_refresh_and_only_while_wanted() {
    let mut rig = start(None);
    rig.table.set("a", &["10.0.0.1:80"]);
    rig.queries.send(vec![query("c", &["a"])]).unwrap();
    rig.answer().await;
    assert_eq!(rig.table.lookups(), 1);
    rig.silence().await;
    assert_eq!(rig.table.lookups(), 12, "every 5 s");
    // Another query leaves this one alone.
    rig.queries
        .send(vec![query("c", &["a"]), query("d", &["a"])])
        .unwrap();
    assert_eq!(&*rig.answer().await.query.cluster, "d");
    rig.queries.send(Vec::new()).unwrap();
    rig.silence().await;
    assert!(rig.table.lookups() <= 2);
    let mut eager = query("c", &["a"]);
    eager.dns.refresh_rate = Duration::ZERO;
    rig.queries.send(vec![eager]).unwrap();
    rig.answer().await;
    rig.table.set("a", &["10.0.0.2:80"]);
    let started = Instant::now();
    rig.answer().await;
    assert!(started.elapsed() >= REFRESH_MIN);
}

#[tokio::test(start_paused = true)]
async fn members_carry_what_the_target_says() {
    let mut rig = start(None);
    rig.table.set("a", &["10.0.0.1:80"]);
    rig.table.set("b", &["10.0.0.2:80"]);
    let mut query = query("c", &["a", "b", "a"]);
    query.dns.targets[1].priority = 1;
    rig.queries.send(vec![query.clone()]).unwrap();
    let answer = rig.answer().await;
    assert_eq!(answer.query, query);
    let endpoints = answer.endpoints.unwrap();
    let priorities: Vec<u32> = endpoints.localities.iter().map(|l| l.priority).collect();
    assert_eq!(priorities, [0, 1]);
    let first = &endpoints.localities[0].endpoints;
    assert_eq!(first.len(), 2);
    assert_eq!((&*first[0].hostname, first[0].weight), ("h", 7));
    assert_eq!(first[0].health, HealthStatus::Degraded);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_hangs_is_a_failure() {
    struct Hangs;
    impl Lookup for Hangs {
        fn lookup(&self, _: &Name, _: u16) -> Found {
            Box::pin(std::future::pending())
        }
    }
    let mut rig = start(Some(Arc::new(Hangs)));
    rig.queries.send(vec![query("c", &["a"])]).unwrap();
    assert_eq!(rig.addresses().await, None);
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_either_side() {
    let rig = start(None);
    drop(rig.queries);
    rig.task.await.unwrap();
    let rig = start(None);
    rig.queries.send(vec![query("c", &["a"])]).unwrap();
    drop(rig.answers);
    rig.task.await.unwrap();
}

#[tokio::test]
async fn the_system_knows_literal_addresses() {
    let mut rig = start(Some(Arc::new(SystemLookup)));
    rig.queries
        .send(vec![query("c", &["127.0.0.1", "::1"])])
        .unwrap();
    assert_eq!(
        rig.addresses().await.unwrap(),
        [["127.0.0.1:80", "[::1]:80"]]
    );
}

#[test]
fn families() {
    let v4: SocketAddr = "10.0.0.1:80".parse().unwrap();
    let v6: SocketAddr = "[::1]:80".parse().unwrap();
    let check = |family, given: &[SocketAddr], expected: &[SocketAddr]| {
        let found: Vec<SocketAddr> = of_family(given.to_vec(), family).into_iter().collect();
        assert_eq!(found, expected, "{family:?} of {given:?}");
    };
    check(DnsFamily::All, &[v4, v6], &[v4, v6]);
    check(DnsFamily::Auto, &[v4, v6], &[v6]);
    check(DnsFamily::Auto, &[v4], &[v4]);
    check(DnsFamily::V4Only, &[v4, v6], &[v4]);
    check(DnsFamily::V4Only, &[v6], &[]);
    check(DnsFamily::V4Preferred, &[v4, v6], &[v4]);
    check(DnsFamily::V4Preferred, &[v6], &[v6]);
    check(DnsFamily::V6Only, &[v4, v6], &[v6]);
}
