//! Everybody who may not, with the reason they are told and the line of the audit log.

use super::*;

#[test]
fn each_attack_is_refused_with_its_reason_and_audited() {
    let (disk, mut authority) = authority();
    let own = name("cart");
    let csr = |kind, names: &[SanType]| signing_request(kind, names);
    let p256 = KeyKind::EcdsaP256;
    let dns = |text: &str| SanType::DnsName(text.try_into().unwrap());
    let mut forged = csr(p256, &[]);
    *forged.last_mut().unwrap() ^= 1;
    let weak = include_bytes!("rsa_1024.csr").to_vec();
    let curve = include_bytes!("secp256k1.csr").to_vec();
    let requests = [
        (
            csr(p256, &[uri("spiffe://mesh.example/bank")]),
            "name_foreign",
        ),
        (
            csr(p256, &[uri("spiffe://evil.example/cart")]),
            "other_domain",
        ),
        (csr(p256, &[dns("bank.example")]), "name_foreign"),
        (csr(p256, &[dns("*.mesh.example")]), "name_wildcard"),
        (
            csr(p256, &[uri("spiffe://mesh.example/*")]),
            "name_wildcard",
        ),
        (
            csr(p256, &[uri("spiffe://mesh.example/cart\0.evil")]),
            "name_invalid",
        ),
        (csr(KeyKind::Ed25519, &[]), "key_not_allowed"),
        (forged, "bad_signature"),
        (weak, "key_weak"),
        (curve, "key_unknown"),
        (b"no request".to_vec(), "malformed"),
        (vec![0x30; 20_000], "malformed"),
    ];
    for (request, label) in requests {
        let key = KeySource::Request(&request);
        let error = authority
            .issue(at(START), &Order { key, ..order(&own) })
            .unwrap_err();
        check(&disk, &authority, &error, label);
    }
    let stranger: SpiffeId = "spiffe://evil.example/cart".parse().unwrap();
    let error = authority.issue(at(START), &order(&stranger)).unwrap_err();
    check(&disk, &authority, &error, "other_domain");
    for life in [1, 59, 32 * DAY] {
        let life = Some(Duration::from_secs(life));
        let error = authority
            .issue(
                at(START),
                &Order {
                    life,
                    ..order(&own)
                },
            )
            .unwrap_err();
        check(&disk, &authority, &error, "life");
    }
    assert!(disk.text("issued.log").is_empty(), "nobody got anything");
}

#[test]
fn secrets_of_others_are_refused_and_audited() {
    let (disk, mut authority) = authority();
    let caller = |identity: &str| Caller::Certificate {
        identity: identity.parse().unwrap(),
        serial: "01".to_owned(),
    };
    let own = caller("spiffe://mesh.example/cart");
    let unmapped = access::LocalUsers::default().caller(0, 0);
    for (caller, name, label) in [
        (&Caller::Anonymous, "default", "anonymous"),
        (&Caller::Anonymous, "ROOTCA", "anonymous"),
        (&unmapped, "default", "anonymous"),
        (&own, "spiffe://mesh.example/bank", "not_yours"),
        (&own, "spiffe://evil.example/cart", "other_domain"),
        (&own, "server_cert", "unknown_secret"),
        (&own, "spiffe://evil.example", "other_domain"),
        (&own, "spiffe://mesh.example/cart\0", "name_invalid"),
        (
            &caller("spiffe://evil.example/cart"),
            "default",
            "other_domain",
        ),
    ] {
        let error = authority.may_have(at(START), caller, name).unwrap_err();
        check(&disk, &authority, &error, label);
        let line = audit(&disk).pop().unwrap();
        assert_eq!(
            (&line["wanted"], &line["actor"]),
            (&name.into(), &caller.to_string().into())
        );
    }
}

#[test]
fn tokens_that_do_not_open_are_refused_and_audited() {
    let (disk, mut authority) = authority();
    let (_, mut other) = super::authority();
    let life = Duration::from_secs(60);
    let theirs = other.token(at(START), &name("cart"), life, "test").unwrap();
    let ours = authority
        .token(at(START), &name("cart"), life, "test")
        .unwrap();
    let used = authority
        .token(at(START), &name("cart"), life, "test")
        .unwrap();
    authority.redeem(at(START), used.expose(), "test").unwrap();
    for (token, now, label) in [
        (theirs.expose(), START, "token_forged"),
        (ours.expose(), START + 61, "token_expired"),
        (used.expose(), START, "token_used"),
        ("weir1.eA.eA", START, "token_forged"),
        ("hello", START, "token_malformed"),
        ("", START, "token_malformed"),
        (&"a".repeat(10_000), START, "token_malformed"),
    ] {
        let error = authority.redeem(at(now), token, "test").unwrap_err();
        check(&disk, &authority, &error, label);
    }
    let stranger: SpiffeId = "spiffe://evil.example/cart".parse().unwrap();
    let error = authority
        .token(at(START), &stranger, life, "test")
        .unwrap_err();
    check(&disk, &authority, &error, "other_domain");
    let error = authority.token(at(START), &name("a"), 2 * Duration::from_secs(DAY), "test");
    check(&disk, &authority, &error.unwrap_err(), "life");
    // The one that was only tried too late still opens in time.
    authority
        .redeem(at(START + 60), ours.expose(), "test")
        .unwrap();
}

#[test]
fn a_chain_of_too_many_certificates_is_refused_and_audited() {
    let (disk, mut authority) = authority();
    let leaf = issue(&mut authority, START, "cart");
    let external = External {
        chain: leaf.chain.repeat(5),
        key: leaf.key.unwrap(),
        root: leaf.chain.clone(),
    };
    let taken = authority.take_intermediate(at(START), &external, Duration::ZERO, "test");
    check(&disk, &authority, &taken.unwrap_err(), "chain_long");
}

fn check(disk: &Simulated, authority: &Authority, error: &AuthorityError, label: &str) {
    let AuthorityError::Refused(refusal) = error else {
        panic!("{label}: {error}")
    };
    assert_eq!(refusal.label(), label, "{refusal}");
    let line = audit(disk).pop().unwrap();
    assert_eq!(
        (&line["event"], &line["reason"]),
        (&"refuse".into(), &label.into())
    );
    assert_eq!(line["text"], refusal.to_string());
    assert!(authority.refusals()[label] > 0);
}
