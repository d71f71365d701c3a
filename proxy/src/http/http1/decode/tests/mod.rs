//! Security cases S1 to S10 and S16 as tables; `properties` checks all splits and the codec's parser.

mod properties;
mod response;

use http::StatusCode;

use super::BodyLength;
use super::DecodeLimits;
use super::Event;
use super::RequestDecoder;
use super::ViolationKind;

const HEAD: &str = "GET / HTTP/1.1\r\nHost: h\r\n";
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The offset and kind of the first violation.
fn judge(limits: DecodeLimits, stream: &[u8]) -> Option<(usize, ViolationKind)> {
    feed(&mut RequestDecoder::new(limits), stream).err()
}

/// Passes all of `bytes`.
fn feed(decoder: &mut RequestDecoder, bytes: &[u8]) -> Result<(), (usize, ViolationKind)> {
    let mut at = 0;
    while at < bytes.len() {
        let next = decoder.next(&bytes[at..]);
        let (used, _) = next.map_err(|violation| (at + violation.at, violation.kind))?;
        at += used;
    }
    Ok(())
}

#[track_caller]
fn accepts(stream: &str) {
    assert_eq!(
        judge(DecodeLimits::default(), stream.as_bytes()),
        None,
        "{stream:?}"
    );
}

/// Expects a violation exactly where `stream` has its first `^`, which is taken out first.
#[track_caller]
fn rejects(stream: &str, kind: ViolationKind) {
    rejects_bytes(stream.as_bytes(), kind);
}

#[track_caller]
fn rejects_bytes(stream: &[u8], kind: ViolationKind) {
    let at = stream.iter().position(|byte| *byte == b'^').unwrap();
    let mut bytes = stream.to_vec();
    bytes.remove(at);
    let shown = String::from_utf8_lossy(stream);
    assert_eq!(
        judge(DecodeLimits::default(), &bytes),
        Some((at, kind)),
        "{shown:?}"
    );
}

/// A head with one more field line.
#[track_caller]
fn rejects_field(field: &str, kind: ViolationKind) {
    rejects(&format!("{HEAD}{field}\r\n\r\n"), kind);
}

#[track_caller]
fn accepts_field(field: &str) {
    accepts(&format!("{HEAD}{field}\r\n\r\n"));
}

#[test]
fn plain_streams_pass() {
    accepts("");
    accepts(&format!("{HEAD}\r\n"));
    accepts(&format!("\r\n\r\n{HEAD}\r\n\r\n{HEAD}\r\n"));
    accepts("GET / HTTP/1.0\r\n\r\n");
    accepts("OPTIONS * HTTP/1.1\r\nhost:\r\n\r\n");
    accepts("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n");
    accepts(&format!(
        "{HEAD}A:\r\nB: \t\r\nC:x y\tz \r\nD: \u{e9}\r\n\r\n"
    ));
    accepts(&format!("{HEAD}Content-Length: 3\r\n\r\n\n\r\0{HEAD}\r\n"));
    accepts(&format!("{HEAD}Content-Length: 0\r\n\r\n{HEAD}\r\n"));
    accepts(&format!(
        "{CHUNKED}3\r\n\n\r\0\r\n0a;x=\"y\\\"\"\r\n0123456789\r\n0\r\n\r\n{HEAD}\r\n"
    ));
    accepts(&format!(
        "{CHUNKED}0\r\nTrailer: x\r\nContent-Length: x\r\n\r\n{HEAD}\r\n"
    ));
}

#[test]
fn after_a_violation_everything_is_wrong() {
    let mut decoder = RequestDecoder::new(DecodeLimits::default());
    let violation = decoder.next(b"GET\nmore").unwrap_err();
    assert_eq!((violation.at, violation.in_head), (3, true));
    let again = decoder.next(b"GET / HTTP/1.1\r\n").unwrap_err();
    assert_eq!((again.at, again.kind), (0, violation.kind));
}

