//! What became of the certificate of our own.

use std::time::Duration;

use tracing::error;
use tracing::info;
use tracing::warn;

use super::Core;
use super::ERROR_BYTES_MAX;
use crate::config::identity::Identity;
use crate::xds::identity::News;
use crate::xds::resource::ResourceType;
use crate::xds::session::clip;

const SECRET: ResourceType = ResourceType::Secret;

impl Core {
    /// Takes it in; who names it gets it, or waits again.
    pub(in crate::xds::driver) fn on_own(
        &mut self,
        identity: &Identity,
        news: News,
        now: Duration,
    ) {
        let given = match news {
            News::Issued {
                certificate,
                trust,
                facts: (name, serial, until),
            } => {
                let at = (self.clock)();
                let lasts = until.duration_since(at).unwrap_or_default();
                info!(
                    name,
                    serial,
                    ?lasts,
                    "a certificate was issued for a key made here"
                );
                self.status.update_type(SECRET, |s| {
                    s.update_attempt += 1;
                    s.update_success += 1;
                    s.update_time = Some(at);
                    s.last_error = None;
                });
                let certificates = identity
                    .certificate_keys()
                    .map(|key| (key, Some(certificate.clone())));
                let trust = (identity.trust_key(), Some(trust));
                certificates.into_iter().chain([trust]).collect()
            }
            News::Failed(detail, retry_in) => {
                let detail = clip(&detail, ERROR_BYTES_MAX);
                warn!(
                    detail,
                    ?retry_in,
                    "no certificate was issued, what was good before stays"
                );
                self.status.update_type(SECRET, |s| {
                    s.update_attempt += 1;
                    s.update_failure += 1;
                    s.last_error = Some(detail.to_owned());
                });
                return;
            }
            News::Expired => {
                let name = &*identity.certificate_name;
                error!(
                    name,
                    "the certificate of this proxy has expired; TLS lets nobody in or out with it"
                );
                identity.certificate_keys().map(|key| (key, None)).into()
            }
        };
        self.stage.give_own(given, now);
        self.after_stage();
    }
}
