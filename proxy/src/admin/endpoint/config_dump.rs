//! `/config_dump`: the configuration as received, in the shape of `envoy.admin.v3.ConfigDump`.
//!
//! The descriptors that turn bytes into JSON are big: they are made for one request and dropped.

use http::StatusCode;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use xds_proto::Pool;
use xds_proto::dump::any_to_json;
use xds_proto::pb::google::protobuf::Any;

use crate::admin::endpoint::pattern;
use crate::admin::redact::redact;
use crate::admin::reply::Reply;
use crate::admin::request::Query;
use crate::admin::route::Call;
use crate::admin::state::ConfigError;
use crate::admin::state::ConfigView;
use crate::admin::state::ResourceState;
use crate::admin::state::ResourceView;
use crate::admin::state::Resources;
use crate::telemetry::access_log::rfc3339;

/// Names of one resource type in Envoy's dump.
struct Names {
    /// `ClustersConfigDump`.
    message: &'static str,
    /// The member that holds the resource: `cluster`.
    member: &'static str,
    /// The list of static ones.
    fixed: &'static str,
    active: &'static str,
    warming: &'static str,
    draining: &'static str,
    /// Whether the message has `version_info`.
    versioned: bool,
}

const CLUSTERS: Names = Names {
    message: "ClustersConfigDump",
    member: "cluster",
    fixed: "static_clusters",
    active: "dynamic_active_clusters",
    warming: "dynamic_warming_clusters",
    draining: "dynamic_active_clusters",
    versioned: true,
};

const ENDPOINTS: Names = Names {
    message: "EndpointsConfigDump",
    member: "endpoint_config",
    fixed: "static_endpoint_configs",
    active: "dynamic_endpoint_configs",
    warming: "dynamic_endpoint_configs",
    draining: "dynamic_endpoint_configs",
    versioned: false,
};

const ROUTES: Names = Names {
    message: "RoutesConfigDump",
    member: "route_config",
    fixed: "static_route_configs",
    active: "dynamic_route_configs",
    warming: "dynamic_route_configs",
    draining: "dynamic_route_configs",
    versioned: false,
};

const SECRETS: Names = Names {
    message: "SecretsConfigDump",
    member: "secret",
    fixed: "static_secrets",
    active: "dynamic_active_secrets",
    warming: "dynamic_warming_secrets",
    draining: "dynamic_active_secrets",
    versioned: false,
};

/// Everything, or the list that was asked for.
pub(in crate::admin) fn reply(call: &Call<'_>) -> Reply {
    let name_regex = match pattern(call.query, "name_regex") {
        Ok(name_regex) => name_regex,
        Err(reply) => return reply,
    };
    let mut view = call.admin.inspect.config();
    if let Some(name_regex) = name_regex {
        retain(&mut view, |name| name_regex.is_match(name));
    }
    let configs = dump(&view, include_endpoints(call.query));
    let mut configs = match call.query.value("resource") {
        None => Value::Array(configs),
        Some(resource) => match list(configs, resource) {
            Some(list) => list,
            None => {
                let sentence = format!("{resource} not found in config dump");
                return Reply::error(StatusCode::NOT_FOUND, &sentence);
            }
        },
    };
    redact(&mut configs);
    Reply::json(&json!({ "configs": configs }))
}

/// Asking for a list of members is asking for them.
fn include_endpoints(query: &Query) -> bool {
    let asked = query.value("resource").unwrap_or_default();
    query.is_set("include_eds") || [ENDPOINTS.fixed, ENDPOINTS.active].contains(&asked)
}

fn retain(view: &mut ConfigView, keep: impl Fn(&str) -> bool) {
    for resources in [
        &mut view.clusters,
        &mut view.endpoints,
        &mut view.listeners,
        &mut view.routes,
        &mut view.secrets,
    ] {
        resources.resources.retain(|resource| keep(&resource.name));
    }
}

fn dump(view: &ConfigView, include_endpoints: bool) -> Vec<Value> {
    let pool = Pool::new();
    let mut configs = Vec::new();
    if let Some((bootstrap, read)) = &view.bootstrap {
        let mut bootstrap = any(&pool, bootstrap);
        if let Some(members) = bootstrap.as_object_mut() {
            members.remove("@type");
        }
        configs.push(json!({
            "@type": type_url("BootstrapConfigDump"),
            "bootstrap": bootstrap,
            "last_updated": rfc3339(*read),
        }));
    }
    configs.push(resources(&pool, &CLUSTERS, &view.clusters));
    if include_endpoints {
        configs.push(resources(&pool, &ENDPOINTS, &view.endpoints));
    }
    configs.push(listeners(&pool, &view.listeners));
    configs.push(resources(&pool, &ROUTES, &view.routes));
    configs.push(resources(&pool, &SECRETS, &view.secrets));
    configs
}

