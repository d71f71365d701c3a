//! Secrets: their own sources, the files they were read from, and what speaks against who names them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tracing::info;
use tracing::warn;

use super::Core;
use super::ERROR_BYTES_MAX;
use crate::config::Name;
use crate::config::cluster::CAN_BE_ASKED;
use crate::config::secret::SecretRef;
use crate::config::secret::SecretSource;
use crate::xds::driver::feed::FeedNews;
use crate::xds::driver::feed::NewsKind;
use crate::xds::driver::feed::Wanted;
use crate::xds::driver::feed::wanted_of;
use crate::xds::resource::Decoded;
use crate::xds::resource::Resource;
use crate::xds::resource::ResourceType;
use crate::xds::session::Interest;
use crate::xds::session::Lapse;
use crate::xds::session::clip;
use crate::xds::stage::Batch;
use crate::xds::stage::Stage;
use crate::xds::stage::secrets_of_cluster;
use crate::xds::stage::secrets_of_listener;

const SECRET: ResourceType = ResourceType::Secret;

impl Core {
    /// What is to be asked of the sources of secrets besides the aggregated stream.
    pub(in crate::xds::driver) fn wanted_secrets(&self) -> BTreeMap<SecretSource, Wanted> {
        let stage = &self.stage;
        let wanted = wanted_of(stage.secret_sources(), |source| {
            let names = stage.interest_in_secrets(source).names;
            let kinds = names.into_iter().filter_map(|name| {
                let kind = stage.kind_of_secret(source, &name)?;
                Some((name, kind))
            });
            kinds.collect()
        });
        self.status.update_secrets(|stores| {
            stores.retain(|source, _| wanted.contains_key(source));
            for (source, names) in &wanted {
                let store = stores.entry(source.clone()).or_default();
                // A file has more than is asked for, and is not read again for those who ask later.
                if matches!(source, SecretSource::Grpc(_)) {
                    let names = names.keys().cloned();
                    store.retain(SECRET, &Interest::names(names));
                }
            }
        });
        wanted
    }

    /// Takes in what a source of secrets has to say.
    pub(in crate::xds::driver) fn on_news(&mut self, news: FeedNews, now: Duration) {
        let FeedNews { source, kind } = news;
        if !self.stage.secret_sources().contains(&source) {
            return; // it came while the source was let go
        }
        match kind {
            NewsKind::Failed(detail) => {
                let detail = clip(&detail, ERROR_BYTES_MAX);
                warn!(
                    detail,
                    "a source of secrets failed, what was good before stays"
                );
                self.status.update_type(SECRET, |s| {
                    s.update_attempt += 1;
                    s.update_failure += 1;
                    s.last_error = Some(detail.to_owned());
                });
            }
            NewsKind::Lapsed(Lapse::DoesNotExist(_, name)) => {
                info!(%name, "the source of a secret did not send it in time");
                self.status
                    .update_type(SECRET, |s| s.init_fetch_timeout += 1);
                self.status.update_secrets(|stores| {
                    let store = stores.entry(source).or_default();
                    store.note_timeout(SECRET, name);
                });
            }
            NewsKind::Lapsed(Lapse::Expired(_, name)) => {
                info!(%name, "the time to live of a secret is over");
                self.status.update_secrets(|stores| {
                    let store = stores.entry(source.clone()).or_default();
                    store.expire(SECRET, &name);
                });
                let mut batch = Batch::empty(SECRET);
                batch.expired.push(name);
                self.apply_secrets(&source, batch, now);
            }
            NewsKind::Update(update) => {
                let at = (self.clock)();
                self.note(&update, at);
                self.log(&update);
                let batch = self.status.update_secrets(|stores| {
                    let store = stores.entry(source.clone()).or_default();
                    store.file(update, at)
                });
                self.apply_secrets(&source, batch, now);
            }
        }
    }

    fn apply_secrets(&mut self, source: &SecretSource, batch: Batch, now: Duration) {
        self.stage.apply_secrets(source, batch, now);
        self.has_new_secrets = true; // their files may be others
        self.after_stage();
        self.give_what_is_there(now);
    }

    /// Who names a secret of a file that was read before gets it at once.
    pub(super) fn give_what_is_there(&mut self, now: Duration) {
        let missing = self.stage.missing_secrets();
        for key in missing {
            let found = self.status.with_secrets(|stores| {
                let stored = stores.get(&key.source)?.get(SECRET, &key.name)?;
                Some(stored.good.as_ref()?.resource.clone())
            });
            if let Some(resource) = found {
                let mut batch = Batch::empty(SECRET);
                batch.upserted.push((key.name.clone(), resource));
                self.stage.apply_secrets(&key.source, batch, now);
                self.after_stage();
            }
        }
    }

