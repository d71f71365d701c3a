use std::collections::BTreeMap;
use std::time::Duration;

use rcgen::CertificateParams;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::KeyUsagePurpose;
use rcgen::date_time_ymd;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateRevocationListDer;

use super::*;
use crate::config::matcher::StringMatch;
use crate::config::matcher::StringPattern;
use crate::config::tls::NameKind;
use crate::config::tls::NameMatch;
use crate::config::tls::Trust;
use crate::tls::fixtures::Authority;
use crate::tls::fixtures::CA;
use crate::tls::fixtures::LEAF;
use crate::tls::fixtures::Leaf;
use crate::tls::fixtures::params;

fn trusting(authority: &Authority) -> Validation {
    Validation {
        trust: Trust::Roots(vec![authority.der.clone()]),
        ..Validation::anyone()
    }
}

fn verifier(validation: Validation) -> Verifier {
    Verifier::new(&Arc::new(validation)).unwrap()
}

fn check_with(
    validation: Validation,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(), Error> {
    let chain = Chain {
        leaf,
        intermediates,
    };
    verifier(validation).check(chain, Role::Client, None, UnixTime::now())
}

fn check(validation: Validation, leaf: &Leaf) -> Result<(), Error> {
    check_with(validation, &leaf.der, &[])
}

fn expired() -> CertificateParams {
    let mut params = params("DNS:a.example");
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2001, 1, 1);
    params
}

fn exact(kind: NameKind, text: &str) -> NameMatch {
    NameMatch {
        kind,
        matcher: StringMatch {
            pattern: StringPattern::Exact(text.into()),
            ignore_case: false,
        },
    }
}

fn is(error: CertificateError) -> Result<(), Error> {
    Err(Error::InvalidCertificate(error))
}

fn mismatch(result: Result<(), Error>) -> Option<Mismatch> {
    match result {
        Err(Error::InvalidCertificate(CertificateError::Other(other))) => {
            other.0.downcast_ref().copied()
        }
        _ => None,
    }
}

#[test]
fn only_certificates_of_a_trusted_root_pass() {
    assert_eq!(check(trusting(&CA), &LEAF), Ok(()));
    let other = Authority::new("ca"); // of the same name
    let result = check(trusting(&CA), &other.issue("DNS:a.example"));
    assert!(matches!(
        result,
        Err(Error::InvalidCertificate(
            CertificateError::BadSignature | CertificateError::UnknownIssuer
        ))
    ));
    assert_eq!(check(Validation::anyone(), &LEAF), Ok(()));
}

#[test]
fn the_way_to_the_root_has_a_longest_length() {
    let between = CA.intermediate("between");
    let leaf = between.issue("DNS:a.example");
    let way = [between.der.clone()];
    let depth = |most| Validation {
        depth_max: Some(most),
        ..trusting(&CA)
    };
    assert_eq!(check_with(depth(2), &leaf.der, &way), Ok(()));
    assert!(check_with(depth(1), &leaf.der, &way).is_err());
    assert_eq!(check(depth(1), &LEAF), Ok(()));
    assert!(check(trusting(&CA), &leaf).is_err(), "the way is missing");
    let partial = Validation {
        trust: Trust::Roots(vec![between.der]),
        ..Validation::anyone()
    };
    assert_eq!(check(partial, &leaf), Ok(()), "any certificate is a root");
}

#[test]
fn a_certificate_that_is_itself_trusted_needs_no_issuer() {
    let pinned = |leaf: &Leaf| Validation {
        trust: Trust::Roots(vec![leaf.der.clone()]),
        ..Validation::anyone()
    };
    assert_eq!(check(pinned(&LEAF), &LEAF), Ok(()));
    // As `openssl req -x509` makes it: its own CA.
    let own = check_with(trusting(&CA), &CA.der, &[]);
    assert_eq!(
        mismatch(own),
        Some(Mismatch::KeyUsage),
        "but it is for certificates"
    );
    let old = CA.issue_with(expired());
    assert_eq!(check(pinned(&old), &old), is(CertificateError::Expired));
}

#[test]
fn time_counts_unless_it_is_said_not_to() {
    let old = CA.issue_with(expired());
    assert!(matches!(
        check(trusting(&CA), &old),
        Err(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. }
        ))
    ));
    let mut early = params("DNS:a.example");
    early.not_before = date_time_ymd(2900, 1, 1);
    early.not_after = date_time_ymd(2901, 1, 1);
    let early = CA.issue_with(early);
    assert!(check(trusting(&CA), &early).is_err());
    let anytime = || Validation {
        allows_expired: true,
        ..trusting(&CA)
    };
    assert_eq!(check(anytime(), &old), Ok(()));
    assert_eq!(check(anytime(), &early), Ok(()));
    let stranger = Authority::new("other").issue_with(expired());
    assert!(
        check(anytime(), &stranger).is_err(),
        "that is all it allows"
    );
    let later = UnixTime::since_unix_epoch(Duration::from_secs(1 << 40));
    let chain = Chain {
        leaf: &LEAF.der,
        intermediates: &[],
    };
    let verdict = verifier(trusting(&CA)).check(chain, Role::Client, None, later);
    assert!(verdict.is_err(), "t09: the root has a time too");
}

