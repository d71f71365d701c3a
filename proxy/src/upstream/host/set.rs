//! All members of a cluster, with the balancer over them.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::Host;
use super::Member;
use crate::config::Endpoints;
use crate::config::endpoint::Address;
use crate::config::endpoint::HealthStatus;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_balancing::LoadBalancing;
use crate::telemetry::stats::BalancerStats;
use crate::upstream::departure::Cause;
use crate::upstream::health::Care;
use crate::upstream::load_balancer::Asked;
use crate::upstream::load_balancer::ByName;
use crate::upstream::load_balancer::Factors;
use crate::upstream::load_balancer::Ingredients;
use crate::upstream::load_balancer::LoadBalancer;
use crate::upstream::load_balancer::Shadow;
use crate::upstream::load_balancer::Stay;
use crate::upstream::load_balancer::Verdict;
use crate::upstream::transport::Transports;
use crate::upstream::zone::Zone;

/// What a set is made beside.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'b> {
    /// How unfit members are found, if anybody asks.
    pub care: Option<&'b Arc<Care>>,
    /// Hosts of this one with the same address, name and transport are kept.
    pub previous: Option<&'b HostSet>,
    /// Where the proxy is, if it was said.
    pub zone: Option<&'b Arc<Zone>>,
    /// What picks count, if they do.
    pub stats: Option<&'b Arc<BalancerStats>>,
}

/// All members and the balancer over them.
#[derive(Debug)]
pub struct HostSet {
    members: Vec<Member>,
    balancer: LoadBalancer,
    /// Looks on.
    shadow: Option<Box<Shadow>>,
    /// Who is stayed with, if the policy stays with one.
    stay: Option<Arc<Stay>>,
    /// Finds those that requests name.
    named: ByName,
}

impl HostSet {
    /// Builds the set; hosts of `previous` with the same address, name
    /// and transport are kept.
    pub fn new(
        config: &LoadBalancing,
        endpoints: &Endpoints,
        transports: &Transports,
        previous: Option<&Self>,
    ) -> Self {
        let beside = Beside {
            previous,
            ..Beside::default()
        };
        Self::with_care(config, endpoints, transports, beside)
    }

    /// The same of a cluster that finds unfit members, or knows where the proxy is.
    pub fn with_care(
        config: &LoadBalancing,
        endpoints: &Endpoints,
        transports: &Transports,
        Beside {
            care,
            previous,
            zone,
            stats,
        }: Beside<'_>,
    ) -> Self {
        let looks_on = config.shadow.as_ref();
        let policies = [&config.policy].into_iter();
        let mut policies = policies.chain(looks_on.map(|shadow| &shadow.policy));
        let stays = policies.any(|policy| matches!(policy, LbPolicy::PickFirst(_)));
        let stay = stays.then(|| {
            let before = previous.and_then(|set| set.stay.as_ref());
            before.map_or_else(|| Arc::new(Stay::new(fastrand::u64(..))), Arc::clone)
        });
        let members = members(endpoints, transports, (care, previous));
        for member in &members {
            member.host.leave_balancers();
        }
        let ingredients = Ingredients {
            config,
            endpoints,
            members: &members,
            stay: stay.as_ref(),
            zone,
            stats,
        };
        let balancer = LoadBalancer::new(ingredients);
        let shadow = looks_on.map(|config| Box::new(Shadow::new(config, ingredients)));
        for member in &members {
            member.host.looked.turn(shadow.is_some());
        }
        Self {
            members,
            balancer,
            shadow,
            stay,
            named: ByName::new(config),
        }
    }

    /// All members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member for the next request; `cursor` is the worker's own, `random` is fresh, `hash` is the
    /// request's if it has one.
    pub fn pick(&self, cursor: &mut u64, random: u64, hash: Option<u64>) -> Option<&Arc<Host>> {
        let asked = Asked {
            hash,
            ..Asked::default()
        };
        self.pick_for(cursor, random, asked)
    }

    /// The member for a request that asks for some of them.
    pub fn pick_for(&self, cursor: &mut u64, random: u64, asked: Asked<'_>) -> Option<&Arc<Host>> {
        match self.named.find(&self.members, asked) {
            Verdict::Nobody => return None,
            Verdict::Open => {}
            Verdict::Place(place) => return self.members.get(place).map(|member| &member.host),
        }
        if let Some(tried) = asked.tried {
            tried.look(&self.members);
        }
        let before = *cursor;
        let index = self.balancer.pick_for(cursor, random, asked)?;
        if let Some(shadow) = &self.shadow {
            shadow.look(&self.members, index, before, (random, asked));
        }
        self.members.get(index).map(|member| &member.host)
    }

