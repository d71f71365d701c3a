//! Security case S12 as tables; any split gives the same verdict.

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::prop_assert_eq;
use proptest::proptest;
use proptest::sample::Index;
use proptest::sample::select;

use crate::http::http1::decode::DecodeLimits;
use crate::http::http1::decode::Expect;
use crate::http::http1::decode::ResponseDecoder;
use crate::http::http1::decode::ViolationKind;

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

struct Verdict {
    violation: Option<(usize, ViolationKind)>,
    is_idle: bool,
    may_end: bool,
}

fn feed(decoder: &mut ResponseDecoder, bytes: &[u8]) -> Result<(), (usize, ViolationKind)> {
    let mut at = 0;
    while at < bytes.len() {
        let next = decoder.next(&bytes[at..]);
        let (used, _) = next.map_err(|violation| (at + violation.at, violation.kind))?;
        at += used;
    }
    Ok(())
}

fn judge(expect: Expect, stream: &[u8], cuts: impl Iterator<Item = usize>) -> Verdict {
    let mut decoder = ResponseDecoder::new(DecodeLimits::default());
    decoder.expect(expect);
    let mut start = 0;
    let mut violation = None;
    for end in cuts.chain([stream.len()]) {
        violation = feed(&mut decoder, &stream[start..end])
            .err()
            .map(|(at, kind)| (start + at, kind));
        if violation.is_some() {
            break;
        }
        start = end;
    }
    Verdict {
        violation,
        is_idle: decoder.is_idle(),
        may_end: decoder.may_end(),
    }
}

/// Expects the stream to pass, and says whether the response is then complete.
#[track_caller]
fn accepts(expect: Expect, stream: &str, is_complete: bool) {
    let verdict = judge(expect, stream.as_bytes(), std::iter::empty());
    assert_eq!(verdict.violation, None, "{stream:?}");
    assert_eq!(verdict.is_idle, is_complete, "{stream:?}");
}

/// Expects a violation where `stream` has its `^`.
#[track_caller]
fn rejects(expect: Expect, stream: &str, kind: ViolationKind) {
    let at = stream.find('^').unwrap();
    let bytes = stream.replacen('^', "", 1).into_bytes();
    let verdict = judge(expect, &bytes, std::iter::empty());
    assert_eq!(verdict.violation, Some((at, kind)), "{stream:?}");
}

#[test]
fn s12_plain_responses_pass() {
    let accepts = |stream: &str, is_complete| accepts(Expect::Other, stream, is_complete);
    accepts("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", true);
    accepts("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", false);
    accepts("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", true);
    accepts(
        "HTTP/1.1 200 \r\nHost: a,b\r\nContent-Length: 0\r\n\r\n",
        true,
    );
    accepts(
        "HTTP/1.0 404 Not \u{e9} Found\r\nContent-Length: 0\r\n\r\n",
        true,
    );
    accepts(&format!("{CHUNKED}1\r\na\r\n0\r\nT: x\r\n\r\n"), true);
    accepts(&format!("{CHUNKED}1\r\na\r\n"), false);
    accepts("HTTP/1.1 204 No Content\r\n\r\n", true);
    accepts(
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        true,
    );
    let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    accepts(early, false);
    accepts(&format!("{early}HTTP/1.1 204 x\r\n\r\n"), true);
}

#[test]
fn s12_bodies_depend_on_the_request() {
    let with_length = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    accepts(Expect::Head, with_length, true);
    accepts(Expect::Head, CHUNKED, true);
    rejects(
        Expect::Head,
        &format!("{with_length}^ab"),
        ViolationKind::Surplus,
    );
    accepts(
        Expect::Connect,
        "HTTP/1.1 200 OK\r\n\r\n\x16\x03\x01",
        false,
    );
    accepts(
        Expect::Connect,
        "HTTP/1.1 403 No\r\nContent-Length: 1\r\n\r\na",
        true,
    );
    accepts(
        Expect::Other,
        "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n\0\n",
        false,
    );
}

