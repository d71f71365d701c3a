//! The one request a load repeats, in the forms the protocols need.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use http_body_util::Full;

use super::LoadError;
use super::http2::Outgoing;
use crate::certificates::SERVER_NAME;
use crate::grpc;

/// Service and method of every gRPC call.
const GRPC_PATH: &str = "/bench.Bench/Exchange";

/// A request, before it is bound to a protocol.
#[derive(Clone, Debug)]
pub struct RequestShape {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Host or `:authority`.
    pub authority: String,
    /// Further header fields.
    pub headers: Vec<(String, String)>,
    /// Body; empty sends none.
    pub body: Bytes,
}

impl Default for RequestShape {
    fn default() -> Self {
        Self {
            method: Method::GET,
            path: "/".to_owned(),
            authority: SERVER_NAME.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }
}

impl RequestShape {
    /// The bytes of an HTTP/1.1 request.
    pub(super) fn http1(&self, close: bool) -> Bytes {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nhost: {}\r\n",
            self.method, self.path, self.authority
        );
        for (name, value) in &self.headers {
            head.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
        }
        if !self.body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        if close {
            head.push_str("connection: close\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes.into()
    }

    /// The parts of an HTTP/2 request, cheap to clone per send.
    pub(super) fn http2(&self) -> Result<Http2Request, LoadError> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.authority.as_str())
            .path_and_query(self.path.as_str())
            .build()
            .map_err(|_| LoadError::Plan("the path or authority of the request is not valid"))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
            else {
                return Err(LoadError::Plan(
                    "a header field of the request is not valid",
                ));
            };
            headers.append(name, value);
        }
        Ok(Http2Request {
            method: self.method.clone(),
            uri,
            headers,
            body: self.body.clone(),
        })
    }
}

impl RequestShape {
    /// A gRPC call whose one message is the body.
    pub(super) fn grpc(&self) -> Result<Http2Request, LoadError> {
        let mut headers = self.headers.clone();
        for (name, value) in [("content-type", grpc::CONTENT_TYPE), ("te", "trailers")] {
            headers.push((name.to_owned(), value.to_owned()));
        }
        let framed = Self {
            method: Method::POST,
            path: GRPC_PATH.to_owned(),
            headers,
            body: grpc::message(&self.body),
            ..self.clone()
        };
        framed.http2()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Http2Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Http2Request {
    pub(super) fn whole_body(&self) -> Outgoing {
        Outgoing::Whole(Full::new(self.body.clone()))
    }

    /// The body, which is one message of gRPC.
    pub(super) fn message(&self) -> Bytes {
        self.body.clone()
    }

    pub(super) fn build(&self, body: Outgoing) -> Request<Outgoing> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().clone_from(&self.headers);
        request
    }
}
