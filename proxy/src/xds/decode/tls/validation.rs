//! `CertificateValidationContext`: who the peer must be.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::SpiffeCertValidatorConfig;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context::TrustChainVerification;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use xds_proto::pb::envoy::r#type::matcher::v3::StringMatcher;

use super::super::Context;
use super::super::data_source;
use super::super::extension;
use super::super::matcher;
use super::super::value;
use super::Side;
use super::certificate;
use super::spiffe;
use crate::config::matcher::StringMatch;
use crate::config::tls::NameKind;
use crate::config::tls::NameMatch;
use crate::config::tls::Trust;
use crate::config::tls::Validation;
use crate::tls::verifier::Verifier;

/// Envoy's bound; no chain is that long.
const VERIFY_DEPTH_MAX: u32 = 100;

/// Reads rules that stand for themselves, and tries them.
pub(super) fn decode(
    context: &mut Context,
    validation: pb::CertificateValidationContext,
    side: Side,
) -> Option<Arc<Validation>> {
    let validation = part(context, validation, side)?;
    // What makes no sense together, as in Envoy.
    if let Err((field, reason)) = validation.check() {
        context.reject(field, reason);
    }
    Some(validation)
}

/// Reads rules that are merged with others before they are used, and tries what can be tried.
pub(super) fn part(
    context: &mut Context,
    validation: pb::CertificateValidationContext,
    side: Side,
) -> Option<Arc<Validation>> {
    let pb::CertificateValidationContext {
        trusted_ca,
        ca_certificate_provider_instance,
        system_root_certs,
        watched_directory,
        verify_certificate_spki,
        verify_certificate_hash,
        match_typed_subject_alt_names,
        match_subject_alt_names,
        require_signed_certificate_timestamp,
        crl,
        allow_expired_certificate,
        trust_chain_verification,
        custom_validator_config,
        only_verify_leaf_cert_crl,
        max_verify_depth,
        suppress_client_ca_list,
    } = validation;
    data_source::watched(context, watched_directory);
    unsupported!(context, reject: ca_certificate_provider_instance, system_root_certs,
        require_signed_certificate_timestamp);
    if side == Side::Upstream {
        unsupported!(context, warn "has no effect on a cluster": suppress_client_ca_list);
    }
    let trusted_ca_path = data_source::path(trusted_ca.as_ref());
    let trust = trust(context, trusted_ca, custom_validator_config);
    let mut names = names(
        context,
        match_typed_subject_alt_names,
        match_subject_alt_names,
    );
    let hashes = context.each("verify_certificate_hash", verify_certificate_hash, hash);
    let keys = context.each("verify_certificate_spki", verify_certificate_spki, key_hash);
    let crls = context.optional("crl", crl, crls).unwrap_or_default();
    let depth_max = value::number(
        context,
        "max_verify_depth",
        max_verify_depth,
        (0, VERIFY_DEPTH_MAX),
    );
    let mut untrusted = accepts_untrusted(context, trust_chain_verification)?;
    if matches!(trust, Some(Trust::Spiffe(_))) {
        spiffe::limit(context, &mut names, &mut untrusted);
    }
    let validation = Arc::new(Validation {
        trust: trust?,
        crls,
        only_leaf_in_crl: only_verify_leaf_cert_crl,
        names,
        certificate_hashes: hashes,
        key_hashes: keys,
        depth_max,
        allows_expired: allow_expired_certificate,
        accepts_untrusted: untrusted,
        hides_issuers: suppress_client_ca_list,
        trusted_ca_path,
    });
    match Verifier::new(&validation) {
        Ok(_) => Some(validation),
        Err(unusable) => context.refuse(unusable.field, unusable.reason),
    }
}

fn accepts_untrusted(context: &mut Context, verification: i32) -> Option<bool> {
    let verification = value::enumeration(context, "trust_chain_verification", verification)?;
    Some(match verification {
        TrustChainVerification::VerifyTrustChain => false,
        TrustChainVerification::AcceptUntrusted => true,
    })
}

