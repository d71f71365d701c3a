//! What policies that choose by the hash of a request have in common: by what name members are known,
//! which share each has, and that none of them is overloaded.

use std::sync::Arc;

use super::bounded_load::BoundedLoad;
use super::maglev::Maglev;
use super::ring_hash::RingHash;
use crate::config::load_balancing::Hashing;
use crate::config::load_balancing::LbPolicy;
use crate::upstream::host::Member;
use crate::upstream::in_flight::Total;

/// A member as it is placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighted<'m> {
    /// What it is known by.
    pub(super) key: &'m str,
    /// Of all members together 1.
    pub(super) share: f64,
}

/// What a pick reads.
#[derive(Debug)]
pub(super) struct Consistent {
    table: Table,
    bound: Option<BoundedLoad>,
}

#[derive(Debug)]
enum Table {
    Maglev(Maglev),
    Ring(RingHash),
}

impl Consistent {
    /// Prepares picks over members with these shares, of all that the cluster has; `None` if the policy is
    /// none of these.
    pub(super) fn new(
        policy: &LbPolicy,
        members: &[(&Member, f64)],
        all: &[Member],
    ) -> Option<Self> {
        let hashing = policy.hashing()?;
        let weighted: Vec<Weighted<'_>> = members
            .iter()
            .map(|(member, share)| Weighted {
                key: key(hashing, member),
                share: *share,
            })
            .collect();
        let table = match policy {
            LbPolicy::Maglev(config) => Table::Maglev(Maglev::new(config.table_size, &weighted)),
            LbPolicy::RingHash(config) => Table::Ring(RingHash::new(config, &weighted)),
            LbPolicy::Latency(_)
            | LbPolicy::LeastRequest(_)
            | LbPolicy::PickFirst(_)
            | LbPolicy::PeakEwma(_)
            | LbPolicy::Random
            | LbPolicy::Reported(_)
            | LbPolicy::RoundRobin => return None,
        };
        let bound = hashing.balance_factor.map(|factor| {
            let cluster = all.iter().map(|member| Arc::clone(member.host.in_flight()));
            let loads = members.iter();
            let loads = loads.map(|(member, share)| (Arc::clone(member.host.in_flight()), *share));
            BoundedLoad::new(factor, Total::new(cluster.collect()), loads)
        });
        Some(Self { table, bound })
    }

    /// Who is responsible for `hash`, and has room for it.
    pub(super) fn pick(&self, hash: u64) -> Option<usize> {
        let first = match &self.table {
            Table::Maglev(table) => table.pick(hash),
            Table::Ring(ring) => ring.pick(hash),
        }?;
        let bound = self.bound.as_ref();
        Some(bound.map_or(first, |bound| bound.pick(first, hash)))
    }
}

fn key<'m>(hashing: &Hashing, member: &'m Member) -> &'m str {
    match &member.hash_key {
        Some(key) => key,
        None if hashing.by_hostname => &member.host.hostname,
        None => &member.host.label,
    }
}

/// The shares of `whole` that go with these weights, rounded as Envoy rounds them.
pub(super) fn shares(weights: &[u32], whole: f64) -> impl Iterator<Item = f64> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "their sum fits 32 bits in Envoy"
    )]
    let sum = weights.iter().copied().map(u64::from).sum::<u64>() as f64;
    weights
        .iter()
        .map(move |weight| f64::from(*weight) * whole / sum)
}
