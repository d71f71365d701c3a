//! What a member is asked.

use http::HeaderValue;
use http::Method;
use http::uri::PathAndQuery;
use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::RequestMethod;
use xds_proto::pb::envoy::config::core::v3::health_check::GrpcHealthCheck;
use xds_proto::pb::envoy::config::core::v3::health_check::HttpHealthCheck;
use xds_proto::pb::envoy::config::core::v3::health_check::TcpHealthCheck;
use xds_proto::pb::envoy::config::core::v3::proxy_protocol_config::Version as PbVersion;
use xds_proto::pb::envoy::r#type::v3::CodecClientType;
use xds_proto::pb::envoy::r#type::v3::Int64Range;

use super::Context;
use super::payload;
use super::value;
use crate::config::Name;
use crate::config::health::GrpcProbe;
use crate::config::health::HttpProbe;
use crate::config::health::TcpProbe;
use crate::config::limits;
use crate::net::proxy_protocol::Version;
use crate::xds::decode::header_edit;
use crate::xds::decode::matcher;

/// Envoy's default of `response_buffer_size`.
const RESPONSE_BYTES: u64 = 1024;

/// A request.
pub(super) fn http(
    context: &mut Context,
    check: HttpHealthCheck,
    cluster: &str,
) -> Option<HttpProbe> {
    let HttpHealthCheck {
        host,
        path,
        send,
        receive,
        response_buffer_size,
        request_headers_to_add,
        request_headers_to_remove,
        expected_statuses,
        retriable_statuses,
        codec_client_type,
        service_name_matcher,
        method,
    } = check;
    let host = authority(context, "host", &host, cluster);
    let path = self::path(context, &path);
    let method = self::method(context, method);
    let body = context.optional("send", send, payload::decode);
    let receive = context.each("receive", receive, payload::decode);
    let response_bytes_max = response_bytes(
        context,
        response_buffer_size.map(|size| size.value),
        &receive,
    );
    let edits = header_edit::of_request(context, request_headers_to_add, request_headers_to_remove);
    let expected = context.each("expected_statuses", expected_statuses, range);
    let retriable = context.each("retriable_statuses", retriable_statuses, range);
    let codec = value::enumeration(context, "codec_client_type", codec_client_type)?;
    let is_http2 = match codec {
        CodecClientType::Http1 => false,
        CodecClientType::Http2 => true,
        CodecClientType::Http3 => {
            return context.unsupported("codec_client_type", "HTTP3 is not supported");
        }
    };
    let had_matcher = service_name_matcher.is_some();
    let service_name = context.optional(
        "service_name_matcher",
        service_name_matcher,
        matcher::string,
    );
    let method = method?;
    let takes_body = !matches!(
        method,
        Method::GET | Method::HEAD | Method::DELETE | Method::TRACE
    );
    if body.is_some() && !takes_body {
        context.reject("send", format!("{method} takes no body"));
    }
    if had_matcher && service_name.is_none() {
        return None;
    }
    Some(HttpProbe {
        is_http2,
        host: host?,
        path: path?,
        method,
        body: body.unwrap_or_default(),
        receive,
        response_bytes_max: response_bytes_max?,
        edits,
        expected: if expected.is_empty() {
            vec![(200, 201)]
        } else {
            expected
        },
        retriable,
        service_name,
    })
}

/// A call of `grpc.health.v1.Health/Check`.
pub(super) fn grpc(
    context: &mut Context,
    check: GrpcHealthCheck,
    cluster: &str,
) -> Option<GrpcProbe> {
    let GrpcHealthCheck {
        service_name,
        authority,
        initial_metadata,
    } = check;
    let authority = self::authority(context, "authority", &authority, cluster);
    let edits = header_edit::metadata(context, initial_metadata);
    if service_name.len() > limits::HEALTH_CHECK_SERVICE_BYTES_MAX {
        let most = limits::HEALTH_CHECK_SERVICE_BYTES_MAX;
        return context.refuse("service_name", format!("is longer than {most} bytes"));
    }
    Some(GrpcProbe {
        service: service_name.into(),
        authority: authority?,
        edits,
    })
}

