//! The authority on a simulated disk: issuing, rotating, revoking, joining, and every crash.

use std::collections::BTreeSet;

use rcgen::CertificateParams;
use rcgen::SanType;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use webpki::KeyUsage;

use super::*;
use crate::ca::certificate;
use crate::ca::disk::simulated::Simulated;
use crate::ca::key::KeyKind;
use crate::limits::AUDIT_REFUSALS_PER_SECOND;
use crate::limits::REVOCATION_LIST_LIFE;

mod attacks;
mod clock;
mod crashes;
mod rotation;

/// Some day of 2026.
const START: u64 = 1_790_000_000;

const DAY: u64 = 24 * 3_600;

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn name(path: &str) -> SpiffeId {
    format!("spiffe://mesh.example/{path}").parse().unwrap()
}

fn options() -> Options {
    Options::new("mesh.example".parse().unwrap())
}

fn authority() -> (Simulated, Authority) {
    let disk = Simulated::default();
    let authority = Authority::init_on(Box::new(disk.clone()), &options(), START).unwrap();
    (disk, authority)
}

fn order(name: &SpiffeId) -> Order<'_> {
    Order {
        name,
        key: KeySource::Made(KeyKind::EcdsaP256),
        life: None,
        actor: "test",
    }
}

fn issue(authority: &mut Authority, now: u64, path: &str) -> Leaf {
    authority.issue(at(now), &order(&name(path))).unwrap()
}

fn ders(pem: &str) -> Vec<CertificateDer<'static>> {
    let ders: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    ders.unwrap()
}

/// Whether somebody who has `bundle` lets the owner of `leaf` in.
fn accepts(bundle: &Bundle, leaf: &Leaf, now: u64) -> Result<(), String> {
    let chain = ders(&leaf.chain);
    let lists = CertificateRevocationListDer::pem_slice_iter(bundle.lists.as_bytes());
    let lists: Result<Vec<_>, _> = lists.collect();
    let usages = [KeyUsage::client_auth(), KeyUsage::server_auth()];
    let (own, above) = chain.split_first().unwrap();
    let usage = (&usages[..], at(now));
    certificate::check_chain(own, above, &ders(&bundle.roots), &lists.unwrap(), usage)
        .map_err(|error| error.to_string())
}

fn audit(disk: &Simulated) -> Vec<Value> {
    let text = disk.text("audit.log");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_leaf_is_an_identity_document_by_the_letter() {
    let (_, mut authority) = authority();
    for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Rsa] {
        let wanted = name("ns/shop/sa/cart");
        let key = KeySource::Made(kind);
        let leaf = authority
            .issue(
                at(START),
                &Order {
                    key,
                    ..order(&wanted)
                },
            )
            .unwrap();
        let chain = ders(&leaf.chain);
        assert_eq!(chain.len(), 2, "leaf and intermediate, not the root");
        let leaf = certificate::parse(&chain[0]).unwrap();
        let usage = leaf.key_usage().unwrap().unwrap();
        assert!(
            usage.critical && usage.value.flags == 1,
            "digital signature alone"
        );
        let constraints = leaf.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && !constraints.value.ca);
        let extended = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && extended.client_auth && !extended.any);
        let names = leaf.subject_alternative_name().unwrap().unwrap().value;
        let [x509_parser::extensions::GeneralName::URI(uri)] = &*names.general_names else {
            panic!("one URI and nothing else")
        };
        assert_eq!(*uri, wanted.to_string());
        assert_eq!(access::caller_of(&chain[0]).identity(), Some(&wanted));
        let above = certificate::parse(&chain[1]).unwrap();
        let constraints = above.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        let usage = above.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
        assert!(!usage.value.digital_signature());
    }
}

#[test]
fn a_leaf_begins_before_now_and_ends_with_its_issuer_at_the_latest() {
    let (_, mut authority) = authority();
    let leaf = issue(&mut authority, START, "a");
    assert_eq!(
        (leaf.record.from, leaf.record.until),
        (START - 300, START + DAY)
    );
    let wanted = name("a");
    let life = Some(Duration::from_secs(31 * DAY));
    // An intermediate of somebody else, which nobody replaces.
    let theirs = &authority.loaded;
    let external = External {
        chain: theirs.intermediates[0].pem.clone(),
        key: authority.store.read_key("intermediate-2.key").unwrap(),
        root: theirs.roots[0].pem.clone(),
    };
    let options = Options {
        external: Some(external),
        ..options()
    };
    let disk = Box::new(Simulated::default());
    let mut authority = Authority::init_on(disk, &options, START).unwrap();
    let late = START + 364 * DAY;
    let leaf = authority
        .issue(
            at(late),
            &Order {
                life,
                ..order(&wanted)
            },
        )
        .unwrap();
    assert_eq!(leaf.record.until, START + 365 * DAY);
    let end = START + 365 * DAY;
    let error = authority.issue(at(end - 30), &order(&wanted)).unwrap_err();
    assert!(error.to_string().contains("ends in 30 s"), "{error}");
    let error = authority.issue(at(end), &order(&wanted)).unwrap_err();
    assert!(matches!(error, AuthorityError::NothingSigns));
}

#[test]
fn serial_numbers_are_never_used_twice() {
    let (disk, mut authority) = authority();
    let mut seen = BTreeSet::new();
    for turn in 0..40 {
        for _ in 0..turn {
            assert!(seen.insert(issue(&mut authority, START, "a").record.serial));
        }
        authority = Authority::open_on(Box::new(disk.clone())).unwrap();
    }
    let names = vec![name("b"); 3_000];
    let orders: Vec<Order<'_>> = names.iter().map(order).collect();
    for leaf in authority.issue_all(at(START), &orders).unwrap() {
        assert!(seen.insert(leaf.unwrap().record.serial));
    }
}