#[test]
fn events_say_what_was_taken() {
    let mut decoder = RequestDecoder::new(DecodeLimits::default());
    let stream =
        format!("{CHUNKED}3;x\r\nabc\r\n0\r\nT: v\r\n\r\n{HEAD}Content-Length: 2\r\n\r\nab{HEAD}");
    let mut rest = stream.as_bytes();
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let (used, event) = decoder.next(rest).unwrap();
        let content = match event {
            Event::Content(len) => &rest[used - len..used],
            _ => b"",
        };
        seen.push((event, content, decoder.is_idle()));
        rest = &rest[used..];
    }
    assert_eq!(
        seen,
        [
            (Event::Head(BodyLength::Chunked), &b""[..], false),
            (Event::Content(3), b"abc", false),
            (Event::Trailers, b"", false),
            (Event::End, b"", true),
            (Event::Head(BodyLength::Known(2)), b"", false),
            (Event::Content(2), b"ab", true),
            (Event::More, b"", false),
        ]
    );
}

#[test]
fn is_idle_only_between_messages() {
    let mut decoder = RequestDecoder::new(DecodeLimits::default());
    assert!(decoder.is_idle());
    let mut feed = |text: &str| {
        assert_eq!(feed(&mut decoder, text.as_bytes()), Ok(()));
        decoder.is_idle()
    };
    assert!(!feed("G"));
    assert!(!feed(
        "ET / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n"
    ));
    assert!(!feed("a"));
    assert!(feed("b"));
    assert!(!feed(CHUNKED));
    assert!(!feed("0\r\n"));
    assert!(feed("\r\n"));
}

#[test]
fn s01_content_length_and_transfer_encoding() {
    let kind = ViolationKind::TwoFramings;
    rejects_field("Content-Length: 1\r\nTransfer-Encoding^: chunked", kind);
    rejects_field("Transfer-Encoding: chunked\r\ncontent-length^: 1", kind);
}

#[test]
fn s02_content_length_syntax() {
    let kind = ViolationKind::InvalidContentLength;
    for value in [
        "^",
        "5^,5",
        "^+5",
        "^-5",
        "5^ ",
        "0^x5",
        "5^_0",
        "922337203685477580^8",
        "1844674407370955161^5",
        "0000000000000000000^5",
        "5^\t",
        "^a",
    ] {
        // The fault of an empty value is its line end, that of an overflow its last digit.
        rejects_field(&format!("Content-Length:{value}"), kind);
    }
    accepts("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9223372036854775807\r\n\r\n");
}

#[test]
fn s02_content_length_twice() {
    let kind = ViolationKind::InvalidContentLength;
    rejects_field("Content-Length: 5\r\nContent-Length: 6^", kind);
    rejects_field("Content-Length: 0\r\nContent-Length: 6^", kind);
    accepts(&format!(
        "{HEAD}Content-Length: 5\r\nContent-Length: 5\r\n\r\n12345{HEAD}\r\n"
    ));
}

#[test]
fn s03_transfer_encoding() {
    let kind = ViolationKind::InvalidTransferEncoding;
    for value in [
        " chunked^, chunked",
        " ^identity",
        " ^gzip, chunked",
        " ^xchunked",
        " ^\"chunked\"",
        " ^\x0bchunked",
        " chunked^ ",
        " chunke^",
        "^",
        " chunked^;q=1",
        " chunked^d",
    ] {
        rejects_field(&format!("Transfer-Encoding:{value}"), kind);
    }
    rejects_field(
        "Transfer-Encoding: chunked\r\nTransfer-Encoding^: chunked",
        kind,
    );
    rejects(
        "POST / HTTP/1.0\r\nTransfer-Encoding^: chunked\r\n\r\n",
        kind,
    );
    accepts_field("tRANSFER-eNCODING:\t cHUNKED");
}

