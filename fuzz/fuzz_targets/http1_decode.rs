//! The HTTP/1 decoder: any split gives the same verdict, and httparse agrees on every head.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::http::http1::decode::DecodeLimits;
use proxy::http::http1::decode::RequestDecoder;
use proxy::http::http1::decode::ViolationKind;

fuzz_target!(|data: &[u8]| {
    let [cut, stream @ ..] = data else {
        return;
    };
    for limits in [DecodeLimits::default(), tight()] {
        let whole = judge(limits, stream, stream.len());
        assert_eq!(judge(limits, stream, 1), whole);
        assert_eq!(judge(limits, stream, usize::from(*cut) + 1), whole);
    }
    compare_heads(stream);
});

fn tight() -> DecodeLimits {
    DecodeLimits {
        head_bytes_max: 64,
        fields_max: 3,
        extension_bytes_max: 4,
    }
}

/// The offset and kind of the first violation, reading `step` bytes at a time.
fn judge(limits: DecodeLimits, stream: &[u8], step: usize) -> Option<(usize, ViolationKind)> {
    let mut decoder = RequestDecoder::new(limits);
    let mut start = 0;
    for chunk in stream.chunks(step.max(1)) {
        let mut at = 0;
        while at < chunk.len() {
            match decoder.next(&chunk[at..]) {
                Ok((used, _)) => at += used,
                Err(violation) => {
                    assert!(violation.at < chunk.len() - at);
                    return Some((start + at + violation.at, violation.kind));
                }
            }
        }
        start += chunk.len();
    }
    None
}

/// The first head that passes ends where httparse says, and none ends before a violation.
fn compare_heads(stream: &[u8]) {
    let mut decoder = RequestDecoder::new(DecodeLimits::default());
    for at in 0..stream.len() {
        let was_inside = decoder.is_inside_head();
        let is_violation = decoder.next(&stream[at..=at]).is_err();
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let parsed = httparse::Request::new(&mut fields).parse(&stream[..=at]);
        let is_complete = matches!(parsed, Ok(httparse::Status::Complete(_)));
        if is_violation {
            return; // it is stricter than httparse, up to the last byte of a head
        }
        if was_inside && !decoder.is_inside_head() {
            assert_eq!(parsed, Ok(httparse::Status::Complete(at + 1)));
            return;
        }
        assert!(!is_complete);
    }
}