/// A connection.
pub(super) fn tcp(context: &mut Context, check: TcpHealthCheck) -> Option<TcpProbe> {
    let TcpHealthCheck {
        send,
        receive,
        proxy_protocol_config,
    } = check;
    let send = context.optional("send", send, payload::decode);
    let receive: Vec<Vec<u8>> = context.each("receive", receive, payload::decode);
    let had_config = proxy_protocol_config.is_some();
    let proxy_protocol = context.optional(
        "proxy_protocol_config",
        proxy_protocol_config,
        proxy_protocol,
    );
    if receive.is_empty() && (send.is_some() || had_config) {
        // Envoy closes such a connection before it has written anything.
        context.warn("send", "has no effect without receive");
    }
    if had_config && proxy_protocol.is_none() {
        return None;
    }
    Some(TcpProbe {
        send: send.unwrap_or_default(),
        receive,
        proxy_protocol,
    })
}

fn proxy_protocol(context: &mut Context, config: core::ProxyProtocolConfig) -> Option<Version> {
    let core::ProxyProtocolConfig {
        version,
        pass_through_tlvs,
        added_tlvs,
    } = config;
    unsupported!(context, warn "a check has no client": pass_through_tlvs);
    unsupported!(context, reject: added_tlvs);
    match value::enumeration(context, "version", version)? {
        PbVersion::V1 => Some(Version::V1),
        PbVersion::V2 => Some(Version::V2),
    }
}

/// What stands in the place of a host.
fn authority(context: &mut Context, field: &str, said: &str, cluster: &str) -> Option<Name> {
    let name = if said.is_empty() { cluster } else { said };
    if HeaderValue::from_str(name).is_err() {
        return context.refuse(field, format!("{name:?} has characters no header may have"));
    }
    Some(name.into())
}

fn path(context: &mut Context, path: &str) -> Option<PathAndQuery> {
    match path.parse() {
        Ok(parsed) if path.starts_with('/') => Some(parsed),
        _ => context.refuse("path", format!("{path:?} is not a path that begins with /")),
    }
}

fn method(context: &mut Context, method: i32) -> Option<Method> {
    Some(match value::enumeration(context, "method", method)? {
        RequestMethod::MethodUnspecified | RequestMethod::Get => Method::GET,
        RequestMethod::Head => Method::HEAD,
        RequestMethod::Post => Method::POST,
        RequestMethod::Put => Method::PUT,
        RequestMethod::Delete => Method::DELETE,
        RequestMethod::Options => Method::OPTIONS,
        RequestMethod::Trace => Method::TRACE,
        RequestMethod::Patch => Method::PATCH,
        RequestMethod::Connect => return context.refuse("method", "CONNECT is no check"),
    })
}

fn response_bytes(context: &mut Context, size: Option<u64>, receive: &[Vec<u8>]) -> Option<usize> {
    let most = limits::HEALTH_CHECK_ANSWER_BYTES_MAX;
    let size = match size.unwrap_or(RESPONSE_BYTES) {
        0 => most,
        size => usize::try_from(size).unwrap_or(usize::MAX),
    };
    if size > most {
        return context.refuse("response_buffer_size", format!("is more than {most} bytes"));
    }
    let wanted: usize = receive.iter().map(Vec::len).sum();
    if wanted > size {
        return context.refuse(
            "receive",
            format!("is longer than the {size} bytes looked at"),
        );
    }
    Some(size)
}

fn range(context: &mut Context, range: Int64Range) -> Option<(u16, u16)> {
    let Int64Range { start, end } = range;
    if start < 100 || end > 600 || start >= end {
        return context.refuse("", format!("{start} to {end} is not within 100 and 600"));
    }
    u16::try_from(start).ok().zip(u16::try_from(end).ok())
}