#[test]
fn s04_spaces_and_folds() {
    rejects_field("A: b\r\n^ c", ViolationKind::ObsFold);
    rejects_field("A: b\r\n^\tc", ViolationKind::ObsFold);
    rejects(
        "GET / HTTP/1.1\r\n^ Host: h\r\n\r\n",
        ViolationKind::ObsFold,
    );
    rejects_field("A^ : b", ViolationKind::SpaceInName);
    rejects_field("A^\t: b", ViolationKind::SpaceInName);
    rejects_field("A^ b: c", ViolationKind::SpaceInName);
    rejects_field("^: b", ViolationKind::InvalidName);
    for line in [
        "^ GET / HTTP/1.1",
        "GET ^ / HTTP/1.1",
        "GET / ^ HTTP/1.1",
        "GET / HTTP/1.1^ ",
    ] {
        rejects(
            &format!("{line}\r\nHost: h\r\n\r\n"),
            ViolationKind::ExtraSpace,
        );
    }
    rejects("GET^\t/ HTTP/1.1\r\n", ViolationKind::InvalidMethod);
    rejects("GET / ^\tHTTP/1.1\r\n", ViolationKind::ExtraSpace);
}

#[test]
fn s05_bare_line_ends_in_head() {
    let lf = ViolationKind::BareLf;
    let cr = ViolationKind::BareCr;
    rejects("^\n", lf);
    rejects("\r^G", cr);
    rejects("GET^\n / HTTP/1.1\r\n", lf);
    rejects("GET^\r / HTTP/1.1\r\n", cr);
    rejects("GET /^\nHost: h\r\n", lf);
    rejects("GET / HTTP/1.1^\nHost: h\r\n\r\n", lf);
    rejects("GET / HTTP/1.1\r^Host: h\r\n\r\n", cr);
    rejects("GET / HTTP/1.1\r^\r\nHost: h\r\n\r\n", cr);
    rejects_field("A: b^\nC: d", lf);
    rejects_field("A: b\r^C: d", cr);
    rejects_field("A^\n: d", lf);
    rejects_field("Content-Length: 5^\n", lf);
    rejects_field("Transfer-Encoding: chunked^\n", lf);
    rejects_field("A: b\r\n^\n", lf);
    rejects(&format!("{HEAD}\r^\r\n"), cr);
    rejects("GET / HTTP/1.1\r\nHost: h^\n\r\n", lf);
}

#[test]
fn s05_bare_lf_in_chunk_size() {
    let lf = ViolationKind::BareLf;
    let cr = ViolationKind::BareCr;
    rejects(&format!("{CHUNKED}5^\nhello\r\n0\r\n\r\n"), lf);
    rejects(&format!("{CHUNKED}5\r^\rhello"), cr);
    rejects(&format!("{CHUNKED}5;a^\nhello"), lf);
    rejects(&format!("{CHUNKED}5;a\r^b\r\nhello"), cr);
    rejects(&format!("{CHUNKED}5\r\nhello^\n0\r\n\r\n"), lf);
    rejects(&format!("{CHUNKED}5\r\nhello\r^0\r\n\r\n"), cr);
    rejects(&format!("{CHUNKED}0^\n\r\n"), lf);
    rejects(&format!("{CHUNKED}0\r\n^\n"), lf);
    rejects(&format!("{CHUNKED}0\r\nA: b^\n\r\n"), lf);
    rejects(&format!("{CHUNKED}0\r\nA: b\r^c\r\n\r\n"), cr);
    rejects(&format!("{CHUNKED}0\r\n\r^G"), cr);
}

#[test]
fn s06_chunk_sizes() {
    let kind = ViolationKind::InvalidChunk;
    rejects(&format!("{CHUNKED}^\r\n"), kind);
    rejects(&format!("{CHUNKED}^;a\r\n"), kind);
    rejects(&format!("{CHUNKED}5^ \r\n"), kind);
    rejects(&format!("{CHUNKED}5^ ;a\r\n"), kind);
    rejects(&format!("{CHUNKED}^ 5\r\n"), kind);
    rejects(&format!("{CHUNKED}^-5\r\n"), kind);
    rejects(&format!("{CHUNKED}0^x5\r\n"), kind);
    rejects(&format!("{CHUNKED}5^_0\r\n"), kind);
    rejects(&format!("{CHUNKED}0000000000000001^0\r\n"), kind);
    rejects(
        &format!("{CHUNKED}{}^{}5\r\n", "0".repeat(16), "0".repeat(10_000)),
        kind,
    );
    rejects(&format!("{CHUNKED}800000000000000^0\r\n"), kind);
    rejects(&format!("{CHUNKED}5\r\nhello^0\r\n\r\n"), kind);
    accepts(&format!("{CHUNKED}7fffffffffffffff\r\n"));
    accepts(&format!("{CHUNKED}0000000000000005\r\nhello\r\n"));
}

