//! `forward_client_cert_details` and `set_current_client_cert_details`.

use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::ForwardClientCertDetails;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::ForwardClientCertFormat;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::SetCurrentClientCertDetails;

use super::Context;
use super::value;
use crate::config::client_certificate::Details;
use crate::config::client_certificate::Format;
use crate::config::client_certificate::ForwardClientCertificate;

/// What upstreams are told of a client's certificate. As in Envoy, what our element says is without
/// effect in a mode that sends none.
pub(super) fn decode(
    context: &mut Context,
    mode: i32,
    current: Option<SetCurrentClientCertDetails>,
) -> Option<ForwardClientCertificate> {
    let details = context.optional("set_current_client_cert_details", current, details);
    let details = details.unwrap_or_default();
    let mode = value::enumeration(context, "forward_client_cert_details", mode)?;
    Some(match mode {
        ForwardClientCertDetails::Sanitize => ForwardClientCertificate::Sanitize,
        ForwardClientCertDetails::ForwardOnly => ForwardClientCertificate::Forward,
        ForwardClientCertDetails::AppendForward => ForwardClientCertificate::Append(details),
        ForwardClientCertDetails::SanitizeSet => ForwardClientCertificate::Set(details),
        ForwardClientCertDetails::AlwaysForwardOnly => ForwardClientCertificate::AlwaysForward,
    })
}

fn details(context: &mut Context, current: SetCurrentClientCertDetails) -> Option<Details> {
    let SetCurrentClientCertDetails {
        subject,
        cert,
        chain,
        dns,
        uri,
        issuer,
        format,
    } = current;
    let format = match value::enumeration(context, "format", format)? {
        ForwardClientCertFormat::Json => Format::Json,
        ForwardClientCertFormat::Text => Format::Text,
    };
    Some(Details {
        certificate: cert,
        chain,
        subject: value::is_true(subject),
        uri,
        dns,
        issuer,
        format,
    })
}
