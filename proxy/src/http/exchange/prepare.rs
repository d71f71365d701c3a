//! Checks and canonical form of a request: what the router sees is what goes on the wire.

use std::time::Duration;

use http::Version;
use http::request::Parts;

use crate::config::listener::StripHostPort;
use crate::config::load_balancing::Hashing;
use crate::config::route::Forward;
use crate::config::session::SessionOverrides;
use crate::error::ProxyError;
use crate::error::Reason;
use crate::given_state::GivenState;
use crate::http::connection_manager::Routes;
use crate::http::exchange::Exchange;
use crate::http::exchange::finish;
use crate::http::exchange::retry;
use crate::http::hash::Client;
use crate::http::hash::Hashed;
use crate::http::headers;
use crate::http::headers::X_FORWARDED_PROTO;
use crate::http::headers::lookup;
use crate::http::local_reply;
use crate::http::local_reply::LocalReply;
use crate::http::path;
use crate::http::router;
use crate::http::router::Match;
use crate::http::router::RequestView;
use crate::http::router::Target;
use crate::http::session::Session;
use crate::net::tls::Facts;
use crate::upstream::ClusterHandle;

/// The authority of a request, without copying it where that can be avoided.
#[derive(Clone, Debug)]
pub(super) struct Authority(http::HeaderValue);

impl Authority {
    /// As text; it was checked to be ASCII.
    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// As the value of `Host`.
    pub(super) fn value(&self) -> &http::HeaderValue {
        &self.0
    }
}

/// Refuses what is not a proper request and brings the rest into canonical form; the answer that
/// sends the client to that form, if it has to ask again.
pub(super) fn prepare(
    exchange: &mut Exchange,
    parts: &mut Parts,
) -> Result<(Authority, Option<LocalReply>), ProxyError> {
    let manager = std::sync::Arc::clone(&exchange.connection.manager);
    if parts.version < Version::HTTP_11 && !manager.config.accept_http_10 {
        exchange.connection.close();
        return Err(Reason::DownstreamVersion.into());
    }
    headers::validate_request(parts).map_err(Reason::DownstreamProtocol)?;
    let mut authority =
        authority_of(parts).ok_or(Reason::DownstreamProtocol("missing_host_header"))?;
    strip_port(manager.config.strip_host_port, exchange, &mut authority);
    exchange.is_grpc = is_grpc(parts);
    let redirects = canonicalize(exchange, parts)?;
    let random = || fastrand::u128(..);
    let outcome = headers::sanitize_request(
        &mut parts.headers,
        &manager.request_policy,
        &exchange.connection.peer,
        exchange.is_upgrade(),
        random,
    )
    .map_err(Reason::DownstreamProtocol)?;
    exchange.client = Some(outcome.client);
    exchange.is_internal = outcome.is_internal;
    exchange.may_have_id = outcome.has_id;
    exchange.scheme = scheme_of(parts); // before a route can edit what it is read from
    if manager.config.always_set_request_id_in_response {
        exchange.request_id = parts.headers.get("x-request-id").cloned();
    }
    finish::remember_request(exchange, parts, &authority);
    if !exchange.connection.includes(authority.as_str()) {
        return Err(Reason::Misdirected.into());
    }
    let reply = redirects.then(|| {
        manager
            .stats
            .downstream_rq_redirected_with_normalized_path()
            .inc();
        local_reply::to_canonical_path(&parts.uri)
    });
    Ok((authority, reply))
}

/// True if the client is to be sent to the canonical path.
fn canonicalize(exchange: &Exchange, parts: &mut Parts) -> Result<bool, ProxyError> {
    let canonical = path::canonicalize(&exchange.connection.manager.config, &mut parts.uri);
    // No gRPC client follows a redirect.
    let canonical = canonical.and_then(|redirects| {
        if redirects && exchange.is_grpc {
            Err(path::PATH_NORMALIZATION_FAILED)
        } else {
            Ok(redirects)
        }
    });
    canonical.map_err(|details| Reason::DownstreamProtocol(details).into())
}

fn authority_of(parts: &Parts) -> Option<Authority> {
    if let Some(host) = lookup::first(&parts.headers, &http::header::HOST) {
        return Some(Authority(host.clone()));
    }
    let authority = parts.uri.authority();
    let text = authority.map_or("", http::uri::Authority::as_str);
    if text.is_empty() && parts.version == Version::HTTP_11 {
        return None;
    }
    http::HeaderValue::from_str(text).ok().map(Authority)
}

