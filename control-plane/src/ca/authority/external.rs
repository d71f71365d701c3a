//! Taking an intermediate somebody else signed.

use std::time::Duration;

use rcgen::KeyPair;
use rcgen::PublicKeyData;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use webpki::KeyUsage;

use super::AuthorityError;
use super::init::Made;
use super::init::take_id;
use super::init::take_number;
use super::init::to_pem;
use crate::ca::certificate;
use crate::ca::certificate::CertificateError;
use crate::ca::certificate::Validity;
use crate::ca::key::KeyKind;
use crate::ca::key::PublicKey;
use crate::ca::refusal::Refusal;
use crate::ca::secret;
use crate::ca::secret::Secret;
use crate::ca::store::state::Intermediate;
use crate::ca::store::state::Root;
use crate::ca::store::state::State;
use crate::limits::CHAIN_MAX;
use crate::limits::LEAF_LIFE_MIN;

/// An intermediate signed by somebody else; all in PEM.
#[derive(Debug)]
pub struct External {
    /// Its certificate, and what is between it and the root.
    pub chain: String,
    /// Its private key.
    pub key: Secret,
    /// The root, which everybody is to trust.
    pub root: String,
}

/// Takes an intermediate of somebody else, and its root into the state. It is tried first: what it
/// signs must hold.
pub(super) fn take_external(
    state: &mut State,
    external: &External,
    now: u64,
) -> Result<Made<Intermediate>, AuthorityError> {
    let count = chain_len(&external.chain);
    if count > CHAIN_MAX {
        let most = CHAIN_MAX;
        return Err(Refusal::ChainLong { count, most }.into());
    }
    let (key, text) = secret::read_with_text(&external.key)
        .ok_or_else(|| given("the key", &"it is no private key in PEM"))?;
    let chain = read_all(&external.chain).map_err(|error| given("the certificate", &error))?;
    let roots = read_all(&external.root).map_err(|error| given("the root", &error))?;
    let (Some(own), [root]) = (chain.first(), &*roots) else {
        return Err(given("the root", &"exactly one certificate is wanted"));
    };
    let parsed = certificate::parse(own)?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(given("the key", &"it is not the key of the certificate"));
    }
    probe(state, &chain, key, root, now).map_err(|error| given("the certificate", &error))?;
    let root = external_root(state, root);
    let record = Intermediate {
        id: take_id(state, "intermediate"),
        root,
        chain: chain.iter().map(|der| to_pem(der)).collect(),
        signs_from: now,
    };
    Ok(Made { record, key: text })
}

fn chain_len(pem: &str) -> usize {
    pem.matches("-----BEGIN CERTIFICATE-----").count()
}

/// Signs a leaf and checks it.
fn probe(
    state: &mut State,
    chain: &[CertificateDer<'_>],
    key: KeyPair,
    root: &CertificateDer<'_>,
    now: u64,
) -> Result<(), AuthorityError> {
    let own = chain.first().map_or(&[][..], |own| own);
    let issuer = certificate::issuer(own, key)?;
    let validity = Validity {
        from: now,
        until: now + LEAF_LIFE_MIN.as_secs(),
    };
    let name = format!("{}/probe", state.domain.id());
    let params = certificate::leaf(&name, validity, take_number(state)?.bytes())?;
    let (pair, _) = KeyKind::EcdsaP256
        .generate()
        .map_err(CertificateError::Make)?;
    let leaf = params.signed_by(&PublicKey::of(KeyKind::EcdsaP256, &pair), &issuer);
    let leaf = leaf.map_err(CertificateError::Make)?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let usages = [KeyUsage::client_auth(), KeyUsage::server_auth()];
    let roots = std::slice::from_ref(root);
    Ok(certificate::check_chain(
        leaf.der(),
        chain,
        roots,
        &[],
        (&usages, time),
    )?)
}

fn given(what: &'static str, reason: &dyn ToString) -> AuthorityError {
    AuthorityError::Given {
        what,
        reason: reason.to_string(),
    }
}

/// The state's root with this certificate; added if it is new.
fn external_root(state: &mut State, root: &CertificateDer<'_>) -> String {
    let pem = to_pem(root);
    if let Some(known) = state.roots.iter().find(|known| known.certificate == pem) {
        return known.id.clone();
    }
    let id = take_id(state, "root");
    state.roots.push(Root {
        id: id.clone(),
        certificate: pem,
        has_key: false,
        trusted_until: None,
    });
    id
}

fn read_all(pem: &str) -> Result<Vec<CertificateDer<'static>>, rustls_pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect()
}
