//! A random configuration, random changes of it, and what it must answer at any time.
//!
//! Two listeners stand in front of two route tables; every route leads to weighted clusters of
//! shared origins. The listener `second` comes and goes. Where a proxy listens and where it gets
//! tables and endpoints from is the [`Site`]'s, all else is the same for every proxy.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::Value;
use serde_json::json;

/// The listeners; the first one always exists.
pub(crate) const LISTENERS: [&str; 2] = ["first", "second"];

/// The route tables.
const TABLES: [&str; 2] = ["main", "other"];

/// Answered by every table with its revision.
pub(crate) const REVISION_PATH: &str = "/revision";

/// Routes per table: more would cost time and find nothing else.
const ROUTES_MAX: usize = 4;

/// Clusters at a time.
const CLUSTERS_MAX: usize = 6;

/// The first cluster always gets its endpoints over EDS and stays, so that there is one to count.
pub(crate) const LASTING: &str = "c1";

/// What differs from proxy to proxy.
pub(crate) struct Site {
    /// Ports of the [`LISTENERS`].
    pub(crate) ports: [u16; 2],
    /// Where route tables and endpoints come from.
    pub(crate) source: Value,
}

/// What may be answered: names of origins, statuses, or `closed`.
pub(crate) type Answers = BTreeSet<String>;

/// What must be answered, by listener and path.
pub(crate) type Expected = BTreeMap<(usize, String), Answers>;

#[derive(Debug)]
struct Cluster {
    /// Indexes of origins.
    members: BTreeSet<usize>,
    /// Endpoints in the cluster itself, not over EDS.
    is_static: bool,
    /// Changes nothing that can be seen, but makes the cluster another one.
    connect_timeout_seconds: u8,
}

#[derive(Debug)]
struct Table {
    revision: u32,
    /// Weights of clusters by path.
    routes: BTreeMap<String, BTreeMap<String, u8>>,
}

/// The configuration.
#[derive(Debug)]
pub(crate) struct World {
    rng: fastrand::Rng,
    origins: Vec<SocketAddr>,
    clusters: BTreeMap<String, Cluster>,
    tables: [Table; 2],
    /// Table of each listener, if the listener exists.
    listeners: [Option<usize>; 2],
    /// Number of the next thing that needs a name.
    next: u32,
}

impl World {
    /// A first configuration, decided by `seed`.
    pub(crate) fn new(seed: u64, origins: Vec<SocketAddr>) -> Self {
        let table = || Table {
            revision: 0,
            routes: BTreeMap::new(),
        };
        let mut world = Self {
            rng: fastrand::Rng::with_seed(seed),
            origins,
            clusters: BTreeMap::new(),
            tables: [table(), table()],
            listeners: [Some(0), None],
            next: 0,
        };
        for _ in 0..3 {
            world.add_cluster();
        }
        for table in [0, 1, 0, 1] {
            world.add_route(table);
        }
        world
    }

    /// Makes one random change and tells what it was.
    pub(crate) fn change(&mut self) -> String {
        loop {
            let table = self.rng.usize(..TABLES.len());
            let done = match self.rng.u8(..9) {
                0 => self.shift_weights(table),
                1 => self.add_route(table),
                2 => self.remove_route(table),
                3 | 4 => self.change_members(),
                5 => self.add_cluster_with_route(table),
                6 => self.remove_cluster(),
                7 => self.change_cluster(),
                _ => self.change_listener(),
            };
            if let Some(done) = done {
                return done;
            }
        }
    }

    fn name(&mut self, kind: &str) -> String {
        self.next += 1;
        format!("{kind}{}", self.next)
    }

    fn some_members(&mut self) -> BTreeSet<usize> {
        // A cluster without members is rare but must be told to both alike.
        let count = if self.rng.u8(..12) == 0 {
            0
        } else {
            self.rng.usize(1..=3)
        };
        (0..count)
            .map(|_| self.rng.usize(..self.origins.len()))
            .collect()
    }

    fn some_weights(&mut self) -> BTreeMap<String, u8> {
        let known: Vec<String> = self.clusters.keys().cloned().collect();
        let count = self.rng.usize(1..=2).min(known.len());
        let chosen = self.rng.choose_multiple(known, count);
        let mut weights: BTreeMap<_, _> = chosen
            .into_iter()
            .map(|name| (name, self.rng.u8(..4)))
            .collect();
        if weights.values().all(|weight| *weight == 0) {
            weights.values_mut().for_each(|weight| *weight = 1);
        }
        weights
    }

