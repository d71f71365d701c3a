//! Scalars: durations, ports, header names, percentages, regular expressions, wrapped numbers.

use std::time::Duration;

use http::HeaderName;
use http::HeaderValue;
use regex::bytes::Regex;
use regex::bytes::RegexBuilder;
use xds_proto::pb::envoy::r#type::matcher::v3::RegexMatcher;
use xds_proto::pb::envoy::r#type::matcher::v3::regex_matcher::EngineType;
use xds_proto::pb::envoy::r#type::matcher::v3::regex_matcher::GoogleRe2;
use xds_proto::pb::envoy::r#type::v3::FractionalPercent;
use xds_proto::pb::envoy::r#type::v3::Percent;
use xds_proto::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use xds_proto::pb::google::protobuf::BoolValue;
use xds_proto::pb::google::protobuf::Duration as PbDuration;
use xds_proto::pb::google::protobuf::UInt32Value;

use super::Context;
use crate::config::limits;

/// `google.protobuf.Duration` is limited to about 10,000 years.
const DURATION_SECONDS_MAX: u64 = 315_576_000_000;

/// True only if it is there and true.
pub(crate) fn is_true(value: Option<BoolValue>) -> bool {
    value.is_some_and(|value| value.value)
}

/// True only if it is there and false.
pub(crate) fn is_false(value: Option<BoolValue>) -> bool {
    value.is_some_and(|value| !value.value)
}

/// A duration of zero or more.
pub(crate) fn duration(
    context: &mut Context,
    field: &str,
    value: Option<PbDuration>,
) -> Option<Duration> {
    let PbDuration { seconds, nanos } = value?;
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
        return context.refuse(field, "must not be negative");
    };
    if seconds > DURATION_SECONDS_MAX || nanos >= 1_000_000_000 {
        return context.refuse(field, "is not a valid duration");
    }
    Some(Duration::new(seconds, nanos))
}

/// A duration between these, inclusive; `default` if it is not said.
pub(crate) fn duration_within(
    context: &mut Context,
    (field, value): (&str, Option<PbDuration>),
    default: Duration,
    (least, most): (Duration, Duration),
) -> Option<Duration> {
    if value.is_none() {
        return Some(default);
    }
    let found = duration(context, field, value)?;
    if found < least || found > most {
        return context.refuse(field, format!("must be between {least:?} and {most:?}"));
    }
    Some(found)
}

/// A duration above zero.
pub(crate) fn positive_duration(
    context: &mut Context,
    field: &str,
    value: Option<PbDuration>,
) -> Option<Duration> {
    let value = duration(context, field, value)?;
    if value.is_zero() {
        return context.refuse(field, "must be greater than zero");
    }
    Some(value)
}

/// A timeout in Envoy's notation: absent is the default, zero is none.
pub(crate) fn timeout(
    context: &mut Context,
    field: &str,
    value: Option<PbDuration>,
    default: Option<Duration>,
) -> Option<Duration> {
    if value.is_none() {
        return default;
    }
    duration(context, field, value).filter(|value| !value.is_zero())
}

/// A wrapped number inside the bounds, both included.
pub(crate) fn number(
    context: &mut Context,
    field: &str,
    value: Option<UInt32Value>,
    bounds: (u32, u32),
) -> Option<u32> {
    let value = value?.value;
    if value < bounds.0 || value > bounds.1 {
        let (least, most) = bounds;
        return context.refuse(field, format!("{value} is not within {least} and {most}"));
    }
    Some(value)
}

