//! Who a caller is, and what they may have. Pure: no I/O, no clock, no state.
//!
//! Whoever cannot be told gets nothing. A caller gets their own certificate and what everybody
//! needs to check others; never anybody else's key.

use std::fmt;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::certificate;
use super::identity::SpiffeId;
use super::identity::TrustDomain;
use super::refusal::Refusal;
use super::store::state::hex;

/// The name proxies ask for when they mean their own certificate.
pub const OWN_CERTIFICATE: &str = "default";

/// The name proxies ask for when they mean the roots.
pub const ROOTS: &str = "ROOTCA";

/// The name for the roots of all domains that are believed, each for its own identities.
pub const ALL_ROOTS: &str = "ALL";

/// How a caller was told, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// By nothing.
    Anonymous,
    /// By a verified client certificate.
    Certificate {
        /// The certificate's.
        identity: SpiffeId,
        /// The certificate's, in hexadecimal.
        serial: String,
    },
    /// By nothing that counts: anybody on the way could read what they get.
    Exposed,
    /// By the user of a local process.
    Local {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// Whom the map says that is.
        identity: Option<SpiffeId>,
    },
    /// By a join token.
    Token {
        /// The token's.
        id: String,
        /// The token's.
        identity: SpiffeId,
    },
}

/// What a name stands for, once it was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// A certificate and key for this identity.
    Certificate(SpiffeId),
    /// The roots and revocation lists of the own domain.
    Roots,
    /// The same, with the roots of all other domains that are believed.
    AllRoots,
    /// The roots of another domain.
    RootsOf(TrustDomain),
}

impl Caller {
    /// Whom they speak for, if anybody.
    #[must_use]
    pub fn identity(&self) -> Option<&SpiffeId> {
        match self {
            Self::Anonymous | Self::Exposed => None,
            Self::Local { identity, .. } => identity.as_ref(),
            Self::Certificate { identity, .. } | Self::Token { identity, .. } => Some(identity),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Exposed => f.write_str("exposed"),
            Self::Certificate { identity, serial } => write!(f, "certificate {serial} {identity}"),
            Self::Local { uid, gid, .. } => write!(f, "local uid {uid} gid {gid}"),
            Self::Token { id, identity } => write!(f, "token {id} {identity}"),
        }
    }
}

/// Whether `identity` may have the secret of this name, and what that is.
///
/// # Errors
/// The reason why not.
pub fn may_have(
    identity: &SpiffeId,
    own: &TrustDomain,
    is_federated: &dyn Fn(&TrustDomain) -> bool,
    name: &str,
) -> Result<Grant, Refusal> {
    let other = || Refusal::OtherDomain {
        name: name.to_owned(),
    };
    if identity.domain() != own {
        return Err(Refusal::OtherDomain {
            name: identity.to_string(),
        });
    }
    match name {
        OWN_CERTIFICATE => return Ok(Grant::Certificate(identity.clone())),
        ROOTS => return Ok(Grant::Roots),
        ALL_ROOTS => return Ok(Grant::AllRoots),
        _ if name == own.id() => return Ok(Grant::Roots),
        _ if !name.starts_with("spiffe://") => {
            return Err(Refusal::UnknownSecret {
                name: name.to_owned(),
            });
        }
        _ => {}
    }
    if let Some(domain) = domain_of(name).filter(is_federated) {
        return Ok(Grant::RootsOf(domain));
    }
    if name
        .split('/')
        .nth(2)
        .is_some_and(|domain| domain != own.as_str())
    {
        return Err(other());
    }
    match name.parse::<SpiffeId>() {
        Err(reason) => Err(Refusal::NameInvalid {
            name: name.to_owned(),
            reason,
        }),
        Ok(wanted) if wanted == *identity => Ok(Grant::Certificate(wanted)),
        Ok(_) => Err(Refusal::NotYours {
            name: name.to_owned(),
            identity: identity.clone(),
        }),
    }
}

/// The domain whose roots a name is of.
fn domain_of(name: &str) -> Option<TrustDomain> {
    name.strip_prefix("spiffe://")?.parse().ok()
}

/// Whom a verified certificate names: exactly one URI, which must be an identity.
#[must_use]
pub fn caller_of(der: &[u8]) -> Caller {
    let Ok(certificate) = certificate::parse(der) else {
        return Caller::Anonymous;
    };
    match identity_of(&certificate) {
        Some(identity) => Caller::Certificate {
            identity,
            serial: hex(certificate.raw_serial()),
        },
        None => Caller::Anonymous,
    }
}

fn identity_of(certificate: &X509Certificate<'_>) -> Option<SpiffeId> {
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(text) => Some(*text),
            _ => None,
        });
    match (uris.next(), uris.next()) {
        (Some(text), None) => text.parse().ok(),
        _ => None,
    }
}

