//! Other trust domains, whose bundles are given to everybody.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;

use super::Authority;
use super::AuthorityError;
use super::init::to_pem;
use crate::ca::certificate;
use crate::ca::federation;
use crate::ca::identity::TrustDomain;
use crate::ca::store::StoreError;
use crate::ca::store::audit::Event;
use crate::ca::store::state::Federated;
use crate::limits::FEDERATED_MAX;

/// A trust domain whose identities are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Federation {
    /// Its name.
    pub domain: TrustDomain,
    /// Its roots in PEM.
    pub roots: String,
    /// How many there are.
    pub count: usize,
    /// When the last of them ends.
    pub until: u64,
}

impl Authority {
    /// Believes the identities of another domain because of its bundle, which takes the place of an
    /// older one. Returns how many roots it has.
    ///
    /// # Errors
    /// When the bundle cannot be used, there are too many domains, or it cannot be stored.
    pub fn federate(
        &mut self,
        now: UnixTime,
        domain: &TrustDomain,
        bundle: &[u8],
        actor: &str,
    ) -> Result<usize, AuthorityError> {
        let seconds = now.as_secs();
        let _lock = self.enter(seconds)?;
        if domain == self.domain() {
            return Err(given(
                &"it is of this authority's own domain, which it knows",
            ));
        }
        let roots = federation::parse(bundle, domain, seconds).map_err(|error| given(&error))?;
        let count = roots.len();
        let mut state = self.store.state().clone();
        state.federated.retain(|known| known.domain != *domain);
        if state.federated.len() >= FEDERATED_MAX {
            let (what, count) = ("other trust domains", state.federated.len());
            return Err(StoreError::Full { what, count }.into());
        }
        state.federated.push(Federated {
            domain: domain.clone(),
            roots: roots.iter().map(|root| to_pem(root)).collect(),
        });
        state.federation_number += 1;
        let event = Event::Trust {
            what: "added",
            domain: domain.as_str(),
            roots: count,
        };
        self.store.audit(seconds, actor, &event)?;
        self.commit(seconds, state)?;
        Ok(count)
    }

    /// Believes a domain no more.
    ///
    /// # Errors
    /// When it is not known, or it cannot be stored.
    pub fn separate(
        &mut self,
        now: UnixTime,
        domain: &TrustDomain,
        actor: &str,
    ) -> Result<(), AuthorityError> {
        let seconds = now.as_secs();
        let _lock = self.enter(seconds)?;
        let mut state = self.store.state().clone();
        let known = state.federated.len();
        state.federated.retain(|known| known.domain != *domain);
        if state.federated.len() == known {
            return Err(AuthorityError::Given {
                what: "the name of the domain",
                reason: format!("{domain} is not trusted; weir ca trust list shows those that are"),
            });
        }
        state.federation_number += 1;
        let event = Event::Trust {
            what: "removed",
            domain: domain.as_str(),
            roots: 0,
        };
        self.store.audit(seconds, actor, &event)?;
        self.commit(seconds, state)
    }

    /// The domains that are believed besides the own one.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn federations(&mut self, now: UnixTime) -> Result<Vec<Federation>, AuthorityError> {
        let _lock = self.enter(now.as_secs())?;
        Ok(self.known_federations())
    }

    /// The caller has entered.
    pub(super) fn known_federations(&self) -> Vec<Federation> {
        let known = self.store.state().federated.iter();
        known
            .map(|one| Federation {
                domain: one.domain.clone(),
                roots: one.roots.concat(),
                count: one.roots.len(),
                until: one.roots.iter().map(|root| end_of(root)).max().unwrap_or(0),
            })
            .collect()
    }

    /// Whether identities of a domain are believed because of its bundle.
    pub(super) fn is_federated(&self, domain: &TrustDomain) -> bool {
        let mut known = self.store.state().federated.iter();
        known.any(|known| known.domain == *domain)
    }
}

fn end_of(pem: &str) -> u64 {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok();
    let der = der.as_deref().unwrap_or_default();
    certificate::parse(der).map_or(0, |root| certificate::validity_of(&root).until)
}

fn given(reason: &dyn ToString) -> AuthorityError {
    AuthorityError::Given {
        what: "the bundle",
        reason: reason.to_string(),
    }
}