#[test]
fn a_certificate_is_for_its_purpose() {
    let mut for_servers = params("DNS:a.example");
    for_servers.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = CA.issue_with(for_servers);
    assert!(check(trusting(&CA), &leaf).is_err(), "this is a client");
    let mut for_encryption = params("DNS:a.example");
    for_encryption.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    let leaf = CA.issue_with(for_encryption);
    assert_eq!(
        mismatch(check(trusting(&CA), &leaf)),
        Some(Mismatch::KeyUsage)
    );
}

#[test]
fn one_of_the_names_must_be_there() {
    let leaf = CA.issue("DNS:*.a.example,URI:spiffe://td/x,EMAIL:a@b.c,IP:10.0.0.1,IP:2001:db8::1");
    let wanting = |names: Vec<NameMatch>| Validation {
        names,
        ..trusting(&CA)
    };
    for (kind, text) in [
        (NameKind::Dns, "www.a.example"),
        (NameKind::Email, "a@b.c"),
        (NameKind::Ip, "10.0.0.1"),
        (NameKind::Ip, "2001:db8::1"),
        (NameKind::Uri, "spiffe://td/x"),
    ] {
        assert_eq!(
            check(wanting(vec![exact(kind, text)]), &leaf),
            Ok(()),
            "{text}"
        );
        let other = wanting(vec![exact(kind, "other")]);
        assert_eq!(mismatch(check(other, &leaf)), Some(Mismatch::Name));
    }
    let either = vec![exact(NameKind::Dns, "b"), exact(NameKind::Email, "a@b.c")];
    assert_eq!(check(wanting(either), &leaf), Ok(()));
    // T6: an address is no host name.
    let as_name = CA.issue("DNS:10.0.0.1");
    let address = wanting(vec![exact(NameKind::Ip, "10.0.0.1")]);
    assert_eq!(mismatch(check(address, &as_name)), Some(Mismatch::Name));
}

#[test]
fn t06_ten_thousand_names_are_refused_at_once() {
    let names: Vec<String> = (0..10_000).map(|i| format!("DNS:n{i}.example")).collect();
    let leaf = CA.issue(&names.join(","));
    assert_eq!(
        mismatch(check(trusting(&CA), &leaf)),
        Some(Mismatch::TooManyNames)
    );
}

#[test]
fn hashes_stand_beside_the_root_or_alone() {
    let sha256 = |bytes: &[u8]| {
        let digest = digest::digest(&digest::SHA256, bytes);
        <[u8; 32]>::try_from(digest.as_ref()).unwrap()
    };
    let (_, parsed) = X509Certificate::from_der(&LEAF.der).unwrap();
    let (whole, key) = (sha256(&LEAF.der), sha256(parsed.public_key().raw));
    let with = |certificates: &[[u8; 32]], keys: &[[u8; 32]], base: Validation| Validation {
        certificate_hashes: certificates.to_vec(),
        key_hashes: keys.to_vec(),
        ..base
    };
    for base in [Validation::anyone(), trusting(&CA)] {
        assert_eq!(check(with(&[whole], &[], base.clone()), &LEAF), Ok(()));
        assert_eq!(check(with(&[[0; 32]], &[key], base.clone()), &LEAF), Ok(()));
        let none = check(with(&[[0; 32], key], &[whole], base), &LEAF);
        assert_eq!(mismatch(none), Some(Mismatch::Hash));
    }
    let other = Authority::new("other");
    let right_hash_wrong_root = check(with(&[whole], &[], trusting(&other)), &LEAF);
    assert!(right_hash_wrong_root.is_err());
}

#[test]
fn revoked_certificates_are_refused() {
    let mut numbered = params("DNS:a.example");
    numbered.serial_number = Some(7_u64.into());
    let leaf = CA.issue_with(numbered);
    let with = |serials: &[u64], only_leaf| {
        let list: CertificateRevocationListDer<'static> = CA.revoke(serials).into();
        Validation {
            crls: vec![list],
            only_leaf_in_crl: only_leaf,
            ..trusting(&CA)
        }
    };
    assert_eq!(
        check(with(&[7], true), &leaf),
        is(CertificateError::Revoked)
    );
    assert_eq!(check(with(&[8], true), &leaf), Ok(()));
    assert_eq!(check(with(&[8], false), &leaf), Ok(()));
    // No list speaks for what the intermediate issued, or for the intermediate.
    let between = CA.intermediate("between");
    let below = between.issue("DNS:a.example");
    let way = [between.der.clone()];
    assert!(check_with(with(&[8], true), &below.der, &way).is_err());
}

