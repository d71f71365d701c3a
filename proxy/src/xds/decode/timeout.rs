//! How long a stream may take, and what gRPC clients may say of it.

use std::time::Duration;

use xds_proto::pb::envoy::config::route::v3::route_action::MaxStreamDuration;
use xds_proto::pb::google::protobuf::Duration as PbDuration;

use super::Context;
use super::value;
use crate::config::route::GrpcTimeout;
use crate::config::route::StreamDuration;

/// Reads `max_stream_duration`.
pub(crate) fn stream_duration(
    context: &mut Context,
    duration: MaxStreamDuration,
) -> Option<StreamDuration> {
    let MaxStreamDuration {
        max_stream_duration,
        grpc_timeout_header_max,
        grpc_timeout_header_offset,
    } = duration;
    let max = value::duration(context, "max_stream_duration", max_stream_duration);
    let header_max = value::duration(context, "grpc_timeout_header_max", grpc_timeout_header_max);
    let offset = grpc_timeout_header_offset;
    let offset = value::duration(context, "grpc_timeout_header_offset", offset);
    Some(StreamDuration {
        max,
        grpc_header_max: header_max,
        grpc_header_offset: offset.unwrap_or(Duration::ZERO),
    })
}

/// Reads the deprecated fields; the second means nothing without the first.
pub(crate) fn grpc(
    context: &mut Context,
    max: Option<PbDuration>,
    offset: Option<PbDuration>,
) -> Option<GrpcTimeout> {
    if max.is_none() && offset.is_some() {
        context.warn(
            "grpc_timeout_offset",
            "has no effect without max_grpc_timeout",
        );
    }
    let max = value::duration(context, "max_grpc_timeout", max);
    let offset = value::duration(context, "grpc_timeout_offset", offset);
    Some(GrpcTimeout {
        max: max?,
        offset: offset.unwrap_or(Duration::ZERO),
    })
}