fn strip_port(strip: StripHostPort, exchange: &Exchange, authority: &mut Authority) {
    if strip == StripHostPort::None {
        return;
    }
    let host = headers::host_without_port(authority.as_str());
    let port = authority
        .as_str()
        .get(host.len() + 1..)
        .and_then(|port| port.parse::<u16>().ok());
    let local = exchange
        .connection
        .downstream
        .local
        .map(|local| local.port());
    let strips = match strip {
        StripHostPort::Any => port.is_some(),
        StripHostPort::Matching => port.is_some() && port == local,
        StripHostPort::None => false,
    };
    if strips && let Ok(host) = http::HeaderValue::from_str(host) {
        *authority = Authority(host);
    }
}

fn is_grpc(parts: &Parts) -> bool {
    let content_type = lookup::first(&parts.headers, &http::header::CONTENT_TYPE);
    content_type.is_some_and(|value| {
        value
            .as_bytes()
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

/// The scheme the client used: what its target says, else what a proxy in front of us says, as far
/// as that was left standing. Two proxies that say it say nothing, as in Envoy.
fn scheme_of(parts: &Parts) -> &'static str {
    let forwarded = || {
        let mut values = parts.headers.get_all(&X_FORWARDED_PROTO).iter();
        let said = values.next().filter(|_| values.next().is_none());
        said.map(http::HeaderValue::as_bytes)
    };
    let said = parts.uri.scheme_str().map(str::as_bytes).or_else(forwarded);
    if said.is_some_and(|said| said.eq_ignore_ascii_case(b"https")) {
        "https"
    } else {
        "http"
    }
}

/// The route of a prepared request.
pub(super) fn find_route<'t>(
    exchange: &Exchange,
    table: &'t Routes,
    parts: &Parts,
    authority: &str,
) -> Result<Match<'t, ClusterHandle>, ProxyError> {
    let downstream = &exchange.connection.downstream;
    let view = view(
        parts,
        (exchange.scheme, authority),
        downstream.tls.as_deref(),
    );
    let found = table
        .find(&view, fastrand::u64(..))
        .ok_or(Reason::NoRoute)?;
    let Target::Forward { forward, .. } = found.target else {
        return Ok(found);
    };
    if !forward.hash_chooses_cluster {
        return Ok(found);
    }
    let client = Client {
        address: exchange
            .client
            .or(downstream.peer)
            .map(|client| client.ip()),
        connection: None,
        state: states(exchange),
    };
    let hash = Hashed::new(&forward.hash_policies, &view, client).hash;
    let chosen = hash.and_then(|hash| table.choose_again(found.place(), hash));
    Ok(chosen.unwrap_or(found))
}

/// Its own filter state, then that of its connection.
fn states(exchange: &Exchange) -> [&GivenState; 2] {
    [
        &exchange.state,
        &exchange.connection.downstream.found().state,
    ]
}

fn view<'r>(
    parts: &'r Parts,
    (scheme, authority): (&'r str, &'r str),
    tls: Option<&'r Facts>,
) -> RequestView<'r> {
    RequestView {
        method: &parts.method,
        scheme,
        authority,
        path_and_query: parts
            .uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str),
        headers: &parts.headers,
        tls,
    }
}

/// A request as predicates see it.
pub(super) fn view_of<'r>(
    exchange: &'r Exchange,
    parts: &'r Parts,
    authority: &'r Authority,
) -> RequestView<'r> {
    let tls = exchange.connection.downstream.tls.as_deref();
    view(parts, (exchange.scheme, authority.as_str()), tls)
}

/// Which member the client was served by, if the connection manager or the route wants it kept. As in
/// Envoy it is looked for in the request as it came.
pub(super) fn session(
    exchange: &Exchange,
    table: &Routes,
    found: &Match<'_, ClusterHandle>,
    parts: &Parts,
) -> Option<Box<Session>> {
    let filter = exchange.connection.manager.session.as_ref()?;
    let config = filter.resolve(levels(table, found))?;
    let path = parts.uri.path_and_query();
    let path = path.map_or("/", http::uri::PathAndQuery::as_str);
    Session::new(config, &parts.headers, path, since_1970).map(Box::new)
}

