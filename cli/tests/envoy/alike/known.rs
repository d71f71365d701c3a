//! The differences between Envoy and Weir that we want, each with its reason.

use super::outcome::Difference;
use super::request::Body;
use super::request::Request;

/// Why this difference is right, if it is.
pub(super) fn reason(request: &Request, difference: &Difference) -> Option<&'static str> {
    let (envoy, weir) = (&*difference.envoy, &*difference.weir);
    match difference.field.as_str() {
        "answer server" if (envoy, weir) == ("envoy", "weir") => Some("each names itself"),
        "answer connection"
            if (envoy, weir) == ("close", "(none)") && !matches!(request.body, Body::None) =>
        {
            Some("Envoy gives up a connection whose request it answered unread; we read on")
        }
        "answer connection" if (envoy, weir) == ("close", "(none)") && request.listener == 3 => {
            Some("both close after a path that is refused; Envoy says so in the answer")
        }
        "answer content-length" if (envoy, weir) == ("(none)", "0") && request.is_http2 => {
            Some("an empty answer of our own says so on HTTP/2, too")
        }
        "answer transfer-encoding" if request.method == "HEAD" && weir == "(none)" => {
            Some("how a body would have come is optional in an answer to HEAD (RFC 9110, 8.6)")
        }
        "answer content-length" if request.method == "HEAD" && envoy == "(none)" => {
            Some("how long a body would have been is optional in an answer to HEAD")
        }
        "answer grpc-message" if request.method == "HEAD" && envoy == "(none)" => {
            Some("gRPC knows no HEAD; Envoy drops the text with the body, we keep it")
        }
        "answer x-answered" if envoy == "0" => {
            Some("Envoy does not know the status of its own answer while it edits it; we do")
        }
        "request content-length" if (envoy, weir) == ("(none)", "0") && is_to_http2(request) => {
            Some("an empty POST says so on HTTP/2, too")
        }
        "request x-forwarded-for" if request.listener == 1 && same_but_last(envoy, weir) => {
            Some("Envoy writes its machine's own address for a client on the same machine")
        }
        _ => None,
    }
}

/// True if the request is for the cluster that speaks HTTP/2.
fn is_to_http2(request: &Request) -> bool {
    ["/two", "/call"]
        .iter()
        .any(|path| request.path.starts_with(path))
}

/// True if two lists differ in their last element only, which is 127.0.0.1 in ours.
fn same_but_last(envoy: &str, weir: &str) -> bool {
    let split = |list: &str| {
        let (rest, last) = list.rsplit_once(',').unwrap_or(("", list));
        (rest.to_owned(), last.to_owned())
    };
    let (envoy, weir) = (split(envoy), split(weir));
    envoy.0 == weir.0 && weir.1 == "127.0.0.1"
}
