//! How many requests of a cluster were dropped because the control plane wanted it (`drop_overloads`), by
//! what they were dropped for.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;

use crate::config::Name;
use crate::config::limits;

/// By category; those of earlier assignments stay. Written by all workers, but only where nothing else is done for
/// a request.
#[derive(Debug, Default)]
pub struct Dropped(ArcSwap<Vec<Arc<Category>>>);

#[derive(Debug)]
struct Category {
    name: Name,
    requests: AtomicU64,
}

impl Dropped {
    /// One more. Of too many categories the later ones are not told apart from none.
    pub(super) fn count(&self, category: &Name) {
        let add = |all: &[Arc<Category>]| {
            let found = all.iter().find(|known| known.name == *category);
            found.map(|known| known.requests.fetch_add(1, Ordering::Relaxed))
        };
        if add(&self.0.load()).is_some() {
            return;
        }
        self.0.rcu(|all| {
            let mut all = Vec::clone(all);
            let is_known = all.iter().any(|known| known.name == *category);
            if !is_known && all.len() < limits::DROP_CATEGORIES_KEPT_MAX {
                all.push(Arc::new(Category {
                    name: category.clone(),
                    requests: AtomicU64::new(0),
                }));
            }
            all
        });
        add(&self.0.load());
    }

    /// All of them, in the order in which they were first dropped for.
    pub fn all(&self) -> Vec<(Name, u64)> {
        let all = self.0.load();
        let each = all.iter();
        each.map(|known| (known.name.clone(), known.requests.load(Ordering::Relaxed)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_counted_and_bounded() {
        let dropped = Dropped::default();
        assert!(dropped.all().is_empty());
        for name in ["a", "b", "a"] {
            dropped.count(&name.into());
        }
        assert_eq!(dropped.all(), [("a".into(), 2), ("b".into(), 1)]);
        (0..1_000).for_each(|number: u32| dropped.count(&number.to_string().into()));
        let all = dropped.all();
        assert_eq!(all.len(), limits::DROP_CATEGORIES_KEPT_MAX);
        dropped.count(&"b".into());
        assert_eq!(dropped.all()[1], ("b".into(), 2));
    }
}
