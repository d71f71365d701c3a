//! Whether the TLS to a server can be had before that server is reached.

use std::collections::BTreeSet;

use super::AdsConfig;
use super::StaticResource;
use crate::config::Cluster;
use crate::config::Name;
use crate::config::identity::Identity;
use crate::config::secret::SecretSource;
use crate::xds::decode::Context;
use crate::xds::stage::secrets_of_cluster;

/// What decides where secrets come from: the aggregated stream, and a certificate of our own, for which
/// connections are made without one.
type Given<'a> = (Option<&'a AdsConfig>, Option<&'a Identity>);

/// Refuses clusters that would wait for themselves for ever.
pub(super) fn check(context: &mut Context, clusters: &[StaticResource<Cluster>], given: Given<'_>) {
    context.field("static_resources", |context| {
        for (i, cluster) in clusters.iter().enumerate() {
            let name = &cluster.value.name;
            if let Some(secret) = circle(&cluster.value, clusters, given) {
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
    given: Given<'_>,
) -> Option<Name> {
    needs(cluster, given)
        .into_iter()
        .find_map(|(secret, name)| {
            let mut seen = BTreeSet::new();
            let mut next = vec![name];
            while let Some(name) = next.pop() {
                if name == cluster.name {
                    return Some(secret);
                }
                let known = clusters.iter().find(|one| one.value.name == name);
                if let Some(known) = known.filter(|_| seen.insert(name)) {
                    let further = needs(&known.value, given);
                    next.extend(further.into_iter().map(|(_, name)| name));
                }
            }
            None
        })
}

/// The secrets a cluster names, each with a cluster that must be reached for it.
fn needs(cluster: &Cluster, given: Given<'_>) -> Vec<(Name, Name)> {
    let mut needs = Vec::new();
    let (ads, identity) = given;
    for named in secrets_of_cluster(cluster) {
        if identity.is_some_and(|one| one.keys().contains(&named.key)) {
            continue;
        }
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
