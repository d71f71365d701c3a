//! The state with its certificates read and its keys at hand.

use std::fmt;

use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::PublicKeyData;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::ca::certificate;
use crate::ca::certificate::Validity;
use crate::ca::secret;
use crate::ca::store::Store;
use crate::ca::store::StoreError;
use crate::ca::store::TOKENS_KEY;
use crate::ca::store::state::Intermediate;
use crate::ca::store::state::Root;
use crate::ca::store::state::key_file;
use crate::ca::store::state::unhex;
use crate::ca::token::Signer;

/// Everything that signs.
pub(super) struct Loaded {
    /// Oldest first.
    pub(super) roots: Vec<LoadedRoot>,
    /// Oldest first.
    pub(super) intermediates: Vec<LoadedIntermediate>,
    pub(super) tokens: Signer,
}

pub(super) struct LoadedRoot {
    pub(super) id: String,
    pub(super) der: CertificateDer<'static>,
    pub(super) pem: String,
    /// `None` if it is somebody else's.
    pub(super) issuer: Option<Issuer<'static, KeyPair>>,
    pub(super) validity: Validity,
}

pub(super) struct LoadedIntermediate {
    pub(super) id: String,
    pub(super) ders: Vec<CertificateDer<'static>>,
    pub(super) pem: String,
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) validity: Validity,
    pub(super) signs_from: u64,
}

impl Loaded {
    pub(super) fn new(store: &Store) -> Result<Self, StoreError> {
        let state = store.state();
        let roots = state.roots.iter().map(|root| load_root(store, root));
        let below = state.intermediates.iter();
        let below = below.map(|intermediate| load_intermediate(store, intermediate));
        let text = store.read_key(TOKENS_KEY)?;
        let secret = unhex(text.expose().trim()).map(Zeroizing::new);
        let secret = secret.filter(|bytes| bytes.len() == 32);
        let secret = secret
            .ok_or_else(|| store.corrupt(TOKENS_KEY, &"it does not hold 64 hexadecimal digits"))?;
        Ok(Self {
            roots: roots.collect::<Result<_, _>>()?,
            intermediates: below.collect::<Result<_, _>>()?,
            tokens: Signer::new(&secret),
        })
    }

    /// The one that signs leaves now: the newest that may.
    pub(super) fn signing(&self, now: u64) -> Option<&LoadedIntermediate> {
        let ready = self
            .intermediates
            .iter()
            .filter(|below| below.signs_from <= now && now < below.validity.until);
        ready.max_by_key(|below| below.signs_from)
    }

    /// The newest root that can sign at this time.
    pub(super) fn newest_root(&self, now: u64) -> Option<(&LoadedRoot, &Issuer<'static, KeyPair>)> {
        let roots = self.roots.iter().rev();
        let mut valid =
            roots.filter(|root| (root.validity.from..root.validity.until).contains(&now));
        valid.find_map(|root| Some((root, root.issuer.as_ref()?)))
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots: Vec<&str> = self.roots.iter().map(|root| &*root.id).collect();
        let below: Vec<&str> = self.intermediates.iter().map(|below| &*below.id).collect();
        f.debug_struct("Loaded")
            .field("roots", &roots)
            .field("intermediates", &below)
            .finish_non_exhaustive()
    }
}

fn load_root(store: &Store, root: &Root) -> Result<LoadedRoot, StoreError> {
    let der = read_pem(store, &root.id, &root.certificate)?;
    let issuer = match root.has_key {
        true => Some(load_issuer(store, &root.id, &der)?),
        false => None,
    };
    Ok(LoadedRoot {
        id: root.id.clone(),
        validity: validity(store, &root.id, &der)?,
        pem: root.certificate.clone(),
        issuer,
        der,
    })
}

fn load_intermediate(
    store: &Store,
    below: &Intermediate,
) -> Result<LoadedIntermediate, StoreError> {
    let ders = below
        .chain
        .iter()
        .map(|pem| read_pem(store, &below.id, pem));
    let ders = ders.collect::<Result<Vec<_>, _>>()?;
    let own = ders
        .first()
        .ok_or_else(|| wrong(store, &below.id, &"its chain is empty"))?;
    Ok(LoadedIntermediate {
        id: below.id.clone(),
        pem: below.chain.concat(),
        issuer: load_issuer(store, &below.id, own)?,
        validity: validity(store, &below.id, own)?,
        signs_from: below.signs_from,
        ders,
    })
}

fn load_issuer(
    store: &Store,
    id: &str,
    der: &CertificateDer<'_>,
) -> Result<Issuer<'static, KeyPair>, StoreError> {
    let file = key_file(id);
    let key = secret::read(&store.read_key(&file)?)
        .ok_or_else(|| store.corrupt(&file, &"it does not hold a private key in PEM"))?;
    let certificate = certificate::parse(der).map_err(|error| wrong(store, id, &error))?;
    if certificate.public_key().raw != key.subject_public_key_info() {
        return Err(store.corrupt(&file, &"it is not the key of the certificate in state"));
    }
    certificate::issuer(der, key).map_err(|error| wrong(store, id, &error))
}

fn read_pem(store: &Store, id: &str, pem: &str) -> Result<CertificateDer<'static>, StoreError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| wrong(store, id, &error))
}

fn validity(store: &Store, id: &str, der: &CertificateDer<'_>) -> Result<Validity, StoreError> {
    let certificate = certificate::parse(der).map_err(|error| wrong(store, id, &error))?;
    Ok(certificate::validity_of(&certificate))
}

fn wrong(store: &Store, id: &str, reason: &dyn ToString) -> StoreError {
    let reason = format!(
        "the certificate of {id} is unusable: {}",
        reason.to_string()
    );
    store.corrupt(crate::ca::store::STATE, &reason)
}
