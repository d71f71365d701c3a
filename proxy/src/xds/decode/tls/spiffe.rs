//! `SPIFFECertValidatorConfig`: the roots of each trust domain, as PEM or as a SPIFFE bundle map.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::SpiffeCertValidatorConfig;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config::TrustDomain;

use super::super::Context;
use super::super::data_source;
use super::certificate;
use crate::config::tls::NameKind;
use crate::config::tls::NameMatch;

/// Roots by trust domain.
type Domains = BTreeMap<Box<str>, Vec<CertificateDer<'static>>>;

/// A SPIFFE bundle map: trust domains, each with a bundle (SPIFFE Trust Domain and Bundle section 4).
#[derive(Deserialize)]
struct BundleMap {
    trust_domains: BTreeMap<String, Bundle>,
}

#[derive(Deserialize)]
struct Bundle {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    /// `x509-svid` or `jwt-svid`.
    r#use: String,
    /// The certificate first (RFC 7517 section 4.7).
    #[serde(default)]
    x5c: Vec<String>,
}

/// Reads the trust domains.
pub(super) fn decode(context: &mut Context, config: SpiffeCertValidatorConfig) -> Option<Domains> {
    let SpiffeCertValidatorConfig {
        trust_domains,
        trust_bundles,
    } = config;
    // As Envoy: the map takes precedence.
    if let Some(source) = trust_bundles {
        unsupported!(context, warn "has no effect beside trust_bundles": trust_domains);
        return context.field("trust_bundles", |context| {
            let json = data_source::secret(context, source)?;
            bundle_map(context, &json)
        });
    }
    if trust_domains.is_empty() {
        return context.refuse("trust_domains", "must not be empty");
    }
    let mut domains = Domains::new();
    context.each("trust_domains", trust_domains, |context, domain| {
        let (name, roots) = trust_domain(context, domain)?;
        if domains.contains_key(&name) {
            context.reject("name", format!("{name:?} is there twice"));
        }
        domains.insert(name, roots);
        Some(())
    });
    Some(domains)
}

/// As Envoy: of an X.509-SVID only its URI says something, and one that is not trusted has none.
pub(super) fn limit(context: &mut Context, names: &mut Vec<NameMatch>, untrusted: &mut bool) {
    let count = names.len();
    names.retain(|name| name.kind == NameKind::Uri);
    if names.len() < count {
        let reason = "only those of san_type URI have an effect beside a SPIFFE validator";
        context.warn("match_typed_subject_alt_names", reason);
    }
    if std::mem::take(untrusted) {
        let reason = "ACCEPT_UNTRUSTED has no effect beside a SPIFFE validator";
        context.warn("trust_chain_verification", reason);
    }
}

fn trust_domain(
    context: &mut Context,
    domain: TrustDomain,
) -> Option<(Box<str>, Vec<CertificateDer<'static>>)> {
    let TrustDomain {
        name,
        trust_bundle,
        workload_trust_domain,
    } = domain;
    unsupported!(context, reject: workload_trust_domain);
    if name.is_empty() || name.contains(['/', ':']) {
        context.reject("name", "must be a trust domain without spiffe://");
    }
    let roots = context.required("trust_bundle", trust_bundle, |context, source| {
        let pem = data_source::secret(context, source)?;
        certificate::certificates(context, &pem)
    });
    Some((name.into(), roots?))
}

fn bundle_map(context: &mut Context, json: &[u8]) -> Option<Domains> {
    let map: BundleMap = match serde_json::from_slice(json) {
        Ok(map) => map,
        Err(error) => return context.refuse("", format!("is no SPIFFE bundle map: {error}")),
    };
    let mut domains = Domains::new();
    for (name, bundle) in map.trust_domains {
        let certificates = bundle.keys.iter().filter(|key| key.r#use == "x509-svid");
        let roots = certificates.map(|key| {
            let der = key.x5c.first().and_then(|text| STANDARD.decode(text).ok());
            der.map(CertificateDer::from)
        });
        match roots.collect::<Option<Vec<_>>>() {
            Some(roots) if !roots.is_empty() => {
                domains.insert(name.into(), roots);
            }
            _ => context.reject(
                "",
                format!("{name:?} has no roots for X.509-SVIDs that can be read"),
            ),
        }
    }
    if domains.is_empty() {
        return context.refuse("", "has no trust domain");
    }
    Some(domains)
}
