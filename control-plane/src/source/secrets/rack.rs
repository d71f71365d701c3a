//! What was issued and is in use: a leaf per identity, and the bundle.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use rustls_pki_types::UnixTime;
use tracing::info;
use tracing::warn;

use super::secret;
use crate::ca::Authority;
use crate::ca::SpiffeId;
use crate::ca::access::Grant;
use crate::ca::authority::AuthorityError;
use crate::ca::authority::Bundle;
use crate::ca::authority::KeySource;
use crate::ca::authority::Leaf;
use crate::ca::authority::Order;
use crate::ca::authority::Trust;
use crate::ca::authority::renewal_at;
use crate::ca::certificate::Validity;
use crate::ca::key::KeyKind;
use crate::resource::Resource;

/// Everything the keeper holds between two looks.
#[derive(Debug, Default)]
pub(super) struct Rack {
    leaves: BTreeMap<SpiffeId, HeldLeaf>,
    bundle: Option<HeldBundle>,
    trust: Option<Trust>,
}

#[derive(Debug)]
struct HeldLeaf {
    leaf: Leaf,
    renew_at: Duration,
    /// By the name under which somebody asked.
    resources: BTreeMap<Arc<str>, Arc<Resource>>,
}

#[derive(Debug)]
struct HeldBundle {
    bundle: Bundle,
    renew_at: Duration,
    resources: BTreeMap<Arc<str>, Arc<Resource>>,
}

impl Rack {
    /// Whether others believe something else than at the last refresh.
    pub(super) fn is_news(
        &self,
        authority: &mut Authority,
        now: UnixTime,
    ) -> Result<bool, AuthorityError> {
        Ok(self.trust.as_ref() != Some(&authority.trust(now)?))
    }

    /// Makes sure that everybody in `identities` has a leaf that need not be renewed, nobody else
    /// has one, and the bundle is right.
    pub(super) fn refresh(
        &mut self,
        authority: &mut Authority,
        identities: &BTreeSet<SpiffeId>,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        let trust = authority.trust(now)?;
        let moment = Duration::from_secs(now.as_secs());
        let is_old = self
            .bundle
            .as_ref()
            .is_none_or(|held| moment >= held.renew_at);
        let is_news = self.trust.as_ref() != Some(&trust);
        if is_news {
            let revoked = |held: &HeldLeaf| authority.is_revoked(held.leaf.record.serial);
            self.leaves.retain(|_, held| !revoked(held));
        }
        if is_old || is_news {
            // Before the leaves: whoever gets a new leaf finds peers that know its issuer.
            self.bundle = Some(new_bundle(authority, now)?);
        }
        self.trust = Some(trust);
        self.leaves
            .retain(|identity, _| identities.contains(identity));
        self.issue(authority, identities, now)
    }

    fn issue(
        &mut self,
        authority: &mut Authority,
        identities: &BTreeSet<SpiffeId>,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        let moment = Duration::from_secs(now.as_secs());
        let is_good = |held: &HeldLeaf| moment < held.renew_at;
        let due = identities.iter();
        let due: Vec<&SpiffeId> = due
            .filter(|identity| !self.leaves.get(identity).is_some_and(is_good))
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let orders = due.iter().map(|name| Order {
            name,
            key: KeySource::Made(KeyKind::EcdsaP256),
            life: None,
            actor: ACTOR,
        });
        let orders: Vec<Order<'_>> = orders.collect();
        for (identity, leaf) in due.iter().zip(authority.issue_all(now, &orders)?) {
            match leaf {
                Ok(leaf) => {
                    info!(%identity, serial = %leaf.record.serial, "issued a certificate");
                    // It begins before it was made; a short one would be due at once.
                    let life = Validity {
                        from: now.as_secs(),
                        until: leaf.validity().until,
                    };
                    let renew_at = renewal_at(life, random());
                    let held = HeldLeaf {
                        leaf,
                        renew_at,
                        resources: BTreeMap::new(),
                    };
                    self.leaves.insert((*identity).clone(), held);
                }
                Err(refusal) => warn!(%identity, %refusal, "no certificate"),
            }
        }
        Ok(())
    }

