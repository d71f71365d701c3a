//! The bundle of another trust domain, and the timestamps of a certificate, are read or refused.
#![no_main]

use control_plane::ca::TrustDomain;
use control_plane::ca::federation;
use control_plane::transparency;
use libfuzzer_sys::fuzz_target;

/// Some day of 2026.
const NOW: u64 = 1_790_000_000;

fuzz_target!(|bytes: &[u8]| {
    let Ok(domain) = "other.example".parse::<TrustDomain>() else {
        return;
    };
    if let Ok(roots) = federation::parse(bytes, &domain, NOW) {
        assert!(!roots.is_empty());
    }
    let _ = transparency::check(bytes, 1, NOW);
});
