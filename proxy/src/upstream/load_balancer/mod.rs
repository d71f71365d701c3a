//! Which member takes the next request: priorities first, then a policy inside the priority.
//!
//! Everything is computed when members change; a pick reads, and takes no lock.
//!
//! | file | holds |
//! |---|---|
//! | `alias` | draws by weight |
//! | `bounded_load` | hashing that spares who has too much |
//! | `choice` | the best of a few, over weights that change |
//! | `consistent` | what policies that hash have in common |
//! | `detour` | attempts avoid priorities that were tried |
//! | `draws` | random numbers |
//! | `fewest` | who has the fewest requests in flight of all |
//! | `least_request` | who has few requests in flight |
//! | `locality` | how localities share the load |
//! | `maglev` | a table of all members |
//! | `murmur` | MurmurHash2 |
//! | `named` | members that requests name |
//! | `pick_first` | one host as long as it can be reached |
//! | `peak_ewma` | who has the least latency times requests in flight |
//! | `places` | long lists of small numbers |
//! | `priority` | how much load each priority takes |
//! | `ring_hash` | a ring of all members |
//! | `shadow` | a balancer that looks on |
//! | `slow_start` | new members take less |
//! | `stride` | weighted round robin |
//! | `subset` | members that have what a request asks for |
//! | `weighted` | weights that change while members stay |
//! | `zone_aware` | requests stay in the zone of the proxy |
//!
//! `RANDOM` needs no file: each host has the same chance, whatever its weight, as in Envoy.

mod alias;
mod bounded_load;
mod choice;
mod consistent;
mod detour;
mod draws;
mod fewest;
mod least_request;
mod locality;
mod maglev;
mod murmur;
mod named;
mod peak_ewma;
mod pick_first;
mod places;
mod priority;
mod ring_hash;
mod shadow;
mod slow_start;
mod stride;
mod subset;
mod weighted;
mod zone_aware;

use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;

use crate::config::Endpoints;
use crate::config::endpoint::Locality;
use crate::config::latency::Selector;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_balancing::LoadBalancing;
use crate::config::load_balancing::PickFirst as PickFirstConfig;
use crate::config::subset::Criteria;
use crate::downstream::Metadatum;
use crate::telemetry::stats::BalancerStats;
use crate::upstream::host::Member;
use crate::upstream::zone::Zone;
use alias::Alias;
use consistent::Consistent;
use detour::Capacity;
use detour::Detours;
pub use detour::Tried;
use draws::Draws;
use least_request::LeastRequest;
pub use named::ByName;
pub use named::Verdict;
use peak_ewma::PeakEwma;
use pick_first::PickFirst;
pub use pick_first::Reach;
pub use pick_first::Stay;
use priority::Source;
use priority::Tally;
pub(super) use shadow::Shadow;
use slow_start::SlowStart;
use stride::Stride;
use subset::SubsetTable;
pub use weighted::Factors;
pub use weighted::Partial;
use weighted::Weighted;
use zone_aware::Upstream;
pub use zone_aware::ZoneRouting;
use zone_aware::Zones;

/// The balancer over one set of members.
#[derive(Debug)]
pub struct LoadBalancer {
    levels: Vec<Level>,
    /// The hash of a request, if it has one, stands for every random number.
    hashes: bool,
    /// Then there are no levels.
    subsets: Option<Box<SubsetTable>>,
    /// There are no members, and that is too few.
    lacks_members: bool,
    /// None of a policy that looks on.
    stats: Option<Arc<BalancerStats>>,
    /// Where attempts may avoid a priority.
    detours: Option<Detours>,
}

/// What a request asks of the member that takes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'r> {
    /// Its hash, if it has one.
    pub hash: Option<u64>,
    /// What the member must have, if the cluster is divided.
    pub criteria: Option<&'r Criteria>,
    /// Who it must be, or should be.
    pub host: Option<Named<'r>>,
    /// Its headers, in which members may be named, if it has any.
    pub headers: Option<&'r HeaderMap>,
    /// Metadata of its connection, in which members may be named, if it is a stream.
    pub metadata: &'r [Metadatum],
    /// Attempts made before.
    pub attempts_before: u32,
    /// What they tried, if this one avoids it.
    pub tried: Option<&'r Tried>,
}