    /// The leaf of an identity, as it is.
    pub(super) fn leaf(&self, identity: &SpiffeId) -> Option<&Leaf> {
        self.leaves.get(identity).map(|held| &held.leaf)
    }

    /// The bundle, as it is.
    pub(super) fn bundle(&self) -> Option<&Bundle> {
        self.bundle.as_ref().map(|held| &held.bundle)
    }

    /// The leaf of an identity under a name.
    pub(super) fn certificate(
        &mut self,
        identity: &SpiffeId,
        name: &Arc<str>,
    ) -> Option<Arc<Resource>> {
        let held = self.leaves.get_mut(identity)?;
        if let Some(known) = held.resources.get(name) {
            return Some(Arc::clone(known));
        }
        let made = secret::certificate(name, &held.leaf).ok()?;
        held.resources.insert(Arc::clone(name), Arc::clone(&made));
        Some(made)
    }

    /// What was granted of the bundle, under its name.
    pub(super) fn roots(&mut self, grant: &Grant, name: &Arc<str>) -> Option<Arc<Resource>> {
        let held = self.bundle.as_mut()?;
        if let Some(known) = held.resources.get(name) {
            return Some(Arc::clone(known));
        }
        let made = secret::roots(name, &held.bundle, grant)?.ok()?;
        held.resources.insert(Arc::clone(name), Arc::clone(&made));
        Some(made)
    }
}

fn new_bundle(authority: &mut Authority, now: UnixTime) -> Result<HeldBundle, AuthorityError> {
    let bundle = authority.bundle(now)?;
    let validity = Validity {
        from: now.as_secs(),
        until: bundle.until,
    };
    Ok(HeldBundle {
        renew_at: renewal_at(validity, random()),
        bundle,
        resources: BTreeMap::new(),
    })
}

/// Spreads renewals; a system without randomness issues nothing anyway.
fn random() -> u32 {
    let mut bytes = [0; 4];
    match rand::fill(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes),
        Err(_) => u32::MAX / 2,
    }
}

