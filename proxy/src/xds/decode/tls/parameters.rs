//! `TlsParameters`: versions, cipher suites, curves.

use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;

use super::super::Context;
use super::super::value;
use crate::config::tls::CipherSuite;
use crate::config::tls::Curve;
use crate::config::tls::Parameters;
use crate::config::tls::Version;

/// Reads the parameters.
pub(super) fn decode(context: &mut Context, parameters: pb::TlsParameters) -> Option<Parameters> {
    let pb::TlsParameters {
        tls_minimum_protocol_version,
        tls_maximum_protocol_version,
        cipher_suites,
        ecdh_curves,
        signature_algorithms,
        compliance_policies,
    } = parameters;
    unsupported!(context, reject: signature_algorithms, compliance_policies);
    let default = Parameters::default();
    let least = version(
        context,
        "tls_minimum_protocol_version",
        tls_minimum_protocol_version,
        default.least,
    );
    let most = version(
        context,
        "tls_maximum_protocol_version",
        tls_maximum_protocol_version,
        default.most,
    );
    let mut suites = Vec::new();
    for group in context.each("cipher_suites", cipher_suites, group) {
        suites.extend(group);
    }
    let curves = context.each("ecdh_curves", ecdh_curves, curve);
    let (least, most) = (least?, most?);
    if least > most {
        let reason = "is below tls_minimum_protocol_version";
        return context.refuse("tls_maximum_protocol_version", reason);
    }
    Some(Parameters {
        least,
        most,
        cipher_suites: suites,
        curves,
    })
}

fn version(context: &mut Context, field: &str, version: i32, default: Version) -> Option<Version> {
    Some(match value::enumeration(context, field, version)? {
        TlsProtocol::TlsAuto => default,
        TlsProtocol::TlSv12 => Version::Tls12,
        TlsProtocol::TlSv13 => Version::Tls13,
        // RFC 8996 forbids both.
        TlsProtocol::TlSv10 => return context.unsupported(field, "TLSv1_0 is not supported"),
        TlsProtocol::TlSv11 => return context.unsupported(field, "TLSv1_1 is not supported"),
    })
}

/// One suite, or several in brackets that are equal to each other; here the first is preferred.
fn group(context: &mut Context, text: String) -> Option<Vec<CipherSuite>> {
    let group = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let Some(group) = group else {
        return suite(context, &text).map(|suite| vec![suite]);
    };
    context.warn(
        "",
        "suites in brackets are not equal, the first is preferred",
    );
    group.split('|').map(|name| suite(context, name)).collect()
}

fn suite(context: &mut Context, name: &str) -> Option<CipherSuite> {
    Some(match name {
        "ECDHE-ECDSA-AES128-GCM-SHA256" => CipherSuite::EcdsaAes128,
        "ECDHE-ECDSA-AES256-GCM-SHA384" => CipherSuite::EcdsaAes256,
        "ECDHE-ECDSA-CHACHA20-POLY1305" => CipherSuite::EcdsaChacha20,
        "ECDHE-RSA-AES128-GCM-SHA256" => CipherSuite::RsaAes128,
        "ECDHE-RSA-AES256-GCM-SHA384" => CipherSuite::RsaAes256,
        "ECDHE-RSA-CHACHA20-POLY1305" => CipherSuite::RsaChacha20,
        // CBC and RSA key exchange are broken in ways no implementation can mend for good.
        _ => return context.unsupported("", format!("{name:?} is not supported")),
    })
}

fn curve(context: &mut Context, name: String) -> Option<Curve> {
    Some(match name.as_str() {
        "P-256" => Curve::P256,
        "P-384" => Curve::P384,
        "X25519" => Curve::X25519,
        "X25519MLKEM768" => Curve::X25519MlKem768,
        _ => return context.unsupported("", format!("{name:?} is not supported")),
    })
}