    /// How many subsets there are.
    pub(in crate::upstream) fn subsets(&self) -> usize {
        self.balancer.count_subsets(None).0
    }

    /// Counts the subsets that there are now and were not in `before`, and those that are gone.
    pub(in crate::upstream) fn count_subsets(&self, before: Option<&Self>, stats: &BalancerStats) {
        let before = before.map(|before| &before.balancer);
        let (active, created, removed) = self.balancer.count_subsets(before);
        stats.count_subsets(created, removed, active);
    }

    /// Changes what each member's weight is multiplied by, in the order of [`Self::members`]; of no
    /// effect on policies without feedback.
    pub fn set_factors(&self, factors: &Factors) {
        self.balancer.set_factors(factors);
    }

    /// The same for the policy that looks on.
    pub fn set_shadow_factors(&self, factors: &Factors) {
        if let Some(shadow) = &self.shadow {
            shadow.set_factors(factors);
        }
    }

    /// Marks every host that is not in `next` as removed, and says who leaves and who is back. A host
    /// that is only made anew, with another configuration at the same address, does not leave. What runs
    /// on those that do is cut then.
    pub fn retire(&self, next: Option<&Self>, cut_at: Option<Instant>) -> Moves {
        let next = || next.into_iter().flat_map(|set| &set.members);
        let kept: HashMap<u64, HealthStatus> = next()
            .map(|member| (member.host.id, member.health))
            .collect();
        let known: HashSet<&Address> = next().map(|member| &member.host.address).collect();
        let mut moves = Moves::default();
        for Member { host, health, .. } in &self.members {
            let was_draining = *health == HealthStatus::Draining;
            match kept.get(&host.id) {
                None => {
                    let leaves = !known.contains(&host.address);
                    host.presence.remove(cut_at.filter(|_| leaves));
                    if leaves {
                        moves.left.push((Arc::clone(host), Cause::Removed));
                    }
                }
                Some(HealthStatus::Draining) if !was_draining => {
                    host.presence.end_era(cut_at);
                    moves.left.push((Arc::clone(host), Cause::Draining));
                }
                Some(HealthStatus::Draining) => {}
                Some(_) if was_draining => moves.returned.push(Arc::clone(host)),
                Some(_) => {}
            }
        }
        moves
    }
}

/// Who left and who is back, of two sets one after the other.
#[derive(Debug, Default)]
pub struct Moves {
    /// Their connections end.
    pub left: Vec<(Arc<Host>, Cause)>,
    /// They were to leave.
    pub returned: Vec<Arc<Host>>,
}

/// The members as configured; who was there before stays the same host.
fn members(
    endpoints: &Endpoints,
    transports: &Transports,
    (care, previous): (Option<&Arc<Care>>, Option<&HostSet>),
) -> Vec<Member> {
    let known: HashMap<_, &Arc<Host>> = previous
        .into_iter()
        .flat_map(|set| &set.members)
        .map(|member| (member.host.identity(), &member.host))
        .collect();
    let mut members = Vec::new();
    for (place, locality) in endpoints.localities.iter().enumerate() {
        for endpoint in &locality.endpoints {
            let labels = endpoint.labels.as_deref();
            let transport = transports.of(labels, locality.labels.as_deref());
            let (address, hostname) = (&endpoint.address, &endpoint.hostname);
            let new = || {
                let (address, hostname) = (address.clone(), Arc::clone(hostname));
                let own = Arc::clone(transport);
                let mut host = Host::new(address, hostname, own);
                let said = endpoint.check.as_ref();
                let health = care.map(|care| Care::host(care, said, transport, transports));
                host.health = health.map(Box::new);
                Arc::new(host)
            };
            let known = known.get(&(address, &**hostname, Arc::as_ptr(transport)));
            let is_checked_so = |host: &&&Arc<Host>| {
                let health = host.health();
                health.is_none_or(|health| health.said == endpoint.check)
            };
            let known = known.filter(is_checked_so);
            let host = known.map_or_else(new, |host| Arc::clone(host));
            let member = Member {
                flags: host.health_flags(),
                host,
                weight: endpoint.weight.max(1),
                health: endpoint.health,
                priority: locality.priority,
                locality: place,
                hash_key: endpoint.hash_key.clone(),
                traits: endpoint.traits.clone(),
            };
            if member.is_healthy() {
                member.host.began.get_or_init(Instant::now);
            }
            members.push(member);
        }
    }
    members
}
