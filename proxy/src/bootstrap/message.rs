//! `Bootstrap` itself, `Admin`, `ClusterManager` and the extensions.

use std::collections::BTreeMap;
use std::sync::Arc;

use xds_proto::pb::envoy::config::bootstrap::v3 as pb;
use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::extensions::bootstrap::internal_listener::v3::InternalListener;
use xds_proto::pb::envoy::extensions::regex_engines::v3::GoogleRe2;
use xds_proto::pb::weir::identity::v1 as pb_identity;

use super::Admin;
use super::Bootstrap;
use super::StaticResource;
use super::channels;
use super::identity;
use super::overload;
use super::resources;
use super::resources::Statics;
use super::runtime;
use super::sources;
use crate::config::Cluster;
use crate::config::Name;
use crate::config::cluster::Discovery;
use crate::config::endpoint::Locality;
use crate::config::identity::Identity;
use crate::config::socket::SocketOptions;
use crate::config::zone::Home;
use crate::xds::decode::Context;
use crate::xds::decode::address;
use crate::xds::decode::cluster_dns;
use crate::xds::decode::extension;
use crate::xds::decode::unsupported;
use crate::xds::resource::ReadSecret;

/// Reads a bootstrap.
#[expect(
    clippy::too_many_lines,
    reason = "one message, taken apart field by field"
)]
#[expect(
    deprecated,
    reason = "existing bootstraps still have deprecated fields"
)]
pub(super) fn decode(context: &mut Context, bootstrap: pb::Bootstrap) -> Option<Bootstrap> {
    let raw = xds_proto::any::pack(&bootstrap);
    let pb::Bootstrap {
        node,
        node_context_params,
        static_resources,
        dynamic_resources,
        cluster_manager,
        hds_config,
        flags_path,
        stats_sinks,
        deferred_stat_options,
        stats_config,
        stats_flush_interval,
        watchdog,
        watchdogs,
        tracing,
        layered_runtime,
        admin,
        overload_manager,
        enable_dispatcher_stats,
        header_prefix,
        stats_server_version_override,
        use_tcp_for_dns_lookups,
        dns_resolution_config,
        typed_dns_resolver_config,
        bootstrap_extensions,
        fatal_actions,
        config_sources,
        default_config_source,
        default_socket_interface,
        certificate_provider_instances,
        inline_headers,
        perf_tracing_file_path,
        default_regex_engine,
        xds_delegate_extension,
        xds_config_tracker_extension,
        listener_manager,
        application_log_config,
        grpc_async_client_manager_config,
        memory_allocator_manager,
        enable_worker_cpu_affinity,
        stats_flush,
        stats_eviction,
    } = bootstrap;
    // Observation, Envoy's own insides, and protection that `config::limits` gives in another way.
    unsupported!(context, warn: node_context_params, hds_config, flags_path, stats_sinks,
        deferred_stat_options, stats_config, stats_flush_interval, watchdog, watchdogs, tracing,
        enable_dispatcher_stats, stats_server_version_override,
        use_tcp_for_dns_lookups, fatal_actions, certificate_provider_instances, inline_headers,
        perf_tracing_file_path, xds_config_tracker_extension, application_log_config,
        grpc_async_client_manager_config, memory_allocator_manager, enable_worker_cpu_affinity,
        stats_flush, stats_eviction);
    // Other names for headers, other ways to resolve, to find configuration or to open sockets.
    unsupported!(context, reject: header_prefix, dns_resolution_config, config_sources,
        default_config_source, default_socket_interface, xds_delegate_extension, listener_manager);
    context.optional(
        "typed_dns_resolver_config",
        typed_dns_resolver_config,
        cluster_dns::resolver,
    );
    context.optional("default_regex_engine", default_regex_engine, regex_engine);
    let local = context.optional("cluster_manager", cluster_manager, self::cluster_manager);
    let admin = context.optional("admin", admin, self::admin);
    let limits = context.optional("layered_runtime", layered_runtime, runtime::decode);
    let overload = context.optional("overload_manager", overload_manager, overload::decode);
    let mut limits = limits.unwrap_or_default();
    if let Some(max) = overload
        .as_ref()
        .and_then(|overload| overload.connections_max)
    {
        limits.process = max;
    }
    let statics = static_resources.map(|statics| {
        context.field("static_resources", |context| {
            resources::decode(context, statics)
        })
    });
    let Statics {
        listeners,
        clusters,
        secrets,
    } = statics.unwrap_or_default();
    let dynamic = context
        .optional(
            "dynamic_resources",
            dynamic_resources,
            |context, dynamic| sources::decode(context, dynamic, &clusters),
        )
        .unwrap_or_default();
    let identity = extensions(context, bootstrap_extensions, &clusters);
    if let Some(named) = identity.as_ref().and_then(|one| taken(one, &secrets)) {
        let reason = format!("{named:?} is among the secrets here too");
        context.reject("bootstrap_extensions", reason);
    }
    let identity = identity.map(Arc::new);
    resources::check_secrets(
        context,
        (&listeners, &clusters),
        (&secrets, identity.as_deref()),
        dynamic.ads.is_some(),
    );
    channels::check(
        context,
        &clusters,
        (dynamic.ads.as_ref(), identity.as_deref()),
    );
    let node = node.unwrap_or_default();
    // A control plane tells its clients apart by these two (S-10).
    if dynamic.ads.is_some() && (node.id.is_empty() || node.cluster.is_empty()) {
        context.reject("node", "needs an id and a cluster to ask a control plane");
    }
    let home = home(context, local, node.locality.clone(), &clusters);
    Some(Bootstrap {
        raw,
        node_id: node.id.as_str().into(),
        node_cluster: node.cluster.as_str().into(),
        node,
        admin,
        static_listeners: listeners,
        static_clusters: clusters,
        static_secrets: secrets,
        dynamic,
        identity,
        overload,
        home,
        connection_limits: limits,
        warnings: Vec::new(),
    })
}