/// A member by its address.
#[derive(Clone, Copy, Debug)]
pub struct Named<'r> {
    /// As text.
    pub address: &'r str,
    /// Nobody else may take the request.
    pub is_strict: bool,
}

/// A part of a priority that takes load.
#[derive(Debug)]
struct Level {
    /// Percent of all load taken by this and the levels before.
    load_up_to: u32,
    /// Place in the list of priorities.
    place: usize,
    source: Source,
    group: Group,
}

/// Members and a policy over them.
#[derive(Debug)]
struct Group {
    /// Places in the member list.
    members: Vec<usize>,
    picker: Picker,
    slow_start: Option<SlowStart>,
}

/// A policy over some members.
#[derive(Debug)]
enum Picker {
    Consistent(Consistent),
    First(PickFirst),
    LeastRequest(LeastRequest),
    /// One of these, then one of its members.
    Localities(Alias, Box<[Group]>),
    PeakEwma(PeakEwma),
    /// Among so many.
    Random(usize),
    RoundRobin(Stride),
    Weighted(Weighted),
    /// One of these, by the zone of the proxy, then one of its members.
    Zones(Box<Zones>),
}

impl Group {
    /// The place of one of them in the member list.
    fn pick(&self, cursor: &mut u64, random: u64) -> Option<usize> {
        let place = match &self.picker {
            Picker::Consistent(picker) => picker.pick(random)?,
            Picker::First(picker) => picker.pick(),
            Picker::LeastRequest(picker) => {
                self.slowly(random, |random| picker.pick(&mut Draws::new(random)))
            }
            Picker::Localities(table, groups) => {
                let mut draws = Draws::new(random);
                let group = groups.get(table.draw(&mut draws))?;
                return group.pick(cursor, draws.any());
            }
            Picker::PeakEwma(picker) => picker.pick(&mut Draws::new(random)),
            Picker::Random(len) => Draws::new(random).below(*len),
            Picker::Zones(zones) => return zones.pick(cursor, random),
            Picker::RoundRobin(order) => self.slowly(random, |_| order.pick(cursor)),
            Picker::Weighted(picker) => self.slowly(random, |random| {
                picker.pick(cursor, &mut Draws::new(random))
            }),
        };
        self.members.get(place).copied()
    }

    fn set_factors(&self, factors: &Factors) {
        match &self.picker {
            Picker::Weighted(picker) => {
                picker.set_factors(&self.members, factors);
            }
            Picker::PeakEwma(picker) => picker.set_factors(&self.members, factors),
            Picker::Localities(_, groups) => {
                groups.iter().for_each(|group| group.set_factors(factors));
            }
            Picker::Consistent(_)
            | Picker::First(_)
            | Picker::LeastRequest(_)
            | Picker::Random(_)
            | Picker::RoundRobin(_)
            | Picker::Zones(_) => {} // of policies without feedback
        }
    }

    /// New members take less, where the policy says so.
    fn slowly(&self, random: u64, mut pick: impl FnMut(u64) -> usize) -> usize {
        match &self.slow_start {
            None => pick(random),
            Some(slow_start) => slow_start.pick(Instant::now, random, pick),
        }
    }
}

/// What a balancer is made of.
#[derive(Clone, Copy, Debug)]
pub struct Ingredients<'i> {
    /// How it balances.
    pub config: &'i LoadBalancing,
    /// The members as configured.
    pub endpoints: &'i Endpoints,
    /// The members as they live.
    pub members: &'i [Member],
    /// Who is stayed with, if the policy stays with one.
    pub stay: Option<&'i Arc<Stay>>,
    /// Where the proxy is, if it was said.
    pub zone: Option<&'i Arc<Zone>>,
    /// What picks count, if they do.
    pub stats: Option<&'i Arc<BalancerStats>>,
}

