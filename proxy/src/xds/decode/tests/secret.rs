//! Secrets, and the names of them.

use std::path::Path;
use std::time::Duration;

use rcgen::date_time_ymd;
use serde_json::Value;
use serde_json::json;

use super::encode;
use crate::config::filter_chain::TransportSocket;
use crate::config::secret::Secret;
use crate::config::secret::SecretKind;
use crate::config::secret::SecretNames;
use crate::config::secret::SecretSource;
use crate::tls::fixtures::Authority;
use crate::tls::fixtures::CA;
use crate::tls::fixtures::LEAF;
use crate::tls::fixtures::params;
use crate::xds::decode;
use crate::xds::resource::ReadSecret;

const SECRET: &str = "envoy.extensions.transport_sockets.tls.v3.Secret";

fn read(secret: Value) -> Result<ReadSecret, String> {
    match decode::secret(&encode(SECRET, secret)) {
        Ok(decoded) => {
            assert_eq!(&*decoded.value.0, "s");
            Ok(decoded.value.1)
        }
        Err(error) => Err(error.to_string()),
    }
}

fn refused(secret: Value, expected: &str) {
    let error = read(secret).expect_err("it is refused");
    assert!(error.contains(expected), "{error}");
}

fn certificate(chain: &str, key: &str) -> Value {
    json!({"name": "s", "tls_certificate": {
        "certificate_chain": {"inline_string": chain},
        "private_key": {"inline_string": key},
    }})
}

#[test]
fn each_kind_is_read() {
    let sound = read(certificate(&LEAF.pem, &LEAF.key_pem())).unwrap();
    assert!(matches!(sound.secret, Secret::Certificate(c) if c.chain == [LEAF.der.clone()]));
    assert!(sound.directories.is_empty());
    let trust =
        json!({"name": "s", "validation_context": {"trusted_ca": {"inline_string": CA.pem}}});
    assert_eq!(read(trust).unwrap().secret.kind(), SecretKind::Validation);
    let keys =
        json!({"name": "s", "session_ticket_keys": {"keys": [{"inline_string": "k".repeat(80)}]}});
    assert_eq!(read(keys).unwrap().secret.kind(), SecretKind::TicketKeys);
}

#[test]
fn a_secret_nobody_could_use_is_refused_with_its_path() {
    let other = CA.issue("DNS:b.example");
    let path = "s: tls_certificate: the private key does not belong";
    refused(certificate(&LEAF.pem, &other.key_pem()), path);
    let mut expired = params("DNS:a.example");
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let expired = CA.issue_with(expired);
    let path = "s: tls_certificate.certificate_chain: the certificate has expired at Jan  1";
    refused(certificate(&expired.pem, &expired.key_pem()), path);
    let path = "s: tls_certificate.private_key";
    refused(certificate(&LEAF.pem, "nothing"), path);
    let generic = json!({"name": "s", "generic_secret": {"secret": {"inline_string": "x"}}});
    refused(generic, "s: generic_secret: ");
    refused(json!({"name": "s"}), "s: needs a type");
    let provider =
        json!({"name": "s", "tls_certificate": {"private_key_provider": {"provider_name": "p"}}});
    refused(
        provider,
        "s: tls_certificate.private_key_provider: not supported",
    );
    refused(
        json!({"name": "s", "validation_context": {"trusted_ca": {"inline_string": "x"}}}),
        "s: validation_context.trusted_ca: holds no certificate",
    );
    refused(
        json!({"name": "s", "session_ticket_keys": {"keys": [{"inline_string": "short"}]}}),
        "s: session_ticket_keys.keys[0]: must have exactly 80 bytes",
    );
}

#[test]
fn a_chain_out_of_order_is_told() {
    let stranger = Authority::new("stranger");
    let chain = format!("{}{}", LEAF.pem, stranger.pem);
    let bytes = encode(SECRET, certificate(&chain, &LEAF.key_pem()));
    let warnings = decode::secret(&bytes).unwrap().warnings;
    assert_eq!(warnings[0].field, "tls_certificate.certificate_chain");
    assert!(warnings[0].reason.contains("certificate 1 did not issue"));
}

#[test]
fn files_are_read_and_their_directories_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("tls.crt"), &LEAF.pem).unwrap();
    std::fs::write(path("tls.key"), LEAF.key_pem()).unwrap();
    let secret = json!({"name": "s", "tls_certificate": {
        "certificate_chain": {"filename": path("tls.crt")},
        "private_key": {"filename": path("tls.key")},
        "watched_directory": {"path": "/watched"},
    }});
    let read = read(secret).unwrap();
    let directories: Vec<&Path> = read.directories.iter().map(AsRef::as_ref).collect();
    let mut expected = [dir.path(), Path::new("/watched")];
    expected.sort();
    assert_eq!(directories, expected);
}

/// What a chain with this `common_tls_context` names.
fn names(common: Value) -> Result<SecretNames, String> {
    let tls = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": common,
    });
    let proxy = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "t",
        "cluster": "c",
    });
    let listener = json!({
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}},
        "filter_chains": [{
            "filters": [{"name": "t", "typed_config": proxy}],
            "transport_socket": {"name": "tls", "typed_config": tls},
        }],
    });
    let bytes = encode("envoy.config.listener.v3.Listener", listener);
    let listener = decode::listener(&bytes).map_err(|error| error.to_string())?;
    match &listener.value.filter_chains[0].transport_socket {
        TransportSocket::Tls(tls) => Ok(tls.common.secrets.clone()),
        TransportSocket::Raw => Err("no TLS".to_owned()),
    }
}

#[test]
fn secrets_are_named_with_their_sources() {
    let api = json!({
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
    });
    let named = names(json!({
        "tls_certificate_sds_secret_configs": [
            {"name": "a", "sds_config": {"ads": {}, "initial_fetch_timeout": "0s"}},
            {"name": "b", "sds_config": {"path_config_source": {
                "path": "/x/sds.yaml", "watched_directory": {"path": "/x"}}}},
            {"name": "c"},
        ],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [
                {"san_type": "DNS", "matcher": {"exact": "x"}}]},
            "validation_context_sds_secret_config": {"name": "d", "sds_config": {"api_config_source": api}},
        },
    }));
    let named = named.unwrap();
    let [a, b, c] = &*named.certificates else {
        panic!("{named:?}")
    };
    assert_eq!((&a.key.source, a.fetch_timeout), (&SecretSource::Ads, None));
    assert!(matches!(&b.key.source, SecretSource::File(f) if f.path == Path::new("/x/sds.yaml")));
    assert_eq!(b.fetch_timeout, Some(Duration::from_secs(15)));
    assert_eq!(c.key.source, SecretSource::Bootstrap);
    let d = named.validation.unwrap();
    assert_eq!(d.kind, SecretKind::Validation);
    let SecretSource::Grpc(server) = &d.key.source else {
        panic!("{d:?}")
    };
    assert!(server.delta);
    assert_eq!(&*server.clusters[0], "sds-grpc");
}

#[test]
fn a_name_that_leads_nowhere_is_refused() {
    let check = |sds: Value, expected: &str| {
        let error = names(json!({"tls_certificate_sds_secret_configs": [sds]})).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    check(
        json!({"sds_config": {"ads": {}}}),
        "tls_certificate_sds_secret_configs[0].name: must not be",
    );
    check(
        json!({"name": "a", "sds_config": {}}),
        "sds_config: needs a source",
    );
    let rest = json!({"api_config_source": {"api_type": "REST", "cluster_names": ["c"]}});
    check(
        json!({"name": "a", "sds_config": rest}),
        "sds_config.api_config_source.api_type: only GRPC",
    );
}
