//! Who is on the other end of a stream or call, for the CA.

use tonic::Status;
use tonic::metadata::MetadataMap;

use super::Info;
use crate::ca::access::Caller;
use crate::ca::token;
use crate::source::secrets::Secrets;

/// Whom the connection, or a join token, says the client is. The token is used up.
pub(super) async fn caller(
    secrets: &Secrets,
    info: &Info,
    token: Option<String>,
) -> Result<Caller, Status> {
    if !info.is_private {
        if token.is_some() {
            let text = "join tokens are taken over TLS or from this machine only";
            return Err(Status::permission_denied(text));
        }
        return Ok(Caller::Exposed);
    }
    let Some(token) = token else {
        return Ok(info.caller.clone());
    };
    let actor = info.remote.map(|peer| peer.to_string());
    let redeemed = secrets.redeem(token, actor.unwrap_or_default()).await;
    redeemed.map_err(Status::unauthenticated)
}

/// The join token something was opened with.
pub(super) fn token_of(metadata: &MetadataMap) -> Option<String> {
    let header = metadata.get("authorization")?.to_str().ok()?;
    header.strip_prefix(token::SCHEME).map(str::to_owned)
}
