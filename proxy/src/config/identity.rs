//! A certificate of the proxy's own, with a key that never leaves it (`weir.identity.v1.Identity`).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Name;
use crate::config::grpc::GrpcSettings;
use crate::config::secret::SecretKey;
use crate::config::secret::SecretSource;

/// Where it comes from, and who gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster of the bootstrap that signs.
    pub signer: Name,
    /// How it is asked.
    pub settings: GrpcSettings,
    /// Shown while there is no certificate.
    pub token: Option<Token>,
    /// Whom the certificate must name; the signer decides if `None`.
    pub spiffe_id: Option<Name>,
    /// How long it is to live; the signer decides if `None`.
    pub requested_life: Option<Duration>,
    /// What the certificate is called.
    pub certificate_name: Name,
    /// What the roots are called.
    pub trust_name: Name,
}

/// What proves once who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// A file, read each time.
    File(PathBuf),
    /// The token itself.
    Text(Box<str>),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Text(_) => f.write_str("Text"),
        }
    }
}

impl Identity {
    /// The secrets that are the certificate: named without a source, or over the aggregated stream. In
    /// the latter case the control plane has one too, with a key it made, which is not asked for.
    pub fn certificate_keys(&self) -> [SecretKey; 2] {
        [SecretSource::Bootstrap, SecretSource::Ads].map(|source| SecretKey {
            source,
            name: self.certificate_name.clone(),
        })
    }

    /// The secret that is the roots. Over the aggregated stream they come with revocation lists, so
    /// there they are left to it.
    pub fn trust_key(&self) -> SecretKey {
        SecretKey {
            source: SecretSource::Bootstrap,
            name: self.trust_name.clone(),
        }
    }

    /// Everything that comes from here.
    pub fn keys(&self) -> [SecretKey; 3] {
        let [named, aggregated] = self.certificate_keys();
        [named, aggregated, self.trust_key()]
    }
}
