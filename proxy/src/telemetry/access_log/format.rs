//! Templates and whole entries, as text and as JSON.
//!
//! Nothing here allocates but the growth of the output buffer, which its owner keeps, and what is
//! computed of certificates.

use std::fmt::Display;
use std::io::Write;

use crate::config::access_log::Format;
use crate::config::access_log::JsonValue;
use crate::config::access_log::Template;
use crate::config::access_log::TemplatePart;
use crate::telemetry::access_log::command::Value;
use crate::telemetry::access_log::escape;
use crate::telemetry::access_log::record::ExchangeRecord;
use crate::telemetry::access_log::time;
use crate::telemetry::response_flag::ResponseFlag;
use crate::telemetry::response_flag::ResponseFlags;

/// Envoy's format where none is configured.
pub const DEFAULT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" ",
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n",
);

/// Where the bytes of a value go, and what that place can bear.
#[derive(Clone, Copy)]
enum Place {
    /// A header value: nothing is escaped, the caller checks what it gets.
    Header,
    /// Inside a JSON string.
    Json,
    /// A line of text.
    Text,
}

/// Appends one entry; a JSON entry ends with a line feed, a text one as its template says.
pub fn format(format: &Format, record: &ExchangeRecord<'_>, out: &mut Vec<u8>) {
    match format {
        Format::Json { fields, omit_empty } => {
            object(fields, *omit_empty, record, out);
            out.push(b'\n');
        }
        Format::Text(template) => parts(template, record, Place::Text, b"-", out),
    }
}

/// Appends what a header edit's template gives; a command without a value gives nothing.
pub fn eval(template: &Template, record: &ExchangeRecord<'_>, out: &mut Vec<u8>) {
    parts(template, record, Place::Header, b"", out);
}

/// Appends what a template gives as it is; a command without a value gives `-`.
pub fn plain(template: &Template, record: &ExchangeRecord<'_>, out: &mut Vec<u8>) {
    parts(template, record, Place::Header, b"-", out);
}

fn parts(
    template: &Template,
    record: &ExchangeRecord<'_>,
    place: Place,
    absent: &[u8],
    out: &mut Vec<u8>,
) {
    for part in &template.parts {
        match part {
            TemplatePart::Literal(literal) if matches!(place, Place::Json) => {
                escape::json(literal.as_bytes(), out);
            }
            TemplatePart::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
            TemplatePart::Command(command, bytes_max) => {
                let value = Value::of(command, record);
                if !append(value, place, *bytes_max, out) {
                    out.extend_from_slice(absent);
                }
            }
        }
    }
}

/// Appends a value, and says whether there was one.
fn append(value: Value<'_>, place: Place, bytes_max: Option<usize>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    match value {
        Value::Absent => return false,
        Value::Flags(flags) => append_flags(flags, out, |flag| flag.short()),
        Value::FlagsLong(flags) => append_flags(flags, out, |flag| flag.long()),
        Value::Ip(ip) => append_display(ip, out),
        Value::Number(number) => {
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        }
        Value::Object(members) if matches!(place, Place::Json) => {
            let mut text = Vec::new(); // rare: part of a longer string
            append_object(&members, &mut text);
            escape::json(&text, out);
        }
        Value::Object(members) => append_object(&members, out),
        Value::Socket(socket) => append_display(socket, out),
        Value::Time(time, format) => {
            time::write(time, format, out);
            if format.is_some() && matches!(place, Place::Json) {
                escape::json_tail(start, out);
            }
        }
        // The bound is on the value, not on its escaped form.
        Value::Text(bytes) => {
            let bytes_max = bytes_max.unwrap_or(usize::MAX);
            append_text(bytes.get(..bytes_max).unwrap_or(&bytes), place, out);
            return true;
        }
    }
    if let Some(bytes_max) = bytes_max {
        out.truncate(start.saturating_add(bytes_max));
    }
    true
}

pub(super) fn append_object(members: &[(&str, &str)], out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (key, value)) in members.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        for (text, end) in [(key, "\":"), (value, "\"")] {
            out.push(b'"');
            escape::json(text.as_bytes(), out);
            out.extend_from_slice(end.as_bytes());
        }
    }
    out.push(b'}');
}

fn append_text(bytes: &[u8], place: Place, out: &mut Vec<u8>) {
    match place {
        Place::Header => out.extend_from_slice(bytes),
        Place::Json => escape::json(bytes, out),
        Place::Text => escape::text(bytes, out),
    }
}

fn append_display(value: impl Display, out: &mut Vec<u8>) {
    write!(out, "{value}").expect("a vector takes every byte");
}

fn append_flags(flags: ResponseFlags, out: &mut Vec<u8>, name: fn(ResponseFlag) -> &'static str) {
    if flags.is_empty() {
        out.push(b'-');
    }
    for (at, flag) in flags.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name(flag).as_bytes());
    }
}

fn object(
    fields: &[(Box<str>, JsonValue)],
    omit_empty: bool,
    record: &ExchangeRecord<'_>,
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    let mut first = true;
    for (key, value) in fields {
        let before = out.len();
        if !first {
            out.push(b',');
        }
        out.push(b'"');
        escape::json(key.as_bytes(), out);
        out.extend_from_slice(b"\":");
        if member(value, omit_empty, record, out) {
            first = false;
        } else {
            out.truncate(before);
        }
    }
    out.push(b'}');
}

/// Appends a value, and says whether its member is to stay.
fn member(
    value: &JsonValue,
    omit_empty: bool,
    record: &ExchangeRecord<'_>,
    out: &mut Vec<u8>,
) -> bool {
    match value {
        JsonValue::Bool(true) => out.extend_from_slice(b"true"),
        JsonValue::Bool(false) => out.extend_from_slice(b"false"),
        JsonValue::Null => out.extend_from_slice(b"null"),
        JsonValue::Number(number) if number.is_finite() => append_display(number, out),
        // JSON has no other numbers.
        JsonValue::Number(_) => out.extend_from_slice(b"null"),
        JsonValue::Object(fields) => object(fields, omit_empty, record, out),
        JsonValue::Template(template) => return json_template(template, omit_empty, record, out),
    }
    true
}

/// A single command keeps its type; anything more is a string.
fn json_template(
    template: &Template,
    omit_empty: bool,
    record: &ExchangeRecord<'_>,
    out: &mut Vec<u8>,
) -> bool {
    if let [TemplatePart::Command(command, bytes_max)] = template.parts.as_slice() {
        let value = Value::of(command, record);
        match value {
            Value::Absent if omit_empty => return false,
            Value::Absent => out.extend_from_slice(b"null"),
            Value::Object(members) => append_object(&members, out),
            Value::Number(_) => {
                append(value, Place::Json, None, out);
            }
            _ => {
                out.push(b'"');
                append(value, Place::Json, *bytes_max, out);
                out.push(b'"');
            }
        }
        return true;
    }
    let absent: &[u8] = if omit_empty { b"" } else { b"-" };
    out.push(b'"');
    parts(template, record, Place::Json, absent, out);
    out.push(b'"');
    true
}