#[test]
fn s12_until_close_may_end_anywhere_and_others_may_not() {
    let may_end =
        |stream: &str| judge(Expect::Other, stream.as_bytes(), std::iter::empty()).may_end;
    assert!(may_end("HTTP/1.1 200 OK\r\n\r\nany\n"));
    assert!(may_end("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"));
    assert!(!may_end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na"));
    assert!(!may_end("HTTP/1.1 200 OK\r\n"));
    assert!(!may_end(""));
    assert!(!may_end(&format!("{CHUNKED}0\r\n")));
}

#[test]
fn s12_two_framings_and_bodies_where_none_may_be() {
    let rejects = |stream: &str, kind| rejects(Expect::Other, stream, kind);
    let line = "HTTP/1.1 200 OK\r\n";
    let length = "Content-Length: 1\r\n";
    let coding = "Transfer-Encoding: chunked\r\n";
    rejects(
        &format!("{line}{length}Transfer-Encoding^: chunked"),
        ViolationKind::TwoFramings,
    );
    rejects(
        &format!("{line}{coding}Content-Length^: 1"),
        ViolationKind::TwoFramings,
    );
    let kind = ViolationKind::InvalidContentLength;
    rejects(&format!("{line}{length}Content-Length: 2^\r\n"), kind);
    let kind = ViolationKind::InvalidTransferEncoding;
    rejects("HTTP/1.0 200 OK\r\nTransfer-Encoding^: chunked", kind);
    let kind = ViolationKind::BodyDisallowed;
    rejects(&format!("HTTP/1.1 204 x\r\n{length}\r^\n"), kind);
    rejects(&format!("HTTP/1.1 204 x\r\n{coding}\r^\n"), kind);
    rejects(&format!("HTTP/1.1 100 x\r\n{length}\r^\n"), kind);
    rejects(&format!("HTTP/1.1 101 x\r\n{coding}\r^\n"), kind);
}

#[test]
fn s12_surplus_and_line_ends() {
    let rejects = |stream: &str, kind| rejects(Expect::Other, stream, kind);
    let complete = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";
    rejects(&format!("{complete}^\r\n"), ViolationKind::Surplus);
    rejects(
        &format!("{complete}^HTTP/1.1 200 OK\r\n"),
        ViolationKind::Surplus,
    );
    rejects("HTTP/1.1 304 x\r\n\r\n^a", ViolationKind::Surplus);
    rejects("HTTP/1.1 200 OK^\n", ViolationKind::BareLf);
    rejects("HTTP/1.1 200^\n", ViolationKind::BareLf);
    rejects("HTTP/1.1 200 OK\r^a", ViolationKind::BareCr);
    rejects("HTTP/1.1 200 OK\r\nA: b^\n", ViolationKind::BareLf);
    rejects(&format!("{CHUNKED}1^\n"), ViolationKind::BareLf);
}

#[test]
fn s12_status_lines() {
    let kind = ViolationKind::InvalidStatusLine;
    for stream in [
        "^<html>",
        "HTTP/^2.0 200 OK",
        "HTTP/1.^2 200 OK",
        "HTTP/1.1 ^099 x",
        "HTTP/1.1 20^ OK",
        "HTTP/1.1 200^0 OK",
        "HTTP/1.1 ^ 200",
        "^ HTTP/1.1 200",
        "HTTP/1.1 200 a^\x01",
    ] {
        rejects(Expect::Other, stream, kind);
    }
    rejects(Expect::Other, "^\r\nHTTP/1.1 200 OK", ViolationKind::BareCr);
}

#[test]
fn nothing_is_due_before_a_request() {
    let mut decoder = ResponseDecoder::new(DecodeLimits::default());
    assert!(decoder.is_idle());
    let violation = decoder.next(b"H").unwrap_err();
    assert_eq!(violation.kind, ViolationKind::Surplus);
    decoder.expect(Expect::Other);
    assert!(!decoder.is_idle(), "a dead connection stays dead");
}

proptest! {
    #[test]
    fn s12_any_split_gives_the_same_verdict(
        pieces in vec(select(&PIECES[..]), 0..8),
        cuts in vec(any::<Index>(), 0..6),
        expect in select(&[Expect::Connect, Expect::Head, Expect::Other][..]),
    ) {
        let stream = pieces.concat().into_bytes();
        let whole = judge(expect, &stream, std::iter::empty());
        let bytewise = judge(expect, &stream, 1..stream.len());
        prop_assert_eq!(bytewise.violation, whole.violation);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let cut = judge(expect, &stream, cuts.into_iter());
        prop_assert_eq!(cut.violation, whole.violation);
        prop_assert_eq!((cut.is_idle, cut.may_end), (whole.is_idle, whole.may_end));
    }
}

const PIECES: [&str; 12] = [
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 204 x\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "A: b\r\n",
    "\r\n",
    "abc",
    "3;x\r\nabc\r\n",
    "0\r\n\r\n",
    "\n",
];