fn resources(pool: &Pool, names: &Names, all: &Resources) -> Value {
    let mut message = Lists::new(names.message);
    if names.versioned {
        message.version(&all.version_info);
    }
    for resource in &all.resources {
        let list = match resource.state {
            ResourceState::Active => names.active,
            ResourceState::Draining => names.draining,
            ResourceState::Static => names.fixed,
            ResourceState::Warming => names.warming,
        };
        let mut value = entry(pool, names.member, resource);
        // A secret's own name is part of its entry.
        if names.member == SECRETS.member {
            value.insert("name".to_owned(), resource.name.clone().into());
        }
        message.push(list, value.into());
    }
    message.into()
}

/// Listeners have all their states in one entry.
fn listeners(pool: &Pool, all: &Resources) -> Value {
    let mut message = Lists::new("ListenersConfigDump");
    message.version(&all.version_info);
    for resource in &all.resources {
        let state = match resource.state {
            ResourceState::Static => {
                message.push("static_listeners", entry(pool, "listener", resource).into());
                continue;
            }
            ResourceState::Active => "active_state",
            ResourceState::Draining => "draining_state",
            ResourceState::Warming => "warming_state",
        };
        let mut inner = entry(pool, "listener", resource);
        let error = inner.remove("error_state");
        let mut value = json!({ "name": resource.name });
        if resource.resource.is_some() {
            value[state] = inner.into();
        }
        if let Some(error) = error {
            value["error_state"] = error;
        }
        message.push("dynamic_listeners", value);
    }
    message.into()
}

fn entry(pool: &Pool, member: &str, resource: &ResourceView) -> Map<String, Value> {
    let mut entry = Map::new();
    let mut put = |name: &str, value: Value| entry.insert(name.to_owned(), value);
    if !resource.version_info.is_empty() {
        put("version_info", resource.version_info.clone().into());
    }
    if let Some(message) = &resource.resource {
        put(member, any(pool, message));
    }
    if let Some(time) = resource.last_updated {
        put("last_updated", rfc3339(time).into());
    }
    if let Some(error) = &resource.error {
        put("error_state", error_state(pool, error));
    }
    entry
}

fn error_state(pool: &Pool, error: &ConfigError) -> Value {
    let mut state = json!({ "details": error.details });
    if !error.version_info.is_empty() {
        state["version_info"] = error.version_info.clone().into();
    }
    if let Some(time) = error.last_update_attempt {
        state["last_update_attempt"] = rfc3339(time).into();
    }
    if let Some(message) = &error.failed_configuration {
        state["failed_configuration"] = any(pool, message);
    }
    state
}

fn any(pool: &Pool, message: &Any) -> Value {
    any_to_json(pool, message)
}

fn type_url(message: &str) -> String {
    format!("type.googleapis.com/envoy.admin.v3.{message}")
}

/// The entries of one list, each with the type of its own that Envoy gives it.
fn list(configs: Vec<Value>, name: &str) -> Option<Value> {
    if !is_list(name) {
        return None;
    }
    let mut found = Vec::new();
    for mut config in configs {
        let kind = config
            .get("@type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let kind = format!("{kind}.{}", entry_type(name));
        let Some(Value::Array(entries)) = config.get_mut(name).map(Value::take) else {
            continue;
        };
        found.extend(entries.into_iter().map(|mut entry| {
            entry["@type"] = kind.clone().into();
            entry
        }));
    }
    Some(found.into())
}

fn is_list(name: &str) -> bool {
    let of_names =
        |names: &Names| [names.fixed, names.active, names.warming, names.draining].contains(&name);
    [CLUSTERS, ENDPOINTS, ROUTES, SECRETS].iter().any(of_names)
        || ["dynamic_listeners", "static_listeners"].contains(&name)
}

/// `StaticCluster` of `static_clusters`, `DynamicCluster` of `dynamic_active_clusters`.
fn entry_type(list: &str) -> String {
    let words = list
        .split('_')
        .filter(|word| !["active", "warming"].contains(word));
    let mut name = String::new();
    for word in words {
        let (first, rest) = word.split_at_checked(1).unwrap_or_default();
        name.push_str(&first.to_ascii_uppercase());
        name.push_str(rest);
    }
    name.trim_end_matches('s').to_owned()
}

/// A dump message under construction: a list appears with its first entry.
struct Lists(Map<String, Value>);

impl Lists {
    fn new(message: &str) -> Self {
        let kind = ("@type".to_owned(), type_url(message).into());
        Self([kind].into_iter().collect())
    }

    fn version(&mut self, version: &str) {
        if !version.is_empty() {
            self.0.insert("version_info".to_owned(), version.into());
        }
    }

    fn push(&mut self, list: &str, entry: Value) {
        let list = self.0.entry(list).or_insert_with(|| json!([]));
        if let Value::Array(entries) = list {
            entries.push(entry);
        }
    }
}

impl From<Lists> for Value {
    fn from(lists: Lists) -> Self {
        Self::Object(lists.0)
    }
}
