//! Ways from a client's leaf to the root that are there, are not, or are meant to be searched for without
//! end (security case T6): constraints of names and lengths, revocation, cycles.

use std::time::Duration;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateRevocationListParams;
use rcgen::CertifiedIssuer;
use rcgen::CidrSubnet;
use rcgen::GeneralSubtree;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::NameConstraints;
use rcgen::RevokedCertParams;
use rcgen::SanType;
use rcgen::date_time_ymd;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use super::authority::Authority;
use super::authority::Files;
use super::authority::authority;
use super::authority::key;
use super::presenter;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::of_both;
use crate::setting::envoy_is_there;

/// The serial number that is revoked.
const REVOKED: u64 = 7;

/// Entries of a large list: what a public authority has.
const MANY: u64 = 50_000;

/// Intermediates of one name, each of which could be the issuer of every other: as many as are looked
/// at, and as many as fit into a handshake.
const BOMBS: [(&str, usize); 2] = [("a small cycle", 8), ("a large cycle", 60)];

/// What the worst chain may take, connection and answer included, on a busy machine.
const BOUND: Duration = Duration::from_secs(10);

/// Refused by Envoy alone, whose TLS library knows no constraints of addresses and so trusts nobody
/// below one.
const ENVOY_CANNOT: &str = "in the network";

/// What a client shows: a chain and its key.
struct Shown {
    name: &'static str,
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

/// A leaf with these names below `by`, shown with what is above it.
fn leaf(name: &'static str, names: &[SanType], by: &Authority, above: &[&Authority]) -> Shown {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.to_vec();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if name.contains("revoked") {
        params.serial_number = Some(REVOKED.into());
    }
    let key = key();
    let certificate = params.signed_by(&key, by).expect("it is sound");
    let mut chain = vec![certificate.der().clone()];
    chain.extend(above.iter().map(|above| above.der().clone()));
    Shown { name, chain, key }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("ASCII"))
}

fn ip(address: [u8; 4]) -> SanType {
    SanType::IpAddress(address.into())
}

fn below(params: CertificateParams, by: &Authority) -> Authority {
    CertifiedIssuer::signed_by(params, key(), by).expect("it is sound")
}

fn constrained(
    name: &str,
    permitted: Vec<GeneralSubtree>,
    excluded: Vec<GeneralSubtree>,
) -> CertificateParams {
    let mut params = authority(name);
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: permitted,
        excluded_subtrees: excluded,
    });
    params
}

