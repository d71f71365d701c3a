//! `upgrade_configs` of connection managers and routes.

use xds_proto::pb::envoy::config::route::v3::route_action::UpgradeConfig as OfRoute;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::UpgradeConfig as OfManager;
use xds_proto::pb::google::protobuf::BoolValue;

use super::Context;
use crate::config::upgrade::Upgrade;

/// No tunnel to wherever the client says.
const CONNECT: &str = "CONNECT";

/// Those of a connection manager.
pub(super) fn of_manager(context: &mut Context, configs: Vec<OfManager>) -> Vec<Upgrade> {
    let mut list = Vec::new();
    context.each("upgrade_configs", configs, |context, config| {
        let OfManager {
            upgrade_type,
            filters,
            enabled,
        } = config;
        unsupported!(context, reject: filters);
        add(context, &mut list, (upgrade_type, enabled));
        Some(())
    });
    list
}

/// Those of a route.
pub(super) fn of_route(context: &mut Context, configs: Vec<OfRoute>) -> Vec<Upgrade> {
    let mut list = Vec::new();
    context.each("upgrade_configs", configs, |context, config| {
        let OfRoute {
            upgrade_type,
            enabled,
            connect_config,
        } = config;
        unsupported!(context, reject: connect_config);
        add(context, &mut list, (upgrade_type, enabled));
        Some(())
    });
    list
}

/// A kind that is there twice is refused, as by Envoy.
fn add(
    context: &mut Context,
    list: &mut Vec<Upgrade>,
    (kind, enabled): (String, Option<BoolValue>),
) {
    let is_enabled = enabled.is_none_or(|enabled| enabled.value);
    let same = |upgrade: &Upgrade| upgrade.kind.eq_ignore_ascii_case(&kind);
    if kind.is_empty() {
        context.reject("upgrade_type", "must not be empty");
    } else if kind.eq_ignore_ascii_case(CONNECT) && is_enabled {
        context.reject_unsupported("upgrade_type", "CONNECT is not supported");
    } else if list.iter().any(same) {
        context.reject("upgrade_type", format!("{kind:?} is there twice"));
    } else {
        let kind = kind.into();
        list.push(Upgrade { kind, is_enabled });
    }
}
