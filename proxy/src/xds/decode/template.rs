//! Parser of `%COMMAND(ARGUMENT):LENGTH%` templates, Envoy's substitution format.
//!
//! `%%` is a percent sign. An argument reaches to the next `)` and may hold percent signs. Unknown
//! commands are errors that name the command: text that silently stays empty helps nobody.

use http::HeaderName;

use super::template_tls;
use crate::config::access_log::Command;
use crate::config::access_log::FilterState;
use crate::config::access_log::Template;
use crate::config::access_log::TemplatePart;
use crate::downstream::TLV_STATE;

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    /// A command with an argument that takes none, or the other way round.
    #[error("%{command}% {problem}")]
    Argument {
        /// Its name.
        command: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The text between percent signs is not of the form `NAME(ARGUMENT):LENGTH`.
    #[error(
        "expected a command at byte {at}: %NAME(ARGUMENT):LENGTH% (a percent sign is written %%)"
    )]
    Syntax {
        /// Where the command begins.
        at: usize,
    },
    /// A command we do not have.
    #[error("%{command}% is not supported")]
    Unknown {
        /// Its name.
        command: String,
    },
}

/// Parses a template.
///
/// # Errors
/// The first command that cannot be used.
pub(crate) fn parse(text: &str) -> Result<Template, TemplateError> {
    let mut parts = Parts::default();
    let mut rest = text;
    while let Some((literal, after)) = rest.split_once('%') {
        parts.literal.push_str(literal);
        if let Some(after) = after.strip_prefix('%') {
            parts.literal.push('%');
            rest = after;
            continue;
        }
        let (raw, after) = split_command(after).ok_or(TemplateError::Syntax {
            at: text.len() - after.len() - 1,
        })?;
        rest = after;
        parts.push(command(&raw)?, raw.length);
    }
    parts.literal.push_str(rest);
    Ok(parts.finish())
}

#[derive(Default)]
struct Parts {
    done: Vec<TemplatePart>,
    literal: String,
}

impl Parts {
    fn push(&mut self, command: Command, length: Option<usize>) {
        self.flush();
        self.done.push(TemplatePart::Command(command, length));
    }

    fn flush(&mut self) {
        if !self.literal.is_empty() {
            let literal = std::mem::take(&mut self.literal);
            self.done.push(TemplatePart::Literal(literal.into()));
        }
    }

    fn finish(mut self) -> Template {
        self.flush();
        Template { parts: self.done }
    }
}

struct Raw<'a> {
    name: &'a str,
    argument: Option<&'a str>,
    length: Option<usize>,
}

impl Raw<'_> {
    fn problem(&self, problem: &'static str) -> TemplateError {
        TemplateError::Argument {
            command: self.name.to_owned(),
            problem,
        }
    }
}

/// Takes `NAME(ARGUMENT):LENGTH%` from the front.
fn split_command(text: &str) -> Option<(Raw<'_>, &str)> {
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let end = text.find(|c| !is_name(c))?;
    let (name, rest) = text.split_at_checked(end)?;
    let (argument, rest) = match rest.strip_prefix('(') {
        Some(rest) => rest
            .split_once(')')
            .map(|(argument, rest)| (Some(argument), rest))?,
        None => (None, rest),
    };
    let (length, rest) = match rest.strip_prefix(':') {
        Some(rest) => {
            let (digits, rest) = rest.split_once('%')?;
            // `parse` alone would take a plus sign.
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            (Some(digits.parse().ok().filter(|_| is_number)?), rest)
        }
        None => (None, rest.strip_prefix('%')?),
    };
    if name.is_empty() {
        return None;
    }
    Some((
        Raw {
            name,
            argument,
            length,
        },
        rest,
    ))
}

fn command(raw: &Raw<'_>) -> Result<Command, TemplateError> {
    match raw.name {
        "REQ" => {
            let (name, alternative) = header_names(raw, true)?;
            return Ok(Command::Req { name, alternative });
        }
        "RESP" => {
            let (name, alternative) = header_names(raw, false)?;
            return Ok(Command::Resp { name, alternative });
        }
        "TRAILER" => {
            let (name, alternative) = header_names(raw, false)?;
            return Ok(Command::Trailer { name, alternative });
        }
        "DYNAMIC_METADATA" => return dynamic_metadata(raw),
        "FILTER_STATE" => return filter_state(raw),
        "START_TIME" => {
            let format = raw.argument.filter(|format| !format.is_empty());
            return Ok(Command::StartTime(format.map(Into::into)));
        }
        _ => {}
    }
    if let Some(command) = template_tls::with_format(raw.name, raw.argument) {
        return Ok(command);
    }
    let known = plain(raw.name).or_else(|| template_tls::plain(raw.name));
    let Some(command) = known else {
        return Err(TemplateError::Unknown {
            command: raw.name.to_owned(),
        });
    };
    if raw.argument.is_some_and(|argument| !argument.is_empty()) {
        return Err(raw.problem("takes no argument"));
    }
    Ok(command)
}

