//! Making an authority: an own root with an intermediate, or an intermediate of somebody else.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::Authority;
use super::AuthorityError;
use super::External;
use super::external::take_external;
use super::random;
use crate::ca::certificate;
use crate::ca::certificate::Rank;
use crate::ca::certificate::Validity;
use crate::ca::disk::Disk;
use crate::ca::identity::TrustDomain;
use crate::ca::key::KeyKind;
use crate::ca::refusal::Refusal;
use crate::ca::secret;
use crate::ca::secret::Secret;
use crate::ca::store::Serial;
use crate::ca::store::Store;
use crate::ca::store::TOKENS_KEY;
use crate::ca::store::audit::Event;
use crate::ca::store::state::Intermediate;
use crate::ca::store::state::Root;
use crate::ca::store::state::State;
use crate::ca::store::state::hex;
use crate::ca::store::state::key_file;
use crate::limits::CLOCK_SKEW;
use crate::limits::INTERMEDIATE_LIFE;
use crate::limits::LEAF_LIFE_MAX;
use crate::limits::LEAF_LIFE_MIN;
use crate::limits::ROOT_LIFE;

/// What a new authority is like.
#[derive(Debug)]
pub struct Options {
    /// The domain it vouches for.
    pub domain: TrustDomain,
    /// How long leaves live unless asked otherwise.
    pub leaf_life: Duration,
    /// Whether leaves may have Ed25519 keys, which stock Envoy does not understand.
    pub allow_ed25519: bool,
    /// An intermediate signed by somebody else, instead of an own root.
    pub external: Option<External>,
}

/// An authority with its key, not yet stored.
pub(super) struct Made<T> {
    pub(super) record: T,
    pub(super) key: Secret,
}

impl Options {
    /// A plain authority with its own root.
    #[must_use]
    pub fn new(domain: TrustDomain) -> Self {
        Self {
            domain,
            leaf_life: LEAF_LIFE,
            allow_ed25519: false,
            external: None,
        }
    }
}

impl Authority {
    pub(super) fn init_on(
        disk: Box<dyn Disk>,
        options: &Options,
        now: u64,
    ) -> Result<Self, AuthorityError> {
        check_life(options.leaf_life)?;
        let mut state = State {
            domain: options.domain.clone(),
            leaf_life: options.leaf_life.as_secs(),
            allow_ed25519: options.allow_ed25519,
            serials_until: 0,
            next_authority: 1,
            clock: now,
            list_number: 0,
            roots: Vec::new(),
            intermediates: Vec::new(),
            revoked: Vec::new(),
            used_tokens: Vec::new(),
            federated: Vec::new(),
            federation_number: 0,
        };
        let mut keys = vec![(TOKENS_KEY.to_owned(), new_token_key()?)];
        match &options.external {
            Some(external) => {
                let made = take_external(&mut state, external, now)?;
                keys.push((key_file(&made.record.id), made.key));
                state.intermediates.push(made.record);
            }
            None => {
                let root = new_root(&mut state, now)?;
                let below = new_intermediate(&mut state, &root, now, Duration::ZERO)?;
                keys.push((key_file(&root.record.id), root.key));
                keys.push((key_file(&below.record.id), below.key));
                state.roots.push(root.record);
                state.intermediates.push(below.record);
            }
        }
        let mut authority = Self::of_store(Store::create(disk, state, &keys)?)?;
        let lock = authority.enter(now)?;
        let domain = options.domain.as_str();
        let root = authority.loaded.roots.first().map_or("", |root| &*root.id);
        let event = Event::Init { domain, root };
        authority.store.audit(now, "init", &event)?;
        drop(lock);
        Ok(authority)
    }
}

fn new_token_key() -> Result<Secret, AuthorityError> {
    let bytes = Zeroizing::new(random::<32>()?);
    Ok(Secret::new(hex(&*bytes)))
}

/// A number no authority and no leaf had before. Only for authorities: a state that is about to
/// be committed carries the counter.
pub(super) fn take_number(state: &mut State) -> Result<Serial, AuthorityError> {
    let number = state.serials_until;
    state.serials_until += 1;
    Ok(Serial::new(number, random()?))
}

