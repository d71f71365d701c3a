//! The CA's state as it stands on disk: one file, replaced as a whole, with a checksum.
//!
//! The first line names format and checksum, the rest is JSON. A file that was cut, mixed or
//! edited is refused instead of half believed. Private keys are not in it.

use aws_lc_rs::digest;
use serde::Deserialize;
use serde::Serialize;

use crate::ca::identity::TrustDomain;

/// Everything but the keys and the index of leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) domain: TrustDomain,
    /// Seconds a leaf lives unless something else is asked for.
    pub(crate) leaf_life: u64,
    pub(crate) allow_ed25519: bool,
    /// Serial numbers below are given away or lost.
    pub(crate) serials_until: u64,
    /// Number of the next authority; also never used twice.
    pub(crate) next_authority: u64,
    /// The latest time at which anything was done; a clock far ahead of it is not believed.
    pub(crate) clock: u64,
    /// Number of the newest revocation list.
    pub(crate) list_number: u64,
    /// Oldest first.
    pub(crate) roots: Vec<Root>,
    /// Oldest first; the newest whose root signs is the one that issues.
    pub(crate) intermediates: Vec<Intermediate>,
    pub(crate) revoked: Vec<Revoked>,
    pub(crate) used_tokens: Vec<UsedToken>,
    /// Other domains that are believed, in the order in which they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) federated: Vec<Federated>,
    /// Grows with each change of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) federation_number: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Federated {
    pub(crate) domain: TrustDomain,
    /// PEM.
    pub(crate) roots: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Root {
    pub(crate) id: String,
    /// PEM.
    pub(crate) certificate: String,
    /// Without one it is somebody else's and only trusted.
    pub(crate) has_key: bool,
    /// Set when a newer one took over.
    pub(crate) trusted_until: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Intermediate {
    pub(crate) id: String,
    pub(crate) root: String,
    /// PEM; its own certificate first, then what an external authority put between it and the root.
    pub(crate) chain: Vec<String>,
    /// Silent until everybody should have its root and its revocation list.
    pub(crate) signs_from: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revoked {
    /// Hexadecimal.
    pub(crate) serial: String,
    pub(crate) issuer: String,
    pub(crate) name: String,
    pub(crate) at: u64,
    /// When the certificate would have ended; afterwards it needs no revocation.
    pub(crate) until: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsedToken {
    pub(crate) id: String,
    pub(crate) until: u64,
}

impl State {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let body = serde_json::to_vec_pretty(self)?;
        let mut bytes = format!("{FORMAT} {}\n", checksum(&body)).into_bytes();
        bytes.extend_from_slice(&body);
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads what [`Self::to_bytes`] wrote, or says what is wrong.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let cut = || "it is cut off; restore it from a backup".to_owned();
        let place = bytes.iter().position(|byte| *byte == b'\n');
        let (head, rest) = bytes
            .split_at_checked(place.ok_or_else(cut)?)
            .ok_or_else(cut)?;
        let body = rest
            .strip_prefix(b"\n")
            .and_then(|rest| rest.strip_suffix(b"\n"));
        let head = String::from_utf8_lossy(head);
        let Some(sum) = head.strip_prefix(FORMAT) else {
            return Err(format!("its first line does not begin with {FORMAT:?}"));
        };
        let body = body.ok_or_else(cut)?;
        if sum.trim() != checksum(body) {
            return Err(
                "its checksum is wrong: it was changed, or the disk lost a part of it; \
                        restore it from a backup"
                    .to_owned(),
            );
        }
        serde_json::from_slice(body).map_err(|error| format!("it cannot be understood: {error}"))
    }

    /// Names of the files that hold its keys.
    pub(super) fn key_files(&self) -> impl Iterator<Item = String> {
        let roots = self.roots.iter().filter(|root| root.has_key);
        let roots = roots.map(|root| key_file(&root.id));
        roots.chain(self.intermediates.iter().map(|below| key_file(&below.id)))
    }
}

/// Where the key of an authority lies.
pub(crate) fn key_file(id: &str) -> String {
    format!("{id}{KEY_SUFFIX}")
}

fn checksum(body: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, body).as_ref())
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The opposite of [`hex`].
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

pub(super) const KEY_SUFFIX: &str = ".key";

const FORMAT: &str = "weir-ca-state 1";
