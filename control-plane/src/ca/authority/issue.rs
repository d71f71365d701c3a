//! Signing leaves.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use webpki::KeyUsage;

use super::Authority;
use super::AuthorityError;
use super::init::check_life;
use super::is_within;
use super::random;
use crate::ca::certificate;
use crate::ca::certificate::CertificateError;
use crate::ca::certificate::Validity;
use crate::ca::identity::SpiffeId;
use crate::ca::key::KeyKind;
use crate::ca::key::PublicKey;
use crate::ca::refusal::Refusal;
use crate::ca::request;
use crate::ca::secret::Secret;
use crate::ca::store::Record;
use crate::ca::store::Serial;
use crate::ca::store::audit::Event;
use crate::limits::CLOCK_SKEW;
use crate::limits::LEAF_LIFE_MIN;

/// A leaf somebody wants; that they may have it was decided before.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Whom it names.
    pub name: &'a SpiffeId,
    /// Where the key comes from.
    pub key: KeySource<'a>,
    /// How long it lives; the authority's default if `None`.
    pub life: Option<Duration>,
    /// Who asks, for the audit log.
    pub actor: &'a str,
}

/// Where the key of a leaf comes from.
#[derive(Clone, Copy, Debug)]
pub enum KeySource<'a> {
    /// Made here; it leaves with the leaf and is kept nowhere.
    Made(KeyKind),
    /// The owner's, in a signing request: PEM or DER.
    Request(&'a [u8]),
}

/// A leaf.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// What the index says about it.
    pub record: Record,
    /// The leaf and what is between it and the root, in PEM.
    pub chain: String,
    /// Its private key in PEM, if it was made here.
    pub key: Option<Secret>,
}

/// An order that was checked.
struct Checked<'a> {
    order: &'a Order<'a>,
    key: PublicKey,
    secret: Option<Secret>,
    life: Duration,
}

impl Leaf {
    /// When it begins and ends.
    #[must_use]
    pub fn validity(&self) -> Validity {
        Validity {
            from: self.record.from,
            until: self.record.until,
        }
    }
}

impl Authority {
    /// Signs one leaf.
    ///
    /// # Errors
    /// When it is refused, or cannot be made or noted.
    pub fn issue(&mut self, now: UnixTime, order: &Order<'_>) -> Result<Leaf, AuthorityError> {
        let leaves = self.issue_all(now, std::slice::from_ref(order))?;
        let leaf = leaves.into_iter().next();
        Ok(leaf.unwrap_or(Err(Refusal::Anonymous))?)
    }

    /// Signs many leaves at the price of one visit to the disk. One refusal does not stop the
    /// others.
    ///
    /// # Errors
    /// When they cannot be made or noted; then nobody gets any.
    pub fn issue_all(
        &mut self,
        now: UnixTime,
        orders: &[Order<'_>],
    ) -> Result<Vec<Result<Leaf, Refusal>>, AuthorityError> {
        let seconds = now.as_secs();
        let _lock = self.enter(seconds)?;
        self.store.reserve_serials(orders.len() as u64)?;
        let mut leaves = Vec::with_capacity(orders.len());
        for order in orders {
            let leaf = match self.check(order) {
                Ok(checked) => self.sign(now, checked),
                Err(error) => Err(error),
            };
            leaves.push(match leaf {
                Ok(leaf) => Ok(leaf),
                Err(AuthorityError::Refused(refusal)) => {
                    let (actor, name) = (order.actor, order.name.to_string());
                    match self.refuse(seconds, actor, &name, refusal) {
                        AuthorityError::Refused(refusal) => Err(refusal),
                        error => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            });
        }
        self.note(seconds, orders, &leaves)?;
        Ok(leaves)
    }

    fn check<'a>(&self, order: &'a Order<'a>) -> Result<Checked<'a>, AuthorityError> {
        let state = self.store.state();
        is_within(order.name, &state.domain)?;
        let life = order.life.unwrap_or_else(|| self.leaf_life());
        check_life(life)?;
        let kind_allowed = |kind: KeyKind| match kind {
            KeyKind::Ed25519 if !state.allow_ed25519 => Err(Refusal::KeyNotAllowed {
                kind: kind.to_string(),
            }),
            _ => Ok(()),
        };
        let (key, secret) = match order.key {
            KeySource::Made(kind) => {
                kind_allowed(kind)?;
                let (pair, secret) = kind.generate().map_err(CertificateError::Make)?;
                (PublicKey::of(kind, &pair), Some(secret))
            }
            KeySource::Request(text) => {
                let key = match text.first() {
                    Some(0x30) => request::key_of(text, order.name)?,
                    _ => request::key_of_pem(text, order.name)?,
                };
                kind_allowed(key.kind())?;
                (key, None)
            }
        };
        Ok(Checked {
            order,
            key,
            secret,
            life,
        })
    }

    fn sign(&mut self, now: UnixTime, checked: Checked<'_>) -> Result<Leaf, AuthorityError> {
        let seconds = now.as_secs();
        let serial = self.store.next_serial(random()?)?;
        let signing = self.loaded.signing(seconds);
        let signing = signing.ok_or(AuthorityError::NothingSigns)?;
        let left = signing.validity.until.saturating_sub(seconds);
        if left < LEAF_LIFE_MIN.as_secs() {
            return Err(Refusal::IssuerEnds { seconds: left }.into());
        }
        let validity = Validity {
            from: seconds.saturating_sub(CLOCK_SKEW.as_secs()),
            until: signing.validity.until.min(seconds + checked.life.as_secs()),
        };
        let name = checked.order.name.to_string();
        let params = certificate::leaf(&name, validity, serial.bytes())?;
        let made = params.signed_by(&checked.key, &signing.issuer);
        let made = made.map_err(CertificateError::Make)?;
        self.prove(made.der(), &signing.ders, now)?;
        Ok(Leaf {
            record: record(serial, name, &signing.id, validity),
            chain: made.pem() + &signing.pem,
            key: checked.secret,
        })
    }

    /// No leaf leaves that our own roots would not accept.
    fn prove(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        let roots: Vec<_> = self
            .loaded
            .roots
            .iter()
            .map(|root| root.der.clone())
            .collect();
        let usages = [KeyUsage::client_auth()];
        certificate::check_chain(leaf, intermediates, &roots, &[], (&usages, now))
    }

    /// Index and audit log, before anybody gets anything.
    fn note(
        &mut self,
        now: u64,
        orders: &[Order<'_>],
        leaves: &[Result<Leaf, Refusal>],
    ) -> Result<(), AuthorityError> {
        let made = leaves.iter().filter_map(|leaf| leaf.as_ref().ok());
        let records: Vec<Record> = made.map(|leaf| leaf.record.clone()).collect();
        if records.is_empty() {
            return Ok(());
        }
        self.store.note_issued(&records)?;
        for (order, leaf) in orders.iter().zip(leaves) {
            let Ok(leaf) = leaf else { continue };
            let event = Event::Issue {
                name: &leaf.record.name,
                serial: leaf.record.serial.to_string(),
                issuer: &leaf.record.issuer,
                until: leaf.record.until,
                key: match order.key {
                    KeySource::Made(_) => "made",
                    KeySource::Request(_) => "request",
                },
            };
            self.store.audit(now, order.actor, &event)?;
        }
        Ok(())
    }
}

fn record(serial: Serial, name: String, issuer: &str, validity: Validity) -> Record {
    Record {
        serial,
        name,
        issuer: issuer.to_owned(),
        from: validity.from,
        until: validity.until,
    }
}
