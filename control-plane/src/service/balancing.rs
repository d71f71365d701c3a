//! `weir.control_plane.v1.Balancing`: how clusters balance, changed while they run.
//!
//! Whoever reaches it may change what everybody is served, so it has a listener of its own, for this
//! machine alone.

use std::convert::Infallible;
use std::task::Context;
use std::task::Poll;

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
use xds_proto::pb::weir::control_plane::v1::ChangePolicyRequest;
use xds_proto::pb::weir::control_plane::v1::ChangePolicyResponse;
use xds_proto::pb::weir::control_plane::v1::ListPoliciesRequest;
use xds_proto::pb::weir::control_plane::v1::ListPoliciesResponse;
use xds_proto::pb::weir::control_plane::v1::change_policy_request;

use crate::balancing::Change;
use crate::balancing::Changed;
use crate::balancing::Refused;
use crate::balancing::kept;
use crate::limits::POLICY_BYTES_MAX;
use crate::store::Store;

/// Room for a name and a version beside the policy.
const CALL_BYTES_MAX: usize = POLICY_BYTES_MAX + 8192;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Balancing(Store);

impl Balancing {
    pub(crate) fn new(store: Store) -> Self {
        Self(store)
    }

    async fn change(self, request: ChangePolicyRequest) -> Result<ChangePolicyResponse, Status> {
        let ChangePolicyRequest {
            cluster,
            version,
            change,
        } = request;
        let change = match change {
            Some(change_policy_request::Change::NoShadow(_)) => Change::NoShadow,
            Some(change_policy_request::Change::Policy(policy)) => Change::Policy(policy),
            Some(change_policy_request::Change::Shadow(policy)) => Change::Shadow(policy),
            Some(change_policy_request::Change::Unset(_)) => Change::Unset,
            None => return Err(Status::invalid_argument("change: is missing")),
        };
        let name = cluster.clone();
        // It waits for the disk.
        let changing =
            tokio::task::spawn_blocking(move || self.0.change_policy(&cluster, version, &change));
        let changed = changing
            .await
            .map_err(|_| Status::internal("the change was not finished"))?;
        let Changed {
            now,
            is_new,
            is_durable,
        } = changed.map_err(|refused| status(&refused))?;
        tracing::info!(
            cluster = name,
            version = now.version,
            is_new,
            "balancing was changed"
        );
        Ok(ChangePolicyResponse {
            now: Some(kept::wire(&name, now)),
            changed: is_new,
            durable: is_durable,
        })
    }
}

fn status(refused: &Refused) -> Status {
    let code = match refused {
        Refused::Conflict { .. } | Refused::Stale { .. } => Code::Aborted,
        Refused::Full => Code::ResourceExhausted,
        Refused::Malformed { .. } => Code::InvalidArgument,
        Refused::NoForm { .. } | Refused::Provided { .. } => Code::FailedPrecondition,
        Refused::NotKept { .. } => Code::Unavailable,
        Refused::Unknown { .. } => Code::NotFound,
    };
    let cause = match std::error::Error::source(refused) {
        Some(source) => format!(": {source}"),
        None => String::new(),
    };
    Status::new(code, format!("{refused}{cause}"))
}

impl NamedService for Balancing {
    const NAME: &'static str = "weir.control_plane.v1.Balancing";
}

impl<B> Service<http::Request<B>> for Balancing
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
        let own = self.clone();
        match request.uri().path().rsplit('/').next() {
            Some("ChangePolicy") => Box::pin(async move {
                let mut grpc = Grpc::new(ProstCodec::default())
                    .apply_max_message_size_config(Some(CALL_BYTES_MAX), None);
                Ok(grpc.unary(Changing(own), request).await)
            }),
            Some("ListPolicies") => Box::pin(async move {
                let mut grpc = Grpc::new(ProstCodec::default())
                    .apply_max_message_size_config(Some(CALL_BYTES_MAX), None);
                Ok(grpc.unary(Listing(own), request).await)
            }),
            _ => {
                let status = Status::unimplemented("only ChangePolicy and ListPolicies are served");
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}

struct Changing(Balancing);

impl UnaryService<ChangePolicyRequest> for Changing {
    type Response = ChangePolicyResponse;
    type Future = BoxFuture<Response<Self::Response>, Status>;

    fn call(&mut self, request: Request<ChangePolicyRequest>) -> Self::Future {
        let own = self.0.clone();
        Box::pin(async move { own.change(request.into_inner()).await.map(Response::new) })
    }
}

struct Listing(Balancing);

impl UnaryService<ListPoliciesRequest> for Listing {
    type Response = ListPoliciesResponse;
    type Future = BoxFuture<Response<Self::Response>, Status>;

    fn call(&mut self, _: Request<ListPoliciesRequest>) -> Self::Future {
        let list = kept::message(&self.0.0.overrides());
        Box::pin(async move { Ok(Response::new(list)) })
    }
}
