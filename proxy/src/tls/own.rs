//! Whether a certificate that was just issued to us can be used.

use std::sync::Arc;

use rustls_pki_types::UnixTime;

use crate::config::tls::Certificate;
use crate::config::tls::Validation;
use crate::net::tls::facts::Names;
use crate::net::tls::facts::Presented;
use crate::tls::credential::Credential;
use crate::tls::verifier::Chain;
use crate::tls::verifier::Role;
use crate::tls::verifier::Verifier;

/// Checks that the key belongs to the leaf, and that peers who trust `trust` would accept it from
/// either side; returns what the leaf says of its owner.
///
/// # Errors
/// What is wrong with it.
pub fn check(
    certificate: &Certificate,
    trust: &Arc<Validation>,
    now: UnixTime,
) -> Result<Names, String> {
    let Some((leaf, intermediates)) = certificate.chain.split_first() else {
        return Err("there is no certificate".to_owned());
    };
    Credential::new(certificate)?;
    let verifier = Verifier::new(trust)
        .map_err(|unusable| format!("{}: {}", unusable.field, unusable.reason))?;
    let chain = Chain {
        leaf,
        intermediates,
    };
    for role in [Role::Client, Role::Server] {
        let checked = verifier.check(chain, role, None, now);
        checked.map_err(|error| format!("peers would not accept the certificate: {error}"))?;
    }
    Ok(Presented::new(certificate.chain.clone()).names().clone())
}
