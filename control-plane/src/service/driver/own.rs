//! Secrets for the client of one stream alone: who it is, and what it gets from the CA.

use std::future::pending;

use tonic::Status;

use super::Driver;
use super::Joined;
use super::Protocol;
use crate::limits::OWN_SECRETS_PATIENCE;
use crate::service::caller::caller;
use crate::source::secrets::Personal;
use crate::types::SECRET;

impl<P: Protocol> Driver<P> {
    /// A place at the desk of the CA, for whom the client is.
    pub(super) async fn personal(&mut self) -> Result<Option<Personal>, Status> {
        let Some(secrets) = self.shared.secrets.clone() else {
            return Ok(None);
        };
        let caller = caller(&secrets, &self.info, self.token.take()).await?;
        Ok(Some(secrets.open(caller)))
    }

    /// Tells the CA what the client asks for now, and waits a moment for its answer, so that the
    /// first response has it.
    pub(super) async fn settle_own(&mut self) -> Result<(), Status> {
        let is_wish_new = std::mem::take(&mut self.is_wish_new);
        let Some(Joined {
            personal: Some(personal),
            snapshots,
            ..
        }) = &mut self.joined
        else {
            return Ok(());
        };
        if is_wish_new {
            let snapshot = snapshots.borrow().clone();
            let shared = snapshot.as_ref().and_then(|snapshot| snapshot.set(SECRET));
            let wanted = self.session.names_of(SECRET).filter(|name| {
                // What is written there is not the CA's business.
                shared.is_none_or(|set| set.find(name).is_none())
            });
            personal.want(wanted.cloned());
            // Out of patience is no error: it comes when it comes.
            drop(tokio::time::timeout(OWN_SECRETS_PATIENCE, personal.answered()).await);
        }
        if personal.is_revoked() {
            let text = "the certificate of this client was revoked";
            return Err(Status::permission_denied(text));
        }
        if personal.has_changed() {
            self.follow_store();
        }
        Ok(())
    }
}

/// Waits for something new from the CA.
pub(super) async fn changed_own(personal: Option<&mut Personal>) {
    match personal {
        Some(personal) => personal.changed().await,
        None => pending().await,
    }
}