impl LoadBalancer {
    /// Prepares picks.
    pub fn new(of: Ingredients<'_>) -> Self {
        let hashes = of.config.policy.hashing().is_some();
        let stats = of.stats.map(Arc::clone);
        if let Some(subsets) = SubsetTable::new(of) {
            return Self {
                levels: Vec::new(),
                hashes,
                subsets: Some(Box::new(subsets)),
                lacks_members: false,
                stats,
                detours: None,
            };
        }
        let tallies = priority::tallies(of.members, of.endpoints.weighted_priority_health);
        let factor = priority::factor(of.endpoints);
        let mut load_up_to = 0;
        let panic = of.config.panic_percent;
        let mut shares = priority::split(&tallies, factor, panic);
        let detours = of.detours(&tallies, factor);
        if detours.is_some() {
            shares.extend(priority::spares(&tallies, factor, (panic, &shares)));
        }
        let routing = of.zone_routing(tallies.first());
        let level = |share: priority::Share| {
            load_up_to += share.load;
            let tally = tallies.get(share.level)?;
            Some(Level {
                load_up_to,
                place: share.level,
                source: share.source,
                group: of.group(
                    tally,
                    share.source,
                    routing.as_ref().filter(|_| share.level == 0),
                ),
            })
        };
        Self {
            levels: shares.into_iter().filter_map(level).collect(),
            hashes,
            subsets: None,
            lacks_members: of.members.is_empty() && of.config.panic_percent > 0,
            stats,
            detours,
        }
    }

    /// Changes what each member's weight is multiplied by, where the policy has feedback.
    pub fn set_factors(&self, factors: &Factors) {
        if let Some(subsets) = &self.subsets {
            subsets.set_factors(factors);
        }
        let groups = self.levels.iter().map(|level| &level.group);
        groups.for_each(|group| group.set_factors(factors));
    }

    /// The same of a request that asks for some of the members.
    pub fn pick_for(&self, cursor: &mut u64, random: u64, asked: Asked<'_>) -> Option<usize> {
        match &self.subsets {
            None => match self.detour(random, asked.tried) {
                None => self.pick(cursor, random, asked.hash),
                Some(level) => self.pick_in(level, cursor, random),
            },
            Some(subsets) => subsets.pick(random, asked),
        }
    }

    fn detour(&self, random: u64, tried: Option<&Tried>) -> Option<&Level> {
        let detours = self.detours.as_ref()?;
        detours.choose(tried?, &self.levels, random)
    }

    /// The place of the chosen member. `cursor` belongs to the calling worker; `random` chooses the
    /// priority when several take load, and what a policy leaves to chance; `hash` stands for it where
    /// the policy chooses by hash.
    pub fn pick(&self, cursor: &mut u64, random: u64, hash: Option<u64>) -> Option<usize> {
        let random = hash.filter(|_| self.hashes).unwrap_or(random);
        let level = match self.levels.as_slice() {
            [] => {
                self.count_panic(self.lacks_members);
                return None;
            }
            [only] => only,
            several => {
                let point = u32::try_from(random % 100).unwrap_or(0);
                several
                    .iter()
                    .find(|level| point < level.load_up_to)
                    .or_else(|| several.last())?
            }
        };
        self.pick_in(level, cursor, random)
    }

    fn pick_in(&self, level: &Level, cursor: &mut u64, random: u64) -> Option<usize> {
        self.count_panic(level.source == Source::All);
        level.group.pick(cursor, random)
    }

    fn count_panic(&self, panics: bool) {
        if let Some(stats) = self.stats.as_ref().filter(|_| panics) {
            stats.cluster.lb_healthy_panic().inc();
        }
    }

