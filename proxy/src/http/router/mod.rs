//! Which route a request takes: a route table compiled for matching.
//!
//! [`RouteTable::new`] resolves every cluster name once; [`RouteTable::find`] is a pure function
//! that looks up no cluster by name and allocates only for an upper-case authority longer than
//! `domains::LOWER_CASE_BYTES` and for a header match on a header with several values. It does not
//! normalize paths: `path` has done that before.
//!
//! Invariants: the first route in order whose predicates all hold is taken, however big the table
//! and its index; a table only names clusters of its own snapshot.
//!
//! | file | holds |
//! |---|---|
//! | `compiled` | the parts of a route that are made once |
//! | `domains` | authority to virtual host |
//! | `index` | path to candidate routes |
//! | `predicate` | header, query, string predicates |
//! | `redirect` | the `location` of a redirect |
//! | `rewrite` | the path that goes upstream |

mod compiled;
mod domains;
mod index;
mod predicate;
mod redirect;
mod rewrite;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::Method;
use http::StatusCode;

use crate::config::Name;
use crate::config::RouteConfig;
use crate::config::route::Forward;
use crate::config::route::Redirect;
use crate::config::route::Route;
use crate::config::route::VirtualHost;
use crate::config::route::WeightedCluster;
use crate::http::headers::Edits;
use crate::http::headers::Values;
use crate::net::tls::Facts;
use compiled::Choice;
use compiled::Compiled;
use compiled::Host;
use domains::Domains;
pub use predicate::header_fits;
pub use predicate::request_header_fits;
pub use predicate::response_fits;
pub use redirect::location;
pub use rewrite::rewrite;

/// What a request looks like to the router.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'r> {
    /// The method.
    pub method: &'r Method,
    /// `http` or `https`.
    pub scheme: &'r str,
    /// `Host` or `:authority`, any case, with its port if there is one.
    pub authority: &'r str,
    /// The path in canonical form with its query. Empty (plain CONNECT) takes no route.
    pub path_and_query: &'r str,
    /// All headers.
    pub headers: &'r HeaderMap,
    /// TLS of the client's connection.
    pub tls: Option<&'r Facts>,
}

/// A route table with resolved clusters. `C` is the handle of a live cluster.
pub struct RouteTable<C> {
    config: Arc<RouteConfig>,
    domains: Domains,
    hosts: Box<[Host<C>]>,
    edits: Edits,
}

impl<C> RouteTable<C> {
    /// Compiles `config`; `resolve` is asked once per use of a cluster name. A cluster it does not
    /// know stays unresolved, and requests for it find no cluster.
    pub fn new(config: Arc<RouteConfig>, mut resolve: impl FnMut(&Name) -> Option<C>) -> Self {
        let hosts = config
            .virtual_hosts
            .iter()
            .map(|host| Host::new(host, &mut resolve))
            .collect();
        Self {
            domains: Domains::new(&config),
            hosts,
            edits: Edits::new(&config.headers),
            config,
        }
    }

    /// The table as written.
    #[must_use]
    pub fn config(&self) -> &Arc<RouteConfig> {
        &self.config
    }

    /// The route `request` takes. `random` decides runtime fractions and weights, as in Envoy one
    /// number for both.
    #[must_use]
    pub fn find(&self, request: &RequestView<'_>, random: u64) -> Option<Match<'_, C>> {
        let host_index = self.domains.find(request.authority)?;
        let virtual_host = self.config.virtual_hosts.get(host_index)?;
        let host = self.hosts.get(host_index)?;
        let path = predicate::path_of(request.path_and_query);
        if path.is_empty() {
            return None;
        }
        let route_index = host
            .index
            .first(&virtual_host.routes, path, request, random)?;
        let compiled = host.routes.get(route_index)?;
        let choice_index = compiled.choose(random)?;
        self.at(Place {
            host: host_index,
            route: route_index,
            choice: choice_index,
        })
    }

    /// The match that [`Match::place`] named. `None` if the place is of another table.
    #[must_use]
    pub fn at(&self, place: Place) -> Option<Match<'_, C>> {
        let virtual_host = self.config.virtual_hosts.get(place.host)?;
        let host = self.hosts.get(place.host)?;
        let route = virtual_host.routes.get(place.route)?;
        let compiled = host.routes.get(place.route)?;
        let (target, choice) = compiled.target(&route.action, place.choice)?;
        Some(Match {
            virtual_host,
            route,
            target,
            edits: self.edits_in_order(host, compiled, choice),
            place,
        })
    }

