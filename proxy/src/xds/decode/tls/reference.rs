//! `SdsSecretConfig`: a secret by its name, and where it comes from.

use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;

use super::super::Context;
use super::super::secret_source;
use crate::config::secret::SecretKey;
use crate::config::secret::SecretKind;
use crate::config::secret::SecretRef;
use crate::config::secret::SecretSource;

/// Reads the name of a secret of this kind.
pub(super) fn decode(
    context: &mut Context,
    sds: pb::SdsSecretConfig,
    kind: SecretKind,
) -> Option<SecretRef> {
    let pb::SdsSecretConfig { name, sds_config } = sds;
    if name.is_empty() {
        context.reject("name", "must not be empty");
    }
    let (source, fetch_timeout) = match sds_config {
        None => (SecretSource::Bootstrap, None),
        Some(source) => context.field("sds_config", |context| {
            secret_source::decode(context, source)
        })?,
    };
    Some(SecretRef {
        key: SecretKey {
            source,
            name: name.into(),
        },
        kind,
        fetch_timeout,
    })
}
