//! Header edits of a route table, a virtual host, a route or a weighted cluster.

use http::HeaderName;
use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;

use super::Context;
use super::IsSet;
use super::template;
use super::value;
use crate::config::access_log::Template;
use crate::config::access_log::TemplatePart;
use crate::config::route::AppendAction;
use crate::config::route::HeaderAdd;
use crate::config::route::HeaderEdit;
use crate::config::route::HeaderEdits;

/// Envoy's bound of one list.
const ADDITIONS_MAX: usize = 1000;

/// Envoy's bound of a name or a value, bytes.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// The four fields that every level has.
pub(crate) struct Sources {
    pub(crate) request_add: Vec<core::HeaderValueOption>,
    pub(crate) request_remove: Vec<String>,
    pub(crate) response_add: Vec<core::HeaderValueOption>,
    pub(crate) response_remove: Vec<String>,
}

/// Reads the edits of one level.
pub(crate) fn decode(context: &mut Context, sources: Sources) -> HeaderEdits {
    let Sources {
        request_add,
        request_remove,
        response_add,
        response_remove,
    } = sources;
    HeaderEdits {
        request: HeaderEdit {
            add: additions(context, "request_headers_to_add", request_add),
            remove: removals(context, "request_headers_to_remove", request_remove),
        },
        response: HeaderEdit {
            add: additions(context, "response_headers_to_add", response_add),
            remove: removals(context, "response_headers_to_remove", response_remove),
        },
    }
}

/// Reads edits of a request alone.
pub(crate) fn of_request(
    context: &mut Context,
    add: Vec<core::HeaderValueOption>,
    remove: Vec<String>,
) -> HeaderEdit {
    HeaderEdit {
        add: additions(context, "request_headers_to_add", add),
        remove: removals(context, "request_headers_to_remove", remove),
    }
}

/// Reads what a gRPC call has besides.
pub(crate) fn metadata(context: &mut Context, add: Vec<core::HeaderValueOption>) -> HeaderEdit {
    HeaderEdit {
        add: additions(context, "initial_metadata", add),
        remove: Vec::new(),
    }
}

fn additions(
    context: &mut Context,
    field: &str,
    options: Vec<core::HeaderValueOption>,
) -> Vec<HeaderAdd> {
    if options.len() > ADDITIONS_MAX {
        context.reject(field, format!("has more than {ADDITIONS_MAX} entries"));
        return Vec::new();
    }
    context.each(field, options, addition)
}

fn removals(context: &mut Context, field: &str, names: Vec<String>) -> Vec<HeaderName> {
    context.each(field, names, |context, name| modifiable(context, "", &name))
}

/// Routing and framing stand on the pseudo headers and Host: only rewrites may change those.
fn modifiable(context: &mut Context, field: &str, name: &str) -> Option<HeaderName> {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return context.refuse(field, format!("{name:?} cannot be edited"));
    }
    value::header_name(context, field, name)
}

fn addition(context: &mut Context, option: core::HeaderValueOption) -> Option<HeaderAdd> {
    let core::HeaderValueOption {
        header,
        append,
        append_action,
        keep_empty_value,
    } = option;
    let action = value::enumeration(context, "append_action", append_action)?;
    let action = match (append.map(|append| append.value), action) {
        (None, action) => self::action(action),
        // The deprecated field, from before there were four actions.
        (Some(true), HeaderAppendAction::AppendIfExistsOrAdd) => AppendAction::AppendIfExistsOrAdd,
        (Some(false), HeaderAppendAction::AppendIfExistsOrAdd) => {
            AppendAction::OverwriteIfExistsOrAdd
        }
        (Some(_), _) => return context.refuse("append", "stands beside append_action"),
    };
    let (name, value) = context.required("header", header, self::header)?;
    Some(HeaderAdd {
        name,
        value,
        action,
        keep_empty_value,
    })
}

fn action(action: HeaderAppendAction) -> AppendAction {
    match action {
        HeaderAppendAction::AppendIfExistsOrAdd => AppendAction::AppendIfExistsOrAdd,
        HeaderAppendAction::AddIfAbsent => AppendAction::AddIfAbsent,
        HeaderAppendAction::OverwriteIfExistsOrAdd => AppendAction::OverwriteIfExistsOrAdd,
        HeaderAppendAction::OverwriteIfExists => AppendAction::OverwriteIfExists,
    }
}

fn header(context: &mut Context, header: core::HeaderValue) -> Option<(HeaderName, Template)> {
    let core::HeaderValue {
        key,
        value,
        raw_value,
    } = header;
    let name = modifiable(context, "key", &key);
    if value.is_set() && raw_value.is_set() {
        context.reject("raw_value", "stands beside value");
    }
    let (field, value) = match String::from_utf8(raw_value) {
        Ok(raw) if raw.is_empty() => ("value", value),
        Ok(raw) => ("raw_value", raw),
        Err(_) => return context.unsupported("raw_value", "only UTF-8 is supported"),
    };
    if value.len() > HEADER_BYTES_MAX || key.len() > HEADER_BYTES_MAX {
        return context.refuse(field, format!("is longer than {HEADER_BYTES_MAX} bytes"));
    }
    let template = match template::parse(&value) {
        Ok(template) => template,
        Err(error) => return context.refuse(field, error.to_string()),
    };
    for part in &template.parts {
        if let TemplatePart::Literal(text) = part {
            value::header_value(context, field, text)?;
        }
    }
    Some((name?, template))
}
