//! What does a head cost from its bytes to what is forwarded?

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion};
use http::{HeaderMap, HeaderName, HeaderValue};
use proxy::http::headers::{Peer, RequestPolicy, sanitize_request};
use proxy::http::http1::decode::{DecodeLimits, Event, RequestDecoder};

/// A plain client's fields, and a browser's.
const FIELDS: [usize; 2] = [3, 20];

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("header_path");
    for count in FIELDS {
        let head = head(count);
        group.bench_function(BenchmarkId::new("decode", count), |bencher| {
            bencher.iter(|| decode(black_box(&head)));
        });
        let headers = headers(count);
        let policy = RequestPolicy {
            use_remote_address: true,
            ..RequestPolicy::default()
        };
        let peer = Peer::new(([192, 0, 2, 7], 4321).into(), None, None);
        group.bench_function(BenchmarkId::new("sanitize", count), |bencher| {
            bencher.iter_batched_ref(
                || headers.clone(),
                |headers| black_box(sanitize_request(headers, &policy, &peer, false, || 7)).is_ok(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// Framing and validity of every field; where they are put is measured with a whole request.
fn decode(head: &[u8]) {
    let mut decoder = RequestDecoder::new(DecodeLimits::default());
    let decoded = decoder.next(head);
    assert!(
        matches!(decoded, Ok((used, Event::Head(_))) if used == head.len()),
        "{decoded:?}"
    );
}

fn fields(count: usize) -> impl Iterator<Item = (String, String)> {
    (0..count).map(|at| {
        (
            format!("x-field-{at}"),
            format!("value {at} of a usual length, 32 bytes"),
        )
    })
}

fn head(count: usize) -> Vec<u8> {
    let fields: String = fields(count)
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("GET /item?id=7 HTTP/1.1\r\nhost: shop.example\r\n{fields}\r\n").into_bytes()
}

fn headers(count: usize) -> HeaderMap {
    fields(count)
        .map(|(name, value)| {
            let name = HeaderName::try_from(name).expect("a name");
            (name, HeaderValue::try_from(value).expect("a value"))
        })
        .collect()
}
