//! Versions, cipher suites and curves as rustls wants them.

use std::sync::Arc;

use rustls::SupportedCipherSuite;
use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs;
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::version;

use crate::config::tls::CipherSuite;
use crate::config::tls::Curve;
use crate::config::tls::Parameters;
use crate::config::tls::Version;

/// All we have, in our order: AES-128 first, as BoringSSL has it for TLS 1.2, because it is the
/// cheapest that is not broken.
static ORDER: [SupportedCipherSuite; 9] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// The provider with what `parameters` allow.
pub(super) fn provider(parameters: &Parameters) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = ORDER[..3].to_vec(); // Envoy's cipher_suites say nothing about TLS 1.3
    if parameters.cipher_suites.is_empty() {
        provider.cipher_suites.extend_from_slice(&ORDER[3..]);
    } else {
        let wanted = parameters.cipher_suites.iter().map(|name| suite(*name));
        provider.cipher_suites.extend(wanted);
    }
    if !parameters.curves.is_empty() {
        provider.kx_groups = parameters.curves.iter().map(|name| group(*name)).collect();
    }
    Arc::new(provider)
}

/// The versions that `parameters` allow, the newest first.
pub(super) fn versions(parameters: &Parameters) -> Vec<&'static SupportedProtocolVersion> {
    let all = [
        (Version::Tls13, &version::TLS13),
        (Version::Tls12, &version::TLS12),
    ];
    all.into_iter()
        .filter(|(version, _)| (parameters.least..=parameters.most).contains(version))
        .map(|(_, supported)| supported)
        .collect()
}

fn suite(name: CipherSuite) -> SupportedCipherSuite {
    match name {
        CipherSuite::EcdsaAes128 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdsaAes256 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdsaChacha20 => cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::RsaAes128 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::RsaAes256 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::RsaChacha20 => cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

fn group(name: Curve) -> &'static dyn SupportedKxGroup {
    match name {
        Curve::P256 => kx_group::SECP256R1,
        Curve::P384 => kx_group::SECP384R1,
        Curve::X25519 => kx_group::X25519,
        Curve::X25519MlKem768 => kx_group::X25519MLKEM768,
    }
}