/// Who issues, in the audit log.
const ACTOR: &str = "the secret service";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::authority::Options;
    use crate::ca::authority::Which;
    use crate::limits::LEAF_LIFE_MIN;

    /// Some day of 2026.
    const START: u64 = 1_790_000_000;

    const HOUR: u64 = 3_600;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    struct Place {
        rack: Rack,
        authority: Authority,
        known: BTreeSet<SpiffeId>,
        _dir: tempfile::TempDir,
    }

    impl Place {
        fn new(names: &[&str]) -> Self {
            Self::with(names, &Options::new("mesh.example".parse().unwrap()))
        }

        fn with(names: &[&str], options: &Options) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let authority = Authority::init(&dir.path().join("ca"), options, at(START)).unwrap();
            let name = |name: &&str| format!("spiffe://mesh.example/{name}").parse().unwrap();
            Self {
                rack: Rack::default(),
                authority,
                known: names.iter().map(name).collect(),
                _dir: dir,
            }
        }

        fn refresh(&mut self, now: u64) {
            let (rack, authority) = (&mut self.rack, &mut self.authority);
            rack.refresh(authority, &self.known, at(now)).unwrap();
        }

        fn resources(&mut self) -> Vec<Arc<Resource>> {
            let known = self.known.iter();
            let own = known.map(|one| self.rack.certificate(one, &Arc::from("default")).unwrap());
            own.collect()
        }
    }

    #[test]
    fn a_leaf_is_renewed_around_half_its_life_and_not_before() {
        let mut place = Place::new(&["a", "b", "c", "d"]);
        place.refresh(START);
        let mut renewed = Vec::new();
        let mut last = place.resources();
        for minute in 0..24 * 60 {
            place.refresh(START + minute * 60);
            let now = place.resources();
            let changed = now.iter().zip(&last).filter(|(a, b)| !Arc::ptr_eq(a, b));
            renewed.extend(changed.map(|_| minute / 60));
            last = now;
        }
        assert!(renewed.len() >= 4, "{renewed:?}");
        assert!(renewed[0] >= 9 && renewed[3] <= 14, "{renewed:?}");
        let apart = renewed.iter().collect::<BTreeSet<_>>();
        assert!(apart.len() > 1, "not all at once: {renewed:?}");
    }

    #[test]
    fn the_shortest_leaf_is_renewed_around_half_its_life_too() {
        let mut options = Options::new("mesh.example".parse().unwrap());
        options.leaf_life = LEAF_LIFE_MIN;
        let mut place = Place::with(&["a"], &options);
        place.refresh(START);
        let first = place.resources();
        let second = (1..60).find(|second| {
            place.refresh(START + second);
            !Arc::ptr_eq(&first[0], &place.resources()[0])
        });
        assert!((24..=36).contains(&second.unwrap()), "{second:?}");
    }

    /// A thousand proxies that began together come back within a minute, spread over a fifth of a life.
    #[test]
    fn a_thousand_proxies_renew_within_a_minute_and_not_together() {
        const PROXIES: usize = 1_000;
        let mut options = Options::new("mesh.example".parse().unwrap());
        options.leaf_life = LEAF_LIFE_MIN;
        let names: Vec<String> = (0..PROXIES).map(|n| format!("p{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut place = Place::with(&names, &options);
        place.refresh(START);
        let first = place.resources();
        let (mut left, mut most, mut seconds) = (PROXIES, 0, 0);
        for second in 1..60 {
            place.refresh(START + second);
            let now = place.resources();
            let old = first.iter().zip(&now).filter(|(a, b)| Arc::ptr_eq(a, b));
            let old = old.count();
            seconds += u64::from(old < left);
            most = most.max(left - old);
            left = old;
            if left == 0 {
                break;
            }
        }
        assert_eq!(left, 0, "all of them are new within a minute");
        // A minute has twelve seconds around its half; even spread is 83 a second.
        assert!(
            seconds >= 10 && most <= 150,
            "{most} in the worst of {seconds}"
        );
    }

    #[test]
    fn what_nobody_uses_is_forgotten_and_what_was_revoked_is_replaced() {
        let mut place = Place::new(&["a", "b"]);
        place.refresh(START);
        let first = place.resources();
        place.refresh(START + 1);
        assert!(
            first
                .iter()
                .zip(place.resources())
                .all(|(a, b)| Arc::ptr_eq(a, &b))
        );
        let a = place.known.first().unwrap().clone();
        let serial = place.rack.leaf(&a).unwrap().record.serial;
        place
            .authority
            .revoke(at(START), &Which::Serial(serial), "test")
            .unwrap();
        assert!(place.rack.is_news(&mut place.authority, at(START)).unwrap());
        place.refresh(START + 2);
        let second = place.resources();
        assert!(!Arc::ptr_eq(&first[0], &second[0]) && Arc::ptr_eq(&first[1], &second[1]));
        place.known.remove(&a);
        place.refresh(START + 3);
        assert!(place.rack.leaf(&a).is_none());
    }

    #[test]
    fn the_bundle_is_new_when_somebody_must_hear_of_something_or_the_lists_get_old() {
        let mut place = Place::new(&[]);
        let name: Arc<str> = Arc::from("ROOTCA");
        place.refresh(START);
        let mut last = place.rack.roots(&Grant::Roots, &name).unwrap();
        let mut changed = Vec::new();
        for hour in 0..7 * 24 {
            let now = START + hour * HOUR;
            if hour == 10 {
                place
                    .authority
                    .rotate_root(at(now), Duration::from_secs(HOUR), "test")
                    .unwrap();
            }
            place.refresh(now);
            let roots = place.rack.roots(&Grant::Roots, &name).unwrap();
            if !Arc::ptr_eq(&roots, &last) {
                changed.push(hour);
            }
            last = roots;
        }
        // The new root, the old intermediate, which signed nothing, the old root a day after.
        assert_eq!(&changed[..3], [10, 11, 35], "{changed:?}");
        assert!(
            changed.len() == 4 && (35 + 67..=35 + 101).contains(&changed[3]),
            "{changed:?}"
        );
    }
}
