//! Which member takes the next request: priorities first, then a policy inside the priority.
//!
//! Everything is computed when members change; a pick reads, and takes no lock.
//!
//! | file | holds |
//! |---|---|
//! | `priority` | how much load each priority takes |
//! | `stride` | weighted round robin |

mod priority;
mod stride;

use crate::upstream::host::Member;
use stride::Stride;

/// The balancer over one set of members.
#[derive(Debug)]
pub struct LoadBalancer {
    levels: Vec<Level>,
}

/// One priority that takes load.
#[derive(Debug)]
struct Level {
    /// Percent of all load taken by this and the levels before.
    load_up_to: u32,
    /// Places in the member list.
    members: Vec<usize>,
    order: Stride,
}

impl LoadBalancer {
    /// Prepares picks over `members`.
    pub fn new(members: &[Member], overprovisioning_factor: u32) -> Self {
        let mut load_up_to = 0;
        let levels = priority::split(members, overprovisioning_factor)
            .into_iter()
            .map(|share| {
                load_up_to += share.load;
                let weights: Vec<u32> = share
                    .members
                    .iter()
                    .filter_map(|index| members.get(*index))
                    .map(|m| m.weight)
                    .collect();
                Level {
                    load_up_to,
                    members: share.members,
                    order: Stride::new(&weights),
                }
            })
            .collect();
        Self { levels }
    }

    /// The place of the chosen member. `cursor` belongs to the calling worker; `random` chooses the
    /// priority when several take load.
    pub fn pick(&self, cursor: &mut u64, random: u64) -> Option<usize> {
        let level = match self.levels.as_slice() {
            [] => return None,
            [only] => only,
            several => {
                let point = u32::try_from(random % 100).unwrap_or(0);
                several
                    .iter()
                    .find(|level| point < level.load_up_to)
                    .or_else(|| several.last())?
            }
        };
        level.members.get(level.order.pick(cursor)).copied()
    }
}