    fn some_path(&mut self, table: usize) -> Option<String> {
        let paths: Vec<String> = self.tables[table].routes.keys().cloned().collect();
        self.rng.choice(paths)
    }

    fn some_cluster(&mut self) -> Option<String> {
        let names: Vec<String> = self.clusters.keys().cloned().collect();
        self.rng.choice(names)
    }

    fn shift_weights(&mut self, table: usize) -> Option<String> {
        let path = self.some_path(table)?;
        let weights = self.some_weights();
        let done = format!("{}: {path} has weights {weights:?}", TABLES[table]);
        self.tables[table].routes.insert(path, weights);
        self.tables[table].revision += 1;
        Some(done)
    }

    fn add_route(&mut self, table: usize) -> Option<String> {
        if self.tables[table].routes.len() == ROUTES_MAX {
            return None;
        }
        let path = self.name("/r");
        let weights = self.some_weights();
        let done = format!("{}: new {path} to {weights:?}", TABLES[table]);
        self.tables[table].routes.insert(path, weights);
        self.tables[table].revision += 1;
        Some(done)
    }

    fn remove_route(&mut self, table: usize) -> Option<String> {
        let path = self.some_path(table)?;
        if self.tables[table].routes.len() == 1 {
            return None;
        }
        self.tables[table].routes.remove(&path);
        self.tables[table].revision += 1;
        Some(format!("{}: {path} is gone", TABLES[table]))
    }

    fn change_members(&mut self) -> Option<String> {
        let name = self.some_cluster()?;
        let members = self.some_members();
        let done = format!("{name} has members {members:?}");
        self.clusters.get_mut(&name)?.members = members;
        Some(done)
    }

    fn add_cluster(&mut self) -> Option<String> {
        if self.clusters.len() == CLUSTERS_MAX {
            return None;
        }
        let name = self.name("c");
        let cluster = Cluster {
            members: self.some_members(),
            is_static: self.rng.u8(..4) == 0 && name != LASTING,
            connect_timeout_seconds: 2,
        };
        let done = format!("new {name}: {cluster:?}");
        self.clusters.insert(name, cluster);
        Some(done)
    }

    fn add_cluster_with_route(&mut self, table: usize) -> Option<String> {
        let done = self.add_cluster()?;
        let newest = format!("c{}", self.next);
        let path = self
            .some_path(table)
            .filter(|_| self.tables[table].routes.len() == ROUTES_MAX);
        let path = path.unwrap_or_else(|| self.name("/r"));
        let done = format!("{}: {path} to {done}", TABLES[table]);
        self.tables[table]
            .routes
            .insert(path, BTreeMap::from([(newest, 1)]));
        self.tables[table].revision += 1;
        Some(done)
    }

    /// Removes a cluster; its routes move in the same commit.
    fn remove_cluster(&mut self) -> Option<String> {
        let name = self.some_cluster()?;
        if self.clusters.len() < 3 || name == LASTING {
            return None;
        }
        self.clusters.remove(&name);
        for table in 0..TABLES.len() {
            let routes = &self.tables[table].routes;
            let moved: Vec<String> = routes
                .iter()
                .filter(|(_, weights)| weights.contains_key(&name))
                .map(|(path, _)| path.clone())
                .collect();
            self.tables[table].revision += u32::from(!moved.is_empty());
            for path in moved {
                let weights = self.some_weights();
                self.tables[table].routes.insert(path, weights);
            }
        }
        Some(format!("{name} is gone"))
    }

    /// Makes a client build the cluster anew; its endpoints must then be sent again.
    fn change_cluster(&mut self) -> Option<String> {
        let name = self.some_cluster()?;
        let seconds = self.rng.u8(1..=9);
        self.clusters.get_mut(&name)?.connect_timeout_seconds = seconds;
        Some(format!("{name} has a connect timeout of {seconds} s"))
    }

