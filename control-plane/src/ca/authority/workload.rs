//! Signing what a workload sends: a key of its own, a certificate for itself.

use std::time::Duration;

use rustls_pki_types::UnixTime;

use super::Authority;
use super::AuthorityError;
use super::KeySource;
use super::Order;
use crate::ca::access::Caller;
use crate::ca::access::Grant;
use crate::ca::access::OWN_CERTIFICATE;
use crate::ca::refusal::Refusal;

/// What somebody sends to be signed.
#[derive(Clone, Debug, Default)]
pub struct SigningRequest {
    /// PEM or DER.
    pub csr: Vec<u8>,
    /// How long it is wanted to live; never longer than leaves live here.
    pub life: Option<Duration>,
    /// Whom it is for, if they say so.
    pub identity: Option<String>,
}

/// What they get.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The leaf and what is between it and the root, each in PEM.
    pub chain: Vec<String>,
    /// Whom to believe, in one PEM.
    pub roots: String,
}

impl Authority {
    /// Signs the key of a caller for the caller's own identity.
    ///
    /// # Errors
    /// When it is refused, which is counted and audited, or it cannot be made or noted.
    pub fn sign_request(
        &mut self,
        now: UnixTime,
        caller: &Caller,
        request: &SigningRequest,
    ) -> Result<Signed, AuthorityError> {
        let wanted = request.identity.as_deref().unwrap_or(OWN_CERTIFICATE);
        let Grant::Certificate(identity) = self.may_have(now, caller, wanted)? else {
            let name = wanted.to_owned();
            return self.refuse_to(now, (caller, wanted), Refusal::UnknownSecret { name });
        };
        if let Err(seconds) = self.rates.take(&identity, now.as_secs()) {
            return self.refuse_to(now, (caller, wanted), Refusal::TooMany { seconds });
        }
        let actor = caller.to_string();
        let life = request.life.map(|life| life.min(self.leaf_life()));
        let order = Order {
            name: &identity,
            key: KeySource::Request(&request.csr),
            life,
            actor: &actor,
        };
        let leaf = self.issue(now, &order)?;
        Ok(Signed {
            chain: blocks(&leaf.chain),
            roots: self.bundle(now)?.roots,
        })
    }
}

impl Authority {
    fn refuse_to<T>(
        &mut self,
        now: UnixTime,
        (caller, wanted): (&Caller, &str),
        refusal: Refusal,
    ) -> Result<T, AuthorityError> {
        let (_lock, _) = self.store.enter()?;
        Err(self.refuse(now.as_secs(), &caller.to_string(), wanted, refusal))
    }
}

/// The blocks of a PEM text, each for itself.
fn blocks(pem: &str) -> Vec<String> {
    let ends = pem.split_inclusive(END);
    let blocks = ends.filter(|block| block.ends_with(END));
    blocks
        .map(|block| format!("{}\n", block.trim_start()))
        .collect()
}

const END: &str = "-----END CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::SpiffeId;
    use crate::ca::authority::Options;
    use crate::limits::SIGNED_BURST_MAX;

    /// Some day of 2026.
    const START: u64 = 1_790_000_000;

    struct Place {
        authority: Authority,
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let options = Options::new("mesh.example".parse().unwrap());
            let authority = Authority::init(&dir.path().join("ca"), &options, at(START));
            Self {
                authority: authority.unwrap(),
                dir,
            }
        }

        fn sign(&mut self, caller: &Caller, request: &SigningRequest) -> Result<Signed, String> {
            let signed = self.authority.sign_request(at(START), caller, request);
            match signed {
                Err(AuthorityError::Refused(refusal)) => Err(refusal.label().to_owned()),
                other => Ok(other.unwrap()),
            }
        }

        fn audit(&self) -> String {
            std::fs::read_to_string(self.dir.path().join("ca/audit.log")).unwrap()
        }
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn named(path: &str) -> Caller {
        let identity: SpiffeId = format!("spiffe://mesh.example/{path}").parse().unwrap();
        Caller::Token {
            id: "07".to_owned(),
            identity,
        }
    }

    fn request(names: &[&str]) -> SigningRequest {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        let name = |name: &&str| rcgen::SanType::URI((*name).try_into().unwrap());
        params.subject_alt_names = names.iter().map(name).collect();
        let csr = params.serialize_request(&key).unwrap();
        SigningRequest {
            csr: csr.pem().unwrap().into(),
            ..SigningRequest::default()
        }
    }

    #[test]
    fn a_workload_gets_a_chain_and_the_roots_for_itself() {
        let mut place = Place::new();
        let mut wanted = request(&["spiffe://mesh.example/cart"]);
        wanted.identity = Some("spiffe://mesh.example/cart".to_owned());
        wanted.life = Some(Duration::from_hours(20 * 24));
        let signed = place.sign(&named("cart"), &wanted).unwrap();
        assert_eq!(signed.chain.len(), 2, "leaf and intermediate");
        let all = signed.chain.iter().chain([&signed.roots]);
        for pem in all {
            assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n"), "{pem}");
        }
        let leaf = rustls_pki_types::pem::PemObject::from_pem_slice(signed.chain[0].as_bytes());
        let leaf: rustls_pki_types::CertificateDer<'_> = leaf.unwrap();
        let leaf = crate::ca::certificate::parse(&leaf).unwrap();
        let until = u64::try_from(leaf.validity().not_after.timestamp()).unwrap();
        assert_eq!(until, START + 24 * 3_600, "no longer than leaves live");
        assert!(place.audit().contains("\"key\":\"request\""));
        place.sign(&named("cart"), &request(&[])).unwrap();
    }

    #[test]
    fn whoever_asks_for_another_is_refused_and_told_on() {
        let mut place = Place::new();
        let mut check = |caller: &Caller, request: SigningRequest, label: &str| {
            assert_eq!(place.sign(caller, &request).unwrap_err(), label);
            assert!(place.audit().contains(label), "{label}");
        };
        check(&Caller::Anonymous, request(&[]), "anonymous");
        check(&Caller::Exposed, request(&[]), "exposed");
        let foreign = request(&["spiffe://mesh.example/bank"]);
        check(&named("cart"), foreign, "name_foreign");
        let impersonating = SigningRequest {
            identity: Some("spiffe://mesh.example/bank".to_owned()),
            ..request(&["spiffe://mesh.example/bank"])
        };
        check(&named("cart"), impersonating, "not_yours");
        let roots = SigningRequest {
            identity: Some("ROOTCA".to_owned()),
            ..request(&[])
        };
        check(&named("cart"), roots, "unknown_secret");
        let noise = SigningRequest {
            csr: b"noise".to_vec(),
            ..SigningRequest::default()
        };
        check(&named("cart"), noise, "malformed");
        check(&named("cart"), SigningRequest::default(), "malformed");
    }

    #[test]
    fn nobody_is_signed_for_without_end() {
        let mut place = Place::new();
        let cart: SpiffeId = "spiffe://mesh.example/cart".parse().unwrap();
        for _ in 0..SIGNED_BURST_MAX {
            place.authority.rates.take(&cart, START).unwrap();
        }
        let refused = place.sign(&named("cart"), &request(&[])).unwrap_err();
        assert_eq!(refused, "too_many");
        place.sign(&named("edge"), &request(&[])).unwrap();
    }
}