    /// The same route, with the cluster that `value` chooses by weight.
    #[must_use]
    pub fn choose_again(&self, place: Place, value: u64) -> Option<Match<'_, C>> {
        let compiled = self.hosts.get(place.host)?.routes.get(place.route)?;
        let choice = compiled.choose(value)?;
        self.at(Place { choice, ..place })
    }

    /// The levels in the order they apply; the last one has the last word.
    fn edits_in_order<'t>(
        &'t self,
        host: &'t Host<C>,
        route: &'t Compiled<C>,
        choice: Option<&'t Choice<C>>,
    ) -> [Option<&'t Edits>; 4] {
        let mut levels = [
            choice.map(|choice| &choice.edits),
            Some(&route.edits),
            Some(&host.edits),
            Some(&self.edits),
        ];
        if self.config.most_specific_header_edits_win {
            levels.reverse();
        }
        levels
    }
}

impl<C> fmt::Debug for RouteTable<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteTable")
            .field("name", &self.config.name)
            .field("virtual_hosts", &self.hosts.len())
            .finish_non_exhaustive()
    }
}

/// Where a match stands in its table: what an exchange keeps, with the table, across waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    host: usize,
    route: usize,
    choice: usize,
}

impl Place {
    /// A number that routes which differ in what they do usually differ in: their latencies are
    /// told apart by it.
    pub fn class(self) -> usize {
        self.host.wrapping_mul(31).wrapping_add(self.route)
    }
}

/// The route a request takes.
pub struct Match<'t, C> {
    /// The virtual host.
    pub virtual_host: &'t VirtualHost,
    /// The route.
    pub route: &'t Route,
    /// What it does, resolved.
    pub target: Target<'t, C>,
    edits: [Option<&'t Edits>; 4],
    place: Place,
}

impl<C> Match<'_, C> {
    /// Where it stands in its table; see [`RouteTable::at`].
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// Applies the header edits of all levels to a request.
    pub fn edit_request(&self, headers: &mut HeaderMap, values: &dyn Values) {
        for edits in self.edits.into_iter().flatten() {
            edits.request.apply(headers, values);
        }
    }

    /// Applies the header edits of all levels to a response.
    pub fn edit_response(&self, headers: &mut HeaderMap, values: &dyn Values) {
        for edits in self.edits.into_iter().flatten() {
            edits.response.apply(headers, values);
        }
    }

    /// True if no level edits requests.
    #[must_use]
    pub fn keeps_request_headers(&self) -> bool {
        let mut levels = self.edits.into_iter().flatten();
        levels.all(|edits| edits.request.is_empty())
    }

    /// True if no level edits responses.
    #[must_use]
    pub fn keeps_response_headers(&self) -> bool {
        let mut levels = self.edits.into_iter().flatten();
        levels.all(|edits| edits.response.is_empty())
    }
}

impl<C> Clone for Match<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Match<'_, C> {}

impl<C> fmt::Debug for Match<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Match")
            .field("virtual_host", &self.virtual_host.name)
            .field("route", &self.route.name)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// What a matched route does, with its cluster resolved.
pub enum Target<'t, C> {
    /// Answer by itself.
    DirectResponse {
        /// Its status.
        status: StatusCode,
        /// Its body.
        body: &'t Bytes,
    },
    /// Send to a cluster.
    Forward {
        /// How.
        forward: &'t Forward,
        /// The cluster's name, for logs.
        cluster_name: &'t Name,
        /// The cluster; `None` if the snapshot has none of that name.
        cluster: Option<&'t C>,
        /// The choice, when there were several by weight.
        weighted: Option<&'t WeightedCluster>,
    },
    /// Answer with a redirect.
    Redirect(&'t Redirect),
}

impl<C> Clone for Target<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Target<'_, C> {}

impl<C> fmt::Debug for Target<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DirectResponse { status, .. } => write!(f, "DirectResponse({status})"),
            Self::Forward {
                cluster_name,
                cluster,
                ..
            } => write!(
                f,
                "Forward({cluster_name}, resolved: {})",
                cluster.is_some()
            ),
            Self::Redirect(_) => write!(f, "Redirect"),
        }
    }
}

#[cfg(test)]
mod tests;
