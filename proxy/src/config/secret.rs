//! Secrets that come by a name (`Secret`, `SdsSecretConfig`): which, from where, and what a TLS context
//! is with them.
//!
//! A context names secrets; it can be used only with all of them, and a part of it never stands for
//! the whole.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Name;
use crate::config::grpc::GrpcSettings;
use crate::config::tls::Certificate;
use crate::config::tls::CommonTls;
use crate::config::tls::DownstreamTls;
use crate::config::tls::Tickets;
use crate::config::tls::Trust;
use crate::config::tls::UpstreamTls;
use crate::config::tls::Validation;

/// Secrets by name, those that are there.
pub type Secrets = BTreeMap<SecretKey, Secret>;

/// One secret, among all there are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretKey {
    /// Where it comes from.
    pub source: SecretSource,
    /// Its name there.
    pub name: Name,
}

impl fmt::Display for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret {}", self.name)
    }
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretSource {
    /// The aggregated stream.
    Ads,
    /// `static_resources.secrets`.
    Bootstrap,
    /// A file with `Secret` resources.
    File(Arc<SecretFile>),
    /// A stream of its own.
    Grpc(Arc<SecretServer>),
}

/// `path_config_source` of a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretFile {
    /// The file.
    pub path: PathBuf,
    /// Any change in this directory is a reason to read the file again.
    pub watched_directory: Option<PathBuf>,
}

/// `api_config_source` of a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretServer {
    /// Clusters of the bootstrap to connect to, tried in turn; at least one.
    pub clusters: Vec<Name>,
    /// The incremental variant of the protocol.
    pub delta: bool,
    /// How its streams are opened.
    pub settings: GrpcSettings,
    /// Leave the node out of all requests of a stream but the first.
    pub set_node_on_first_message_only: bool,
}

/// A secret that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// Which.
    pub key: SecretKey,
    /// What it must be.
    pub kind: SecretKind,
    /// How long the first answer is waited for; `None` waits for ever.
    pub fetch_timeout: Option<Duration>,
}

/// What a secret can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// Who we are.
    Certificate,
    /// Keys for session tickets.
    TicketKeys,
    /// Whom we trust.
    Validation,
}

impl fmt::Display for SecretKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "tls_certificate",
            Self::TicketKeys => "session_ticket_keys",
            Self::Validation => "validation_context",
        })
    }
}

/// A secret.
#[derive(Clone, Debug, PartialEq)]
pub enum Secret {
    /// Who we are.
    Certificate(Arc<Certificate>),
    /// Keys for session tickets; the first seals.
    TicketKeys(TicketKeys),
    /// Whom we trust.
    Validation(Arc<Validation>),
}

/// Keys for session tickets, which never show in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKeys(pub Vec<Arc<[u8; 80]>>);

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKeys({} elided)", self.0.len())
    }
}

impl Secret {
    /// What it is.
    pub fn kind(&self) -> SecretKind {
        match self {
            Self::Certificate(_) => SecretKind::Certificate,
            Self::TicketKeys(_) => SecretKind::TicketKeys,
            Self::Validation(_) => SecretKind::Validation,
        }
    }
}

/// What of a context comes by a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretNames {
    /// Who we are. None if certificates stand in the context itself.
    pub certificates: Vec<SecretRef>,
    /// Whom we trust, merged over what stands in the context itself.
    pub validation: Option<SecretRef>,
    /// Keys for session tickets.
    pub ticket_keys: Option<SecretRef>,
}

impl SecretNames {
    /// Every secret that is named.
    pub fn all(&self) -> impl Iterator<Item = &SecretRef> {
        let others = self.validation.iter().chain(&self.ticket_keys);
        self.certificates.iter().chain(others)
    }

    /// Nothing comes by a name.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// The secrets that are named, in their order, as far as they are there.
    pub fn pick(&self, secrets: &Secrets) -> Vec<Option<Secret>> {
        let named = self.all();
        named
            .map(|named| secrets.get(&named.key).cloned())
            .collect()
    }
}

impl DownstreamTls {
    /// The same with its secrets in it.
    ///
    /// # Errors
    /// What it lacks, or what cannot be used with the rest.
    pub fn resolve(&self, secrets: &Secrets) -> Result<Self, String> {
        let mut resolved = self.clone();
        resolved.common = self.common.resolve(secrets)?;
        if let Some(named) = &self.common.secrets.ticket_keys {
            let Secret::TicketKeys(keys) = find(named, secrets)? else {
                return Err(mismatch(named));
            };
            resolved.tickets = Tickets::Keys(keys.0.clone());
        }
        Ok(resolved)
    }
}

