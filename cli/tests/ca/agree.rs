//! What openssl says about our certificates, lists and requests.

use serde_json::Value;

use crate::support::Place;
use crate::support::is_there;

const CART: &str = "spiffe://mesh.example/ns/shop/sa/cart";

/// Verifies `NAME.pem` against the bundle of the moment, every list included.
fn verify(place: &Place, name: &str) -> Result<(), String> {
    place.write("bundle.pem", place.ok("ca bundle --dir ca"));
    let arguments = format!(
        "verify -x509_strict -crl_check_all -purpose sslserver -CAfile bundle.pem -untrusted {name}.pem {name}.pem"
    );
    let output = place.openssl(&arguments);
    let also = place.openssl(&arguments.replace("sslserver", "sslclient"));
    if output.status.success() && also.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn openssl_verifies_every_kind_of_leaf_and_refuses_revoked_ones() {
    if !is_there("openssl", "version") {
        return;
    }
    let place = Place::new();
    place.ok("ca init --dir ca --trust-domain mesh.example --allow-ed25519");
    let kinds = ["ecdsa-p256", "ecdsa-p384", "rsa", "ed25519"];
    for kind in kinds {
        let issued = place.json(&format!(
            "ca issue --dir ca {CART} --key-type {kind} --out {kind}"
        ));
        verify(&place, kind).unwrap();
        // The key is the certificate's.
        let shown = place.openssl_ok(&format!("x509 -in {kind}.pem -noout -pubkey"));
        assert_eq!(
            shown,
            place.openssl_ok(&format!("pkey -in {kind}.key -pubout")),
            "{kind}"
        );
        let serial = place.openssl_ok(&format!("x509 -in {kind}.pem -noout -serial"));
        let serial = serial.trim().trim_start_matches("serial=").to_lowercase();
        assert_eq!(issued["serial"], serial.as_str());
    }
    let serial = place.openssl_ok("x509 -in rsa.pem -noout -serial");
    place.ok(&format!(
        "ca revoke --dir ca --serial {}",
        serial.trim().trim_start_matches("serial=")
    ));
    let error = verify(&place, "rsa").unwrap_err();
    assert!(error.contains("certificate revoked"), "{error}");
    verify(&place, "ecdsa-p256").unwrap();
    place.ok(&format!("ca revoke --dir ca --name {CART}"));
    for kind in kinds {
        let error = verify(&place, kind).unwrap_err();
        assert!(error.contains("certificate revoked"), "{kind}: {error}");
    }
    let listed = place.openssl_ok("crl -in bundle.pem -noout -text");
    assert!(listed.contains("CRL Number"), "{listed}");
}

#[test]
fn openssl_verifies_old_and_new_leaves_through_a_rotation() {
    if !is_there("openssl", "version") {
        return;
    }
    let place = Place::with_authority();
    place.ok(&format!("ca issue --dir ca {CART} --out old"));
    place.ok("ca rotate --dir ca intermediate --after 0s");
    place.ok(&format!("ca issue --dir ca {CART} --out middle"));
    place.ok("ca rotate --dir ca root --after 0s");
    place.ok(&format!("ca issue --dir ca {CART} --out new"));
    for name in ["old", "middle", "new"] {
        verify(&place, name).unwrap();
    }
    let list = place.json("ca list --dir ca");
    assert_eq!(list["roots"].as_array().map(Vec::len), Some(2));
    let leaves = list["certificates"].as_array().unwrap();
    let issuers: Vec<&Value> = leaves.iter().map(|leaf| &leaf["issuer"]).collect();
    assert_eq!(
        issuers,
        ["intermediate-2", "intermediate-3", "intermediate-5"]
    );
}

#[test]
fn requests_made_by_openssl_become_leaves_of_their_key() {
    if !is_there("openssl", "version") {
        return;
    }
    let place = Place::with_authority();
    let keys = [
        "-newkey ec -pkeyopt ec_paramgen_curve:P-256",
        "-newkey ec -pkeyopt ec_paramgen_curve:P-384",
        "-newkey rsa:2048",
        "-newkey rsa:3072 -sha512",
    ];
    for (key, names) in keys.iter().flat_map(|key| [(key, false), (key, true)]) {
        let extension = if names {
            format!("-addext subjectAltName=URI:{CART}")
        } else {
            String::new()
        };
        place.openssl_ok(&format!(
            "req -new {key} -nodes -keyout k.key -subj /CN=anything -out r.csr {extension}"
        ));
        place.write(
            "leaf.pem",
            place.ok(&format!("ca issue --dir ca {CART} --csr r.csr")),
        );
        verify(&place, "leaf").unwrap();
        let ours = place.openssl_ok("x509 -in leaf.pem -noout -pubkey");
        assert_eq!(ours, place.openssl_ok("pkey -in k.key -pubout"), "{key}");
        let shown = place.openssl_ok("x509 -in leaf.pem -noout -ext subjectAltName -subject");
        assert!(
            shown.contains(CART) && !shown.contains("anything"),
            "{shown}"
        );
        // In DER as well.
        place.openssl_ok("req -in r.csr -outform DER -out r.der");
        place.ok(&format!("ca issue --dir ca {CART} --csr r.der"));
    }
}

#[test]
fn requests_of_attackers_are_refused_with_their_reason() {
    if !is_there("openssl", "version") {
        return;
    }
    let place = Place::with_authority();
    let p256 = |extension: &str| {
        format!("-newkey ec -pkeyopt ec_paramgen_curve:P-256 -addext {extension}")
    };
    let named = |names: &str| p256(&format!("subjectAltName={names}"));
    let with_nul = format!("DER:301a8618{}", hex("spiffe://mesh.example/x\0"));
    let other_key = |kind: &str| format!("-newkey {kind}");
    let cases = [
        (named("URI:spiffe://mesh.example/bank"), "name_foreign"),
        (
            named(&format!("URI:{CART},URI:spiffe://mesh.example/bank")),
            "name_foreign",
        ),
        (named("URI:spiffe://evil.example/cart"), "other_domain"),
        (named("DNS:bank.example"), "name_foreign"),
        (named("DNS:*.example"), "name_wildcard"),
        (named("IP:10.0.0.1"), "name_foreign"),
        (named(&with_nul), "name_invalid"),
        (p256("basicConstraints=CA:TRUE"), "asks_for_authority"),
        (p256("keyUsage=keyCertSign"), "asks_for_authority"),
        (other_key("rsa:1024"), "key_weak"),
        (
            other_key("ec -pkeyopt ec_paramgen_curve:secp256k1"),
            "key_unknown",
        ),
        (
            other_key("ec -pkeyopt ec_paramgen_curve:P-224"),
            "key_unknown",
        ),
        (other_key("ed25519"), "key_not_allowed"),
        (other_key("rsa:2048 -sha1"), "malformed"),
    ];
    for (arguments, label) in cases {
        place.openssl_ok(&format!(
            "req -new {arguments} -nodes -keyout k.key -subj /CN=x -out r.csr"
        ));
        let output = place.weir(&format!("ca issue --dir ca {CART} --csr r.csr"));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{arguments}: {error}");
        assert!(output.stdout.is_empty() && error.starts_with("refused: "));
        let audit = place.read("ca/audit.log");
        let last: Value = serde_json::from_str(audit.lines().last().unwrap()).unwrap();
        assert_eq!(last["reason"], label, "{arguments}: {error}");
        assert_eq!(last["text"], error.trim().trim_start_matches("refused: "));
    }
    assert!(!place.file("ca/issued.log").exists());
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_intermediate_signed_by_openssl_signs_our_leaves() {
    if !is_there("openssl", "version") {
        return;
    }
    let place = Place::new();
    let p256 = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    place.openssl_ok(&format!(
        "req -x509 {p256} -days 30 -keyout r.key -subj /C=DE/O=Company/CN=Root -out r.pem"
    ));
    place.openssl_ok(&format!(
        "req -new {p256} -keyout i.key -subj /C=DE/O=Company/CN=Mesh -out i.csr"
    ));
    place.write("i.ext", "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n");
    place.openssl_ok("x509 -req -in i.csr -CA r.pem -CAkey r.key -CAcreateserial -days 20 -extfile i.ext -out i.pem");
    place.ok(
        "ca init --dir ca --trust-domain mesh.example --certificate i.pem --key i.key --root r.pem",
    );
    place.ok(&format!("ca issue --dir ca {CART} --out leaf"));
    place.write("bundle.pem", place.ok("ca bundle --dir ca"));
    // The root's list is its owner's business.
    let verify = "verify -crl_check -CAfile bundle.pem -untrusted leaf.pem leaf.pem";
    place.openssl_ok(verify);
    place.ok(&format!("ca revoke --dir ca --name {CART}"));
    place.write("bundle.pem", place.ok("ca bundle --dir ca"));
    let output = place.openssl(verify);
    assert!(String::from_utf8_lossy(&output.stderr).contains("certificate revoked"));
    let output = place.weir("ca rotate --dir ca root");
    assert!(String::from_utf8_lossy(&output.stderr).contains("somebody else's"));
}
