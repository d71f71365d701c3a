//! From certificates to `Secret` resources.

use std::sync::Arc;

use prost::Message;
use xds_proto::pb::envoy::config::core::v3::DataSource;
use xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use xds_proto::pb::envoy::config::core::v3::data_source::Specifier;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::CertificateValidationContext;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::SpiffeCertValidatorConfig;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::TlsCertificate;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config::TrustDomain;
use xds_proto::pb::google::protobuf::Any;

use crate::ca::access::Grant;
use crate::ca::authority::Bundle;
use crate::ca::authority::Leaf;
use crate::resource::ReferenceError;
use crate::resource::Resource;
use crate::types::SECRET;

/// A leaf under the name its owner asks for.
pub(super) fn certificate(name: &str, leaf: &Leaf) -> Result<Arc<Resource>, ReferenceError> {
    let key = leaf.key.as_ref().map(|key| inline(key.expose()));
    let certificate = TlsCertificate {
        certificate_chain: Some(inline(&leaf.chain)),
        private_key: key,
        ..Default::default()
    };
    resource(name, Type::TlsCertificate(certificate))
}

/// Whom to believe; `None` if that is nobody.
pub(super) fn roots(
    name: &str,
    bundle: &Bundle,
    grant: &Grant,
) -> Option<Result<Arc<Resource>, ReferenceError>> {
    let context = match grant {
        Grant::Certificate(_) => return None,
        Grant::Roots => CertificateValidationContext {
            trusted_ca: Some(inline(&bundle.roots)),
            only_verify_leaf_cert_crl: bundle.only_leaves,
            ..listed(bundle)
        },
        Grant::AllRoots => CertificateValidationContext {
            custom_validator_config: Some(each_for_its_own(bundle)),
            ..listed(bundle)
        },
        Grant::RootsOf(domain) => {
            let mut known = bundle.federations.iter();
            let found = known.find(|known| known.domain == *domain)?;
            CertificateValidationContext {
                trusted_ca: Some(inline(&found.roots)),
                ..Default::default()
            }
        }
    };
    Some(resource(name, Type::ValidationContext(context)))
}

/// With the revocation lists.
fn listed(bundle: &Bundle) -> CertificateValidationContext {
    CertificateValidationContext {
        crl: (!bundle.lists.is_empty()).then(|| inline(&bundle.lists)),
        ..Default::default()
    }
}

/// A root vouches for identities of its own domain and no others.
fn each_for_its_own(bundle: &Bundle) -> TypedExtensionConfig {
    let others = bundle.federations.iter();
    let others = others.map(|one| (one.domain.as_str(), &*one.roots));
    let domains = others.chain([(bundle.domain.as_str(), &*bundle.anchors)]);
    let domains = domains.map(|(name, roots)| TrustDomain {
        name: name.to_owned(),
        trust_bundle: Some(inline(roots)),
        ..Default::default()
    });
    let config = SpiffeCertValidatorConfig {
        trust_domains: domains.collect(),
        ..Default::default()
    };
    TypedExtensionConfig {
        name: VALIDATOR.to_owned(),
        typed_config: Some(Any {
            type_url: VALIDATOR_CONFIG.to_owned(),
            value: config.encode_to_vec(),
        }),
    }
}

fn resource(name: &str, kind: Type) -> Result<Arc<Resource>, ReferenceError> {
    let secret = Secret {
        name: name.to_owned(),
        r#type: Some(kind),
    };
    let any = Any {
        type_url: SECRET.to_owned(),
        value: secret.encode_to_vec(),
    };
    let resource = Resource::named(&any, name)?;
    Ok(Arc::new(resource.with_origin("the certificate authority")))
}

fn inline(text: &str) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineString(text.to_owned())),
        ..Default::default()
    }
}

/// Envoy's names of what checks SPIFFE identities.
const VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";
const VALIDATOR_CONFIG: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
