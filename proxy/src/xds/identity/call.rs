//! One question to the signer: `istio.v1.auth.IstioCertificateService/CreateCertificate`.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;

use rustls_pki_types::UnixTime;
use tonic::Request;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic_prost::ProstCodec;
use xds_proto::pb::istio::v1::auth::IstioCertificateRequest;
use xds_proto::pb::istio::v1::auth::IstioCertificateResponse;

use super::Parts;
use super::answer;
use super::answer::Issued;
use crate::config::identity::Identity;
use crate::config::identity::Token;
use crate::config::limits::SIGNER_ANSWER_BYTES_MAX;
use crate::config::limits::TOKEN_BYTES_MAX;
use crate::tls::signing_request::OwnKey;
use crate::xds::client;
use crate::xds::client::Server;

const METHOD: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// From the first packet to the answer. A signer syncs its books to disk, which takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Has a new key signed; `turn` tells which of several servers is asked.
///
/// # Errors
/// Why there is no certificate, for the log.
pub(super) async fn ask(parts: &Parts, turn: usize, has_one: bool) -> Result<Issued, String> {
    let identity = &*parts.identity;
    let servers = parts.servers.borrow().clone();
    let server = servers.get(turn % servers.len().max(1));
    let server = server.ok_or("the signer has no address")?.clone();
    let target = server.target.to_string();
    let key = OwnKey::generate().map_err(|error| error.to_string())?;
    let csr = key.request(identity.spiffe_id.as_deref());
    let csr = csr.map_err(|error| error.to_string())?;
    let token = match identity.token.as_ref().filter(|_| !has_one) {
        Some(token) => Some(read(token).await?),
        None => None,
    };
    let asking = call(identity, server, (csr, token));
    let response = match tokio::time::timeout(TIMEOUT, asking).await {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => {
            let (code, message) = (status.code(), status.message());
            return Err(format!("{target}: {code:?}: {message}"));
        }
        Err(_) => return Err(format!("{target}: no answer within {TIMEOUT:?}")),
    };
    let now = (parts.clock)();
    answer::read(response.cert_chain, &key, identity, unix(now))
        .map_err(|reason| format!("{target}: what it sent cannot be used: {reason}"))
}

async fn call(
    identity: &Identity,
    server: Server,
    (csr, token): (String, Option<String>),
) -> Result<IstioCertificateResponse, Status> {
    let settings = &identity.settings;
    let authority = settings.authority.as_ref().unwrap_or(&identity.signer);
    let channel = client::connect(server, authority).await?;
    let life = identity.requested_life.unwrap_or_default().as_secs();
    let body = IstioCertificateRequest {
        csr,
        validity_duration: i64::try_from(life).unwrap_or(i64::MAX),
        metadata: None,
    };
    let mut metadata = client::metadata_map(&settings.metadata);
    if let Some(token) = token {
        let text = format!("Bearer {token}");
        let mut value = MetadataValue::try_from(text)
            .map_err(|_| Status::invalid_argument("the token has bytes no token has"))?;
        value.set_sensitive(true);
        metadata.insert("authorization", value);
    }
    let request = Request::from_parts(metadata, tonic::Extensions::new(), body);
    let mut grpc = Grpc::new(channel).max_decoding_message_size(SIGNER_ANSWER_BYTES_MAX);
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static(METHOD);
    let codec = ProstCodec::<IstioCertificateRequest, IstioCertificateResponse>::default();
    let response = grpc.unary(request, path, codec).await;
    response.map(tonic::Response::into_inner)
}

/// The token, which no message shows.
async fn read(token: &Token) -> Result<String, String> {
    let path = match token {
        Token::Text(text) => return Ok(text.to_string()),
        Token::File(path) => path.clone(),
    };
    let read = tokio::task::spawn_blocking(move || read_file(&path));
    read.await.unwrap_or_else(|error| Err(error.to_string()))
}

fn read_file(path: &Path) -> Result<String, String> {
    let failed = |reason: &str| format!("the token {}: {reason}", path.display());
    let file = File::open(path).map_err(|error| failed(&error.to_string()))?;
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(failed("is no file"));
    }
    let mut text = String::new();
    let most = TOKEN_BYTES_MAX + 1;
    file.take(most)
        .read_to_string(&mut text)
        .map_err(|error| failed(&error.to_string()))?;
    if text.len() as u64 == most {
        return Err(failed("is too large"));
    }
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(failed("holds no token"));
    }
    Ok(token.to_owned())
}

fn unix(now: SystemTime) -> UnixTime {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    UnixTime::since_unix_epoch(since.unwrap_or_default())
}
