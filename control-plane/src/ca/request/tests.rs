//! The attack table of signing requests.

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateSigningRequest;
use rcgen::CustomExtension;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::SanType;

use super::*;

const OWN: &str = "spiffe://mesh.example/ns/shop/sa/cart";

fn own() -> SpiffeId {
    OWN.parse().unwrap()
}

fn pair() -> KeyPair {
    KeyKind::EcdsaP256.generate().unwrap().0
}

fn params(names: &[SanType]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.to_vec();
    params
}

fn request(params: &CertificateParams) -> CertificateSigningRequest {
    params.serialize_request(&pair()).unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// A subject alternative name of one raw `GeneralName`.
fn raw_name(tag: u8, content: &[u8]) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut der = vec![0x30, u8::try_from(content.len() + 2).unwrap(), tag];
    der.push(u8::try_from(content.len()).unwrap());
    der.extend_from_slice(content);
    let extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], der);
    params.custom_extensions.push(extension);
    params
}

#[test]
fn its_own_identity_or_no_name_at_all() {
    for names in [vec![], vec![uri(OWN)], vec![uri(OWN), uri(OWN)]] {
        let key = key_of(request(&params(&names)).der(), &own()).unwrap();
        assert_eq!(key.kind(), KeyKind::EcdsaP256);
    }
}

#[test]
fn every_kind_of_key_that_is_strong_enough() {
    for kind in KeyKind::ALL {
        let (pair, _) = kind.generate().unwrap();
        let csr = params(&[]).serialize_request(&pair).unwrap();
        let key = key_of_pem(csr.pem().unwrap().as_bytes(), &own()).unwrap();
        assert_eq!(key, PublicKey::of(kind, &pair));
    }
}

#[test]
fn t6_names_of_others_are_refused_each_with_its_reason() {
    let check = |params: &CertificateParams, label: &str| {
        let refusal = key_of(request(params).der(), &own()).unwrap_err();
        assert_eq!(refusal.label(), label, "{refusal}");
    };
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    check(
        &params(&[uri("spiffe://mesh.example/ns/shop/sa/bank")]),
        "name_foreign",
    );
    check(
        &params(&[uri(OWN), uri("spiffe://mesh.example/x")]),
        "name_foreign",
    );
    check(
        &params(&[uri("spiffe://evil.example/ns/shop/sa/cart")]),
        "other_domain",
    );
    check(&params(&[dns("bank.example")]), "name_foreign");
    check(&params(&[uri(OWN), dns("bank.example")]), "name_foreign");
    check(&params(&[dns("*.example")]), "name_wildcard");
    check(&params(&[uri("spiffe://mesh.example/*")]), "name_wildcard");
    check(&params(&[uri("https://mesh.example/x")]), "name_invalid");
    check(
        &params(&[uri("spiffe://mesh.example/a/../b")]),
        "name_invalid",
    );
    let ip = SanType::IpAddress("127.0.0.1".parse().unwrap());
    check(&params(&[ip]), "name_foreign");
    let mail = SanType::Rfc822Name("a@b".try_into().unwrap());
    check(&params(&[mail]), "name_foreign");
    check(
        &raw_name(0x86, b"spiffe://mesh.example/ns/shop/sa/cart\0.evil"),
        "name_invalid",
    );
    check(&raw_name(0x82, b"bank.example\0.evil"), "name_foreign");
    check(&raw_name(0x86, b"\xff\xfe"), "name_foreign");
    check(&raw_name(0x88, &[0x2a, 3, 4]), "name_foreign");
}

#[test]
fn nobody_becomes_an_authority() {
    let mut authority = params(&[uri(OWN)]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let refusal = key_of(request(&authority).der(), &own()).unwrap_err();
    assert_eq!(refusal, Refusal::AsksForAuthority);
    let mut signer = params(&[uri(OWN)]);
    signer.key_usages = vec![KeyUsagePurpose::CrlSign];
    let refusal = key_of(request(&signer).der(), &own()).unwrap_err();
    assert_eq!(refusal, Refusal::AsksForAuthority);
}

#[test]
fn a_request_must_be_signed_by_its_own_key() {
    let csr = request(&params(&[uri(OWN)]));
    let mut der = csr.der().to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    assert_eq!(key_of(&der, &own()), Err(Refusal::BadSignature));
    // The key of another request of the same length.
    let other = request(&params(&[uri(OWN)]));
    let key = |der: &[u8]| {
        let (_, csr) = X509CertificationRequest::from_der(der).unwrap();
        csr.certification_request_info
            .subject_pki
            .subject_public_key
            .data
            .to_vec()
    };
    let (mine, theirs) = (key(csr.der()), key(other.der()));
    let mut der = csr.der().to_vec();
    let place = der
        .windows(mine.len())
        .position(|part| part == mine)
        .unwrap();
    der[place..place + mine.len()].copy_from_slice(&theirs);
    assert_eq!(key_of(&der, &own()), Err(Refusal::BadSignature));
}

#[test]
fn what_is_no_request_is_refused_and_nothing_panics() {
    let der = request(&params(&[uri(OWN)])).der().to_vec();
    let mut longer = der.clone();
    longer.push(0);
    for bad in [&b""[..], b"\0", b"\x30\x80", &longer, &vec![0x30; 20_000]] {
        assert_eq!(key_of(bad, &own()).unwrap_err().label(), "malformed");
    }
    assert_eq!(
        key_of_pem(b"nothing", &own()).unwrap_err().label(),
        "malformed"
    );
    let key = key_of(&der, &own()).unwrap();
    for len in 0..der.len() {
        key_of(&der[..len], &own()).unwrap_err();
    }
    for place in 0..der.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bad = der.clone();
            bad[place] ^= flip;
            // What is outside of the signature may be written in more than one way.
            if let Ok(found) = key_of(&bad, &own()) {
                assert_eq!(found, key, "byte {place}");
            }
        }
    }
}
