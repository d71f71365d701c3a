//! `/server_info` and `/version`: who this process is.

use serde_json::json;

use crate::admin::redact::redact;
use crate::admin::reply::Reply;
use crate::admin::route::Call;
use crate::admin::state::Admin;

/// In the shape of `envoy.admin.v3.ServerInfo`.
pub(in crate::admin) fn reply(call: &Call<'_>) -> Reply {
    let info = call.admin.inspect.server_info();
    let uptime = format!("{}s", info.uptime.as_secs());
    let mut value = json!({
        "version": version_text(call.admin),
        "state": call.admin.inspect.readiness().state.as_str(),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "hot_restart_version": "disabled",
        "command_line_options": info.command_line_options,
        "node": info.node,
    });
    redact(&mut value);
    Reply::json(&value)
}

/// The version alone.
pub(in crate::admin) fn version(call: &Call<'_>) -> Reply {
    Reply::text(format!("{}\n", version_text(call.admin)))
}

/// As Envoy: revision, version, state of the tree, kind of build, TLS library.
fn version_text(admin: &Admin) -> String {
    let (revision, version) = (admin.build.revision, admin.build.version);
    let revision = if revision.is_empty() {
        "unknown"
    } else {
        revision
    };
    let kind = if cfg!(debug_assertions) {
        "DEBUG"
    } else {
        "RELEASE"
    };
    format!("{revision}/{version}/weir/{kind}/aws-lc")
}
