//! Wire → model: one resource in, one validated immutable value out, or every reason why not.
//!
//! Nothing is ignored silently: each function takes its message apart without `..`, so a field is
//! either used or named in an [`unsupported!`] list; a set field of that list is a *warning* if
//! ignoring it only loses tuning or observation, and an *error* if it would weaken security, send
//! traffic elsewhere or change what is answered. `SUPPORTED_FIELDS.md` is generated from a walk over
//! all fields. What this cannot see: fields newer than the linked API version, because the wire
//! format drops them before we look.
//!
//! No state between resources, no panic on any input, and no I/O but for files that hold secrets.
//!
//! | file | reads |
//! |---|---|
//! | `listener` `listener_filter` `filter_chain` `chain_matcher` | `Listener` and what is inside |
//! | `tcp_proxy` `connection_limit` | the TCP proxy, limits of a filter chain |
//! | `binding` `socket` | addresses, and options of listening sockets |
//! | `http_connection_manager` `http_filter` `client_certificate` | the HTTP connection manager |
//! | `cluster` `cluster_http` `cluster_dns` | `Cluster` and what is inside |
//! | `upgrade` | as which protocols requests may go on |
//! | `outcome_breaker` | when too many requests were slow or failed |
//! | `circuit_breakers` | how much may be on its way to a cluster |
//! | `load_balancing` `latency` `least_request` `hashing` `common_lb` `locality_lb` `name_source` `peak_ewma` `reported_weights` `slow_start` `subset` | which member is taken |
//! | `hash_policy` | what of a request is hashed |
//! | `health_check` | active checks, outlier detection |
//! | `stateful_session` | which member serves a client again |
//! | `endpoint` `labels` | `ClusterLoadAssignment` |
//! | `route` `route_match` `route_action` `header_edit` | `RouteConfiguration` and what is inside |
//! | `retry` `timeout` | `RetryPolicy`, on a route or its virtual host; how long a stream may take |
//! | `access_log` `template` `template_tls` | access logs and `%COMMAND%` templates |
//! | `address` `config_source` `matcher` `protocol` `regex_rewrite` `value` | what several of them share |
//! | `added_tlv` | TLVs of PROXY protocol headers to upstreams |
//! | `transport_socket` `tls` | what stands between a socket and the filters |
//! | `grpc_service` `metadata` | gRPC services that are asked for something |
//! | `secret_source` | where secrets come from that have a name |
//! | `data_source` | secrets: inline, from a file or a variable |
//! | `extension` | `Any`, and which extensions may be left out |
//! | `context` | where we are, what was wrong |

#![expect(deprecated, reason = "control planes still send deprecated fields")]

#[macro_use]
pub(crate) mod context;

mod access_log;
mod added_tlv;
pub(crate) mod address;
mod binding;
mod chain_matcher;
mod circuit_breakers;
mod client_certificate;
pub(crate) mod cluster;
pub(crate) mod cluster_dns;
mod cluster_http;
mod common_lb;
pub(crate) mod config_source;
mod connection_limit;
pub(crate) mod data_source;
mod endpoint;
pub(crate) mod extension;
mod filter_chain;
mod filter_state;
pub(crate) mod grpc_service;
mod hash_policy;
mod hashing;
mod header_edit;
mod health_check;
mod http_connection_manager;
mod http_filter;
mod labels;
mod latency;
mod least_request;
pub(crate) mod listener;
mod listener_filter;
mod load_balancing;
mod locality_lb;
mod matcher;
mod metadata;
mod name_source;
mod outcome_breaker;
mod peak_ewma;
mod protocol;
mod regex_rewrite;
mod reported_weights;
mod retry;
mod route;
mod route_action;
mod route_match;
pub(crate) mod secret_source;
mod shadow;
mod slow_start;
mod socket;
mod stateful_session;
mod subset;
mod tcp_proxy;
mod template;
mod template_tls;
#[cfg(test)]
mod tests;
mod timeout;
pub(crate) mod tls;
mod transport_socket;
mod upgrade;
pub(crate) mod value;
mod wrr_locality;

use std::fmt;

use prost::Message;
use xds_proto::Code;
use xds_proto::pb::envoy::config as pb;

use crate::config;
use crate::xds::resource::ReadSecret;

pub(crate) use context::Context;
pub(crate) use context::IsSet;
pub(crate) use context::unsupported;
pub use listener::Origin;

