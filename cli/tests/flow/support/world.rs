//! A random configuration that changes step by step, each step valid.
//!
//! Routes and clusters belong to groups, and every change stays within its group, so a client can
//! tell an answer that comes from where no configuration ever sent it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bench::origin::FixedOptions;
use bench::origin::FixedOrigin;
use bench::ports::ReservedPort;
use fastrand::Rng;
use xds_proto::any::pack;
use xds_proto::pb::google::protobuf::Any;

use crate::support::resources;
use crate::support::resources::ClusterSpec;
use crate::support::traffic::GROUP;

const GROUPS: usize = 3;
const ORIGINS_PER_GROUP: usize = 2;
const ROUTES: usize = 6;
const CLUSTERS_PER_GROUP_MAX: usize = 5;

/// The whole configuration, and the origins behind it.
pub(crate) struct World {
    rng: Rng,
    port: ReservedPort,
    side_port: ReservedPort,
    origins: Vec<Vec<FixedOrigin>>,
    clusters: BTreeMap<String, ClusterState>,
    routes: Vec<RouteState>,
    generation: u64,
    /// Which of several tables the side listener uses; without one there is no side listener.
    side: Option<u32>,
    /// Changing it changes the listener that carries the traffic.
    listener_version: u32,
    touches_listener: bool,
    names: u32,
}

#[derive(Clone, Debug)]
struct ClusterState {
    group: usize,
    members: Vec<(SocketAddr, u32)>,
    is_eds: bool,
    is_http2: bool,
    connect_seconds: i64,
}

#[derive(Clone, Debug)]
struct RouteState {
    group: usize,
    targets: Vec<(String, u32)>,
}

impl World {
    /// The same for the same seed. `touches_listener` lets the listener that carries the traffic
    /// change too, which ends its connections gracefully.
    pub(crate) fn new(seed: u64, touches_listener: bool) -> Self {
        let origin = |group: usize| {
            let headers = vec![(GROUP.to_owned(), group.to_string())];
            FixedOrigin::start(&FixedOptions {
                body_bytes: 16,
                headers,
                ..FixedOptions::default()
            })
            .expect("a free port")
        };
        let origins =
            (0..GROUPS).map(|group| (0..ORIGINS_PER_GROUP).map(|_| origin(group)).collect());
        let mut world = Self {
            rng: Rng::with_seed(seed),
            port: ReservedPort::new().expect("a free port"),
            side_port: ReservedPort::new().expect("a free port"),
            origins: origins.collect(),
            clusters: BTreeMap::new(),
            routes: Vec::new(),
            generation: 1,
            side: None,
            listener_version: 0,
            touches_listener,
            names: 0,
        };
        for group in 0..GROUPS {
            world.add_cluster(group);
            world.add_cluster(group);
        }
        for at in 0..ROUTES {
            let group = at % GROUPS;
            let targets = world.targets(group);
            world.routes.push(RouteState { group, targets });
        }
        world
    }

    /// Where traffic goes.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Every path with its group.
    pub(crate) fn paths(&self) -> Vec<(String, usize)> {
        self.routes
            .iter()
            .enumerate()
            .map(|(at, route)| (prefix(at), route.group))
            .collect()
    }

    /// A coin.
    pub(crate) fn chance(&mut self, of: u32) -> bool {
        self.rng.u32(0..of) == 0
    }

