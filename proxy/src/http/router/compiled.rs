//! The parts of a virtual host and its routes that are made once per table: indexes, live clusters,
//! edits.
//!
//! It matches nothing; `index` does.

use crate::config::Name;
use crate::config::route::Action;
use crate::config::route::ClusterSpecifier;
use crate::config::route::Route;
use crate::config::route::VirtualHost;
use crate::config::route::WeightedCluster;
use crate::http::headers::Edits;
use crate::http::router::Target;
use crate::http::router::index::PathIndex;

pub(super) struct Host<C> {
    pub(super) index: PathIndex,
    pub(super) routes: Box<[Compiled<C>]>,
    pub(super) edits: Edits,
}

impl<C> Host<C> {
    pub(super) fn new(host: &VirtualHost, resolve: &mut impl FnMut(&Name) -> Option<C>) -> Self {
        let routes = host
            .routes
            .iter()
            .map(|route| Compiled::new(route, resolve));
        Self {
            index: PathIndex::new(&host.routes),
            routes: routes.collect(),
            edits: Edits::new(&host.headers),
        }
    }
}

/// The parts of a route that are made once: clusters and edits.
pub(super) struct Compiled<C> {
    clusters: Clusters<C>,
    pub(super) edits: Edits,
}

enum Clusters<C> {
    None,
    One(Option<C>),
    Weighted {
        total: u64,
        choices: Box<[Choice<C>]>,
    },
}

pub(super) struct Choice<C> {
    /// Sum of the weights up to and including this one.
    end: u64,
    cluster: Option<C>,
    pub(super) edits: Edits,
}

impl<C> Compiled<C> {
    fn new(route: &Route, resolve: &mut impl FnMut(&Name) -> Option<C>) -> Self {
        let clusters = match &route.action {
            Action::DirectResponse { .. } | Action::Redirect(_) => Clusters::None,
            Action::Forward(forward) => match &forward.cluster {
                ClusterSpecifier::Cluster(name) => Clusters::One(resolve(name)),
                ClusterSpecifier::Weighted(clusters) => weighted(clusters, resolve),
            },
        };
        Self {
            clusters,
            edits: Edits::new(&route.headers),
        }
    }

    /// The choice by weight; 0 where there is none to make.
    pub(super) fn choose(&self, random: u64) -> Option<usize> {
        match &self.clusters {
            Clusters::None | Clusters::One(_) => Some(0),
            Clusters::Weighted { total, choices } => {
                let point = random.checked_rem(*total)?;
                Some(choices.partition_point(|choice| choice.end <= point))
            }
        }
    }

    pub(super) fn target<'t>(
        &'t self,
        action: &'t Action,
        choice: usize,
    ) -> Option<(Target<'t, C>, Option<&'t Choice<C>>)> {
        let forward = match action {
            Action::DirectResponse { status, body } => {
                let status = *status;
                return Some((Target::DirectResponse { status, body }, None));
            }
            Action::Redirect(redirect) => return Some((Target::Redirect(redirect), None)),
            Action::Forward(forward) => forward,
        };
        match (&forward.cluster, &self.clusters) {
            (ClusterSpecifier::Cluster(cluster_name), Clusters::One(cluster)) => {
                let target = Target::Forward {
                    forward,
                    cluster_name,
                    cluster: cluster.as_ref(),
                    weighted: None,
                };
                Some((target, None))
            }
            (ClusterSpecifier::Weighted(clusters), Clusters::Weighted { choices, .. }) => {
                let (choice, weighted) = choices.get(choice).zip(clusters.get(choice))?;
                let target = Target::Forward {
                    forward,
                    cluster_name: &weighted.name,
                    cluster: choice.cluster.as_ref(),
                    weighted: Some(weighted),
                };
                Some((target, Some(choice)))
            }
            _ => None,
        }
    }
}

fn weighted<C>(
    clusters: &[WeightedCluster],
    resolve: &mut impl FnMut(&Name) -> Option<C>,
) -> Clusters<C> {
    let mut total = 0;
    let choices = clusters.iter().map(|choice| {
        total += u64::from(choice.weight);
        Choice {
            end: total,
            cluster: resolve(&choice.name),
            edits: Edits::new(&choice.headers),
        }
    });
    let choices = choices.collect();
    Clusters::Weighted { total, choices }
}