#[expect(deprecated, reason = "existing bootstraps still have access_log_path")]
fn admin(context: &mut Context, admin: pb::Admin) -> Option<Admin> {
    let pb::Admin {
        access_log,
        access_log_path,
        profile_path,
        address,
        socket_options,
        ignore_global_conn_limit,
        allow_paths,
    } = admin;
    unsupported!(context, warn: access_log, access_log_path, profile_path, socket_options,
        ignore_global_conn_limit);
    // It takes paths away; without it they would be open.
    unsupported!(context, reject: allow_paths);
    let address = context.optional("address", address, |context, address| {
        let listen = address::listen(context, address, true)?;
        if listen.options != SocketOptions::default() {
            context.warn("", "ipv4_compat and mode have no effect here");
        }
        Some(listen.address)
    })?;
    Some(Admin { address })
}

/// The name of the cluster that proxies like this one are the members of, if there is one.
fn cluster_manager(context: &mut Context, manager: pb::ClusterManager) -> Option<Name> {
    let pb::ClusterManager {
        local_cluster_name,
        outlier_detection,
        upstream_bind_config,
        load_stats_config,
        enable_deferred_cluster_creation,
    } = manager;
    unsupported!(context, warn: outlier_detection, load_stats_config,
        enable_deferred_cluster_creation);
    unsupported!(context, reject: upstream_bind_config);
    Some(local_cluster_name.into()).filter(|name: &Name| !name.is_empty())
}

/// Where the proxy is. As with Envoy, those like it are of a cluster of this file, and all of one
/// priority.
fn home(
    context: &mut Context,
    cluster: Option<Name>,
    locality: Option<core::Locality>,
    clusters: &[StaticResource<Cluster>],
) -> Option<Home> {
    let cluster = cluster?;
    let local = clusters.iter().find(|known| known.value.name == cluster);
    let field = "cluster_manager.local_cluster_name";
    match local.map(|local| &local.value.discovery) {
        None => context.reject(
            field,
            format!("{cluster:?} is no cluster of static_resources"),
        ),
        Some(Discovery::Static(endpoints)) => {
            if endpoints.localities.iter().any(|one| one.priority > 0) {
                context.reject(
                    field,
                    format!("{cluster:?} has members of several priorities"),
                );
            }
        }
        Some(_) => {}
    }
    if locality.is_none() {
        context.warn(field, "has no effect without node.locality");
    }
    let locality = locality.map(|locality| {
        let core::Locality {
            region,
            zone,
            sub_zone,
        } = locality;
        Locality {
            region: region.into(),
            zone: zone.into(),
            sub_zone: sub_zone.into(),
        }
    });
    Some(Home { locality, cluster })
}

/// RE2 is what our own engine stands for.
fn regex_engine(context: &mut Context, config: core::TypedExtensionConfig) -> Option<()> {
    let core::TypedExtensionConfig {
        name: _,
        typed_config,
    } = config;
    let any = typed_config.unwrap_or_default();
    if !extension::holds::<GoogleRe2>(&any) {
        let name = extension::type_name(&any);
        context.reject_unsupported("typed_config", format!("{name:?} is not supported"));
    }
    Some(())
}

/// The one that is ours, of which there is at most one.
fn extensions(
    context: &mut Context,
    extensions: Vec<core::TypedExtensionConfig>,
    clusters: &[StaticResource<Cluster>],
) -> Option<Identity> {
    let field = "bootstrap_extensions";
    let found = context.each(field, extensions, |context, config| {
        bootstrap_extension(context, config, clusters)
    });
    let mut found = found.into_iter();
    let first = found.next();
    if found.next().is_some() {
        context.reject(field, "a proxy has one identity of its own");
    }
    first
}

/// Internal listeners are refused where they are used; announcing that there may be some is not.
fn bootstrap_extension(
    context: &mut Context,
    config: core::TypedExtensionConfig,
    clusters: &[StaticResource<Cluster>],
) -> Option<Identity> {
    let core::TypedExtensionConfig {
        name: _,
        typed_config,
    } = config;
    let any = typed_config.unwrap_or_default();
    context.field("typed_config", |context| {
        if extension::holds::<pb_identity::Identity>(&any) {
            let message = extension::unpack(context, &any)?;
            return identity::decode(context, message, clusters);
        }
        let is_internal =
            extension::type_name(&any) == <InternalListener as prost::Name>::full_name();
        extension::unknown(context, &any, is_internal);
        None
    })
}

/// A name that the identity gives to a secret, and a secret of the file has.
fn taken(
    identity: &Identity,
    secrets: &BTreeMap<Name, StaticResource<ReadSecret>>,
) -> Option<Name> {
    let names = [&identity.certificate_name, &identity.trust_name];
    names
        .into_iter()
        .find(|name| secrets.contains_key(*name))
        .cloned()
}