#[test]
fn two_processes_see_what_each_other_did() {
    let (disk, mut one) = authority();
    let mut two = Authority::open_on(Box::new(disk)).unwrap();
    let leaf = issue(&mut one, START, "a");
    let serial = leaf.record.serial;
    assert_ne!(issue(&mut two, START, "a").record.serial, serial);
    two.revoke(at(START), &Which::Serial(serial), "test")
        .unwrap();
    let bundle = one.bundle(at(START)).unwrap();
    assert!(
        accepts(&bundle, &leaf, START)
            .unwrap_err()
            .contains("CertRevoked")
    );
    one.rotate_intermediate(at(START), Duration::ZERO, "test")
        .unwrap();
    assert_eq!(issue(&mut two, START, "b").record.issuer, "intermediate-3");
}

#[test]
fn a_revoked_leaf_is_refused_and_others_are_not() {
    let (_, mut authority) = authority();
    let leaves = ["a", "a", "b"].map(|path| issue(&mut authority, START, path));
    let before = authority.bundle(at(START)).unwrap();
    let done = authority
        .revoke(at(START + 1), &Which::Name(name("a")), "test")
        .unwrap();
    assert_eq!(done.len(), 2);
    let after = authority.bundle(at(START + 1)).unwrap();
    for leaf in &leaves {
        accepts(&before, leaf, START).unwrap();
    }
    for leaf in &leaves[..2] {
        let error = accepts(&after, leaf, START + 1).unwrap_err();
        assert!(error.contains("CertRevoked"), "{error}");
    }
    accepts(&after, &leaves[2], START + 1).unwrap();
    let again = authority.revoke(at(START + 2), &Which::Name(name("a")), "test");
    assert!(matches!(again, Err(AuthorityError::Unknown(_))));
    // Its end makes the revocation superfluous.
    authority.overview(at(START + 40 * DAY)).unwrap();
    assert!(authority.store.state().revoked.is_empty());
    assert_eq!(after.until, START + 1 + REVOCATION_LIST_LIFE.as_secs());
}

#[test]
fn a_revoked_caller_gets_nothing_more() {
    let (_, mut authority) = authority();
    let leaf = issue(&mut authority, START, "a");
    let caller = access::caller_of(&ders(&leaf.chain)[0]);
    let grant = authority.may_have(at(START), &caller, "default").unwrap();
    assert_eq!(grant, Grant::Certificate(name("a")));
    let which = Which::Serial(leaf.record.serial);
    authority.revoke(at(START), &which, "test").unwrap();
    let refused = authority.may_have(at(START), &caller, "default");
    assert!(matches!(
        refused,
        Err(AuthorityError::Refused(Refusal::Revoked))
    ));
}

#[test]
fn a_token_opens_once_also_after_a_restart() {
    let (disk, mut authority) = authority();
    let life = Duration::from_secs(600);
    let token = authority
        .token(at(START), &name("a"), life, "test")
        .unwrap();
    let caller = authority
        .redeem(at(START + 1), token.expose(), "test")
        .unwrap();
    assert_eq!(caller.identity(), Some(&name("a")));
    for _ in 0..2 {
        let error = authority
            .redeem(at(START + 2), token.expose(), "test")
            .unwrap_err();
        assert!(matches!(error, AuthorityError::Refused(Refusal::TokenUsed)));
        authority = Authority::open_on(Box::new(disk.clone())).unwrap();
    }
    let error = authority
        .redeem(at(START + 601), token.expose(), "test")
        .unwrap_err();
    assert!(matches!(
        error,
        AuthorityError::Refused(Refusal::TokenExpired)
    ));
    authority.overview(at(START + 40 * DAY)).unwrap();
    assert!(authority.store.state().used_tokens.is_empty());
}

#[test]
fn no_key_is_shown_by_any_log_or_dump() {
    let (disk, mut authority) = authority();
    let leaf = issue(&mut authority, START, "a");
    let token = authority
        .token(at(START), &name("a"), Duration::from_secs(600), "test")
        .unwrap();
    authority.redeem(at(START), token.expose(), "test").unwrap();
    authority
        .rotate_root(at(START), Duration::ZERO, "test")
        .unwrap();
    let shown = format!("{authority:?} {leaf:?} {token:?}");
    let files = ["state", "issued.log", "audit.log"].map(|file| disk.text(file));
    let secrets = ["root-1.key", "intermediate-2.key", "tokens.key"].map(|file| disk.text(file));
    let key = leaf.key.unwrap().expose().to_owned();
    for secret in secrets
        .iter()
        .map(String::as_str)
        .chain([&*key, token.expose()])
    {
        let line = secret.lines().find(|line| !line.starts_with('-')).unwrap();
        for text in files.iter().chain([&shown]) {
            assert!(!text.contains(line));
            assert!(!text.contains("PRIVATE KEY"));
        }
    }
}

#[test]
fn refusals_beyond_a_rate_are_counted_and_told_later() {
    let (disk, mut authority) = authority();
    let before = audit(&disk).len();
    let many = AUDIT_REFUSALS_PER_SECOND + 7;
    for _ in 0..many {
        authority
            .may_have(at(START), &Caller::Anonymous, "default")
            .unwrap_err();
    }
    assert_eq!(
        audit(&disk).len() - before,
        usize::try_from(many - 7).unwrap()
    );
    assert_eq!(authority.refusals()["anonymous"], many);
    issue(&mut authority, START, "a");
    assert_eq!(audit(&disk).last().unwrap()["unwritten"], 7);
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn signing_request(kind: KeyKind, names: &[SanType]) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.to_vec();
    let csr = params
        .serialize_request(&kind.generate().unwrap().0)
        .unwrap();
    csr.der().to_vec()
}
