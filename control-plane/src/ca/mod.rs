//! The certificate authority: SPIFFE identities for proxies, and the state that proves what was
//! done.
//!
//! ```text
//!   who asks ─► access, token ─► request (CSR) ─► authority ─► certificate, crl
//!               may they?        is it sound?        │
//!                                                  store ─► disk
//! ```
//!
//! | module | role |
//! |---|---|
//! | [`identity`] | trust domains and SPIFFE ids, by the letter of the standard |
//! | [`access`] | who a caller is and what they may have; pure |
//! | [`token`] | join tokens: signed, short, used once |
//! | [`request`] | what is taken from a certificate signing request: a key, nothing else |
//! | `rate` | how often each identity is signed for; pure |
//! | [`key`] | kinds of keys, which are strong enough |
//! | [`certificate`] | what our certificates and revocation lists look like |
//! | [`federation`] | bundles of other trust domains |
//! | [`authority`] | issues, rotates, revokes; the one door for the rest of the program |
//! | [`refusal`] | every reason to say no |
//! | [`secret`] | private keys as text, which is wiped |
//! | [`store`], [`disk`] | the directory: state, keys, index, audit log; survives kill -9 |
//!
//! Invariants: a serial number is never used twice, also over a crash; a key is on disk before the
//! first certificate that needs it, and is never logged; a certificate never outlives its issuer;
//! every issue, refusal, rotation and revocation is a line of the audit log; time and randomness of
//! decisions enter as arguments.

pub mod access;
pub mod authority;
pub mod certificate;
mod disk;
pub mod federation;
pub mod identity;
pub mod key;
mod rate;
pub mod refusal;
pub mod request;
pub mod secret;
mod store;
pub mod token;

pub use authority::Authority;
pub use identity::SpiffeId;
pub use identity::TrustDomain;
pub use refusal::Refusal;
pub use store::StoreError;