    fn change_listener(&mut self) -> Option<String> {
        let index = self.rng.usize(..LISTENERS.len());
        let table = self.rng.usize(..TABLES.len());
        let next =
            (index == 0 || self.listeners[index].is_none() || self.rng.bool()).then_some(table);
        self.listeners[index] = next;
        let now = next.map_or_else(
            || "is gone".to_owned(),
            |table| format!("uses {}", TABLES[table]),
        );
        Some(format!("{} {now}", LISTENERS[index]))
    }

    /// What must be answered.
    pub(crate) fn expected(&self) -> Expected {
        let one = |answer: String| BTreeSet::from([answer]);
        let mut expected = Expected::new();
        for (listener, table) in self.listeners.iter().enumerate() {
            let Some(table) = table.map(|table| &self.tables[table]) else {
                expected.insert(
                    (listener, REVISION_PATH.to_owned()),
                    one("closed".to_owned()),
                );
                continue;
            };
            let revision = format!(
                "{} {}",
                self.listeners[listener].unwrap_or(0),
                table.revision
            );
            expected.insert((listener, REVISION_PATH.to_owned()), one(revision));
            for (path, weights) in &table.routes {
                expected.insert((listener, path.clone()), self.answers(weights));
            }
        }
        expected
    }

    fn answers(&self, weights: &BTreeMap<String, u8>) -> Answers {
        let chosen = weights.iter().filter(|(_, weight)| **weight > 0);
        chosen
            .flat_map(|(name, _)| {
                let members = &self.clusters[name].members;
                let names = members.iter().map(|origin| origin_name(*origin));
                let none = members.is_empty().then(|| "503".to_owned());
                names.chain(none)
            })
            .collect()
    }

    /// The resources as `site` gets them.
    pub(crate) fn resources(&self, site: &Site) -> Vec<Value> {
        let mut resources = Vec::new();
        for (name, cluster) in &self.clusters {
            let assignment = self.assignment(name, &cluster.members);
            resources.push(cluster_resource(name, cluster, site, &assignment));
            if !cluster.is_static {
                resources.push(assignment);
            }
        }
        for (index, table) in self.tables.iter().enumerate() {
            resources.push(table_resource(index, table));
        }
        for (index, table) in self.listeners.iter().enumerate() {
            resources.extend(table.map(|table| listener_resource(index, table, site)));
        }
        resources
    }

    fn assignment(&self, name: &str, members: &BTreeSet<usize>) -> Value {
        let hosts: Vec<Value> = members
            .iter()
            .map(|origin| {
                json!({"endpoint": {"address": socket_address(self.origins[*origin].port())}})
            })
            .collect();
        json!({
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": hosts}],
        })
    }
}

/// How the origin with this index calls itself.
pub(crate) fn origin_name(index: usize) -> String {
    format!("origin {index}")
}

fn socket_address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn cluster_resource(name: &str, cluster: &Cluster, site: &Site, assignment: &Value) -> Value {
    let mut resource = json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "connect_timeout": format!("{}s", cluster.connect_timeout_seconds),
    });
    if cluster.is_static {
        let mut inline = assignment.clone();
        inline.as_object_mut().map(|inline| inline.remove("@type"));
        resource["type"] = json!("STATIC");
        resource["load_assignment"] = inline;
    } else {
        resource["type"] = json!("EDS");
        resource["eds_cluster_config"] = json!({"eds_config": site.source});
    }
    resource
}

fn table_resource(index: usize, table: &Table) -> Value {
    let mut routes = vec![json!({
        "match": {"path": REVISION_PATH},
        "direct_response": {
            "status": 200,
            "body": {"inline_string": format!("{index} {}", table.revision)},
        },
    })];
    routes.extend(table.routes.iter().map(|(path, weights)| {
        let weighted: Vec<Value> = weights
            .iter()
            .map(|(name, weight)| json!({"name": name, "weight": weight}))
            .collect();
        json!({
            "match": {"path_separated_prefix": path},
            "route": {"weighted_clusters": {"clusters": weighted}},
        })
    }));
    json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": TABLES[index],
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
    })
}

fn listener_resource(index: usize, table: usize, site: &Site) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": LISTENERS[index],
        "address": socket_address(site.ports[index]),
        "filter_chains": [{"filters": [{
            "name": "http",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": LISTENERS[index],
                "rds": {"route_config_name": TABLES[table], "config_source": site.source},
                "http_filters": [{
                    "name": "router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }],
            },
        }]}],
    })
}
