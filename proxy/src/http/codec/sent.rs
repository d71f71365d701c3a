//! What became of a request that was put on a connection.

use http::Request;
use http::Response;

use crate::http::codec::Error;
use crate::http::codec::Incoming;
use crate::http::codec::RequestBody;

/// A request that failed; it is handed back if nothing of it was written.
#[derive(Debug)]
pub struct Unsent {
    /// What happened.
    pub error: Error,
    /// The request, if the peer cannot have seen it.
    pub request: Option<Request<RequestBody>>,
}

/// The head of the response, or what became of the request.
pub type Sent = Result<Response<Incoming>, Box<Unsent>>;
