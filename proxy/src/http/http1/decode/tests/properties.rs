//! Every split gives the same verdict; httparse agrees on every head that passes.

use proptest::collection::vec;
use proptest::prelude::Just;
use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prop_assert_eq;
use proptest::prop_oneof;
use proptest::proptest;
use proptest::sample::Index;
use proptest::sample::select;

use super::CHUNKED;
use super::HEAD;
use super::feed;
use super::judge;
use crate::http::http1::decode::DecodeLimits;
use crate::http::http1::decode::Phase;
use crate::http::http1::decode::RequestDecoder;
use crate::http::http1::decode::ViolationKind;

/// Pieces that are mostly right, so that streams get deep into the machine.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    const KNOWN: [&str; 17] = [
        "\r\n",
        "GET / HTTP/1.1\r\n",
        "POST /a?b HTTP/1.1\r\n",
        "CONNECT h:1 HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "Host: h\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "A-rather-long-name-that-fills-the-word: v\r\n",
        "A:\t b\tc\r\n",
        "abc",
        "3\r\nabc\r\n",
        "3;x=\"y\"\r\nabc\r\n",
        "0\r\n",
        "0\r\nT: x\r\n\r\n",
        HEAD,
        CHUNKED,
    ];
    const WRONG: &[u8; 13] = b"\r\n\0 \t:;\"5f#\x7f\xff";
    prop_oneof![
        20 => select(&KNOWN[..]).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(select(&WRONG[..]), 1..3),
        1 => Just(Vec::new()),
    ]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let mutation = proptest::option::of((any::<Index>(), any::<u8>()));
    (vec(piece(), 0..12), mutation).prop_map(|(pieces, mutation)| {
        let mut stream = pieces.concat();
        if let Some((index, byte)) = mutation.filter(|_| !stream.is_empty()) {
            let index = index.index(stream.len());
            stream[index] = byte;
        }
        stream
    })
}

fn small() -> DecodeLimits {
    DecodeLimits {
        head_bytes_max: 90,
        fields_max: 4,
        extension_bytes_max: 12,
    }
}

fn judge_in_parts(
    limits: DecodeLimits,
    stream: &[u8],
    cuts: impl Iterator<Item = usize>,
) -> Option<(usize, ViolationKind)> {
    let mut decoder = RequestDecoder::new(limits);
    let mut start = 0;
    for end in cuts.chain([stream.len()]) {
        if let Err((at, kind)) = feed(&mut decoder, &stream[start..end]) {
            return Some((start + at, kind));
        }
        start = end;
    }
    None
}

proptest! {
    #[test]
    fn s16_any_split_gives_the_same_verdict(
        stream in stream(),
        cuts in vec(any::<Index>(), 0..6),
        tight in any::<bool>(),
    ) {
        let limits = if tight { small() } else { DecodeLimits::default() };
        let whole = judge(limits, &stream);
        let bytewise = judge_in_parts(limits, &stream, 1..stream.len());
        prop_assert_eq!(bytewise, whole);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(judge_in_parts(limits, &stream, cuts.into_iter()), whole);
    }

    #[test]
    fn httparse_sees_the_same_heads(stream in stream()) {
        let bytes = stream;
        let mut decoder = RequestDecoder::new(DecodeLimits::default());
        let mut at = 0;
        while at < bytes.len() {
            let Some(head) = next_head(&mut decoder, &bytes, at) else {
                return Ok(());
            };
            let mut fields = [httparse::EMPTY_HEADER; 128];
            let mut request = httparse::Request::new(&mut fields);
            let parsed = request.parse(&bytes[at..head.end]);
            if head.is_violation {
                return Ok(());
            }
            prop_assert_eq!(parsed, Ok(httparse::Status::Complete(head.end - at)));
            at = skip_body(&mut decoder, &bytes, head.end);
        }
    }
}

struct Head {
    end: usize,
    is_violation: bool,
}

/// Feeds bytes one by one until a head is complete or wrong.
fn next_head(decoder: &mut RequestDecoder, bytes: &[u8], start: usize) -> Option<Head> {
    for at in start..bytes.len() {
        let before = decoder.phase;
        if decoder.next(&bytes[at..=at]).is_err() {
            return Some(Head {
                end: at + 1,
                is_violation: true,
            });
        }
        if before == Phase::Fields && decoder.phase != Phase::Fields {
            return Some(Head {
                end: at + 1,
                is_violation: false,
            });
        }
    }
    None
}

fn skip_body(decoder: &mut RequestDecoder, bytes: &[u8], start: usize) -> usize {
    for at in start..bytes.len() {
        if decoder.is_idle() {
            return at;
        }
        if decoder.next(&bytes[at..=at]).is_err() {
            return bytes.len();
        }
    }
    bytes.len()
}
