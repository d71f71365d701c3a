//! `envoy.filters.http.stateful_session`, and what routes say of it.

use std::fmt::Write as _;
use std::sync::Arc;

use http::StatusCode;
use xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use xds_proto::pb::envoy::extensions::filters::http::stateful_session::v3 as pb;
use xds_proto::pb::envoy::extensions::filters::http::stateful_session::v3::stateful_session_per_route::Override;
use xds_proto::pb::envoy::extensions::http::stateful_session::cookie::v3::CookieBasedSessionState;
use xds_proto::pb::envoy::extensions::http::stateful_session::header::v3::HeaderBasedSessionState;
use xds_proto::pb::envoy::r#type::http::v3::Cookie;
use xds_proto::pb::envoy::r#type::http::v3::CookieAttribute;

use super::Context;
use super::extension;
use super::value;
use crate::config::session::SessionCookie;
use crate::config::session::SessionOverride;
use crate::config::session::SessionState;
use crate::config::session::StatefulSession;

/// Reads the filter.
pub(super) fn decode(
    context: &mut Context,
    config: pb::StatefulSession,
) -> Option<Arc<StatefulSession>> {
    let pb::StatefulSession {
        session_state,
        strict,
        stat_prefix,
        status_on_strict_destination_not_found: status,
    } = config;
    unsupported!(context, warn: stat_prefix);
    let has_state = session_state.is_some();
    let state = context.optional("session_state", session_state, state);
    if has_state && state.is_none() {
        return None;
    }
    let field = "status_on_strict_destination_not_found";
    if !strict && status != 0 {
        context.warn(field, "has no effect without strict");
    }
    let strict = match status {
        _ if !strict => None,
        0 => Some(StatusCode::SERVICE_UNAVAILABLE),
        status => {
            let status = u16::try_from(status).ok();
            let status = status.filter(|status| (200..600).contains(status));
            let status = status.and_then(|status| StatusCode::from_u16(status).ok());
            if status.is_none() {
                return context.refuse(field, "is not within 200 and 599");
            }
            status
        }
    };
    Some(Arc::new(StatefulSession { state, strict }))
}

/// Reads what a route says of it.
pub(super) fn per_route(
    context: &mut Context,
    config: pb::StatefulSessionPerRoute,
) -> Option<SessionOverride> {
    let pb::StatefulSessionPerRoute { r#override } = config;
    match r#override {
        Some(Override::Disabled(true)) => Some(SessionOverride::Disabled),
        Some(Override::Disabled(false)) => context.refuse("disabled", "can only be true"),
        Some(Override::StatefulSession(config)) => context
            .field("stateful_session", |context| decode(context, config))
            .map(SessionOverride::Session),
        None => context.refuse("", "needs disabled or stateful_session"),
    }
}

fn state(context: &mut Context, config: TypedExtensionConfig) -> Option<SessionState> {
    let TypedExtensionConfig {
        name: _,
        typed_config,
    } = config;
    let Some(any) = typed_config else {
        return context.missing("typed_config");
    };
    context.field("typed_config", |context| {
        if extension::holds::<CookieBasedSessionState>(&any) {
            let CookieBasedSessionState { cookie } = extension::unpack(context, &any)?;
            return context
                .required("cookie", cookie, self::cookie)
                .map(SessionState::Cookie);
        }
        if extension::holds::<HeaderBasedSessionState>(&any) {
            let HeaderBasedSessionState { name } = extension::unpack(context, &any)?;
            if name.is_empty() {
                return context.refuse("name", "must not be empty");
            }
            return value::header_name(context, "name", &name).map(SessionState::Header);
        }
        let name = extension::type_name(&any);
        context.unsupported("", format!("{name} is not supported"))
    })
}

fn cookie(context: &mut Context, config: Cookie) -> Option<SessionCookie> {
    let Cookie {
        name,
        ttl,
        path,
        attributes,
    } = config;
    let name = value::head_text(context, "name", name)?;
    if name.is_empty() {
        return context.refuse("name", "must not be empty");
    }
    let ttl = value::duration(context, "ttl", ttl).unwrap_or_default();
    // Envoy counts whole seconds.
    let ttl = std::time::Duration::from_secs(ttl.as_secs());
    let path = value::head_text(context, "path", path);
    let attributes = context.each("attributes", attributes, attribute);
    let path = path?;
    let mut text = String::new();
    // Writing to a string cannot fail.
    if !ttl.is_zero() {
        let _ = write!(text, "; Max-Age={}", ttl.as_secs());
    }
    if !path.is_empty() {
        let _ = write!(text, "; Path={path}");
    }
    for (name, value) in attributes {
        let _ = match &*value {
            "" => write!(text, "; {name}"),
            value => write!(text, "; {name}={value}"),
        };
    }
    text.push_str("; HttpOnly");
    Some(SessionCookie {
        name,
        path,
        ttl,
        attributes: text.into(),
    })
}

fn attribute(context: &mut Context, attribute: CookieAttribute) -> Option<(Box<str>, Box<str>)> {
    let CookieAttribute { name, value } = attribute;
    if name.is_empty() {
        context.reject("name", "must not be empty");
    }
    let name = value::head_text(context, "name", name);
    let value = value::head_text(context, "value", value);
    Some((name?, value?))
}
