//! From certificates to `Secret` resources.

use std::sync::Arc;

use prost::Message;
use xds_proto::pb::envoy::config::core::v3::DataSource;
use xds_proto::pb::envoy::config::core::v3::data_source::Specifier;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::CertificateValidationContext;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::TlsCertificate;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use xds_proto::pb::google::protobuf::Any;

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

/// The roots and the revocation lists.
pub(super) fn roots(name: &str, bundle: &Bundle) -> Result<Arc<Resource>, ReferenceError> {
    let context = CertificateValidationContext {
        trusted_ca: Some(inline(&bundle.roots)),
        crl: (!bundle.lists.is_empty()).then(|| inline(&bundle.lists)),
        only_verify_leaf_cert_crl: bundle.only_leaves,
        ..Default::default()
    };
    resource(name, Type::ValidationContext(context))
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
