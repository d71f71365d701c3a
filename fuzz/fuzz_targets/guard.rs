//! The byte guard: any split gives the same verdict, and httparse agrees on every head.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::http::guard::Guard;
use proxy::http::guard::GuardLimits;
use proxy::http::guard::Inspect;
use proxy::http::guard::ViolationKind;

fuzz_target!(|data: &[u8]| {
    let [cut, stream @ ..] = data else {
        return;
    };
    for limits in [GuardLimits::default(), tight()] {
        let whole = judge(limits, stream, stream.len());
        assert_eq!(judge(limits, stream, 1), whole);
        assert_eq!(judge(limits, stream, usize::from(*cut) + 1), whole);
    }
    compare_heads(stream);
});

fn tight() -> GuardLimits {
    GuardLimits {
        head_bytes_max: 64,
        fields_max: 3,
        extension_bytes_max: 4,
    }
}

/// The offset and kind of the first violation, reading `step` bytes at a time.
fn judge(limits: GuardLimits, stream: &[u8], step: usize) -> Option<(usize, ViolationKind)> {
    let mut guard = Guard::new(limits);
    let mut start = 0;
    for chunk in stream.chunks(step.max(1)) {
        let mut bytes = chunk.to_vec();
        match guard.inspect(&mut bytes) {
            Inspect::Clean => assert_eq!(bytes, chunk),
            Inspect::Violation(violation) => {
                assert!((1..=chunk.len()).contains(&violation.keep));
                return Some((start + violation.keep - 1, violation.kind));
            }
        }
        start += chunk.len();
    }
    None
}

/// The first head that passes ends where httparse says; the first that does not never completes.
fn compare_heads(stream: &[u8]) {
    let mut bytes = stream.to_vec();
    let mut guard = Guard::new(GuardLimits::default());
    for at in 0..bytes.len() {
        let was_inside = guard.is_inside_head();
        let is_violation = guard.inspect(&mut bytes[at..=at]) != Inspect::Clean;
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let parsed = httparse::Request::new(&mut fields).parse(&bytes[..=at]);
        let is_complete = matches!(parsed, Ok(httparse::Status::Complete(_)));
        if is_violation {
            assert!(!is_complete);
            return;
        }
        if was_inside && !guard.is_inside_head() {
            assert_eq!(parsed, Ok(httparse::Status::Complete(at + 1)));
            return;
        }
        assert!(!is_complete);
    }
}