impl UpstreamTls {
    /// The same with its secrets in it.
    ///
    /// # Errors
    /// What it lacks, or what cannot be used with the rest.
    pub fn resolve(&self, secrets: &Secrets) -> Result<Self, String> {
        let mut resolved = self.clone();
        resolved.common = self.common.resolve(secrets)?;
        let validation = resolved.common.validation.as_ref();
        let has_trust = validation.is_some_and(|v| v.trust != Trust::Hashes);
        if self.auto_sni_san_validation && !has_trust {
            return Err("auto_sni_san_validation needs a trusted_ca".to_owned());
        }
        Ok(resolved)
    }
}

impl CommonTls {
    /// The same with certificates and trust in it.
    ///
    /// # Errors
    /// What it lacks, or what cannot be used with the rest.
    pub fn resolve(&self, secrets: &Secrets) -> Result<Self, String> {
        let mut resolved = self.clone();
        for named in &self.secrets.certificates {
            let Secret::Certificate(certificate) = find(named, secrets)? else {
                return Err(mismatch(named));
            };
            resolved.certificates.push(Arc::clone(certificate));
        }
        if let Some(named) = &self.secrets.validation {
            let Secret::Validation(validation) = find(named, secrets)? else {
                return Err(mismatch(named));
            };
            let merged = match &self.validation {
                Some(default) => Arc::new(default.merged_with(validation)),
                None => Arc::clone(validation),
            };
            merged.check().map_err(|(field, reason)| {
                format!("{}: validation_context.{field}: {reason}", named.key)
            })?;
            // Trust was asked for by name; a secret that trusts everybody is a mistake of its author.
            if !merged.proves_something() {
                return Err(format!(
                    "{}: validation_context: trusts everybody; it needs a trusted_ca",
                    named.key
                ));
            }
            resolved.validation = Some(merged);
        }
        Ok(resolved)
    }
}

impl Validation {
    /// What makes no sense together, with its field.
    ///
    /// # Errors
    /// The first such thing.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let needs_roots = [
            ("match_typed_subject_alt_names", !self.names.is_empty()),
            ("crl", !self.crls.is_empty()),
            ("allow_expired_certificate", self.allows_expired),
        ];
        if self.trust == Trust::Hashes
            && let Some((field, _)) = needs_roots.into_iter().find(|(_, is_set)| *is_set)
        {
            return Err((field, "needs a trusted_ca, without one it proves nothing"));
        }
        Ok(())
    }

    /// The rules of `combined_validation_context`: what `dynamic` says comes on top of this, lists add
    /// up, as protobuf merges messages.
    fn merged_with(&self, dynamic: &Self) -> Self {
        let trust = match dynamic.trust {
            Trust::Hashes => &self.trust,
            Trust::Roots(_) | Trust::Spiffe(_) => &dynamic.trust,
        };
        let crls = if dynamic.crls.is_empty() {
            &self.crls
        } else {
            &dynamic.crls
        };
        Self {
            trust: trust.clone(),
            crls: crls.clone(),
            only_leaf_in_crl: self.only_leaf_in_crl || dynamic.only_leaf_in_crl,
            names: [&*self.names, &*dynamic.names].concat(),
            certificate_hashes: [&*self.certificate_hashes, &*dynamic.certificate_hashes].concat(),
            key_hashes: [&*self.key_hashes, &*dynamic.key_hashes].concat(),
            depth_max: dynamic.depth_max.or(self.depth_max),
            allows_expired: self.allows_expired || dynamic.allows_expired,
            accepts_untrusted: self.accepts_untrusted || dynamic.accepts_untrusted,
            hides_issuers: self.hides_issuers || dynamic.hides_issuers,
            trusted_ca_path: match dynamic.trust {
                Trust::Hashes => self.trusted_ca_path.clone(),
                Trust::Roots(_) | Trust::Spiffe(_) => dynamic.trusted_ca_path.clone(),
            },
        }
    }
}

fn find<'s>(named: &SecretRef, secrets: &'s Secrets) -> Result<&'s Secret, String> {
    let found = secrets.get(&named.key);
    found.ok_or_else(|| format!("{} is not there yet", named.key))
}

fn mismatch(named: &SecretRef) -> String {
    format!("{} is no {}", named.key, named.kind)
}