    /// From now on answers carry a new generation, which is returned.
    pub(crate) fn mark(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Changes one to three things.
    pub(crate) fn step(&mut self) {
        for _ in 0..self.rng.usize(1..=3) {
            match self.rng.u32(0..10) {
                0 | 1 => self.move_route(),
                2 | 3 => self.rename_cluster(),
                4 | 5 => self.change_members(),
                6 => {
                    let group = self.rng.usize(0..GROUPS);
                    self.add_cluster(group);
                }
                7 => self.remove_unused(),
                8 => self.change_cluster(),
                _ => self.change_listeners(),
            }
        }
    }

    /// Everything, as resources.
    pub(crate) fn resources(&self) -> Vec<Any> {
        let mut all = Vec::new();
        for (name, state) in &self.clusters {
            all.extend(resources::cluster(ClusterSpec {
                name,
                members: &state.members,
                is_eds: state.is_eds,
                is_http2: state.is_http2,
                connect_seconds: state.connect_seconds,
            }));
        }
        let routes: Vec<_> = self
            .routes
            .iter()
            .enumerate()
            .map(|(at, route)| (prefix(at), route.targets.clone()))
            .collect();
        all.push(pack(&resources::table("main", &routes, self.generation)));
        let stat_prefix = format!("main-{}", self.listener_version);
        all.push(resources::listener(
            "main",
            self.port.addr(),
            "main",
            &stat_prefix,
        ));
        if let Some(table) = self.side {
            let name = format!("side-{}", table / 2);
            if table.is_multiple_of(2) {
                all.push(pack(&resources::table(&name, &routes, self.generation)));
                all.push(resources::listener(
                    "side",
                    self.side_port.addr(),
                    &name,
                    "side",
                ));
            } else {
                let inline = resources::table(&name, &routes, self.generation);
                all.push(resources::listener_inline(
                    "side",
                    self.side_port.addr(),
                    inline,
                ));
            }
        }
        all
    }

    fn targets(&mut self, group: usize) -> Vec<(String, u32)> {
        let mut names: Vec<String> = self.of_group(group);
        self.rng.shuffle(&mut names);
        let count = self.rng.usize(1..=names.len().min(3));
        names.truncate(count);
        // A weight of zero is allowed as long as the sum is not zero.
        let weight = |(at, name)| (name, if at == 0 { 1 } else { self.rng.u32(0..100) });
        names.into_iter().enumerate().map(weight).collect()
    }

    fn of_group(&self, group: usize) -> Vec<String> {
        let all = self
            .clusters
            .iter()
            .filter(|(_, state)| state.group == group);
        all.map(|(name, _)| name.clone()).collect()
    }

    fn members(&mut self, group: usize) -> Vec<(SocketAddr, u32)> {
        let mut members: Vec<SocketAddr> =
            self.origins[group].iter().map(FixedOrigin::addr).collect();
        self.rng.shuffle(&mut members);
        members.truncate(self.rng.usize(1..=ORIGINS_PER_GROUP));
        members
            .into_iter()
            .map(|addr| (addr, self.rng.u32(1..10)))
            .collect()
    }

    fn add_cluster(&mut self, group: usize) {
        if self.of_group(group).len() >= CLUSTERS_PER_GROUP_MAX {
            return;
        }
        let state = ClusterState {
            group,
            members: self.members(group),
            is_eds: self.rng.bool(),
            is_http2: self.rng.bool(),
            connect_seconds: 5,
        };
        let name = self.fresh_name(group);
        self.clusters.insert(name, state);
    }

    /// New, or one that a group used before.
    fn fresh_name(&mut self, group: usize) -> String {
        let reused = format!("g{group}-{}", self.rng.u32(0..=self.names));
        if !self.clusters.contains_key(&reused) {
            return reused;
        }
        self.names += 1;
        format!("g{group}-{}", self.names)
    }

    fn any_cluster(&mut self) -> String {
        let names: Vec<&String> = self.clusters.keys().collect();
        names[self.rng.usize(0..names.len())].clone()
    }

    fn move_route(&mut self) {
        let at = self.rng.usize(0..ROUTES);
        self.routes[at].targets = self.targets(self.routes[at].group);
    }

    fn rename_cluster(&mut self) {
        let old = self.any_cluster();
        let Some(state) = self.clusters.remove(&old) else {
            return;
        };
        let new = self.fresh_name(state.group);
        for (name, _) in self.routes.iter_mut().flat_map(|route| &mut route.targets) {
            if *name == old {
                name.clone_from(&new);
            }
        }
        self.clusters.insert(new, state);
    }

    fn change_members(&mut self) {
        let name = self.any_cluster();
        let group = self.clusters[&name].group;
        let members = self.members(group);
        self.clusters
            .entry(name)
            .and_modify(|state| state.members = members);
    }

    fn remove_unused(&mut self) {
        let name = self.any_cluster();
        let is_used = self
            .routes
            .iter()
            .flat_map(|route| &route.targets)
            .any(|(target, _)| *target == name);
        if !is_used {
            self.clusters.remove(&name);
        }
    }

    fn change_cluster(&mut self) {
        let name = self.any_cluster();
        let (change, seconds) = (self.rng.u32(0..3), self.rng.i64(5..30));
        self.clusters.entry(name).and_modify(|state| match change {
            0 => state.is_eds = !state.is_eds,
            1 => state.is_http2 = !state.is_http2,
            _ => state.connect_seconds = seconds,
        });
    }

    fn change_listeners(&mut self) {
        if self.touches_listener && self.rng.bool() {
            self.listener_version += 1;
            return;
        }
        self.side = if self.side.is_some() && self.rng.bool() {
            None
        } else {
            Some(self.rng.u32(0..8))
        };
    }
}

fn prefix(at: usize) -> String {
    format!("/r{at}")
}
