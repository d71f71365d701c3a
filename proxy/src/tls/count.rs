//! Handshakes in the statistics of a listener or a cluster.

use crate::net::tls::Facts;
use crate::telemetry::stats::Counter;
use crate::telemetry::stats::TlsStats;
use crate::tls::failure::Kind;

/// Counts a handshake.
pub fn handshake(stats: &TlsStats, facts: &Facts) {
    stats.handshake().inc();
    if facts.is_resumed {
        stats.session_reused().inc();
    }
    if facts.peer.is_none() {
        stats.no_certificate().inc();
    }
    match facts.version {
        "TLSv1.2" => stats.tls12().inc(),
        _ => stats.tls13().inc(), // there are only these two
    }
    if let Some(counter) = cipher(stats, facts.cipher) {
        counter.inc();
    }
}

fn cipher<'s>(stats: &'s TlsStats, cipher: &str) -> Option<Counter<'s>> {
    Some(match cipher {
        "TLS_AES_128_GCM_SHA256" => stats.aes128(),
        "TLS_AES_256_GCM_SHA384" => stats.aes256(),
        "TLS_CHACHA20_POLY1305_SHA256" => stats.chacha20(),
        "ECDHE-ECDSA-AES128-GCM-SHA256" => stats.ecdsa_aes128(),
        "ECDHE-ECDSA-AES256-GCM-SHA384" => stats.ecdsa_aes256(),
        "ECDHE-ECDSA-CHACHA20-POLY1305" => stats.ecdsa_chacha20(),
        "ECDHE-RSA-AES128-GCM-SHA256" => stats.rsa_aes128(),
        "ECDHE-RSA-AES256-GCM-SHA384" => stats.rsa_aes256(),
        "ECDHE-RSA-CHACHA20-POLY1305" => stats.rsa_chacha20(),
        _ => return None,
    })
}

/// Counts a handshake that failed.
pub fn failure(stats: &TlsStats, kind: Kind) {
    match kind {
        Kind::Closed | Kind::Timeout => {} // others count them
        Kind::Connection => stats.connection_error().inc(),
        Kind::Hash => stats.fail_verify_cert_hash().inc(),
        Kind::Name => stats.fail_verify_san().inc(),
        Kind::NoCertificate => stats.fail_verify_no_cert().inc(),
        Kind::Untrusted => stats.fail_verify_error().inc(),
    }
}