/// `per_connection_buffer_limit_bytes`; zero is none, as in Envoy.
pub(crate) fn buffer_limit(value: Option<UInt32Value>) -> usize {
    match value.map(|value| value.value) {
        None => limits::CONNECTION_BUFFER_BYTES,
        Some(0) => usize::MAX,
        Some(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
    }
}

/// A number of the schema's enumeration.
pub(crate) fn enumeration<E: TryFrom<i32>>(
    context: &mut Context,
    field: &str,
    value: i32,
) -> Option<E> {
    E::try_from(value).map_or_else(
        |_| context.refuse(field, format!("{value} is not defined")),
        Some,
    )
}

/// A TCP port that can be connected to.
pub(crate) fn port(context: &mut Context, field: &str, value: u32) -> Option<u16> {
    match u16::try_from(value) {
        Ok(port) if port > 0 => Some(port),
        _ => context.refuse(field, format!("{value} is not within 1 and 65535")),
    }
}

/// The name of an ordinary header.
pub(crate) fn header_name(context: &mut Context, field: &str, name: &str) -> Option<HeaderName> {
    HeaderName::from_bytes(name.as_bytes()).map_or_else(
        |_| context.refuse(field, format!("{name:?} is not a header name")),
        Some,
    )
}

/// The value of a header.
pub(crate) fn header_value(context: &mut Context, field: &str, value: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(value).map_or_else(
        |_| context.refuse(field, "has characters no header may have"),
        Some,
    )
}

/// Text that will stand in a request or response head: no control characters.
pub(crate) fn head_text(context: &mut Context, field: &str, text: String) -> Option<Box<str>> {
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return context.refuse(field, "has characters no header may have");
    }
    Some(text.into_boxed_str())
}

/// A percentage, as a part of 1.
pub(crate) fn share(context: &mut Context, Percent { value }: Percent) -> Option<f64> {
    if (0.0..=100.0).contains(&value) {
        return Some(value / 100.0);
    }
    context.refuse("value", format!("{value} is not within 0 and 100"))
}

/// A share of requests as numerator of a million; more than all counts as all.
pub(crate) fn per_million(context: &mut Context, value: FractionalPercent) -> Option<u32> {
    let FractionalPercent {
        numerator,
        denominator,
    } = value;
    let factor = match enumeration(context, "denominator", denominator)? {
        DenominatorType::Hundred => 10_000,
        DenominatorType::TenThousand => 100,
        DenominatorType::Million => 1,
    };
    Some(numerator.saturating_mul(factor).min(1_000_000))
}

/// A regular expression that must match the whole text, as RE2's full match does.
pub(crate) fn regex(context: &mut Context, matcher: RegexMatcher) -> Option<Regex> {
    compiled(context, matcher, anchored)
}

/// A regular expression that may match anywhere in a text.
pub(crate) fn searched_regex(context: &mut Context, matcher: RegexMatcher) -> Option<Regex> {
    compiled(context, matcher, build)
}

fn compiled(
    context: &mut Context,
    matcher: RegexMatcher,
    compile: fn(&str) -> Result<Regex, regex::Error>,
) -> Option<Regex> {
    let RegexMatcher { regex, engine_type } = matcher;
    // Deprecated; it names the only engine there is.
    if let Some(EngineType::GoogleRe2(GoogleRe2 { max_program_size })) = engine_type {
        unsupported!(context, warn "our own limit holds": max_program_size);
    }
    if regex.is_empty() {
        return context.refuse("regex", "must not be empty");
    }
    match compile(&regex) {
        Ok(regex) => Some(regex),
        Err(error) => context.refuse("regex", one_line(&error)),
    }
}

fn anchored(pattern: &str) -> Result<Regex, regex::Error> {
    if pattern.contains(')') {
        // `a)|(b` is invalid by itself but would escape the group below, and with it the anchors.
        build(pattern)?;
    }
    build(&format!(r"\A(?:{pattern})\z"))
}

/// RE2's `\d`, `\w`, `\b` are ASCII, so Unicode is off unless the pattern (`\pL`) needs it.
fn build(pattern: &str) -> Result<Regex, regex::Error> {
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(limits::REGEX_BYTES_MAX);
    builder
        .unicode(false)
        .build()
        .or_else(|_| builder.unicode(true).build())
}

/// The crate's message draws an arrow under the pattern; its last line says what is wrong.
fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines()
        .last()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned()
}
