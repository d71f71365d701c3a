//! What is kept on disk, and what was: taken out of the store, and put back at a start.

use std::time::Duration;

use tracing::warn;

use super::Core;
use super::judge;
use crate::xds::last_good::Saved;
use crate::xds::last_good::SavedResource;
use crate::xds::last_good::holds_secret;
use crate::xds::resource::ResourceType;
use crate::xds::session::Accepted;
use crate::xds::session::Update;

/// Resources of one type that are named in the log when they cannot be kept.
const TOLD_MAX: usize = 20;

impl Core {
    /// Whether nothing waits: then what was received is what is in force.
    pub(in crate::xds::driver) fn is_whole(&self) -> bool {
        self.stage.waiting_for(1).is_empty()
    }

    /// All that came from the control plane and may be on a disk.
    pub(in crate::xds::driver) fn kept(&mut self, node: (String, String)) -> Saved {
        let mut resources = Vec::new();
        let mut secret = Vec::new();
        self.status.with_store(|store| {
            for &t in &self.ads_types {
                for (name, stored) in store.resources(t) {
                    let Some(good) = &stored.good else { continue };
                    if holds_secret(&good.resource, &good.body) {
                        secret.push((t, name.clone()));
                        continue;
                    }
                    resources.push(SavedResource {
                        resource_type: t,
                        name: name.clone(),
                        version: good.version.clone(),
                        body: good.body.clone(),
                    });
                }
            }
        });
        secret.retain(|(t, _)| *t != ResourceType::Secret);
        self.tell_of_secrets(secret);
        Saved {
            at: (self.clock)(),
            node,
            resources,
        }
    }

    fn tell_of_secrets(&mut self, secret: Vec<(ResourceType, crate::config::Name)>) {
        if secret == self.not_kept {
            return;
        }
        for (resource_type, name) in secret.iter().take(TOLD_MAX) {
            warn!(%resource_type, %name, "it holds a private key and is not kept on disk; SDS keeps keys apart");
        }
        self.not_kept = secret;
    }

    /// Takes in what an earlier life was sent, in the order in which it depends on each other. What
    /// this program does not accept is left out.
    pub(in crate::xds::driver) fn restore(&mut self, saved: Saved, now: Duration) {
        let at = saved.at;
        let age = (self.clock)().duration_since(at).unwrap_or_default();
        let count = saved.resources.len();
        warn!(
            ?age,
            count, "no control plane answers; serving the configuration kept on disk"
        );
        self.status.update(|f| {
            f.is_restored = true;
            f.stale_since = Some(at);
        });
        for resource_type in ResourceType::ALL {
            if !self.ads_types.contains(&resource_type) {
                continue;
            }
            let all = saved.resources.iter();
            let ours = all.filter(|saved| saved.resource_type == resource_type);
            let mut update = Update::new(resource_type, String::new());
            for saved in ours {
                update.accepted.extend(self.accept_kept(saved));
            }
            let held = update.accepted.iter();
            let held: Vec<_> = held.map(|a| (a.name.clone(), a.version.clone())).collect();
            let batch = self.status.update_store(|s| s.file(update, at));
            self.apply(batch, now);
            self.session.remember(resource_type, held);
        }
    }

    fn accept_kept(
        &self,
        saved: &SavedResource,
    ) -> Option<Accepted<crate::xds::resource::Decoded>> {
        let SavedResource {
            resource_type,
            name,
            version,
            body,
        } = saved;
        let judged = judge(
            (&self.stage, &self.servers),
            &*self.decoder,
            *resource_type,
            body,
        );
        match judged {
            Ok((name, value)) => Some(Accepted {
                name,
                version: version.clone(),
                body: body.clone(),
                value,
            }),
            Err(refusal) => {
                warn!(%resource_type, %name, detail = refusal.detail, "kept, and refused now");
                None
            }
        }
    }
}
