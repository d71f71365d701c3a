//! Who is let in by a SPIFFE trust domain: every kind of leaf at every kind of rule.
//!
//! Envoy and Weir decide the same, but for leaves that are no X.509-SVIDs by the standard and that
//! Envoy takes all the same.

use std::sync::Arc;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::SanType;
use rustls::ClientConfig;
use serde_json::Value;
use serde_json::json;

use super::authority::Authority;
use super::authority::Files;
use super::authority::authority;
use super::authority::key;
use super::presenter;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::envoy_is_there;

/// What is wanted of a leaf beside its trust domain.
const RULES: [Rule; 5] = [
    Rule::Nothing,
    Rule::Uri,
    Rule::Dns,
    Rule::Either,
    Rule::Untrusted,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Nothing,
    Uri,
    Dns,
    Either,
    /// Nothing, and who is not trusted may come.
    Untrusted,
}

/// Leaves by what is special about them. Each has the key usage of a signer unless it says otherwise.
const LEAVES: [(&str, By, &[&str]); 16] = [
    ("usual", By::One, &["spiffe://one/a"]),
    ("another workload", By::One, &["spiffe://one/b"]),
    ("with a host", By::One, &["spiffe://one/b", "a.test"]),
    ("of the other domain", By::Two, &["spiffe://two/a"]),
    ("of the wrong root", By::Two, &["spiffe://one/a"]),
    ("of an unknown domain", By::One, &["spiffe://three/a"]),
    ("of a domain", By::One, &["spiffe://one"]),
    (DOMAIN_ROOT, By::One, &["spiffe://one/"]),
    (TWO_IDS, By::One, &["spiffe://one/a", "spiffe://one/b"]),
    ("of a web site", By::One, &["https://one/a"]),
    ("of a host", By::One, &["a.test"]),
    ("of nobody", By::One, &[]),
    (NO_USAGE, By::One, &["spiffe://one/a"]),
    (SIGNER, By::One, &["spiffe://one/a"]),
    (AUTHORITY, By::One, &["spiffe://one/a"]),
    (EXPIRED, By::One, &["spiffe://one/a"]),
];

const DOMAIN_ROOT: &str = "of the root of a domain";
const TWO_IDS: &str = "of two workloads";
const NO_USAGE: &str = "without key usage";
const SIGNER: &str = "that signs certificates";
const AUTHORITY: &str = "that is an authority";
const EXPIRED: &str = "expired";

/// Let in by Envoy alone: X.509-SVID section 3.1 wants a path, section 2 one URI.
const NO_SVIDS: [&str; 2] = [DOMAIN_ROOT, TWO_IDS];

#[derive(Clone, Copy, Debug)]
enum By {
    One,
    Two,
}

struct Roots {
    one: Authority,
    two: Authority,
}

impl Roots {
    fn new() -> Self {
        let root = |name| Authority::self_signed(authority(name), key()).expect("it is sound");
        Self {
            one: root("one"),
            two: root("two"),
        }
    }

    fn validation(&self, rule: Rule) -> Value {
        let domain = |name: &str, root: &Authority| json!({"name": name, "trust_bundle": {"inline_string": root.pem()}});
        let domains = json!([domain("one", &self.one), domain("two", &self.two)]);
        let name = "extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
        let domains = typed(name, json!({"trust_domains": domains}));
        let wanted = |kind: &str, text: &str| json!({"san_type": kind, "matcher": {"exact": text}});
        let (uri, dns) = (wanted("URI", "spiffe://one/a"), wanted("DNS", "a.test"));
        let names = match rule {
            Rule::Nothing | Rule::Untrusted => json!([]),
            Rule::Uri => json!([uri]),
            Rule::Dns => json!([dns]),
            Rule::Either => json!([uri, dns]),
        };
        let mut validation = json!({
            "custom_validator_config": {
                "name": "envoy.tls.cert_validator.spiffe", "typed_config": domains,
            },
            "match_typed_subject_alt_names": names,
        });
        if rule == Rule::Untrusted {
            validation["trust_chain_verification"] = "ACCEPT_UNTRUSTED".into();
        }
        validation
    }

    /// A client with this certificate.
    fn client(&self, files: &Files, (kind, by, names): (&str, By, &[&str])) -> Arc<ClientConfig> {
        let key = KeyPair::generate().expect("a key");
        let by = match by {
            By::One => &self.one,
            By::Two => &self.two,
        };
        let certificate = params(kind, names).signed_by(&key, by);
        let certificate = certificate.expect("it is sound").der().clone();
        presenter::client(files, vec![certificate], &key)
    }
}

fn params(kind: &str, names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.contains("://") {
            true => SanType::URI((*name).try_into().expect("ASCII")),
            false => SanType::DnsName((*name).try_into().expect("ASCII")),
        })
        .collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = match kind {
        NO_USAGE => Vec::new(),
        SIGNER | AUTHORITY => {
            vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::KeyCertSign,
            ]
        }
        _ => vec![KeyUsagePurpose::DigitalSignature],
    };
    if kind == AUTHORITY {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    if kind == EXPIRED {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    params
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn svids_are_let_in_alike() {
    if !envoy_is_there() {
        return;
    }
    let (files, roots) = (Files::new(), Roots::new());
    let cells: Vec<(Rule, bool)> = RULES
        .into_iter()
        .flat_map(|rule| [(rule, false), (rule, true)])
        .collect();
    let ports = free_ports(cells.len());
    let listeners: Vec<Value> = cells
        .iter()
        .zip(&ports)
        .map(|((rule, requires), port)| {
            presenter::listener(port.number(), &files, &roots.validation(*rule), *requires)
        })
        .collect();
    let mut clients = vec![("no certificate", presenter::nobody(&files))];
    clients.extend(LEAVES.map(|leaf| (leaf.0, roots.client(&files, leaf))));
    let look = || async {
        let mut told = Vec::new();
        for ((rule, requires), port) in cells.iter().zip(&ports) {
            for (kind, client) in &clients {
                let answered = presenter::is_answered(port.number(), Arc::clone(client)).await;
                told.push(((*rule, *requires, *kind), answered));
            }
        }
        told
    };
    let (envoy, weir) = of_both(&bootstrap(&listeners, &[]), &ports, look).await;
    let different: Vec<_> = envoy
        .iter()
        .zip(&weir)
        .filter(|(envoy, weir)| envoy != weir)
        .map(|(envoy, weir)| format!("{:?}: Envoy {}, Weir {}", envoy.0, envoy.1, weir.1))
        .filter(|text| !NO_SVIDS.iter().any(|kind| text.contains(kind)))
        .collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
    let of_weir = |rule, kind| {
        let mut cells = weir.iter();
        cells.any(|(cell, answered)| cell.0 == rule && cell.2 == kind && *answered)
    };
    assert!(of_weir(Rule::Nothing, "usual") && of_weir(Rule::Nothing, "of the other domain"));
    assert!(of_weir(Rule::Uri, "usual") && !of_weir(Rule::Uri, "another workload"));
    for kind in NO_SVIDS.into_iter().chain([NO_USAGE, SIGNER, EXPIRED]) {
        assert!(!of_weir(Rule::Nothing, kind), "{kind}");
    }
}