pub(super) fn take_id(state: &mut State, rank: &str) -> String {
    let id = format!("{rank}-{}", state.next_authority);
    state.next_authority += 1;
    id
}

/// A root that signs itself.
pub(super) fn new_root(state: &mut State, now: u64) -> Result<Made<Root>, AuthorityError> {
    let id = take_id(state, "root");
    let validity = Validity {
        from: now.saturating_sub(CLOCK_SKEW.as_secs()),
        until: now + ROOT_LIFE.as_secs(),
    };
    let serial = take_number(state)?;
    let params = certificate::authority(&state.domain, Rank::Root, &id, validity, serial.bytes())?;
    let (key, text) = KeyKind::EcdsaP256
        .generate()
        .map_err(certificate::CertificateError::Make)?;
    let made = params.self_signed(&key);
    let made = made.map_err(certificate::CertificateError::Make)?;
    let record = Root {
        id,
        certificate: made.pem(),
        has_key: true,
        trusted_until: None,
    };
    Ok(Made { record, key: text })
}

/// An intermediate below a root whose key is at hand.
pub(super) fn new_intermediate(
    state: &mut State,
    root: &Made<Root>,
    now: u64,
    spread: Duration,
) -> Result<Made<Intermediate>, AuthorityError> {
    let unusable = |reason: String| AuthorityError::Given {
        what: "the root",
        reason,
    };
    let der = CertificateDer::from_pem_slice(root.record.certificate.as_bytes());
    let der = der.map_err(|error| unusable(error.to_string()))?;
    let key =
        secret::read(&root.key).ok_or_else(|| unusable("its key cannot be read".to_owned()))?;
    let issuer = certificate::issuer(&der, key)?;
    let until = certificate::validity_of(&certificate::parse(&der)?).until;
    let validity = Validity {
        from: now.saturating_sub(CLOCK_SKEW.as_secs()),
        until: until.min(now + INTERMEDIATE_LIFE.as_secs()),
    };
    let (id, serial) = (take_id(state, "intermediate"), take_number(state)?);
    let rank = Rank::Intermediate;
    let params = certificate::authority(&state.domain, rank, &id, validity, serial.bytes())?;
    let (key, text) = KeyKind::EcdsaP256
        .generate()
        .map_err(certificate::CertificateError::Make)?;
    let made = params.signed_by(&key, &issuer);
    let made = made.map_err(certificate::CertificateError::Make)?;
    let record = Intermediate {
        id,
        root: root.record.id.clone(),
        chain: vec![made.pem()],
        signs_from: signs_from(now, spread),
    };
    Ok(Made { record, key: text })
}

/// When a new intermediate begins. At once means a little earlier, so that a clock that is set back
/// by seconds does not find nobody who signs.
pub(super) fn signs_from(now: u64, spread: Duration) -> u64 {
    if spread.is_zero() {
        now.saturating_sub(CLOCK_SKEW.as_secs())
    } else {
        now + spread.as_secs()
    }
}

/// A certificate in PEM.
pub(super) fn to_pem(der: &[u8]) -> String {
    armor("CERTIFICATE", der)
}

/// A revocation list in PEM.
pub(super) fn to_pem_list(der: &[u8]) -> String {
    armor("X509 CRL", der)
}

fn armor(what: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: Vec<_> = lines.collect();
    let body = lines.join("\n");
    format!("-----BEGIN {what}-----\n{body}\n-----END {what}-----\n")
}

/// Refuses lives nobody may have.
pub(super) fn check_life(life: Duration) -> Result<(), Refusal> {
    if (LEAF_LIFE_MIN..=LEAF_LIFE_MAX).contains(&life) {
        return Ok(());
    }
    Err(Refusal::Life {
        seconds: life.as_secs(),
        min: LEAF_LIFE_MIN.as_secs(),
        max: LEAF_LIFE_MAX.as_secs(),
    })
}

/// A day: short enough that most revocations wait themselves out.
const LEAF_LIFE: Duration = Duration::from_hours(24);