/// One field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// What kind of mistake it is.
    pub code: Code,
    /// Path inside the resource, in proto names: `virtual_hosts[0].routes[1].match.prefix`; empty
    /// is the resource itself.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            out.write_str(&self.reason)
        } else {
            write!(out, "{}: {}", self.field, self.reason)
        }
    }
}

/// A resource that cannot be used, with all reasons found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct DecodeError {
    /// The resource's name, empty if it could not even be read.
    pub resource: String,
    /// At least one.
    pub errors: Vec<FieldError>,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.resource)?;
        for (i, error) in self.errors.iter().enumerate() {
            write!(out, "{}{error}", if i == 0 { ": " } else { "; " })?;
        }
        Ok(())
    }
}

/// A usable value, and which of the set fields have no effect.
#[derive(Clone, Debug)]
pub struct Decoded<T> {
    /// The value.
    pub value: T,
    /// Fields that are set, are not supported and do no harm.
    pub warnings: Vec<FieldError>,
}

/// Reads a `Listener` of a control plane.
///
/// # Errors
/// Every field that is invalid, or unsupported and not harmless.
pub fn listener(bytes: &[u8]) -> Result<Decoded<config::Listener>, DecodeError> {
    let message: pb::listener::v3::Listener = parse(bytes)?;
    let name = message.name.clone();
    run(name, |context| {
        listener::decode(context, message, Origin::Dynamic)
    })
}

/// Reads a `Listener` that is already parsed, such as a static one of the bootstrap.
///
/// # Errors
/// As [`listener`].
pub fn listener_message(
    message: pb::listener::v3::Listener,
    origin: Origin,
) -> Result<Decoded<config::Listener>, DecodeError> {
    let name = message.name.clone();
    run(name, |context| listener::decode(context, message, origin))
}

/// Reads a `Cluster`.
///
/// # Errors
/// Every field that is invalid, or unsupported and not harmless.
pub fn cluster(bytes: &[u8]) -> Result<Decoded<config::Cluster>, DecodeError> {
    cluster_message(parse(bytes)?)
}

/// Reads a `Cluster` that is already parsed.
///
/// # Errors
/// As [`cluster`].
pub fn cluster_message(
    message: pb::cluster::v3::Cluster,
) -> Result<Decoded<config::Cluster>, DecodeError> {
    let name = message.name.clone();
    run(name, |context| cluster::decode(context, message))
}

/// Reads a `RouteConfiguration`.
///
/// # Errors
/// Every field that is invalid, or unsupported and not harmless.
pub fn route_config(bytes: &[u8]) -> Result<Decoded<config::RouteConfig>, DecodeError> {
    let message: pb::route::v3::RouteConfiguration = parse(bytes)?;
    let name = message.name.clone();
    run(name, |context| {
        // Envoy lets an inline table go without a name; one that is subscribed to has one.
        if message.name.is_empty() {
            context.reject("name", "must not be empty");
        }
        route::decode(context, message)
    })
}

/// Reads a `ClusterLoadAssignment`: the EDS name and the members.
///
/// # Errors
/// Every field that is invalid, or unsupported and not harmless.
pub fn endpoints(bytes: &[u8]) -> Result<Decoded<(config::Name, config::Endpoints)>, DecodeError> {
    let message: pb::endpoint::v3::ClusterLoadAssignment = parse(bytes)?;
    let name = message.cluster_name.clone();
    run(name.clone(), |context| {
        let members = endpoint::decode(context, message)?;
        Some((name.as_str().into(), members))
    })
}

/// Reads a `Secret`, and says where the files are that it was read from.
///
/// # Errors
/// Every field that is invalid, or unsupported and not harmless.
pub fn secret(bytes: &[u8]) -> Result<Decoded<(config::Name, ReadSecret)>, DecodeError> {
    let message: xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::Secret =
        parse(bytes)?;
    let resource = message.name.clone();
    let mut context = Context::following();
    let value = tls::secret::decode(&mut context, message);
    let value = value.map(|secret| (resource.as_str().into(), secret));
    context
        .finish(value)
        .map_err(|errors| DecodeError { resource, errors })
}

fn parse<M: Message + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    M::decode(bytes).map_err(|error| DecodeError {
        resource: String::new(),
        errors: vec![FieldError {
            code: Code::Value,
            field: String::new(),
            reason: error.to_string(),
        }],
    })
}

fn run<T>(
    resource: String,
    decode: impl FnOnce(&mut Context) -> Option<T>,
) -> Result<Decoded<T>, DecodeError> {
    let mut context = Context::default();
    let value = decode(&mut context);
    context
        .finish(value)
        .map_err(|errors| DecodeError { resource, errors })
}
