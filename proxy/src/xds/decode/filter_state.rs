//! `set_filter_state`, of requests and of connections: objects that hash policies go by.
//!
//! Nothing else here reads such objects. One of which no hash can be made is left out with a warning; one that
//! would change what happens to the connection is refused.

use xds_proto::pb::envoy::config::core::v3::SubstitutionFormatString;
use xds_proto::pb::envoy::extensions::filters::common::set_filter_state::v3::FilterStateValue;
use xds_proto::pb::envoy::extensions::filters::common::set_filter_state::v3::filter_state_value::Key;
use xds_proto::pb::envoy::extensions::filters::common::set_filter_state::v3::filter_state_value::SharedWithUpstream;
use xds_proto::pb::envoy::extensions::filters::common::set_filter_state::v3::filter_state_value::Value;
use xds_proto::pb::envoy::extensions::filters::http::set_filter_state::v3::Config as OfRequest;
use xds_proto::pb::envoy::extensions::filters::network::set_filter_state::v3::Config as OfConnection;

use super::Context;
use super::access_log;
use super::value;
use crate::config::access_log::Format;
use crate::config::access_log::Template;
use crate::config::filter_state::ConnectionState;
use crate::config::filter_state::StateValue;
use crate::config::limits;

/// Makes objects that can be hashed.
const HASHABLE: &str = "envoy.hashable_string";

/// Makes objects that cannot.
const TEXT: &str = "envoy.string";

/// Reads the HTTP filter.
pub(super) fn of_request(context: &mut Context, config: OfRequest) -> Vec<StateValue> {
    let OfRequest {
        on_request_headers,
        clear_route_cache,
    } = config;
    // The route would be looked for again.
    unsupported!(context, reject: clear_route_cache);
    objects(context, "on_request_headers", on_request_headers)
}

/// Reads the network filter.
pub(super) fn of_connection(context: &mut Context, config: OfConnection) -> ConnectionState {
    let OfConnection {
        on_new_connection,
        on_downstream_tls_handshake,
        on_downstream_data,
    } = config;
    unsupported!(context, reject: on_downstream_data);
    ConnectionState {
        at_first: objects(context, "on_new_connection", on_new_connection),
        after_handshake: objects(
            context,
            "on_downstream_tls_handshake",
            on_downstream_tls_handshake,
        ),
    }
}

fn objects(context: &mut Context, field: &str, values: Vec<FilterStateValue>) -> Vec<StateValue> {
    let most = limits::STATE_VALUES_MAX;
    if values.len() > most {
        context.reject(field, format!("has more than {most} objects"));
        return Vec::new();
    }
    context.each(field, values, object)
}

fn object(context: &mut Context, object: FilterStateValue) -> Option<StateValue> {
    #[expect(deprecated, reason = "every field is used or named")]
    let FilterStateValue {
        factory_key,
        read_only,
        shared_with_upstream,
        skip_if_empty,
        key,
        value,
    } = object;
    unsupported!(context, warn "has no effect, with Envoy neither": read_only);
    let shared = value::enumeration(context, "shared_with_upstream", shared_with_upstream);
    if shared.is_some_and(|shared: SharedWithUpstream| shared != SharedWithUpstream::None) {
        let reason = "has no effect, there are no internal connections";
        context.warn("shared_with_upstream", reason);
    }
    let key = key.map(|Key::ObjectKey(key)| key).unwrap_or_default();
    if key.is_empty() {
        context.reject("object_key", "must not be empty");
    }
    let text = match value {
        None => context.missing("format_string"),
        Some(Value::FormatString(format)) => {
            context.field("format_string", |context| text(context, format))
        }
    };
    let has_kind = has_hash(
        context,
        if factory_key.is_empty() {
            &key
        } else {
            &factory_key
        },
    );
    let (text, omits_empty) = text?;
    has_kind.then(|| StateValue {
        key: key.into(),
        text,
        omits_empty,
        skips_empty: skip_if_empty,
    })
}

fn has_hash(context: &mut Context, factory: &str) -> bool {
    match factory {
        HASHABLE => return true,
        "" => {} // it was told that there is no key
        TEXT => context.warn(
            "factory_key",
            format!("{TEXT} is left out: only hash policies read filter state here, and they need {HASHABLE}"),
        ),
        other => context.reject_unsupported(
            "factory_key",
            format!("{other} is not supported, only {HASHABLE} is"),
        ),
    }
    false
}

/// A text, and whether commands without a value give nothing in it.
fn text(context: &mut Context, mut format: SubstitutionFormatString) -> Option<(Template, bool)> {
    let omits_empty = std::mem::take(&mut format.omit_empty_values);
    match access_log::log_format(context, format)? {
        Format::Text(template) => Some((template, omits_empty)),
        Format::Json { .. } => context.unsupported("json_format", "only a text can be hashed here"),
    }
}
