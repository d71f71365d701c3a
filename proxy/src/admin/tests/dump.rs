//! `/config_dump`.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use http::StatusCode;
use serde_json::Value;
use serde_json::json;
use xds_proto::any::pack;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::core::v3::DataSource;
use xds_proto::pb::envoy::config::core::v3::data_source::Specifier;
use xds_proto::pb::envoy::config::listener::v3::Listener;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::TlsCertificate;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::secret;
use xds_proto::pb::google::protobuf::Any;

use crate::admin::state::ConfigError;
use crate::admin::state::ConfigView;
use crate::admin::state::ResourceState;
use crate::admin::state::ResourceView;
use crate::admin::state::Resources;
use crate::admin::tests::Process;
use crate::admin::tests::get;
use crate::admin::tests::get_json;

fn resource(name: &str, state: ResourceState, message: Option<Any>) -> ResourceView {
    let is_static = state == ResourceState::Static;
    ResourceView {
        name: name.to_owned(),
        state,
        version_info: if is_static {
            String::new()
        } else {
            "7".to_owned()
        },
        last_updated: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_219_261_231)),
        resource: message,
        error: None,
    }
}

fn cluster(name: &str, state: ResourceState) -> ResourceView {
    let message = Cluster {
        name: name.to_owned(),
        ..Cluster::default()
    };
    resource(name, state, Some(pack(&message)))
}

fn listener(name: &str, state: ResourceState) -> ResourceView {
    let message = Listener {
        name: name.to_owned(),
        ..Listener::default()
    };
    resource(name, state, Some(pack(&message)))
}

fn process() -> Arc<Process> {
    let mut refused = listener("bad", ResourceState::Warming);
    refused.resource = None;
    refused.error = Some(ConfigError {
        details: "listener.address: missing".to_owned(),
        last_update_attempt: Some(SystemTime::UNIX_EPOCH),
        version_info: "8".to_owned(),
        failed_configuration: None,
    });
    let key = |text: &str| DataSource {
        specifier: Some(Specifier::InlineString(text.to_owned())),
        ..DataSource::default()
    };
    let secret = Secret {
        name: "s".to_owned(),
        r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: Some(key("CHAIN")),
            private_key: Some(key("KEY")),
            ..TlsCertificate::default()
        })),
    };
    let set = |resources| Resources {
        version_info: "7".to_owned(),
        resources,
    };
    let config = ConfigView {
        clusters: set(vec![
            cluster("a", ResourceState::Static),
            cluster("b", ResourceState::Active),
            cluster("c", ResourceState::Warming),
        ]),
        listeners: set(vec![listener("l", ResourceState::Active), refused]),
        secrets: set(vec![resource(
            "s",
            ResourceState::Active,
            Some(pack(&secret)),
        )]),
        ..ConfigView::default()
    };
    Arc::new(Process {
        config,
        ..Process::default()
    })
}

fn configs(dump: &Value) -> Vec<&str> {
    let configs = dump["configs"].as_array().expect("a list");
    let kinds = configs.iter().filter_map(|config| config["@type"].as_str());
    kinds.filter_map(|kind| kind.rsplit('.').next()).collect()
}

#[test]
fn shape_as_envoy() {
    let dump = get_json(&process(), "/config_dump");
    let expected = [
        "ClustersConfigDump",
        "ListenersConfigDump",
        "RoutesConfigDump",
        "SecretsConfigDump",
    ];
    assert_eq!(configs(&dump), expected);
    assert_eq!(
        dump["configs"][0]["static_clusters"],
        json!([{
            "cluster": {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "a"},
            "last_updated": "2026-11-21T00:01:01.231Z",
        }])
    );
    let active = &dump["configs"][0]["dynamic_active_clusters"][0];
    assert_eq!(
        (&active["version_info"], &active["cluster"]["name"]),
        (&json!("7"), &json!("b"))
    );
    assert_eq!(
        dump["configs"][0]["dynamic_warming_clusters"][0]["cluster"]["name"],
        "c"
    );
    assert_eq!(dump["configs"][0]["version_info"], "7");
    let listeners = &dump["configs"][1]["dynamic_listeners"];
    assert_eq!(listeners[0]["active_state"]["listener"]["name"], "l");
    assert_eq!(
        listeners[1],
        json!({"name": "bad", "error_state": {
            "details": "listener.address: missing",
            "last_update_attempt": "1970-01-01T00:00:00.000Z",
            "version_info": "8",
        }})
    );
}

#[test]
fn members_only_when_asked_for() {
    let dump = get_json(&process(), "/config_dump?include_eds");
    assert!(configs(&dump).contains(&"EndpointsConfigDump"));
}

#[test]
fn one_list() {
    let dump = get_json(&process(), "/config_dump?resource=dynamic_active_clusters");
    let entries = dump["configs"].as_array().expect("a list");
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["cluster"]["name"], "b");
    let kind = "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.DynamicCluster";
    assert_eq!(entries[0]["@type"], kind);
    let none = get_json(
        &process(),
        "/config_dump?resource=static_clusters&name_regex=^zz",
    );
    assert_eq!(none, json!({"configs": []}));
    let (status, body) = get(&process(), "/config_dump?resource=bogus");
    assert_eq!(
        (status, body.as_str()),
        (StatusCode::NOT_FOUND, "bogus not found in config dump\n")
    );
}

#[test]
fn keys_are_not_shown() {
    let (_, body) = get(&process(), "/config_dump");
    assert!(body.contains("CHAIN"));
    assert!(!body.contains("KEY"));
}
