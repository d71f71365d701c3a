//! Access logs: file, standard output and standard error, in text or JSON.

use std::path::PathBuf;

use xds_proto::pb::envoy::config::accesslog::v3 as pb;
use xds_proto::pb::envoy::config::accesslog::v3::access_log::ConfigType;
use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::data_source::Specifier;
use xds_proto::pb::envoy::config::core::v3::substitution_format_string::Format as PbFormat;
use xds_proto::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use xds_proto::pb::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat as FileFormat;
use xds_proto::pb::envoy::extensions::access_loggers::stream::v3::StderrAccessLog;
use xds_proto::pb::envoy::extensions::access_loggers::stream::v3::StdoutAccessLog;
use xds_proto::pb::envoy::extensions::access_loggers::stream::v3::stderr_access_log::AccessLogFormat as StderrFormat;
use xds_proto::pb::envoy::extensions::access_loggers::stream::v3::stdout_access_log::AccessLogFormat as StdoutFormat;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::google::protobuf::Struct;
use xds_proto::pb::google::protobuf::Value;
use xds_proto::pb::google::protobuf::value::Kind;

use super::Context;
use super::extension;
use super::template;
use crate::config::access_log::AccessLog;
use crate::config::access_log::Format;
use crate::config::access_log::JsonValue;
use crate::config::access_log::Sink;
use crate::config::access_log::Template;

/// What Envoy writes when no format is given, so that existing parsers keep working.
const DEFAULT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" ",
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n",
);

/// Objects inside objects of a JSON format.
const JSON_DEPTH_MAX: usize = 16;

/// Reads a list of access logs; those we cannot write are left out, with a warning.
pub(crate) fn decode(
    context: &mut Context,
    field: &str,
    logs: Vec<pb::AccessLog>,
) -> Vec<AccessLog> {
    context.each(field, logs, access_log)
}

fn access_log(context: &mut Context, log: pb::AccessLog) -> Option<AccessLog> {
    let pb::AccessLog {
        name,
        filter,
        config_type,
    } = log;
    // Entries that were to be left out may hold what nobody wants on disk.
    unsupported!(context, reject: filter);
    match config_type {
        Some(ConfigType::TypedConfig(any)) => {
            context.field("typed_config", |context| logger(context, &any))
        }
        None => context.refuse("name", format!("{name:?} needs a typed_config")),
    }
}

fn logger(context: &mut Context, any: &Any) -> Option<AccessLog> {
    if extension::holds::<FileAccessLog>(any) {
        return extension::unpack(context, any).and_then(|log| file(context, log));
    }
    let (sink, format) = if extension::holds::<StdoutAccessLog>(any) {
        let StdoutAccessLog { access_log_format } = extension::unpack(context, any)?;
        (
            Sink::Stdout,
            access_log_format.map(|StdoutFormat::LogFormat(format)| format),
        )
    } else if extension::holds::<StderrAccessLog>(any) {
        let StderrAccessLog { access_log_format } = extension::unpack(context, any)?;
        (
            Sink::Stderr,
            access_log_format.map(|StderrFormat::LogFormat(format)| format),
        )
    } else {
        // It would only have observed.
        context.warn(
            "",
            format!(
                "{} is not supported, not written",
                extension::type_name(any)
            ),
        );
        return None;
    };
    let format = match format {
        Some(format) => context.field("log_format", |context| log_format(context, format))?,
        None => default_format(context)?,
    };
    Some(AccessLog { sink, format })
}

fn file(context: &mut Context, log: FileAccessLog) -> Option<AccessLog> {
    let FileAccessLog {
        path,
        access_log_format,
    } = log;
    let format = match access_log_format {
        None => default_format(context),
        Some(FileFormat::Format(text)) if text.is_empty() => default_format(context),
        Some(FileFormat::Format(text)) => text_format(context, "format", &text),
        Some(FileFormat::JsonFormat(fields)) => {
            context.field("json_format", |context| json(context, fields, false))
        }
        Some(FileFormat::TypedJsonFormat(fields)) => {
            context.field("typed_json_format", |context| json(context, fields, false))
        }
        Some(FileFormat::LogFormat(format)) => {
            context.field("log_format", |context| log_format(context, format))
        }
    };
    if path.is_empty() {
        return context.refuse("path", "must not be empty");
    }
    let sink = match path.as_str() {
        "/dev/stdout" => Sink::Stdout,
        "/dev/stderr" => Sink::Stderr,
        path => Sink::File(PathBuf::from(path)),
    };
    Some(AccessLog {
        sink,
        format: format?,
    })
}

