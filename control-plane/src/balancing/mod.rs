//! How clusters balance, changed while they run: policies that stand over what the sources wrote.
//!
//! [`Overrides`] is sans-IO: a change and a version in, another state out. The [`crate::store::Store`] lays
//! it over the clusters whenever it makes snapshots, so a source may write a cluster anew and the
//! change stands.
//!
//! | file | holds |
//! |---|---|
//! | `kept` | the state on disk |
//! | `legacy` | the older fields of a cluster as typed policies |
//! | `rewrite` | a cluster with another policy |

pub(crate) mod kept;
mod legacy;
pub(crate) mod rewrite;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use prost::Message;
use prost::Name;
use xds_proto::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use xds_proto::pb::weir::load_balancing::v1::Shadow;
use xds_proto::type_url;

use crate::limits::OVERRIDES_MAX;
use crate::limits::POLICIES_MAX;
use crate::limits::POLICY_BYTES_MAX;

/// What is to be changed of one cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Nothing looks on.
    NoShadow,
    /// What chooses.
    Policy(LoadBalancingPolicy),
    /// What looks on.
    Shadow(LoadBalancingPolicy),
    /// The cluster is as it was written.
    Unset,
}

/// What stands over what was written of one cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Override {
    /// Of the last change; above 0.
    pub version: u64,
    /// Chooses, if it is there.
    pub policy: Option<LoadBalancingPolicy>,
    /// Looks on, if it is there.
    pub shadow: Option<LoadBalancingPolicy>,
}

/// The same of all clusters, by name. One that was taken back stays, for its version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides(BTreeMap<Arc<str>, Override>);

/// What became of a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// How the cluster stands now.
    pub now: Override,
    /// Whether it was news.
    pub is_new: bool,
    /// Whether it outlives the process.
    pub is_durable: bool,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The version is that of another change.
    #[error(
        "version {version} of cluster \"{cluster}\" is another change already; use {} or a greater one, or none",
        version + 1
    )]
    Conflict {
        /// Its cluster.
        cluster: String,
        /// The version of both.
        version: u64,
    },
    /// There are too many already.
    #[error("{OVERRIDES_MAX} clusters have a policy of their own already; that is the most")]
    Full,
    /// The policy cannot be sent.
    #[error("{field}: {reason}")]
    Malformed {
        /// Its path in the request.
        field: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What chooses now can stand only in fields that nothing can look on beside.
    #[error(
        "cluster \"{cluster}\" balances by {field}, beside which nothing can look on; give it a policy first"
    )]
    NoForm {
        /// Its name.
        cluster: String,
        /// The field.
        field: &'static str,
    },
    /// The disk does not take it.
    #[error("the change cannot be kept in {path}, so nothing was changed")]
    NotKept {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The cluster has no choice.
    #[error(
        "cluster \"{cluster}\" has lb_policy CLUSTER_PROVIDED: its members are chosen elsewhere"
    )]
    Provided {
        /// Its name.
        cluster: String,
    },
    /// A later change came first.
    #[error(
        "version {version} of cluster \"{cluster}\" is older than {current}, the last one; use {} or a greater one, or none",
        current + 1
    )]
    Stale {
        /// Its cluster.
        cluster: String,
        /// What was asked for.
        version: u64,
        /// What it is.
        current: u64,
    },
    /// Nobody wrote the cluster.
    #[error("there is no cluster \"{cluster}\"; there are: {known}")]
    Unknown {
        /// What was asked for.
        cluster: String,
        /// Some that are there.
        known: String,
    },
}

impl Change {
    /// # Errors
    /// When no client could take it.
    pub fn check(&self) -> Result<(), Refused> {
        match self {
            Self::NoShadow | Self::Unset => Ok(()),
            Self::Policy(policy) => check("policy", policy),
            Self::Shadow(policy) => check("shadow", policy),
        }
    }

    fn apply(&self, over: &mut Override) {
        match self {
            Self::NoShadow => over.shadow = None,
            Self::Policy(policy) => over.policy = Some(policy.clone()),
            Self::Shadow(policy) => over.shadow = Some(policy.clone()),
            Self::Unset => (over.policy, over.shadow) = (None, None),
        }
    }
}

fn check(field: &str, policy: &LoadBalancingPolicy) -> Result<(), Refused> {
    let malformed = |place: String, reason| Refused::Malformed {
        field: format!("{field}{place}"),
        reason,
    };
    if policy.policies.is_empty() {
        return Err(malformed(".policies".to_owned(), "names no policy"));
    }
    if policy.policies.len() > POLICIES_MAX || policy.encoded_len() > POLICY_BYTES_MAX {
        return Err(malformed(".policies".to_owned(), "is too long"));
    }
    for (i, policy) in policy.policies.iter().enumerate() {
        let place = format!(".policies[{i}].typed_extension_config");
        let config = policy.typed_extension_config.as_ref();
        let any = config.and_then(|config| config.typed_config.as_ref());
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
            return Err(malformed(format!("{place}.typed_config"), "is missing"));
        };
        if type_url::message_name(&any.type_url) == Shadow::full_name() {
            let reason = "is a Shadow; what looks on is a change of its own";
            return Err(malformed(format!("{place}.typed_config"), reason));
        }
    }
    Ok(())
}

impl Override {
    /// Whether the cluster is as it was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policy.is_none() && self.shadow.is_none()
    }
}

impl Overrides {
    /// What stands over this cluster.
    #[must_use]
    pub fn get(&self, cluster: &str) -> Option<&Override> {
        self.0.get(cluster)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Override)> {
        self.0.iter()
    }

    /// Takes one in as it was kept.
    pub(crate) fn insert(&mut self, cluster: &str, over: Override) {
        self.0.insert(Arc::from(cluster), over);
    }

    /// With this change; `None` if it changes nothing. Version 0 is the next one.
    ///
    /// # Errors
    /// When the version is not the next one, or there is no room.
    pub fn with(
        &self,
        cluster: &str,
        version: u64,
        change: &Change,
    ) -> Result<Option<Self>, Refused> {
        let before = self.get(cluster).cloned().unwrap_or_default();
        let mut next = before.clone();
        change.apply(&mut next);
        let is_same = next == before;
        let current = before.version;
        if version != 0 && version < current {
            return Err(Refused::Stale {
                cluster: cluster.to_owned(),
                version,
                current,
            });
        }
        match (version == 0 || version == current, is_same) {
            (true, true) => return Ok(None),
            (true, false) if version != 0 => {
                return Err(Refused::Conflict {
                    cluster: cluster.to_owned(),
                    version,
                });
            }
            _ => {}
        }
        if current == 0 && self.0.len() >= OVERRIDES_MAX {
            return Err(Refused::Full);
        }
        next.version = version.max(current.saturating_add(1));
        let mut all = self.clone();
        all.insert(cluster, next);
        Ok(Some(all))
    }
}

#[cfg(test)]
mod tests;