fn short(name: &str) -> CertificateParams {
    let mut params = authority(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params
}

/// No authority at all, but it signs.
fn pretender() -> CertificateParams {
    let mut params = authority("pretender");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

/// Chains without constraints, with whether each is sound where nothing is revoked.
fn plain(root: &Authority) -> Vec<(Shown, bool)> {
    let plain = below(authority("plain"), root);
    let strangers = [&below(authority("one"), root), &plain, root];
    let names = &[dns("a.test")];
    vec![
        (leaf("below the root", names, root, &[]), true),
        (leaf("revoked, below the root", names, root, &[]), true),
        (leaf("below another", names, &plain, &[&plain]), true),
        (leaf("revoked by nobody", names, &plain, &[&plain]), true),
        (leaf("without its issuer", names, &plain, &[]), false),
        (leaf("with strangers", names, &plain, &strangers), true),
    ]
}

/// Chains below authorities that may not vouch for everybody.
fn limited(root: &Authority) -> Vec<(Shown, bool)> {
    let host = |text: &str| GeneralSubtree::DnsName(text.to_owned());
    let network = |address| GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(address, 8));
    let only = below(constrained("only", vec![host("in.test")], vec![]), root);
    let but = below(constrained("but", vec![], vec![host("out.test")]), root);
    let nets = constrained("nets", vec![network([10, 0, 0, 0])], vec![]);
    let nets = below(nets, root);
    let rows = [
        ("permitted", vec![dns("a.in.test")], &only, true),
        ("permitted itself", vec![dns("in.test")], &only, true),
        ("not permitted", vec![dns("a.test")], &only, false),
        (
            "permitted in part",
            vec![dns("a.in.test"), dns("a.test")],
            &only,
            false,
        ),
        (
            "permitted by half a label",
            vec![dns("win.test")],
            &only,
            false,
        ),
        ("of another kind", vec![ip([192, 168, 0, 1])], &only, true),
        ("not excluded", vec![dns("a.test")], &but, true),
        ("excluded", vec![dns("a.out.test")], &but, false),
        (
            "wildcard over the excluded",
            vec![dns("*.out.test")],
            &but,
            false,
        ),
        (ENVOY_CANNOT, vec![ip([10, 1, 2, 3])], &nets, true),
        ("out of the network", vec![ip([11, 1, 2, 3])], &nets, false),
    ];
    let rows = rows.into_iter();
    rows.map(|(name, names, by, is_sound)| (leaf(name, &names, by, &[by]), is_sound))
        .collect()
}

/// Chains that are too long, or through one that is no authority.
fn ended(root: &Authority) -> Vec<(Shown, bool)> {
    let last = below(short("last"), root);
    let after_last = below(authority("after last"), &last);
    let pretender = below(pretender(), root);
    let names = &[dns("a.test")];
    let long = [&after_last, &last];
    vec![
        (leaf("below the last", names, &last, &[&last]), true),
        (leaf("after the last", names, &after_last, &long), false),
        (
            leaf("below no authority", names, &pretender, &[&pretender]),
            false,
        ),
        (bomb(BOMBS[0]), false),
        (bomb(BOMBS[1]), false),
    ]
}

/// A leaf and many authorities of one name, none of which the root has signed.
fn bomb((name, count): (&'static str, usize)) -> Shown {
    let keys: Vec<KeyPair> = (0..count).map(|_| key()).collect();
    let issuers: Vec<_> = keys
        .iter()
        .map(|key| Issuer::new(authority("bomb"), key))
        .collect();
    let mut chain = Vec::new();
    let own = key();
    let leaf = CertificateParams::default().signed_by(&own, &issuers[0]);
    chain.push(leaf.expect("it is sound").der().clone());
    for (place, key) in keys.iter().enumerate() {
        let by = &issuers[(place + 1) % count];
        let certificate = authority("bomb").signed_by(key, by).expect("it is sound");
        chain.push(certificate.der().clone());
    }
    Shown {
        name,
        chain,
        key: own,
    }
}

/// A list of `by` that revokes these, good until `until`.
fn list(by: &Authority, serials: impl Iterator<Item = u64>, until: i32) -> String {
    let revoked = serials.map(|serial| RevokedCertParams {
        serial_number: serial.into(),
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(until, 1, 1),
        crl_number: 1_u64.into(),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let list = params.signed_by(by).expect("it is sound");
    list.pem().expect("it is sound")
}

/// Rules for clients by their names.
fn rules(root: &Authority) -> Vec<(&'static str, Value)> {
    let impostor = Authority::self_signed(authority("way"), key()).expect("it is sound");
    let usual = list(root, [REVOKED].into_iter(), 2999);
    let lists = [
        ("list", usual.clone(), false),
        ("list for leaves", usual, true),
        ("old list", list(root, [REVOKED].into_iter(), 2025), false),
        (
            "list of an impostor",
            list(&impostor, [REVOKED].into_iter(), 2999),
            false,
        ),
        (
            "large list",
            list(root, (0..MANY).map(|serial| 2 * serial + 1), 2999),
            true,
        ),
    ];
    let mut rules = vec![("root", json!({"trusted_ca": {"inline_string": root.pem()}}))];
    rules.extend(lists.into_iter().map(|(name, list, only_leaves)| {
        let rule = json!({
            "trusted_ca": {"inline_string": root.pem()},
            "crl": {"inline_string": list},
            "only_verify_leaf_cert_crl": only_leaves,
        });
        (name, rule)
    }));
    rules
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t06_ways_to_the_root_are_found_alike_and_in_time() {
    if !envoy_is_there() {
        return;
    }
    let files = Files::new();
    let root = Authority::self_signed(authority("way"), key()).expect("it is sound");
    let rules = rules(&root);
    let all = [plain(&root), limited(&root), ended(&root)].into_iter();
    let all: Vec<(Shown, bool)> = all.flatten().collect();
    let ports = free_ports(rules.len());
    let listeners: Vec<Value> = rules
        .iter()
        .zip(&ports)
        .map(|((_, rule), port)| presenter::listener(port.number(), &files, rule, true))
        .collect();
    let look = || async {
        let mut told = Vec::new();
        for ((rule, _), port) in rules.iter().zip(&ports) {
            for (shown, _) in &all {
                let client = presenter::client(&files, shown.chain.clone(), &shown.key);
                let began = Instant::now();
                let answered = presenter::is_answered(port.number(), client).await;
                told.push(((*rule, shown.name), answered, began.elapsed()));
            }
        }
        told
    };
    let (envoy, weir) = of_both(&bootstrap(&listeners, &[]), &ports, look).await;
    let different: Vec<_> = envoy
        .iter()
        .zip(&weir)
        .filter(|(envoy, weir)| envoy.1 != weir.1 && envoy.0.1 != ENVOY_CANNOT)
        .map(|(envoy, weir)| format!("{:?}: Envoy {}, Weir {}", envoy.0, envoy.1, weir.1))
        .collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
    let late: Vec<_> = weir
        .iter()
        .filter(|(_, _, lasted)| *lasted > BOUND)
        .collect();
    assert!(late.is_empty(), "{late:?}");
    let of_weir = |rule, name| {
        let mut cells = weir.iter();
        cells.any(|(cell, answered, _)| *cell == (rule, name) && *answered)
    };
    for (shown, is_sound) in &all {
        assert_eq!(of_weir("root", shown.name), *is_sound, "{}", shown.name);
    }
    for rule in ["list", "list for leaves", "large list"] {
        assert!(of_weir(rule, "below the root"), "{rule}");
        assert!(!of_weir(rule, "revoked, below the root"), "{rule}");
    }
}
