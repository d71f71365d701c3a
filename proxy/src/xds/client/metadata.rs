//! Metadata as tonic takes it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use tonic::metadata::MetadataMap;

use crate::config::grpc::BINARY_SUFFIX;
use crate::config::grpc::Metadata;

/// What a stream is opened with. No value is ever put into a table of HPACK, or shown.
pub(in crate::xds) fn map(metadata: &Metadata) -> MetadataMap {
    let mut headers = HeaderMap::new();
    for (key, value) in metadata.iter() {
        let value = if key.ends_with(BINARY_SUFFIX) {
            HeaderValue::from_str(&STANDARD_NO_PAD.encode(value)).ok()
        } else {
            HeaderValue::from_bytes(value).ok()
        };
        // The decoder lets nothing else pass.
        let (Ok(name), Some(mut value)) = (HeaderName::from_bytes(key.as_bytes()), value) else {
            continue;
        };
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    MetadataMap::from_headers(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_values_go_as_base64_and_all_are_sensitive() {
        let mut metadata = Metadata::default();
        metadata.set("authorization", b"Bearer x"[..].into());
        metadata.set("x-bin", [0, 255, 1, 2][..].into());
        let headers = map(&metadata).into_headers();
        assert_eq!(headers["authorization"], "Bearer x");
        assert_eq!(headers["x-bin"], "AP8BAg");
        assert!(headers.values().all(HeaderValue::is_sensitive));
        assert!(!format!("{metadata:?} {headers:?}").contains("Bearer"));
    }
}
