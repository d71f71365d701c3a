//! The name that is sent to a server, and the name its certificate must be for.

use serde_json::Value;
use serde_json::json;

use super::Server;
use super::ask;
use super::cluster;
use super::listener;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::envoy_is_there;
use crate::setting::nginx_is_there;

/// Hosts of requests; the server has a certificate for the first.
const HOSTS: [&str; 6] = [
    "a.test",
    "A.test",
    "a.test:8443",
    "b.test",
    "127.0.0.1",
    "[::1]:80",
];

/// A kind of cluster: its name, its TLS context, the names it wants, its options.
type Kind = (&'static str, Value, Value, Value);

/// Clusters that send a name of their own, or none.
fn fixed() -> [Kind; 7] {
    let wanted = |host: &str| {
        let wanted = json!([{"san_type": "DNS", "matcher": {"exact": host}}]);
        json!({"match_typed_subject_alt_names": wanted})
    };
    let (none, fixed) = (|| json!({}), || json!({"sni": "fixed.test"}));
    let own = |name: &str| json!({"sni": name, "auto_sni_san_validation": true});
    [
        ("none", none(), none(), none()),
        ("fixed", fixed(), none(), none()),
        ("right-name", fixed(), wanted("a.test"), none()),
        ("wrong-name", fixed(), wanted("b.test"), none()),
        ("host-name", json!({"auto_host_sni": true}), none(), none()),
        ("own-name", own("a.test"), none(), none()),
        ("own-wrong-name", own("b.test"), none(), none()),
    ]
}

/// Clusters that send the name the request is for.
fn automatic() -> [Kind; 5] {
    let (none, fixed) = (|| json!({}), || json!({"sni": "fixed.test"}));
    let auto = || json!({"auto_sni": true});
    let validated = || json!({"auto_sni": true, "auto_san_validation": true});
    let mut header = validated();
    header["override_auto_sni_header"] = "x-name".into();
    let alone = json!({"auto_san_validation": true});
    [
        ("auto", none(), none(), auto()),
        ("auto-over-fixed", fixed(), none(), auto()),
        ("validated", none(), none(), validated()),
        ("header", none(), none(), header),
        ("validated-alone", fixed(), none(), alone),
    ]
}

fn clusters(server: &Server) -> Vec<Value> {
    let kinds = fixed().into_iter().chain(automatic());
    kinds
        .map(|(name, context, validation, options)| {
            let mut cluster = cluster(name, server.tls.number());
            cluster["transport_socket"] = server.transport(&context, &validation);
            let type_name = "extensions.upstreams.http.v3.HttpProtocolOptions";
            let options = json!({
                "upstream_http_protocol_options": options,
                "explicit_http_config": {"http_protocol_options": {}},
            });
            cluster["typed_extension_protocol_options"] =
                json!({format!("envoy.{type_name}"): typed(type_name, options)});
            cluster
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_named_and_believed_alike() {
    if !envoy_is_there() || !nginx_is_there() {
        return;
    }
    let server = Server::start().await;
    let clusters = clusters(&server);
    let ports = free_ports(1);
    let bootstrap = bootstrap(&[listener(ports[0].number(), &clusters)], &clusters);
    let look = || async {
        let mut told = Vec::new();
        for cluster in &clusters {
            let name = cluster["name"].as_str().expect("it has a name");
            for host in HOSTS {
                // Each over a connection of its own: the server closes after every answer.
                let seen = ask(&ports[0], &format!("/{name}/"), host).await;
                // Whether a session is taken up again is told elsewhere, and a server name has no
                // case: Envoy sends it as it stands in the request.
                let seen = seen.replace(" r ", " . ").to_ascii_lowercase();
                told.push(format!("{name}, {host}: {seen}"));
            }
        }
        told
    };
    let (envoy, weir) = of_both(&bootstrap, &ports, look).await;
    let different: Vec<_> = envoy.iter().zip(&weir).filter(|(e, w)| e != w).collect();
    assert!(different.is_empty(), "{different:#?}");
    for told in [
        "auto, b.test: 200 tls b.test . b.test",
        "validated, a.test: 200 tls a.test . a.test",
        "validated, b.test: 503",
        "fixed, b.test: 200 tls fixed.test . b.test",
        "wrong-name, a.test: 503",
        "host-name, b.test: 200 tls a.test . b.test",
    ] {
        assert!(weir.iter().any(|seen| seen == told), "{told}: {weir:#?}");
    }
}
