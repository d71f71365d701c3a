//! Whether the TLS to a server can be had before that server is reached.

use std::collections::BTreeSet;

use super::AdsConfig;
use super::StaticResource;
use crate::config::Cluster;
use crate::config::Name;
use crate::config::secret::SecretSource;
use crate::xds::decode::Context;
use crate::xds::stage::secrets_of_cluster;

/// Refuses clusters that would wait for themselves for ever.
pub(super) fn check(
    context: &mut Context,
    clusters: &[StaticResource<Cluster>],
    ads: Option<&AdsConfig>,
) {
    context.field("static_resources", |context| {
        for (i, cluster) in clusters.iter().enumerate() {
            let name = &cluster.value.name;
            if let Some(secret) = circle(&cluster.value, clusters, ads) {
                let reason = format!(
                    "its TLS waits for the secret {secret:?}, which only comes once {name:?} is reached; take it from a file or from another server"
                );
                context.reject(&format!("clusters[{i}]"), reason);
            }
        }
    });
}

/// The secret with which a way back to the cluster itself begins.
fn circle(
    cluster: &Cluster,
    clusters: &[StaticResource<Cluster>],
    ads: Option<&AdsConfig>,
) -> Option<Name> {
    needs(cluster, ads).into_iter().find_map(|(secret, name)| {
        let mut seen = BTreeSet::new();
        let mut next = vec![name];
        while let Some(name) = next.pop() {
            if name == cluster.name {
                return Some(secret);
            }
            let known = clusters.iter().find(|one| one.value.name == name);
            if let Some(known) = known.filter(|_| seen.insert(name)) {
                let further = needs(&known.value, ads);
                next.extend(further.into_iter().map(|(_, name)| name));
            }
        }
        None
    })
}

/// The secrets a cluster names, each with a cluster that must be reached for it.
fn needs(cluster: &Cluster, ads: Option<&AdsConfig>) -> Vec<(Name, Name)> {
    let mut needs = Vec::new();
    for named in secrets_of_cluster(cluster) {
        let servers = match &named.key.source {
            SecretSource::Ads => ads.map_or(&[][..], |ads| &ads.clusters),
            SecretSource::Grpc(server) => &server.clusters,
            SecretSource::Bootstrap | SecretSource::File(_) => &[],
        };
        let secret = &named.key.name;
        needs.extend(
            servers
                .iter()
                .map(|server| (secret.clone(), server.clone())),
        );
    }
    needs
}
