//! What of a request is hashed: `RouteAction.HashPolicy`, on routes and in policies that balance by
//! hash, and `type.v3.HashPolicy` of a TCP proxy.

use std::fmt::Write as _;

use xds_proto::pb::envoy::config::route::v3::route_action as pb;
use xds_proto::pb::envoy::config::route::v3::route_action::hash_policy as of;
use xds_proto::pb::envoy::config::route::v3::route_action::hash_policy::PolicySpecifier;
use xds_proto::pb::envoy::r#type::v3 as tcp;
use xds_proto::pb::envoy::r#type::v3::hash_policy::PolicySpecifier as TcpSpecifier;

use super::Context;
use super::matcher;
use super::regex_rewrite;
use super::value;
use crate::config::hash_policy::GeneratedCookie;
use crate::config::hash_policy::HashPolicy;
use crate::config::hash_policy::HashSource;
use crate::config::limits;

/// Reads the field `hash_policy`.
pub(super) fn list(context: &mut Context, policies: Vec<pb::HashPolicy>) -> Vec<HashPolicy> {
    let most = limits::HASH_POLICIES_MAX;
    if policies.len() > most {
        context.reject("hash_policy", format!("has more than {most} parts"));
        return Vec::new();
    }
    let parts = context.each("hash_policy", policies, policy);
    parts.into_iter().flatten().collect()
}

/// `None` inside: a part that never hashes.
fn policy(context: &mut Context, policy: pb::HashPolicy) -> Option<Option<HashPolicy>> {
    let pb::HashPolicy {
        terminal,
        policy_specifier,
    } = policy;
    let source = match policy_specifier {
        None => return context.refuse("", "needs something to hash"),
        Some(PolicySpecifier::Header(config)) => {
            context.field("header", |context| header(context, config))?
        }
        Some(PolicySpecifier::Cookie(config)) => {
            context.field("cookie", |context| cookie(context, config))?
        }
        Some(PolicySpecifier::ConnectionProperties(of::ConnectionProperties { source_ip })) => {
            if !source_ip {
                return Some(None);
            }
            HashSource::SourceIp
        }
        Some(PolicySpecifier::QueryParameter(of::QueryParameter { name })) => {
            if name.is_empty() {
                return context.refuse("query_parameter.name", "must not be empty");
            }
            HashSource::QueryParameter(name.into())
        }
        Some(PolicySpecifier::FilterState(of::FilterState { key })) => filter_state(context, key)?,
    };
    Some(Some(HashPolicy { source, terminal }))
}

fn header(context: &mut Context, config: of::Header) -> Option<HashSource> {
    let of::Header {
        header_name,
        regex_rewrite,
    } = config;
    let name = matcher::header_name(context, "header_name", &header_name);
    let has_rewrite = regex_rewrite.is_some();
    let rewrite = context.optional("regex_rewrite", regex_rewrite, regex_rewrite::decode);
    if has_rewrite && rewrite.is_none() {
        return None;
    }
    Some(HashSource::Header {
        name: name?,
        rewrite,
    })
}

fn cookie(context: &mut Context, config: of::Cookie) -> Option<HashSource> {
    let of::Cookie {
        name,
        ttl,
        path,
        attributes,
    } = config;
    let name = value::head_text(context, "name", name)?;
    if name.is_empty() {
        return context.refuse("name", "must not be empty");
    }
    if ttl.is_none() {
        unsupported!(context, warn "has no effect without ttl": path, attributes);
        let generated = None;
        return Some(HashSource::Cookie { name, generated });
    }
    let ttl = value::duration(context, "ttl", ttl);
    let path = value::head_text(context, "path", path);
    let mut text = String::new();
    // Writing to a string cannot fail.
    match ttl?.as_secs() {
        0 => {}
        seconds => drop(write!(text, "; Max-Age={seconds}")),
    }
    match &*path? {
        "" => {}
        path => drop(write!(text, "; Path={path}")),
    }
    for (name, value) in context.each("attributes", attributes, attribute) {
        let _ = match &*value {
            "" => write!(text, "; {name}"),
            value => write!(text, "; {name}={value}"),
        };
    }
    text.push_str("; HttpOnly");
    let generated = Some(GeneratedCookie {
        attributes: text.into(),
    });
    Some(HashSource::Cookie { name, generated })
}

fn attribute(
    context: &mut Context,
    attribute: of::CookieAttribute,
) -> Option<(Box<str>, Box<str>)> {
    let of::CookieAttribute { name, value } = attribute;
    if name.is_empty() {
        context.reject("name", "must not be empty");
    }
    let name = value::head_text(context, "name", name);
    let value = value::head_text(context, "value", value);
    Some((name?, value?))
}

fn filter_state(context: &mut Context, key: String) -> Option<HashSource> {
    if key.is_empty() {
        return context.refuse("filter_state.key", "must not be empty");
    }
    Some(HashSource::FilterState(key.into()))
}

/// Reads the field `hash_policy` of a TCP proxy.
pub(super) fn tcp(context: &mut Context, mut policies: Vec<tcp::HashPolicy>) -> Option<HashSource> {
    if policies.len() > 1 {
        context.reject("hash_policy", "has more than one part");
    }
    let policy = policies.pop()?;
    context.item("hash_policy", 0, |context| {
        let tcp::HashPolicy { policy_specifier } = policy;
        match policy_specifier {
            Some(TcpSpecifier::SourceIp(tcp::hash_policy::SourceIp {})) => {
                Some(HashSource::SourceIp)
            }
            Some(TcpSpecifier::FilterState(tcp::hash_policy::FilterState { key })) => {
                filter_state(context, key)
            }
            None => context.refuse("", "needs something to hash"),
        }
    })
}
