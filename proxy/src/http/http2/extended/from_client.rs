//! A client that asks for another protocol: its request becomes one of HTTP/1.1, and a 101 is told as 200.

use bytes::Bytes;
use h2::RecvStream;
use h2::ext::Protocol;
use h2::server::SendResponse;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::header::CONNECTION;
use http::header::CONTENT_LENGTH;
use http::header::UPGRADE;
use http::request::Parts;
use http_body::Body;

use crate::http::codec::AsksUpgrade;
use crate::http::codec::Error;
use crate::http::codec::Switch;
use crate::http::http2::extended::stream::Http2Stream;
use crate::http::http2::server::complete;

/// Brings an extended CONNECT into the form of a request that asks for an upgrade; false if it is none.
pub(in crate::http::http2) fn take(parts: &mut Parts) -> bool {
    let protocol = parts.extensions.remove::<Protocol>();
    let kind = protocol.map(|protocol| HeaderValue::from_str(protocol.as_str()));
    let Some(Ok(kind)) = kind else {
        return false;
    };
    parts.method = Method::GET;
    parts.extensions.insert(AsksUpgrade);
    parts.headers.insert(UPGRADE, kind);
    let upgrade = HeaderValue::from_static("upgrade");
    parts.headers.insert(CONNECTION, upgrade);
    true
}

/// Says that the offer is taken, and goes on as what was offered, to the end.
pub(in crate::http::http2) async fn switch<B>(
    respond: &mut SendResponse<Bytes>,
    response: Response<B>,
    incoming: RecvStream,
) -> Result<(), Error>
where
    B: Body<Data = Bytes, Error = Error> + Switch,
{
    let (mut parts, mut body) = response.into_parts();
    parts.status = StatusCode::OK;
    parts.headers.remove(CONTENT_LENGTH);
    complete(&mut parts.headers, &body);
    let outgoing = respond.send_response(Response::from_parts(parts, ()), false)?;
    let mut stream = Http2Stream::new(outgoing, incoming);
    body.begin(Vec::new());
    std::future::poll_fn(|cx| body.poll_switched(&mut stream, false, cx)).await;
    Ok(())
}