/// The filter state that the connection manager gives the request, as it came.
pub(super) fn state(
    exchange: &Exchange,
    (table, found): (&Routes, &Match<'_, ClusterHandle>),
    parts: &Parts,
    authority: &Authority,
) -> GivenState {
    let mut state = GivenState::default();
    let filters = &exchange.connection.manager.states;
    if filters.is_empty() {
        return state;
    }
    let facts = finish::Facts::of_request(exchange, parts, authority);
    let levels = || levels(table, found);
    let acting = filters.iter().filter(|filter| filter.acts(levels()));
    acting.for_each(|filter| facts.give(&filter.values, &mut state));
    state
}

/// Where it stands what filters do otherwise than the connection manager says, from the most specific on.
fn levels<'t>(
    table: &'t Routes,
    found: &Match<'t, ClusterHandle>,
) -> impl Iterator<Item = &'t SessionOverrides> {
    let choice = match found.target {
        Target::Forward { weighted, .. } => weighted.map(|choice| &choice.sessions),
        Target::DirectResponse { .. } | Target::Redirect(_) => None,
    };
    let levels = [
        &found.route.sessions,
        &found.virtual_host.sessions,
        &table.config().sessions,
    ];
    choice.into_iter().chain(levels)
}

/// Cookies and responses name times of the day.
#[expect(
    clippy::disallowed_methods,
    reason = "a cookie says until when it holds, a response until when to be left alone"
)]
pub(super) fn since_1970() -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    now.unwrap_or_default()
}

/// What a cluster whose policy chooses by hash goes by: what the policy itself names, else the route.
/// As in Envoy it is looked for in the request as it goes out.
pub(super) fn hash(
    exchange: &Exchange,
    cluster: &ClusterHandle,
    forward: (&Forward, &Authority),
    parts: &Parts,
) -> Hashed {
    let current = cluster.load();
    let balancing = &current.config.load_balancing;
    let Some(hashing) = balancing.policy.hashing() else {
        // Who only looks on hands out no cookies.
        let hashing = balancing.shadow_hashing();
        let hash = hashing.and_then(|hashing| hash_by(exchange, hashing, forward, parts).hash);
        return Hashed {
            hash,
            ..Hashed::default()
        };
    };
    hash_by(exchange, hashing, forward, parts)
}

fn hash_by(
    exchange: &Exchange,
    hashing: &Hashing,
    (forward, authority): (&Forward, &Authority),
    parts: &Parts,
) -> Hashed {
    let downstream = &exchange.connection.downstream;
    let client = exchange.client.or(downstream.peer);
    let is_own = !hashing.policies.is_empty();
    let (policies, peer) = if is_own {
        (&hashing.policies, client)
    } else {
        (&forward.hash_policies, downstream.peer)
    };
    let authority = exchange.authority_before(authority, &parts.headers);
    let authority = authority.to_str().unwrap_or_default();
    let tls = downstream.tls.as_deref();
    let request = view(parts, (exchange.scheme, authority), tls);
    let client = Client {
        address: client.map(|client| client.ip()),
        connection: Some((peer, downstream.local)),
        state: states(exchange),
    };
    Hashed {
        cookies_are_last: is_own, // as with Envoy
        ..Hashed::new(policies, &request, client)
    }
}

/// Changes the request as its route says.
pub(super) fn edit(
    exchange: &Exchange,
    found: &Match<'_, ClusterHandle>,
    (forward, authority): (&Forward, &Authority),
    parts: &mut Parts,
) {
    let suppress = exchange.connection.manager.suppress_envoy_headers;
    let path = parts
        .uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    if let Some(rewritten) = router::rewrite(found, forward, path) {
        if !suppress {
            headers::set_original_path(&mut parts.headers, path);
        }
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.path_and_query = Some(rewritten);
        parts.uri = http::Uri::from_parts(uri).unwrap_or_default();
    }
    exchange
        .deadlines
        .tell(&mut parts.headers, Duration::ZERO, suppress);
    if forward.retries.request_tells_attempts {
        let first = http::HeaderValue::from_static("1");
        parts.headers.insert(retry::ATTEMPT_COUNT, first);
    }
    if !found.keeps_request_headers() {
        let facts = finish::Facts::of_request(exchange, parts, authority);
        found.edit_request(&mut parts.headers, &facts);
    }
}
