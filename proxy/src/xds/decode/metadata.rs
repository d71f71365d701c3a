//! `initial_metadata` of a `core.v3.GrpcService`.
//!
//! Values are sent as they stand, percent signs too: Envoy reads them as templates and expands none
//! of them before a stream. No value ever shows in a message.

use http::HeaderName;
use xds_proto::pb::envoy::config::core::v3 as core;

use super::Context;
use super::value;
use crate::config::grpc::BINARY_SUFFIX;
use crate::config::grpc::Metadata;
use crate::config::limits::GRPC_METADATA_BYTES_MAX;
use crate::config::limits::GRPC_METADATA_ENTRIES_MAX;

/// Names that HTTP/2 or gRPC itself speaks with.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Reads the metadata of the streams of a service.
pub(crate) fn decode(context: &mut Context, entries: Vec<core::HeaderValue>) -> Option<Metadata> {
    let field = "initial_metadata";
    if entries.len() > GRPC_METADATA_ENTRIES_MAX {
        let reason = format!("has more than {GRPC_METADATA_ENTRIES_MAX} entries");
        return context.refuse(field, reason);
    }
    let mut metadata = Metadata::default();
    let count = entries.len();
    let read = context.each(field, entries, entry);
    let are_all_good = read.len() == count;
    for (key, value) in read {
        if !value.is_empty() {
            metadata.set(key.as_str(), value.into());
        }
    }
    let bytes: usize = metadata.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > GRPC_METADATA_BYTES_MAX {
        let reason =
            format!("has {bytes} bytes in all; servers take {GRPC_METADATA_BYTES_MAX} at most");
        return context.refuse(field, reason);
    }
    are_all_good.then_some(metadata)
}

fn entry(context: &mut Context, header: core::HeaderValue) -> Option<(HeaderName, Vec<u8>)> {
    let core::HeaderValue {
        key,
        value,
        raw_value,
    } = header;
    let key = self::key(context, &key);
    if !value.is_empty() && !raw_value.is_empty() {
        context.reject("raw_value", "stands beside value");
    }
    let (field, value) = if raw_value.is_empty() {
        ("value", value.into_bytes())
    } else {
        ("raw_value", raw_value)
    };
    if value.is_empty() {
        context.warn(field, "is empty, the entry is not sent");
    }
    if looks_like_command(&value) {
        context.warn(field, "is sent as it stands, no command is expanded");
    }
    let key = key?;
    // Binary values go over the wire in base64, all others as they are.
    let is_text = |byte: &u8| (0x20..=0x7e).contains(byte);
    if !key.as_str().ends_with(BINARY_SUFFIX) && !value.iter().all(is_text) {
        let reason = "has bytes besides printable ASCII, which only keys that end in -bin may have";
        return context.refuse(field, reason);
    }
    Some((key, value))
}

fn key(context: &mut Context, key: &str) -> Option<HeaderName> {
    let name = value::header_name(context, "key", key)?;
    let text = name.as_str();
    if RESERVED.contains(&text) || text.starts_with("grpc-") {
        return context.refuse("key", format!("{text:?} belongs to gRPC itself"));
    }
    Some(name)
}

/// Something like `%ENVIRONMENT(TOKEN)%` is in it.
fn looks_like_command(value: &[u8]) -> bool {
    let mut parts = value.split(|byte| *byte == b'%').skip(1);
    parts.any(|part| part.first().is_some_and(u8::is_ascii_uppercase) && part.len() > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(key: &str, value: &str) -> core::HeaderValue {
        core::HeaderValue {
            key: key.to_owned(),
            value: value.to_owned(),
            raw_value: Vec::new(),
        }
    }

    type Read = (Vec<(String, Vec<u8>)>, Vec<String>);

    fn read(entries: Vec<core::HeaderValue>) -> Result<Read, String> {
        let mut context = Context::default();
        let decoded = decode(&mut context, entries);
        let decoded = context.finish(decoded).map_err(|e| e[0].to_string())?;
        let pairs = decoded.value.iter();
        let pairs = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let warnings = decoded.warnings.iter().map(ToString::to_string);
        Ok((pairs, warnings.collect()))
    }

    #[test]
    fn the_last_of_a_key_counts_and_nothing_empty_is_sent() {
        let entries = vec![
            header("X-A", "1"),
            header("x-b", "100%% of 5%"),
            header("x-a", "2"),
            header("x-c", ""),
            header("x-d", "%ENVIRONMENT(A)%"),
        ];
        let (read, warnings) = read(entries).unwrap();
        let expected = [
            ("x-b", "100%% of 5%"),
            ("x-a", "2"),
            ("x-d", "%ENVIRONMENT(A)%"),
        ];
        let expected = expected.map(|(k, v)| (k.to_owned(), v.as_bytes().to_vec()));
        assert_eq!(read, expected);
        let expected = [
            "initial_metadata[3].value: is empty, the entry is not sent",
            "initial_metadata[4].value: is sent as it stands, no command is expanded",
        ];
        assert_eq!(warnings, expected);
    }

    #[test]
    fn any_bytes_are_for_binary_keys_only() {
        let raw = |key: &str| core::HeaderValue {
            raw_value: vec![0, 255],
            ..header(key, "")
        };
        let expected = [("x-bin".to_owned(), vec![0, 255])];
        assert_eq!(read(vec![raw("x-bin")]).unwrap().0, expected);
        let refused = read(vec![raw("x")]).unwrap_err();
        assert!(
            refused.starts_with("initial_metadata[0].raw_value: has bytes besides"),
            "{refused}"
        );
        let both = core::HeaderValue {
            raw_value: vec![1],
            ..header("x-bin", "a")
        };
        assert!(read(vec![both]).unwrap_err().contains("stands beside"));
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_its_value() {
        let check = |key: &str, value: &str, expected: &str| {
            let refused = read(vec![header(key, value)]).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
            assert!(!refused.contains("s3cret"), "{refused}");
        };
        check("", "s3cret", "[0].key: \"\" is not a header name");
        check(":path", "s3cret", "is not a header name");
        check("te", "s3cret", "belongs to gRPC itself");
        check("Grpc-Timeout", "s3cret", "belongs to gRPC itself");
        check("x", "s3cret\n", "[0].value: has bytes besides");
        let long = "s3cret".repeat(GRPC_METADATA_BYTES_MAX);
        check("x", &long, "bytes in all");
        let many = vec![header("x", "y"); GRPC_METADATA_ENTRIES_MAX + 1];
        assert!(read(many).unwrap_err().contains("entries"));
    }
}