/// Lists of one domain do not shut out another, of which there is none.
#[test]
fn revocation_lists_are_for_the_trust_domains_they_are_of() {
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let list = CertificateRevocationListDer::from(one.revoke(&[7]).der().to_vec());
    let validation = || Validation {
        trust: Trust::Spiffe(BTreeMap::from([
            ("one".into(), vec![one.der.clone()]),
            ("two".into(), vec![two.der.clone()]),
        ])),
        crls: vec![list.clone()],
        ..Validation::anyone()
    };
    let svid = |authority: &Authority, names, serial: u64| {
        let mut params = params(names);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.serial_number = Some(serial.into());
        check(validation(), &authority.issue_with(params))
    };
    assert_eq!(svid(&one, "URI:spiffe://one/a", 1), Ok(()));
    assert_eq!(
        svid(&one, "URI:spiffe://one/a", 7),
        is(CertificateError::Revoked)
    );
    assert_eq!(svid(&two, "URI:spiffe://two/a", 7), Ok(()), "of another");
    let between = one.intermediate("between");
    let mut params = params("URI:spiffe://one/a");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let leaf = between.issue_with(params);
    let unlisted = check_with(validation(), &leaf.der, &[between.der]);
    assert_eq!(unlisted, is(CertificateError::UnknownRevocationStatus));
}

#[test]
fn a_spiffe_id_chooses_the_roots() {
    let other = Authority::new("other");
    let validation = || Validation {
        trust: Trust::Spiffe(BTreeMap::from([
            ("one".into(), vec![CA.der.clone()]),
            ("two".into(), vec![other.der.clone()]),
        ])),
        ..Validation::anyone()
    };
    let svid = |authority: &Authority, names| {
        let mut params = params(names);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        check(validation(), &authority.issue_with(params))
    };
    assert_eq!(svid(&CA, "URI:spiffe://one/a"), Ok(()));
    assert_eq!(svid(&other, "URI:spiffe://two/a"), Ok(()));
    assert!(
        svid(&other, "URI:spiffe://one/a").is_err(),
        "no root of one"
    );
    let unknown = svid(&CA, "URI:spiffe://three/a");
    assert_eq!(mismatch(unknown), Some(Mismatch::TrustDomain));
    for names in [
        "DNS:one",
        "URI:spiffe://one/a,URI:spiffe://one/b",
        "URI:spiffe://",
        "URI:spiffe://one",
        "URI:spiffe://one/",
        "URI:https://one/a",
    ] {
        assert_eq!(
            mismatch(svid(&CA, names)),
            Some(Mismatch::SpiffeId),
            "{names}"
        );
    }
    let without_usage = CA.issue("URI:spiffe://one/a");
    assert_eq!(
        mismatch(check(validation(), &without_usage)),
        Some(Mismatch::SpiffeId),
        "an SVID says what its key is for"
    );
}

#[test]
fn a_server_is_who_it_was_called() {
    let leaf = CA.issue("DNS:*.a.example,IP:10.0.0.1");
    let chain = Chain {
        leaf: &leaf.der,
        intermediates: &[],
    };
    let wanting = Validation {
        names: vec![exact(NameKind::Uri, "spiffe://td/x")],
        ..trusting(&CA)
    };
    let verdict = |check, name: &str, validation: Validation| {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier(validation).checking_server_name(check).check(
            chain,
            Role::Server,
            Some(&name),
            UnixTime::now(),
        )
    };
    assert_eq!(verdict(true, "x.a.example", wanting.clone()), Ok(()));
    assert_eq!(verdict(true, "10.0.0.1", trusting(&CA)), Ok(()));
    for wrong in ["a.example", "x.y.a.example", "10.0.0.2"] {
        let verdict = verdict(true, wrong, trusting(&CA));
        assert_eq!(mismatch(verdict), Some(Mismatch::Name), "{wrong}");
    }
    assert!(verdict(false, "x.a.example", wanting).is_err());
    assert_eq!(verdict(false, "b.example", trusting(&CA)), Ok(()));
}

#[test]
fn who_accepts_the_untrusted_lets_everybody_in_but_knows() {
    let lax = verifier(Validation {
        accepts_untrusted: true,
        ..trusting(&CA)
    });
    let stranger = Authority::new("other").issue("DNS:a.example");
    let now = UnixTime::now();
    assert!(ClientCertVerifier::verify_client_cert(&lax, &stranger.der, &[], now).is_ok());
    let chain = Chain {
        leaf: &stranger.der,
        intermediates: &[],
    };
    assert!(lax.check(chain, Role::Client, None, now).is_err());
    assert!(!lax.is_strict());
}

#[test]
fn t06_what_is_no_certificate_is_refused() {
    for bytes in [
        &b""[..],
        b"\x30\x00",
        b"garbage",
        &LEAF.der[..LEAF.der.len() - 1],
    ] {
        let der = CertificateDer::from(bytes);
        for validation in [Validation::anyone(), trusting(&CA)] {
            assert!(check_with(validation, &der, &[]).is_err());
        }
    }
}
