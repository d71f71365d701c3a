//! What an endpoint answers.

use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::PrettyFormatter;

/// An answer, whole in memory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

const TEXT: &str = "text/plain; charset=UTF-8";

impl Reply {
    pub(super) fn text(body: impl Into<String>) -> Self {
        Self::with(StatusCode::OK, TEXT, body.into().into_bytes())
    }

    pub(super) fn html(body: String) -> Self {
        let html = "text/html; charset=UTF-8";
        Self::with(StatusCode::OK, html, body.into_bytes())
    }

    pub(super) const fn with(
        status: StatusCode,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Self {
        Self {
            status,
            content_type,
            body,
        }
    }

    /// Indented by one space, as Envoy does.
    pub(super) fn json(value: &Value) -> Self {
        let mut body = Vec::new();
        let indent = PrettyFormatter::with_indent(b" ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut body, indent);
        match value.serialize(&mut serializer) {
            Ok(()) => Self::with(StatusCode::OK, "application/json", body),
            Err(error) => Self::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    /// A sentence for the person who asked.
    pub(super) fn error(status: StatusCode, sentence: &str) -> Self {
        Self::with(status, TEXT, format!("{sentence}\n").into_bytes())
    }

    pub(super) fn bad_request(sentence: &str) -> Self {
        Self::error(StatusCode::BAD_REQUEST, sentence)
    }
}
