//! No token that was not signed here is taken; whatever follows a good one makes it another.
#![no_main]

use control_plane::ca::token;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    // Nobody can guess a MAC of 32 bytes.
    assert!(token::check(&[7; 32], text, 0).is_err());
    let mac = text.rsplit('.').next().unwrap_or_default();
    let _ = token::check(&[7; 32], &format!("weir1.{text}.{mac}"), 0);
});
