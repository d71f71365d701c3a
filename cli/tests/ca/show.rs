//! What a person sees.

use crate::support::Place;
use crate::support::is_there;

const CART: &str = "spiffe://mesh.example/cart";

#[test]
fn a_chain_is_told_in_plain_words() {
    let place = Place::with_authority();
    place.ok(&format!("ca issue --dir ca {CART} --out cart --life 2h"));
    let text = place.ok("cert show cart.pem");
    for part in [
        "0  certificate of a server and client",
        "names    URI spiffe://mesh.example/cart",
        ", ends in ",
        "key      ECDSA P-256",
        "1  intermediate authority",
        "issuer   O=Weir, CN=Weir root-1 of mesh.example",
        "nothing here vouches for",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    place.write("roots.pem", place.ok("ca bundle --dir ca"));
    let text = place.ok("cert show cart.pem --ca roots.pem");
    assert!(
        text.ends_with("the chain holds, up to a root of --ca\n"),
        "{text}"
    );
    let json = place.json("cert show cart.pem --ca roots.pem");
    assert_eq!(
        (&json["holds"], &json["certificates"][0]["names"][0]),
        (&true.into(), &format!("URI {CART}").into())
    );
    // Somebody else's roots.
    place.ok("ca init --dir other --trust-domain mesh.example");
    place.write("others.pem", place.ok("ca bundle --dir other"));
    let output = place.weir("cert show cart.pem --ca others.pem");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("NOT VALID"));
    for (arguments, reason) in [
        ("cert show nothing", "no such file"),
        ("cert show cart.key", "no certificate"),
        ("cert show 127.0.0.1:1", "refused"),
    ] {
        let output = place.weir(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(1) && error.contains(reason),
            "{error}"
        );
    }
}

#[test]
fn a_certificate_of_somebody_else_is_told_as_well() {
    if !is_there("openssl", "version") {
        return;
    }
    let place = Place::new();
    place.openssl_ok("req -x509 -newkey rsa:2048 -nodes -keyout k -out c.pem -days 1 -subj /CN=evil\u{1b}[31m -addext subjectAltName=DNS:a.test,IP:10.0.0.1,IP:::1,email:a@b.test");
    let text = place.ok("cert show c.pem");
    for part in [
        "DNS a.test, IP 10.0.0.1, IP ::1, mail a@b.test",
        "RSA 2048 bits",
        "root",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(
        !text.contains('\u{1b}'),
        "a terminal is not written to by a certificate"
    );
}

#[test]
fn refusals_and_mistakes_have_their_own_exit_status() {
    let place = Place::with_authority();
    let status = |arguments: &str| place.weir(arguments).status.code();
    assert_eq!(
        status("ca issue --dir ca spiffe://other.example/a --out a"),
        Some(5)
    );
    assert_eq!(
        status(&format!("ca issue --dir ca {CART} --out a --life 10s")),
        Some(5)
    );
    assert_eq!(status(&format!("ca issue --dir ca {CART}")), Some(2));
    assert_eq!(
        status("ca issue --dir ca spiffe://mesh.example/a/ --out a"),
        Some(2)
    );
    assert_eq!(
        status(&format!("ca issue --dir ca {CART} --out a --key-type dsa")),
        Some(2)
    );
    assert_eq!(
        status(&format!("ca revoke --dir ca --name {CART}")),
        Some(1)
    );
    assert_eq!(status("ca list --dir nowhere"), Some(1));
    assert_eq!(
        status("ca init --dir ca --trust-domain mesh.example"),
        Some(1)
    );
    place.write("ca/state", "{}\n");
    let output = place.weir("ca list --dir ca");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("ca/state: its first line"), "{error}");
}