fn plain(name: &str) -> Option<Command> {
    Some(match name {
        "ACCESS_LOG_TYPE" => Command::AccessLogType,
        "BYTES_RECEIVED" => Command::BytesReceived,
        "BYTES_SENT" => Command::BytesSent,
        "CONNECTION_ID" => Command::ConnectionId,
        "CONNECTION_TERMINATION_DETAILS" => Command::ConnectionTerminationDetails,
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Command::DownstreamDirectRemoteAddress,
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
            Command::DownstreamDirectRemoteAddressWithoutPort
        }
        "DOWNSTREAM_LOCAL_ADDRESS" => Command::DownstreamLocalAddress,
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Command::DownstreamLocalAddressWithoutPort,
        "DOWNSTREAM_LOCAL_PORT" => Command::DownstreamLocalPort,
        "DOWNSTREAM_REMOTE_ADDRESS" => Command::DownstreamRemoteAddress,
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Command::DownstreamRemoteAddressWithoutPort,
        "DOWNSTREAM_REMOTE_PORT" => Command::DownstreamRemotePort,
        "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => Command::DownstreamTransportFailureReason,
        "DURATION" => Command::Duration,
        "HOSTNAME" => Command::Hostname,
        "PROTOCOL" => Command::Protocol,
        "REQUESTED_SERVER_NAME" => Command::RequestedServerName,
        "REQUEST_DURATION" => Command::RequestDuration,
        "REQUEST_HEADERS_BYTES" => Command::RequestHeadersBytes,
        "RESPONSE_CODE" => Command::ResponseCode,
        "RESPONSE_CODE_DETAILS" => Command::ResponseCodeDetails,
        "RESPONSE_DURATION" => Command::ResponseDuration,
        "RESPONSE_FLAGS" => Command::ResponseFlags,
        "RESPONSE_FLAGS_LONG" => Command::ResponseFlagsLong,
        "RESPONSE_TX_DURATION" => Command::ResponseTxDuration,
        "ROUTE_NAME" => Command::RouteName,
        // The second is the name before alt_stat_name, which we never put here.
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Command::UpstreamCluster,
        "UPSTREAM_HOST" => Command::UpstreamHost,
        "UPSTREAM_LOCAL_ADDRESS" => Command::UpstreamLocalAddress,
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Command::UpstreamRequestAttemptCount,
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => Command::UpstreamTransportFailureReason,
        "VIRTUAL_CLUSTER_NAME" => Command::Nothing, // there are none
        "VIRTUAL_HOST_NAME" => Command::VirtualHostName,
        _ => return None,
    })
}

/// `NAMESPACE` or `NAMESPACE:KEY`; what goes deeper finds nothing, because no value here is an object.
fn dynamic_metadata(raw: &Raw<'_>) -> Result<Command, TemplateError> {
    let Some(argument) = raw.argument.filter(|argument| !argument.is_empty()) else {
        return Err(raw.problem("needs a namespace"));
    };
    let (namespace, key) = match argument.split_once(':') {
        Some((_, deeper)) if deeper.contains(':') => return Ok(Command::Nothing),
        Some((namespace, key)) => (namespace, Some(key.into())),
        None => (argument, None),
    };
    Ok(Command::DynamicMetadata {
        namespace: namespace.into(),
        key,
    })
}

/// `KEY`, `KEY:PLAIN`, `KEY:TYPED` or `KEY:FIELD:NAME`.
fn filter_state(raw: &Raw<'_>) -> Result<Command, TemplateError> {
    let argument = raw.argument.unwrap_or_default();
    let (key, how) = match argument.split_once(':') {
        Some((key, how)) => (key, Some(how)),
        None => (argument, None),
    };
    if key != TLV_STATE {
        return Err(raw.problem("has nothing but envoy.network.proxy_protocol.tlv here"));
    }
    let how = match how {
        None | Some("TYPED") => FilterState::Typed,
        Some("PLAIN") => FilterState::Plain,
        Some(how) => match how.strip_prefix("FIELD:") {
            Some(field) if !field.is_empty() => FilterState::Field(field.into()),
            _ => return Err(raw.problem("takes PLAIN, TYPED or FIELD:NAME after its key")),
        },
    };
    Ok(Command::FilterState(how))
}

type Names = (Box<str>, Option<Box<str>>);

fn header_names(raw: &Raw<'_>, pseudo: bool) -> Result<Names, TemplateError> {
    let Some(argument) = raw.argument else {
        return Err(raw.problem("needs a header name"));
    };
    let (name, alternative) = match argument.split_once('?') {
        Some((name, alternative)) => (name, Some(alternative)),
        None => (argument, None),
    };
    let alternative = alternative
        .map(|name| header_name(raw, name, pseudo))
        .transpose()?;
    Ok((header_name(raw, name, pseudo)?, alternative))
}

fn header_name(raw: &Raw<'_>, name: &str, pseudo: bool) -> Result<Box<str>, TemplateError> {
    let name = name.to_ascii_lowercase();
    let is_pseudo = pseudo
        && matches!(
            name.as_str(),
            ":authority" | ":method" | ":path" | ":scheme"
        );
    if !is_pseudo && HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(raw.problem("needs a header name"));
    }
    Ok(name.into())
}