fn default_format(context: &mut Context) -> Option<Format> {
    text_format(context, "log_format", DEFAULT_FORMAT)
}

fn text_format(context: &mut Context, field: &str, text: &str) -> Option<Format> {
    template(context, field, text).map(Format::Text)
}

fn template(context: &mut Context, field: &str, text: &str) -> Option<Template> {
    template::parse(text).map_or_else(|error| context.refuse(field, error.to_string()), Some)
}

/// Reads a format.
pub(super) fn log_format(
    context: &mut Context,
    format: core::SubstitutionFormatString,
) -> Option<Format> {
    let core::SubstitutionFormatString {
        omit_empty_values,
        content_type,
        formatters,
        json_format_options: _, // keys are sorted in any case
        format,
    } = format;
    // Extra formatters bring extra commands; one that is used fails as an unknown command.
    unsupported!(context, warn: content_type, formatters);
    match format {
        None => context.refuse(
            "",
            "needs a format such as text_format_source or json_format",
        ),
        Some(PbFormat::JsonFormat(fields)) => context.field("json_format", |context| {
            json(context, fields, omit_empty_values)
        }),
        Some(other) => {
            unsupported!(context, warn "only json_format can omit values": omit_empty_values);
            text(context, other)
        }
    }
}

fn text(context: &mut Context, format: PbFormat) -> Option<Format> {
    match format {
        PbFormat::TextFormat(text) => text_format(context, "text_format", &text),
        PbFormat::TextFormatSource(source) => {
            context.field("text_format_source", |context| text_source(context, source))
        }
        PbFormat::JsonFormat(fields) => {
            context.field("json_format", |context| json(context, fields, false))
        }
    }
}

fn text_source(context: &mut Context, source: core::DataSource) -> Option<Format> {
    let core::DataSource {
        watched_directory,
        specifier,
    } = source;
    unsupported!(context, warn: watched_directory);
    match specifier {
        Some(Specifier::InlineString(text)) => text_format(context, "inline_string", &text),
        Some(Specifier::InlineBytes(bytes)) => match String::from_utf8(bytes) {
            Ok(text) => text_format(context, "inline_bytes", &text),
            Err(_) => context.refuse("inline_bytes", "is not UTF-8"),
        },
        Some(Specifier::Filename(_)) => {
            context.unsupported("filename", "only inline data is supported")
        }
        Some(Specifier::EnvironmentVariable(_)) => {
            context.unsupported("environment_variable", "only inline data is supported")
        }
        None => context.refuse("", "needs inline_string or inline_bytes"),
    }
}

fn json(context: &mut Context, fields: Struct, omit_empty: bool) -> Option<Format> {
    let fields = object(context, fields, 0)?;
    Some(Format::Json { fields, omit_empty })
}

/// `Struct` has no order; sorted keys make the same entry every time.
fn object(
    context: &mut Context,
    object: Struct,
    depth: usize,
) -> Option<Vec<(Box<str>, JsonValue)>> {
    if depth >= JSON_DEPTH_MAX {
        return context.refuse("", format!("is nested deeper than {JSON_DEPTH_MAX}"));
    }
    let Struct { fields } = object;
    let count = fields.len();
    let mut fields: Vec<_> = fields.into_iter().collect();
    fields.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    let mut members = Vec::with_capacity(count);
    for (key, value) in fields {
        let value = context.field(&key, |context| json_value(context, value, depth));
        members.extend(value.map(|value| (key.into(), value)));
    }
    (members.len() == count).then_some(members)
}

fn json_value(context: &mut Context, value: Value, depth: usize) -> Option<JsonValue> {
    let Value { kind } = value;
    Some(match kind {
        None | Some(Kind::NullValue(_)) => JsonValue::Null,
        Some(Kind::BoolValue(value)) => JsonValue::Bool(value),
        Some(Kind::NumberValue(value)) => JsonValue::Number(value),
        Some(Kind::StringValue(text)) => JsonValue::Template(template(context, "", &text)?),
        Some(Kind::StructValue(inner)) => JsonValue::Object(object(context, inner, depth + 1)?),
        Some(Kind::ListValue(_)) => return context.unsupported("", "lists are not supported"),
    })
}