    /// How many subsets there are now, how many of them were not in `before`, and how many of those are gone.
    pub(super) fn count_subsets(&self, before: Option<&Self>) -> (usize, usize, usize) {
        let before = before.and_then(|before| before.subsets.as_deref());
        let now = self.subsets.as_deref();
        let all = |table: Option<&SubsetTable>| table.map_or(0, SubsetTable::len);
        let kept = now.zip(before);
        let kept = kept.map_or(0, |(now, before)| now.count_in(before));
        (all(now), all(now) - kept, all(before) - kept)
    }
}

impl Ingredients<'_> {
    /// Who of a priority takes a part of the load, and how one of them is chosen.
    fn group(&self, tally: &Tally, source: Source, routing: Option<&Arc<ZoneRouting>>) -> Group {
        if self.config.policy.hashing().is_some() {
            return self.hashed(tally, source);
        }
        if source != Source::All && self.config.by_locality {
            let mut groups = locality::groups(self.endpoints, self.members, tally, source);
            if let Some(table) = locality::table(&mut groups, priority::factor(self.endpoints)) {
                let groups = groups.into_iter().map(|group| self.flat(group.members));
                return Group {
                    members: Vec::new(),
                    picker: Picker::Localities(table, groups.collect()),
                    slow_start: None,
                };
            }
        }
        if let Some(routing) =
            routing.filter(|routing| source != Source::All && routing.has_zones())
        {
            let groups =
                locality::by_zone(self.endpoints, self.members, (tally, source), self.home());
            return Group {
                members: Vec::new(),
                picker: Picker::Zones(Box::new(Zones {
                    routing: Arc::clone(routing),
                    groups: groups
                        .into_iter()
                        .map(|(_, group)| self.flat(group))
                        .collect(),
                    all: self.flat(tally.members(source).to_vec()),
                })),
                slow_start: None,
            };
        }
        self.flat(match source {
            Source::All if self.config.fails_in_panic => Vec::new(),
            source => tally.members(source).to_vec(),
        })
    }

    /// What each priority can take; none where no request avoids one.
    fn detours(&self, tallies: &[Tally], factor: u32) -> Option<Detours> {
        let policy = &self.config.policy;
        let is_fixed = policy.hashing().is_some() || matches!(policy, LbPolicy::PickFirst(_));
        if tallies.len() < 2 || is_fixed {
            return None;
        }
        let percents = priority::percents(tallies, factor).into_iter();
        let capacity = |(tally, percent): (&Tally, [u32; 2])| {
            let first = tally
                .all
                .first()
                .and_then(|place| self.members.get(*place))?;
            let priority = first.priority;
            Some(Capacity { priority, percent })
        };
        Some(Detours::new(
            tallies.iter().zip(percents).filter_map(capacity).collect(),
        ))
    }

    fn home(&self) -> Option<&Locality> {
        self.zone.and_then(|zone| zone.locality())
    }

    /// How the first priority is routed by zones, if it may be.
    fn zone_routing(&self, first: Option<&Tally>) -> Option<Arc<ZoneRouting>> {
        let zone = self.zone.filter(|_| self.config.policy.knows_zones())?;
        let home = self.home();
        let is_preferred = |tally: &&Tally| {
            let first = tally.all.first();
            let first = first.and_then(|place| self.members.get(*place));
            first.is_some_and(|first| first.priority == 0)
        };
        let groups = first.filter(is_preferred).map(|tally| {
            let chosen = (tally, Source::Healthy);
            locality::by_zone(self.endpoints, self.members, chosen, home)
        });
        let groups = groups.unwrap_or_default();
        let weight = |place: &usize| {
            let member = self.members.get(*place);
            member.map_or(0, |member| u64::from(member.weight))
        };
        let zones = groups.into_iter().map(|(locality, members)| Upstream {
            locality: locality.clone(),
            healthy: members.len() as u64,
            weight: members.iter().map(weight).sum(),
        });
        let panic = (self.config.panic_percent, self.config.fails_in_panic);
        let config = self.config.zone_aware;
        let routing = ZoneRouting::new(config, panic, zones.collect(), home.cloned());
        let routing = Arc::new(routing.counting(self.stats));
        zone.tell(&routing);
        Some(routing)
    }

    /// As in Envoy, the degraded are never on a ring or in a table.
    fn hashed(&self, tally: &Tally, source: Source) -> Group {
        let source = match source {
            Source::All => Source::All,
            Source::Degraded | Source::Healthy => Source::Healthy,
        };
        let weight = |place: usize| self.members.get(place).map_or(1, |member| member.weight);
        let shares = if self.config.by_locality {
            let groups = locality::groups(self.endpoints, self.members, tally, source);
            locality::shares(&groups, weight)
        } else {
            let places = tally.members(source).iter().copied();
            let weights: Vec<u32> = places.clone().map(weight).collect();
            places.zip(consistent::shares(&weights, 1.0)).collect()
        };
        let chosen = shares
            .iter()
            .map(|(place, share)| Some((self.members.get(*place)?, *share)));
        let chosen: Vec<(&Member, f64)> = chosen.flatten().collect();
        let members = shares.iter().map(|(place, _)| *place).collect();
        match Consistent::new(&self.config.policy, &chosen, self.members) {
            Some(picker) => Group {
                members,
                picker: Picker::Consistent(picker),
                slow_start: None,
            },
            None => self.flat(members),
        }
    }

    /// These members, whatever their localities.
    fn flat(&self, mut members: Vec<usize>) -> Group {
        if let (LbPolicy::PickFirst(PickFirstConfig { shuffles: true }), Some(stay)) =
            (&self.config.policy, self.stay)
        {
            let member = |place: &usize| self.members.get(*place);
            members.sort_by_cached_key(|place| member(place).map(|member| stay.key(&member.host)));
        }
        let chosen = || members.iter().filter_map(|place| self.members.get(*place));
        let weights: Vec<u32> = chosen().map(|member| member.weight).collect();
        let hosts = || chosen().map(|member| Arc::clone(member.host.in_flight()));
        let picker = match &self.config.policy {
            LbPolicy::Latency(config) => {
                let hosts = chosen().map(|member| Arc::clone(member.host.waiting()));
                let picker = Weighted::new(config.selector, &hosts.collect::<Vec<_>>(), &weights);
                Picker::Weighted(if config.reads_reports {
                    picker.with_reports(chosen().map(|member| &**member.host.told()))
                } else {
                    picker
                })
            }
            LbPolicy::LeastRequest(config) => {
                Picker::LeastRequest(LeastRequest::new(*config, hosts().collect(), &weights))
            }
            LbPolicy::PickFirst(_) => {
                let hosts = chosen().map(|member| Arc::clone(&member.host));
                let stay = self.stay.map(Arc::clone);
                let stay = stay.unwrap_or_else(|| Arc::new(Stay::new(0)));
                Picker::First(PickFirst::new(hosts.collect(), stay))
            }
            LbPolicy::PeakEwma(config) => Picker::PeakEwma(PeakEwma::new(config, hosts())),
            LbPolicy::Random => Picker::Random(weights.len()),
            LbPolicy::Reported(_) => {
                // What is configured does not count, as in Envoy.
                let equal = vec![1; weights.len()];
                Picker::Weighted(Weighted::new(
                    Selector::Smooth,
                    &hosts().collect::<Vec<_>>(),
                    &equal,
                ))
            }
            LbPolicy::Maglev(_) | LbPolicy::RingHash(_) | LbPolicy::RoundRobin => {
                Picker::RoundRobin(Stride::new(&weights))
            }
        };
        let slow_start = self.config.slow_start.map(|config| {
            let began = chosen().map(|member| member.host.began().filter(|_| member.is_healthy()));
            SlowStart::new(config, began.collect())
        });
        Group {
            members,
            picker,
            slow_start,
        }
    }
}

#[cfg(test)]
mod tests;
