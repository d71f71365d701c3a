//! Trust domains and SPIFFE ids, by the letter of the SPIFFE-ID standard.
//!
//! An id that parses is in the one canonical form, so comparing texts compares identities.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

use crate::limits::SPIFFE_ID_BYTES_MAX;
use crate::limits::TRUST_DOMAIN_BYTES_MAX;

/// The name of an authority and of everybody it vouches for, such as `mesh.example`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

/// The identity of one workload, such as `spiffe://mesh.example/ns/shop/sa/cart`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    domain: TrustDomain,
    /// Begins with a slash.
    path: String,
}

/// Why a text is no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A byte the standard does not allow; `*` and NUL are among them.
    #[error("{what} has the character {character:?}; {allowed}")]
    Character {
        /// Part of the id.
        what: &'static str,
        /// What stands there.
        character: char,
        /// What may.
        allowed: &'static str,
    },
    /// An empty segment, which includes a slash at the end.
    #[error("the path has an empty segment, or a slash at its end")]
    EmptySegment,
    /// Nothing where the trust domain should be.
    #[error("the trust domain is empty")]
    NoDomain,
    /// A trust domain without a path is no workload.
    #[error("there is no path after the trust domain, so it names no workload")]
    NoPath,
    /// Another scheme.
    #[error("it does not begin with spiffe://")]
    NoScheme,
    /// `.` or `..`.
    #[error("the path has a relative segment")]
    RelativeSegment,
    /// Longer than the standard allows.
    #[error("{what} is longer than {bytes_max} bytes")]
    TooLong {
        /// Part of the id.
        what: &'static str,
        /// The bound.
        bytes_max: usize,
    },
}

impl TrustDomain {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain's own id: it names the domain's bundle and its authorities.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }
}

impl SpiffeId {
    /// The domain that vouches for it.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// What follows the domain; begins with a slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for TrustDomain {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        if text.is_empty() {
            return Err(IdentityError::NoDomain);
        }
        if text.len() > TRUST_DOMAIN_BYTES_MAX {
            return Err(IdentityError::TooLong {
                what: "the trust domain",
                bytes_max: TRUST_DOMAIN_BYTES_MAX,
            });
        }
        let is_allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        match text.chars().find(|c| !is_allowed(*c)) {
            None => Ok(Self(text.to_owned())),
            Some(character) => Err(IdentityError::Character {
                what: "the trust domain",
                character,
                allowed: "a-z, 0-9, '.', '-' and '_' are allowed",
            }),
        }
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        if text.len() > SPIFFE_ID_BYTES_MAX {
            return Err(IdentityError::TooLong {
                what: "the id",
                bytes_max: SPIFFE_ID_BYTES_MAX,
            });
        }
        let rest = text.strip_prefix(SCHEME).ok_or(IdentityError::NoScheme)?;
        let (domain, path) = match rest.split_once('/') {
            Some((domain, path)) => (domain, Some(path)),
            None => (rest, None),
        };
        let domain = domain.parse()?;
        let path = path.ok_or(IdentityError::NoPath)?;
        path.split('/').try_for_each(check_segment)?;
        Ok(Self {
            domain,
            path: format!("/{path}"),
        })
    }
}

fn check_segment(segment: &str) -> Result<(), IdentityError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if let Some(character) = segment.chars().find(|c| !is_allowed(*c)) {
        return Err(IdentityError::Character {
            what: "the path",
            character,
            allowed: "A-Z, a-z, 0-9, '.', '-', '_' and '/' are allowed",
        });
    }
    match segment {
        "" => Err(IdentityError::EmptySegment),
        "." | ".." => Err(IdentityError::RelativeSegment),
        _ => Ok(()),
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.domain, self.path)
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        text.parse()
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        text.parse()
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.0
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.to_string()
    }
}

const SCHEME: &str = "spiffe://";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t6_only_the_letter_of_the_standard_is_an_identity() {
        for good in [
            "spiffe://a/b",
            "spiffe://mesh.example/ns/shop/sa/cart",
            "spiffe://a_b-c.d9/A.b_c-D/...",
        ] {
            let id: SpiffeId = good.parse().unwrap();
            assert_eq!(id.to_string(), good);
        }
        let check = |text: &str, reason: &str| {
            let error = text.parse::<SpiffeId>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        };
        check("https://a/b", "does not begin");
        check("SPIFFE://a/b", "does not begin");
        check("spiffe:///b", "trust domain is empty");
        check("spiffe://a", "no path");
        check("spiffe://a/", "empty segment");
        check("spiffe://a/b/", "empty segment");
        check("spiffe://a//b", "empty segment");
        check("spiffe://a/./b", "relative");
        check("spiffe://a/../b", "relative");
        check("spiffe://A/b", "'A'");
        check("spiffe://u@a/b", "'@'");
        check("spiffe://a:1/b", "':'");
        check("spiffe://a/b?c", "'?'");
        check("spiffe://a/b#c", "'#'");
        check("spiffe://a/b%20", "'%'");
        check("spiffe://a/*", "'*'");
        check("spiffe://*/b", "'*'");
        check("spiffe://a/b\0", "'\\0'");
        check("spiffe://a\0/b", "'\\0'");
        check("spiffe://a/ü", "'ü'");
        check(
            &format!("spiffe://a/{}", "b".repeat(2_048)),
            "longer than 2048",
        );
        check(
            &format!("spiffe://{}/b", "a".repeat(256)),
            "longer than 255",
        );
    }
}