/// Which local users are who: `uid:UID=spiffe://...` or `gid:GID=spiffe://...`.
#[derive(Clone, Debug, Default)]
pub struct LocalUsers(Vec<(LocalUser, SpiffeId)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LocalUser {
    Gid(u32),
    Uid(u32),
}

/// Why a line of the map cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {reason}; write uid:1000=spiffe://domain/path or gid:1000=...")]
pub struct LocalUserError {
    text: String,
    reason: String,
}

impl LocalUsers {
    /// Adds a line.
    ///
    /// # Errors
    /// When it cannot be read, or the user is somebody already.
    pub fn add(&mut self, text: &str) -> Result<(), LocalUserError> {
        let failed = |reason: &str| LocalUserError {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        let (user, name) = text
            .split_once('=')
            .ok_or_else(|| failed("there is no ="))?;
        let number = |digits: &str| digits.parse().map_err(|_| failed("that is no number"));
        let user = match user.split_once(':') {
            Some(("uid", digits)) => LocalUser::Uid(number(digits)?),
            Some(("gid", digits)) => LocalUser::Gid(number(digits)?),
            _ => return Err(failed("it begins with neither uid: nor gid:")),
        };
        if self.0.iter().any(|(known, _)| *known == user) {
            return Err(failed("this user is somebody already"));
        }
        let name = name.parse::<SpiffeId>();
        let name = name.map_err(|error| failed(&error.to_string()))?;
        self.0.push((user, name));
        Ok(())
    }

    /// Who runs with these ids; a user's own line wins over the group's.
    #[must_use]
    pub fn caller(&self, uid: u32, gid: u32) -> Caller {
        let find = |wanted: LocalUser| {
            let found = self.0.iter().find(|(user, _)| *user == wanted);
            found.map(|(_, identity)| identity.clone())
        };
        let identity = find(LocalUser::Uid(uid)).or_else(|| find(LocalUser::Gid(gid)));
        Caller::Local { uid, gid, identity }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_their_own_and_the_roots_and_nothing_else() {
        let own: TrustDomain = "mesh.example".parse().unwrap();
        let cart: SpiffeId = "spiffe://mesh.example/cart".parse().unwrap();
        let friend: TrustDomain = "friend.example".parse().unwrap();
        let known = |domain: &TrustDomain| *domain == friend;
        let check = |name: &str, grant| {
            assert_eq!(may_have(&cart, &own, &known, name), Ok(grant), "{name}");
        };
        check("default", Grant::Certificate(cart.clone()));
        check(
            "spiffe://mesh.example/cart",
            Grant::Certificate(cart.clone()),
        );
        check("ROOTCA", Grant::Roots);
        check("spiffe://mesh.example", Grant::Roots);
        check("ALL", Grant::AllRoots);
        check("spiffe://friend.example", Grant::RootsOf(friend.clone()));
        let refused = |name: &str, label: &str| {
            let refusal = may_have(&cart, &own, &known, name).unwrap_err();
            assert_eq!(refusal.label(), label, "{name}");
        };
        refused("spiffe://friend.example/cart", "other_domain");
        refused("spiffe://mesh.example/bank", "not_yours");
        refused("spiffe://mesh.example/cart/x", "not_yours");
        refused("spiffe://evil.example/cart", "other_domain");
        refused("spiffe://evil.example", "other_domain");
        refused("spiffe://mesh.example/*", "name_invalid");
        refused("spiffe://mesh.example/cart\0", "name_invalid");
        refused("spiffe://mesh.example/", "name_invalid");
        refused("", "unknown_secret");
        refused("Default", "unknown_secret");
        refused("other", "unknown_secret");
        let stranger: SpiffeId = "spiffe://evil.example/cart".parse().unwrap();
        for name in [
            "default",
            "ROOTCA",
            "spiffe://mesh.example",
            "spiffe://evil.example/cart",
        ] {
            let refusal = may_have(&stranger, &own, &known, name).unwrap_err();
            assert_eq!(refusal.label(), "other_domain", "{name}");
        }
    }

    #[test]
    fn local_users_are_who_the_map_says() {
        let mut users = LocalUsers::default();
        users.add("uid:1000=spiffe://mesh.example/cart").unwrap();
        users.add("gid:50=spiffe://mesh.example/staff").unwrap();
        let path = |uid, gid| {
            let caller = users.caller(uid, gid);
            caller.identity().map(|id| id.path().to_owned())
        };
        assert_eq!(path(1000, 50).as_deref(), Some("/cart"));
        assert_eq!(path(7, 50).as_deref(), Some("/staff"));
        assert_eq!(path(0, 0), None);
        assert_eq!(users.caller(0, 0).to_string(), "local uid 0 gid 0");
        for bad in [
            "",
            "uid:1",
            "uid:x=spiffe://a/b",
            "user:1=spiffe://a/b",
            "uid:1=a/b",
            "uid:1000=spiffe://mesh.example/other",
            "uid:-1=spiffe://a/b",
        ] {
            users.add(bad).unwrap_err();
        }
    }
}
