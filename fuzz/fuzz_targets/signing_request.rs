//! A signing request gives a key or a reason, and never a key to somebody else.
#![no_main]

use control_plane::ca::SpiffeId;
use control_plane::ca::request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(identity) = "spiffe://mesh.example/cart".parse::<SpiffeId>() else {
        return;
    };
    if let Err(refusal) = request::key_of(bytes, &identity) {
        assert!(!refusal.label().is_empty() && !refusal.to_string().is_empty());
    }
    let _ = request::key_of_pem(bytes, &identity);
});
