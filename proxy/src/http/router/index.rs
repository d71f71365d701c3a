//! Path to candidate routes, in time that grows with the logarithm of the table.
//!
//! The literal paths of case-sensitive routes stand in one sorted array. All literals that begin a
//! path also begin the greatest literal that is not above the path (strings that begin with `q` form
//! an interval whose least member is `q`), so one binary search and a walk along `parent` find every
//! candidate. Other routes are tried one by one, but only those before the best found so far.
//!
//! Invariant: [`PathIndex::first`] equals a linear search, which is what small tables do.

use crate::config::route::PathMatch;
use crate::config::route::Route;
use crate::http::router::RequestView;
use crate::http::router::predicate;

/// Tables smaller than this are scanned: comparing a few prefixes costs less than the search.
const LINEAR_BELOW: usize = 8;

/// An index over the routes of one virtual host.
#[derive(Debug, Default)]
pub(super) struct PathIndex {
    /// Sorted by text; empty if the table is scanned.
    nodes: Box<[Node]>,
    /// Routes without an indexed literal, ascending.
    others: Box<[usize]>,
    indexed: bool,
}

#[derive(Debug)]
struct Node {
    text: Box<str>,
    /// The longest other literal that begins this one and has prefix routes.
    parent: Option<usize>,
    /// Routes whose whole path this is, ascending.
    exact: Vec<usize>,
    /// Routes whose (path-separated) prefix this is, ascending.
    prefix: Vec<usize>,
}

impl PathIndex {
    pub(super) fn new(routes: &[Route]) -> Self {
        if routes.len() < LINEAR_BELOW {
            return Self::default();
        }
        let mut others = Vec::new();
        let mut literals = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            match &route.matches.path {
                _ if !route.matches.case_sensitive => others.push(index),
                PathMatch::Regex(_) => others.push(index),
                PathMatch::Exact(text) => literals.push((&**text, index, true)),
                PathMatch::PathSeparatedPrefix(text) | PathMatch::Prefix(text) => {
                    literals.push((&**text, index, false));
                }
            }
        }
        literals.sort_unstable();
        Self {
            nodes: nodes(&literals).into_boxed_slice(),
            others: others.into_boxed_slice(),
            indexed: true,
        }
    }

    /// The first route that matches.
    pub(super) fn first(
        &self,
        routes: &[Route],
        path: &str,
        request: &RequestView<'_>,
        random: u64,
    ) -> Option<usize> {
        if !self.indexed {
            return routes
                .iter()
                .position(|route| predicate::matches(&route.matches, path, request, random));
        }
        let mut best = usize::MAX;
        let mut improve = |candidates: &[usize]| {
            let mut better = candidates.iter().take_while(|index| **index < best);
            let found = better.find(|index| {
                let route = routes.get(**index);
                route.is_some_and(|route| predicate::matches(&route.matches, path, request, random))
            });
            if let Some(found) = found {
                best = *found;
            }
        };
        let above = self.nodes.partition_point(|node| *node.text <= *path);
        let mut next = above.checked_sub(1);
        while let Some(node) = next.and_then(|index| self.nodes.get(index)) {
            if *node.text == *path {
                improve(&node.exact);
            }
            if path.starts_with(&*node.text) {
                improve(&node.prefix);
            }
            next = node.parent;
        }
        improve(&self.others);
        (best != usize::MAX).then_some(best)
    }
}

/// One node per distinct literal of the sorted list of (text, route, is exact).
fn nodes(literals: &[(&str, usize, bool)]) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    // Nodes with prefix routes that begin the current text, shortest first.
    let mut open: Vec<usize> = Vec::new();
    for same in literals.chunk_by(|a, b| a.0 == b.0) {
        let Some((text, ..)) = same.first() else {
            continue;
        };
        while let Some(last) = open.last().and_then(|last| nodes.get(*last)) {
            if text.starts_with(&*last.text) {
                break;
            }
            open.pop();
        }
        let routes = |exact: bool| {
            let wanted = same
                .iter()
                .filter(move |(_, _, is_exact)| *is_exact == exact);
            wanted.map(|(_, index, _)| *index).collect()
        };
        let node = Node {
            text: (*text).into(),
            parent: open.last().copied(),
            exact: routes(true),
            prefix: routes(false),
        };
        if !node.prefix.is_empty() {
            open.push(nodes.len());
        }
        nodes.push(node);
    }
    nodes
}
