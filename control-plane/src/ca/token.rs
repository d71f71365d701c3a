//! Join tokens: how a machine without a certificate proves once whom it was made for.
//!
//! `weir1.BODY.MAC`, both base64url; the body is JSON, the MAC is HMAC-SHA256 of the body under a
//! key only the authority has. A token is bound to one identity, has an end, and opens the door
//! once: who redeems it remembers its id until then. Pure; [`super::Authority`] remembers.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;

use super::identity::SpiffeId;
use super::refusal::Refusal;
use crate::limits::TOKEN_BYTES_MAX;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Different in every token.
    pub id: String,
    /// Whose token it is.
    pub name: SpiffeId,
    /// The last second, since 1970.
    pub until: u64,
}

/// Makes and checks tokens.
pub(super) struct Signer(hmac::Key);

impl Signer {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    pub(super) fn sign(&self, claims: &Claims) -> Result<String, serde_json::Error> {
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims)?);
        let mac = hmac::sign(&self.0, body.as_bytes());
        let mac = URL_SAFE_NO_PAD.encode(mac.as_ref());
        Ok(format!("{VERSION}.{body}.{mac}"))
    }

    /// What the token says, if it was made here and has not ended.
    pub(super) fn check(&self, token: &str, now: u64) -> Result<Claims, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::TokenMalformed);
        }
        let mut parts = token.trim().split('.');
        let (Some(VERSION), Some(body), Some(mac), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::TokenMalformed);
        };
        let mac = URL_SAFE_NO_PAD.decode(mac);
        let mac = mac.map_err(|_| Refusal::TokenMalformed)?;
        hmac::verify(&self.0, body.as_bytes(), &mac).map_err(|_| Refusal::TokenForged)?;
        let body = URL_SAFE_NO_PAD.decode(body);
        let body = body.map_err(|_| Refusal::TokenMalformed)?;
        let claims: Claims = serde_json::from_slice(&body).map_err(|_| Refusal::TokenMalformed)?;
        if claims.until < now {
            return Err(Refusal::TokenExpired);
        }
        Ok(claims)
    }
}

/// What a token says that was signed with this secret and has not ended; whether it was used before
/// is for the authority to know.
///
/// # Errors
/// The reason why it is refused.
pub fn check(secret: &[u8], token: &str, now: u64) -> Result<Claims, Refusal> {
    Signer::new(secret).check(token, now)
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

/// Where somebody presents a token, ahead of it in the header `authorization`.
pub const SCHEME: &str = "Bearer ";

const VERSION: &str = "weir1";

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims {
            id: "07".to_owned(),
            name: "spiffe://mesh.example/a".parse().unwrap(),
            until: 1_000,
        }
    }

    #[test]
    fn a_token_says_what_was_signed_until_its_end() {
        let signer = Signer::new(&[7; 32]);
        let token = signer.sign(&claims()).unwrap();
        assert_eq!(signer.check(&token, 1_000), Ok(claims()));
        assert_eq!(signer.check(&format!("{token}\n"), 0), Ok(claims()));
        assert_eq!(signer.check(&token, 1_001), Err(Refusal::TokenExpired));
    }

    #[test]
    fn what_was_not_signed_here_is_refused() {
        let signer = Signer::new(&[7; 32]);
        let token = signer.sign(&claims()).unwrap();
        let check = |token: &str, refusal| {
            assert_eq!(signer.check(token, 0), Err(refusal), "{token}");
        };
        check(
            &Signer::new(&[8; 32]).sign(&claims()).unwrap(),
            Refusal::TokenForged,
        );
        let parts: Vec<&str> = token.split('.').collect();
        let other = claims().name.to_string().replace("/a", "/b");
        let body = format!(r#"{{"id":"07","name":"{other}","until":1000}}"#);
        let body = URL_SAFE_NO_PAD.encode(body);
        check(&format!("weir1.{body}.{}", parts[2]), Refusal::TokenForged);
        check(&format!("weir1.{}.", parts[1]), Refusal::TokenForged);
        for bad in [
            "",
            "x",
            "weir1",
            "weir1.a",
            "weir2.a.b",
            "weir1.a.b.c",
            "weir1.a.*",
        ] {
            check(bad, Refusal::TokenMalformed);
        }
        check(&format!("{token}.x"), Refusal::TokenMalformed);
        check(&"a".repeat(10_000), Refusal::TokenMalformed);
        let noise = hmac::sign(&signer.0, b"%%");
        let noise = URL_SAFE_NO_PAD.encode(noise.as_ref());
        check(&format!("weir1.%%.{noise}"), Refusal::TokenMalformed);
    }
}