#[test]
fn s06_chunk_extensions() {
    accepts(&format!(
        "{CHUNKED}1;\r\na\r\n1;a=\"\\\";\"\r\nb\r\n0;x\ty\r\n\r\n"
    ));
    rejects(
        &format!("{CHUNKED}1;a=\"^\r\n\"\r\n"),
        ViolationKind::InvalidChunk,
    );
    rejects(
        &format!("{CHUNKED}1;a=\"\\^\r\n\"\r\n"),
        ViolationKind::InvalidChunk,
    );
    rejects(&format!("{CHUNKED}1;^\0\r\n"), ViolationKind::Nul);
    rejects(
        &format!("{CHUNKED}1;^\x7f\r\n"),
        ViolationKind::InvalidChunk,
    );
    let all = "x".repeat(16 * 1024);
    accepts(&format!("{CHUNKED}1;{all}\r\na\r\n0\r\n\r\n"));
    rejects(
        &format!("{CHUNKED}1;{all}^x\r\n"),
        ViolationKind::ExtensionsTooLarge,
    );
    // The budget is the message's, not the chunk's, and the next message has its own.
    rejects(
        &format!("{CHUNKED}1;{all}\r\na\r\n1;^b"),
        ViolationKind::ExtensionsTooLarge,
    );
    accepts(&format!(
        "{CHUNKED}1;{all}\r\na\r\n0\r\n\r\n{CHUNKED}1;b\r\n"
    ));
}

#[test]
fn s07_trailers_are_framed_and_bounded() {
    accepts(&format!(
        "{CHUNKED}0\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\nHost: a,b\r\n\r\n{HEAD}\r\n"
    ));
    let line = format!("A: {}\r\n", "x".repeat(1019));
    let full = line.repeat(16);
    assert_eq!(full.len(), super::TRAILER_BYTES_MAX);
    rejects(
        &format!("{CHUNKED}0\r\n{full}^\r\n"),
        ViolationKind::HeadTooLarge,
    );
    // Two fields of the head count, so the 99th trailer is the 101st field.
    let fields = "A: b\r\n".repeat(98);
    accepts(&format!("{CHUNKED}0\r\n{fields}\r\n"));
    rejects(
        &format!("{CHUNKED}0\r\n{fields}A^: b\r\n"),
        ViolationKind::TooManyFields,
    );
}

#[test]
fn s08_bytes_of_names_values_and_targets() {
    for byte in 0..=u8::MAX {
        let is_line_end = byte == b'\r' || byte == b'\n';
        let in_name = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let in_value = byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
        let in_target = (0x21..=0x7e).contains(&byte) && byte != b'#';
        let check = |before: &str, after: &str, expected: bool| {
            let stream = [before.as_bytes(), &[byte], after.as_bytes()].concat();
            let accepted = judge(DecodeLimits::default(), &stream).is_none();
            assert_eq!(accepted, expected, "{before:?} {byte:#x} {after:?}");
        };
        check(&format!("{HEAD}A"), "a: b\r\n\r\n", in_name || byte == b':');
        check(&format!("{HEAD}A: b"), "c\r\n\r\n", in_value);
        check(&format!("{HEAD}A: 12345678"), "12345678\r\n\r\n", in_value);
        check("GET /a", "a HTTP/1.1\r\nHost: h\r\n\r\n", in_target);
        check(
            "GET /12345678",
            "12345678 HTTP/1.1\r\nHost: h\r\n\r\n",
            in_target,
        );
        if !is_line_end {
            check("G", " / HTTP/1.1\r\nHost: h\r\n\r\n", in_name);
        }
    }
}