    /// Every directory in which a change may be one of a secret.
    pub(in crate::xds::driver) fn secret_directories(&self) -> BTreeSet<PathBuf> {
        let mut directories = BTreeSet::new();
        for (_, _, read) in self.read_secrets() {
            if let Resource::Secret(read) = read {
                directories.extend(read.directories.iter().cloned());
            }
        }
        directories
    }

    /// Reads the secrets again whose files are in these directories.
    pub(in crate::xds::driver) fn on_changed_directories(
        &mut self,
        changed: &BTreeSet<PathBuf>,
        now: Duration,
    ) {
        for (source, body, resource) in self.read_secrets() {
            let Resource::Secret(old) = &resource else {
                continue;
            };
            if old.directories.is_disjoint(changed) {
                continue;
            }
            match self.decoder.decode(SECRET, &body) {
                Ok(decoded) => self.take_again(&source, decoded, &resource, now),
                Err(refusal) => {
                    let (name, detail) = (refusal.name, clip(&refusal.detail, ERROR_BYTES_MAX));
                    warn!(%name, detail, "files of a secret refused, what was good before stays");
                    self.status.update_type(SECRET, |s| {
                        s.update_attempt += 1;
                        s.update_rejected += 1;
                        s.last_error = Some(format!("{name}: {detail}"));
                    });
                }
            }
        }
    }

    fn take_again(
        &mut self,
        source: &SecretSource,
        decoded: Decoded,
        old: &Resource,
        now: Duration,
    ) {
        let (Resource::Secret(new), Resource::Secret(old)) = (&decoded.resource, old) else {
            return;
        };
        if new == old {
            return;
        }
        let name = decoded.name;
        info!(%name, "files of a secret read again");
        let at = (self.clock)();
        self.status.update_type(SECRET, |s| {
            s.update_attempt += 1;
            s.update_success += 1;
            s.update_time = Some(at);
        });
        let resource = decoded.resource;
        if *source == SecretSource::Ads {
            self.status
                .update_store(|store| store.replace(SECRET, &name, resource.clone(), at));
        } else {
            self.status.update_secrets(|stores| {
                let store = stores.entry(source.clone()).or_default();
                store.replace(SECRET, &name, resource.clone(), at);
            });
        }
        let mut batch = Batch::empty(SECRET);
        batch.upserted.push((name, resource));
        self.apply_secrets(source, batch, now);
    }

    /// The good versions of all secrets that were read from files.
    fn read_secrets(&self) -> Vec<(SecretSource, Bytes, Resource)> {
        let of_store = |source: &SecretSource, store: &crate::xds::store::Store| {
            let good = store
                .resources(SECRET)
                .filter_map(|(_, stored)| stored.good.as_ref());
            let followed = good.filter(|good| {
                matches!(&good.resource, Resource::Secret(read) if !read.directories.is_empty())
            });
            followed
                .map(|good| (source.clone(), good.body.clone(), good.resource.clone()))
                .collect::<Vec<_>>()
        };
        let mut all = self
            .status
            .with_store(|store| of_store(&SecretSource::Ads, store));
        self.status.with_secrets(|stores| {
            for (source, store) in stores {
                all.extend(of_store(source, store));
            }
        });
        all
    }
}

/// What speaks against a resource of the control plane that is sound by itself: it names a secret
/// that cannot come, or is one of a kind that nobody asked for.
pub(super) fn objection(
    stage: &Stage,
    servers: &BTreeSet<Name>,
    decoded: &Decoded,
) -> Option<String> {
    let unknown = |named: &SecretRef| unknown(stage, servers, named);
    match &decoded.resource {
        Resource::Cluster(cluster) => secrets_of_cluster(cluster).find_map(unknown),
        Resource::Listener(listener) => secrets_of_listener(listener).find_map(unknown),
        Resource::Secret(read) => {
            let wanted = stage.kind_of_secret(&SecretSource::Ads, &decoded.name)?;
            let found = read.secret.kind();
            (found != wanted).then(|| format!("{found}: is used where a {wanted} is needed"))
        }
        Resource::Endpoints(_) | Resource::RouteConfig(_) => None,
    }
}

fn unknown(stage: &Stage, servers: &BTreeSet<Name>, named: &SecretRef) -> Option<String> {
    let name = &named.key.name;
    match &named.key.source {
        SecretSource::Bootstrap if !stage.has_static_secret(name) => Some(format!(
            "the secret {name:?} has no sds_config, and static_resources.secrets has none of this name"
        )),
        SecretSource::Grpc(server) => {
            let missing = server
                .clusters
                .iter()
                .find(|name| !servers.contains(*name))?;
            Some(format!(
                "the secret {name:?} comes from {missing:?}, which is no cluster of the bootstrap that gRPC can be spoken with: {CAN_BE_ASKED}"
            ))
        }
        SecretSource::Ads | SecretSource::Bootstrap | SecretSource::File(_) => None,
    }
}