fn trust(
    context: &mut Context,
    trusted_ca: Option<core::DataSource>,
    custom: Option<core::TypedExtensionConfig>,
) -> Option<Trust> {
    let roots = match trusted_ca {
        None => None,
        Some(source) => Some(context.field("trusted_ca", |context| {
            let pem = data_source::secret(context, source)?;
            certificate::certificates(context, &pem)
        })?),
    };
    let Some(custom) = custom else {
        return Some(roots.map_or(Trust::Hashes, Trust::Roots));
    };
    let core::TypedExtensionConfig {
        name: _,
        typed_config,
    } = custom;
    context.field("custom_validator_config", |context| {
        context.required("typed_config", typed_config, |context, any| {
            if !extension::holds::<SpiffeCertValidatorConfig>(&any) {
                extension::unknown(context, &any, false);
                return None;
            }
            let config = extension::unpack(context, &any)?;
            if roots.is_some() {
                context.reject("", "stands beside trusted_ca, which it would not use");
            }
            spiffe::decode(context, config).map(Trust::Spiffe)
        })
    })
}

fn names(
    context: &mut Context,
    typed: Vec<pb::SubjectAltNameMatcher>,
    untyped: Vec<StringMatcher>,
) -> Vec<NameMatch> {
    let mut names = context.each("match_typed_subject_alt_names", typed, name_match);
    let untyped = context.each("match_subject_alt_names", untyped, matcher::string);
    if names.is_empty() {
        names.extend(untyped.into_iter().flat_map(of_any_kind)); // deprecated: the other comes first
    }
    names
}

fn of_any_kind(matcher: StringMatch) -> impl Iterator<Item = NameMatch> {
    let kinds = [NameKind::Dns, NameKind::Email, NameKind::Ip, NameKind::Uri];
    kinds.into_iter().map(move |kind| NameMatch {
        kind,
        matcher: matcher.clone(),
    })
}

fn name_match(context: &mut Context, wanted: pb::SubjectAltNameMatcher) -> Option<NameMatch> {
    let pb::SubjectAltNameMatcher {
        san_type,
        matcher,
        oid,
    } = wanted;
    unsupported!(context, reject: oid);
    let kind = match value::enumeration(context, "san_type", san_type)? {
        SanType::Dns => NameKind::Dns,
        SanType::Email => NameKind::Email,
        SanType::IpAddress => NameKind::Ip,
        SanType::Uri => NameKind::Uri,
        SanType::OtherName => {
            return context.unsupported("san_type", "OTHER_NAME is not supported");
        }
        SanType::Unspecified => return context.refuse("san_type", "is required"),
    };
    let matcher = context.required("matcher", matcher, matcher::string)?;
    Some(NameMatch { kind, matcher })
}

/// SHA-256 in hexadecimal digits, with colons between the bytes or without.
fn hash(context: &mut Context, text: String) -> Option<[u8; 32]> {
    let is_pair = |pair: &[u8]| pair.len() == 3 && pair.last() == Some(&b':');
    let has_colons = text.len() == 95 && text.as_bytes().chunks(3).take(31).all(is_pair);
    let digits = if has_colons {
        text.replace(':', "")
    } else {
        text
    };
    let bytes: Option<Vec<u8>> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| {
            let digits = std::str::from_utf8(pair).ok()?;
            let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)
        })
        .collect();
    let hash = bytes
        .filter(|_| digits.len() == 64)
        .and_then(|bytes| bytes.try_into().ok());
    hash.or_else(|| context.refuse("", "is no SHA-256 in hexadecimal digits"))
}

fn key_hash(context: &mut Context, text: String) -> Option<[u8; 32]> {
    let bytes = STANDARD.decode(text).ok();
    let hash = bytes.and_then(|bytes| bytes.try_into().ok());
    hash.or_else(|| context.refuse("", "is no SHA-256 in base64"))
}

fn crls(
    context: &mut Context,
    source: core::DataSource,
) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    let pem = data_source::secret(context, source)?;
    let lists = CertificateRevocationListDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match lists {
        Ok(lists) if lists.is_empty() => context.refuse("", "holds no revocation list in PEM"),
        Ok(lists) => Some(lists),
        Err(error) => context.refuse("", format!("is not PEM: {error}")),
    }
}
