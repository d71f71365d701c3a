//! Calls the API of a running control plane; see [`crate::server::Server::with_api`].

use std::time::Duration;

use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;
use xds_proto::pb::weir::control_plane::v1::ChangePolicyRequest;
use xds_proto::pb::weir::control_plane::v1::ChangePolicyResponse;
use xds_proto::pb::weir::control_plane::v1::ListPoliciesRequest;
use xds_proto::pb::weir::control_plane::v1::ListPoliciesResponse;

pub use tonic::Status;

/// The API is on this machine; who waits longer waits in vain.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection.
#[derive(Debug)]
pub struct Client(Grpc<Channel>);

impl Client {
    /// To `127.0.0.1:18001` or `unix:PATH`.
    ///
    /// # Errors
    /// When nobody answers there; in a few words.
    pub async fn connect(place: &str) -> Result<Self, String> {
        let uri = match place.strip_prefix("unix:") {
            Some(path) => format!("unix:{path}"),
            None => format!("http://{place}"),
        };
        let endpoint = Endpoint::from_shared(uri).map_err(|error| error.to_string())?;
        let endpoint = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE);
        let connected = endpoint.connect().await;
        let channel = connected.map_err(|error| {
            let source = std::error::Error::source(&error);
            source.map_or_else(|| error.to_string(), ToString::to_string)
        })?;
        Ok(Self(Grpc::new(channel)))
    }

    /// Changes how a cluster balances.
    ///
    /// # Errors
    /// What the control plane objects to.
    pub async fn change_policy(
        &mut self,
        request: ChangePolicyRequest,
    ) -> Result<ChangePolicyResponse, Status> {
        self.call(CHANGE, request).await
    }

    /// What stands over what was written.
    ///
    /// # Errors
    /// What the control plane objects to.
    pub async fn list_policies(&mut self) -> Result<ListPoliciesResponse, Status> {
        self.call(LIST, ListPoliciesRequest {}).await
    }

    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(path);
        let answer = self.0.unary(Request::new(request), path, codec).await?;
        Ok(answer.into_inner())
    }
}

const CHANGE: &str = "/weir.control_plane.v1.Balancing/ChangePolicy";
const LIST: &str = "/weir.control_plane.v1.Balancing/ListPolicies";