#[test]
fn s09_targets() {
    rejects("GET /a^#b HTTP/1.1\r\n", ViolationKind::Fragment);
    rejects(
        "GET  ^HTTP/1.1\r\n".replace("  ^", " ^ ").as_str(),
        ViolationKind::ExtraSpace,
    );
    rejects("GET /^\r\nHost: h\r\n\r\n", ViolationKind::InvalidVersion);
    let limits = DecodeLimits::default();
    let long = format!("GET /{}", "a".repeat(64 * 1024));
    let verdict = judge(limits, long.as_bytes());
    assert_eq!(
        verdict,
        Some((limits.head_bytes_max, ViolationKind::TargetTooLong))
    );
    assert_eq!(
        ViolationKind::TargetTooLong.status(),
        StatusCode::URI_TOO_LONG
    );
}

#[test]
fn s10_hosts() {
    rejects("GET / HTTP/1.1\r\n\r^\n", ViolationKind::MissingHost);
    rejects(
        "GET http://h/ HTTP/1.1\r\nA: b\r\n\r^\n",
        ViolationKind::MissingHost,
    );
    rejects_field("Host^: h", ViolationKind::DuplicateHost);
    rejects(
        "GET / HTTP/1.0\r\nHost: a\r\nhost^: a\r\n\r\n",
        ViolationKind::DuplicateHost,
    );
    for host in [
        "a^,b", "a^ b", "u^@a", "a^ ", "a^/b", "a^\\b", "a^#b", "a^?b", "\x01",
    ] {
        let host = if host == "\x01" { "^\x01" } else { host };
        rejects(
            &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            ViolationKind::InvalidHost,
        );
    }
    rejects_bytes(
        b"GET / HTTP/1.1\r\nHost: ^\xff\r\n\r\n",
        ViolationKind::InvalidHost,
    );
}

#[test]
fn connect_has_no_content() {
    let kind = ViolationKind::BodyDisallowed;
    let head = "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n";
    rejects(&format!("{head}Content-Length: 1\r\n\r^\n"), kind);
    rejects(&format!("{head}Transfer-Encoding: chunked\r\n\r^\n"), kind);
    accepts(&format!("{head}Content-Length: 0\r\n\r\n"));
}

#[test]
fn versions() {
    let check = |version: &str, kind| rejects(&format!("GET / {version}\r\nHost: h\r\n\r\n"), kind);
    check("HTTP/^2.0", ViolationKind::UnsupportedVersion);
    check("HTTP/^0.9", ViolationKind::UnsupportedVersion);
    check("HTTP/1.^2", ViolationKind::UnsupportedVersion);
    check("HTTP/1.1^1", ViolationKind::InvalidVersion);
    check("HTTP/1^,1", ViolationKind::InvalidVersion);
    check("^http/1.1", ViolationKind::InvalidVersion);
    check("H^RTSP/1.0", ViolationKind::InvalidVersion);
    check("HTTP/1.^", ViolationKind::InvalidVersion);
}

#[test]
fn limits_are_exact_and_told_apart() {
    let head = format!("{HEAD}A: b\r\n\r\n");
    let limits = |head_bytes_max, fields_max| DecodeLimits {
        head_bytes_max,
        fields_max,
        ..DecodeLimits::default()
    };
    assert_eq!(judge(limits(head.len(), 2), head.as_bytes()), None);
    let twice = head.repeat(2);
    assert_eq!(judge(limits(head.len(), 2), twice.as_bytes()), None);
    let last = head.len() - 1;
    let too_large = Some((last, ViolationKind::HeadTooLarge));
    assert_eq!(judge(limits(last, 2), head.as_bytes()), too_large);
    let colon = HEAD.len() + 1;
    let too_many = Some((colon, ViolationKind::TooManyFields));
    assert_eq!(judge(limits(head.len(), 1), head.as_bytes()), too_many);
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    assert_eq!(ViolationKind::HeadTooLarge.status(), status);
    assert_eq!(ViolationKind::TooManyFields.status(), status);
}
