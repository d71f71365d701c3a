//! `istio.v1.auth.IstioCertificateService`: keys that their owners made, and certificates for them.
//!
//! What istio-agent and ztunnel speak. A caller gets certificates for itself alone; see
//! [`Authority::sign_request`](crate::ca::Authority::sign_request).

use std::convert::Infallible;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Semaphore;
use tonic::Code;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::codegen::Service;
use tonic::codegen::StdError;
use tonic::codegen::http;
use tonic::server::Grpc;
use tonic::server::NamedService;
use tonic::server::UnaryService;
use tonic_prost::ProstCodec;
use xds_proto::pb::google::protobuf::Struct;
use xds_proto::pb::google::protobuf::value::Kind;
use xds_proto::pb::istio::v1::auth::IstioCertificateRequest;
use xds_proto::pb::istio::v1::auth::IstioCertificateResponse;

use super::Info;
use super::caller::caller;
use super::caller::token_of;
use crate::ca::Refusal;
use crate::ca::authority::SigningRequest;
use crate::limits::SIGNING_CALL_BYTES_MAX;
use crate::limits::SIGNINGS_MAX;
use crate::source::secrets::Secrets;
use crate::source::secrets::Unsigned;

/// How a caller says for whom it asks, if not for itself.
const FOR: &str = "ImpersonatedIdentity";

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Certificates {
    secrets: Secrets,
    places: Arc<Semaphore>,
}

impl Certificates {
    pub(super) fn new(secrets: Secrets) -> Self {
        let places = Arc::new(Semaphore::new(SIGNINGS_MAX));
        Self { secrets, places }
    }

    async fn create(
        self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let place = self.places.try_acquire_owned();
        let _place = place.map_err(|_| Status::unavailable("too many ask at once"))?;
        let info = request.extensions().get().cloned().unwrap_or(Info::UNKNOWN);
        let token = token_of(request.metadata());
        // What cannot be read must not use a token up.
        let wanted = wanted(request.into_inner())?;
        let caller = caller(&self.secrets, &info, token).await?;
        match self.secrets.sign(caller, wanted).await {
            Ok(signed) => {
                let mut cert_chain = signed.chain;
                cert_chain.push(signed.roots);
                Ok(Response::new(IstioCertificateResponse { cert_chain }))
            }
            Err(Unsigned::Refused(refusal)) => {
                Err(Status::new(code_of(&refusal), refusal.to_string()))
            }
            Err(Unsigned::Trouble) => {
                let text = "the certificate authority cannot work now";
                Err(Status::unavailable(text))
            }
        }
    }
}

fn wanted(request: IstioCertificateRequest) -> Result<SigningRequest, Status> {
    let IstioCertificateRequest {
        csr,
        validity_duration,
        metadata,
    } = request;
    let seconds = u64::try_from(validity_duration)
        .map_err(|_| Status::invalid_argument("validity_duration is less than nothing"))?;
    Ok(SigningRequest {
        csr: csr.into_bytes(),
        life: (seconds > 0).then(|| Duration::from_secs(seconds)),
        identity: metadata.as_ref().and_then(impersonated),
    })
}

/// Whom the caller asks for. Something there that is no text is nobody.
fn impersonated(metadata: &Struct) -> Option<String> {
    match metadata.fields.get(FOR)?.kind.as_ref() {
        Some(Kind::StringValue(name)) => Some(name.clone()),
        _ => Some(String::new()),
    }
}

fn code_of(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::Anonymous
        | Refusal::TokenExpired
        | Refusal::TokenForged
        | Refusal::TokenMalformed
        | Refusal::TokenUsed => Code::Unauthenticated,
        Refusal::AsksForAuthority
        | Refusal::BadSignature
        | Refusal::KeyNotAllowed { .. }
        | Refusal::KeyUnknown { .. }
        | Refusal::KeyWeak { .. }
        | Refusal::Life { .. }
        | Refusal::Malformed { .. }
        | Refusal::NameForeign { .. }
        | Refusal::NameInvalid { .. }
        | Refusal::NameWildcard { .. } => Code::InvalidArgument,
        Refusal::IssuerEnds { .. } => Code::Unavailable,
        Refusal::TooMany { .. } => Code::ResourceExhausted,
        _ => Code::PermissionDenied,
    }
}

impl NamedService for Certificates {
    const NAME: &'static str = "istio.v1.auth.IstioCertificateService";
}

impl<B> Service<http::Request<B>> for Certificates
where
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if !request.uri().path().ends_with("/CreateCertificate") {
            let status = Status::unimplemented("only CreateCertificate is served");
            return Box::pin(async move { Ok(status.into_http()) });
        }
        let own = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::default();
            let mut grpc =
                Grpc::new(codec).apply_max_message_size_config(Some(SIGNING_CALL_BYTES_MAX), None);
            Ok(grpc.unary(own, request).await)
        })
    }
}

impl UnaryService<IstioCertificateRequest> for Certificates {
    type Response = IstioCertificateResponse;
    type Future = BoxFuture<Response<Self::Response>, Status>;

    fn call(&mut self, request: Request<IstioCertificateRequest>) -> Self::Future {
        Box::pin(self.clone().create(request))
    }
}
