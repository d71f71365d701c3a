//! What Envoy 1.40 does with the same bytes, case by case.

use std::net::SocketAddr;

use proptest::prelude::any;
use proptest::prop_assert_eq;
use proptest::proptest;

use super::Header;
use super::Reading;
use super::Version;
use super::read;
use super::write_v1;
use super::write_v2;
use crate::downstream::Tlv;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

fn v4_addresses() -> Vec<u8> {
    let mut body = vec![1, 2, 3, 4, 5, 6, 7, 8];
    body.extend(1000_u16.to_be_bytes());
    body.extend(2000_u16.to_be_bytes());
    body
}

fn header(bytes: &[u8]) -> Header {
    match read(bytes) {
        Reading::Header(header) => header,
        other => unreachable!("{other:?}"),
    }
}

fn source(bytes: &[u8]) -> Option<String> {
    header(bytes)
        .addresses
        .map(|(source, _)| source.to_string())
}

#[test]
fn version_1_names_the_client() {
    let line = b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 2000\r\nGET";
    let read = header(line);
    assert_eq!(read.length, line.len() - 3);
    let (source, destination) = read.addresses.unwrap();
    assert_eq!(source.to_string(), "1.2.3.4:1000");
    assert_eq!(destination.to_string(), "5.6.7.8:2000");
    let line = b"PROXY TCP6 2001:db8::1 ::2 1000 2000\r\n";
    assert_eq!(self::source(line).unwrap(), "[2001:db8::1]:1000");
    for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 fff::2 1 2\r\n"] {
        assert_eq!(self::source(unknown.as_bytes()), None, "{unknown}");
    }
}

#[test]
fn version_1_is_strict() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
    let digits = format!("PROXY TCP4 {}", "1".repeat(120));
    for line in [
        "PROXY TCP4 ::1 5.6.7.8 1000 2000\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1000 2000\n",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 1000 2000\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1000 2000 x\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 65536 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 00080 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +80 1\r\n",
        "PROXY TCP4 01.2.3.4 5.6.7.8 80 1\r\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1000 2000\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1000\r\n",
        "PROXY TCP4 224.0.0.1 5.6.7.8 1000 2000\r\n",
        "PROXY TCP4 0.0.0.0 5.6.7.8 1000 2000\r\n",
        &long,
        &digits,
    ] {
        assert_eq!(
            read(line.as_bytes()),
            Reading::Broken(Version::V1),
            "{line}"
        );
    }
    assert_eq!(read(b"PROXYX"), Reading::None);
    assert_eq!(read(b"GET / HTTP/1.1\r\n"), Reading::None);
}

#[test]
fn version_2_names_the_client() {
    assert_eq!(
        source(&v2(0x21, 0x11, &v4_addresses())).unwrap(),
        "1.2.3.4:1000"
    );
    assert_eq!(
        source(&v2(0x21, 0x12, &v4_addresses())).unwrap(),
        "1.2.3.4:1000"
    );
    for local in [
        v2(0x20, 0, b""),
        v2(0x20, 0x11, &v4_addresses()),
        v2(0x20, 0x11, b"abc"),
    ] {
        assert_eq!(source(&local), None);
    }
}

#[test]
fn version_2_is_strict() {
    let with = |more: &[u8]| [&v4_addresses(), more].concat();
    for bytes in [
        v2(0x21, 0x10, &v4_addresses()),
        v2(0x21, 0x00, b""),
        v2(0x21, 0x31, &[b'a'; 216]),
        v2(0x22, 0x11, &v4_addresses()),
        v2(0x11, 0x11, &v4_addresses()),
        v2(0x21, 0x11, &v4_addresses()[..11]),
        v2(0x21, 0x11, &with(b"\x02\x00\x09abc")),
        v2(0x21, 0x11, &with(b"\x02\x00")),
        v2(0x21, 0x11, &with(b"\x02")),
    ] {
        assert_eq!(read(&bytes), Reading::Broken(Version::V2), "{bytes:?}");
    }
}

#[test]
fn tlvs_are_read() {
    let body = [&v4_addresses()[..], b"\x02\x00\x03abc\xee\x00\x00"].concat();
    let bytes = v2(0x21, 0x11, &body);
    let tlvs: Vec<_> = header(&bytes).tlvs(&bytes).collect();
    assert_eq!(tlvs, [(2, &b"abc"[..]), (0xee, &b""[..])]);
}

#[test]
fn the_largest_header_is_written_and_read() {
    let tlv = |len: usize| Tlv {
        kind: 9,
        value: vec![7; len].into(),
    };
    let pair = Some(("1.2.3.4:5".parse().unwrap(), "6.7.8.9:10".parse().unwrap()));
    let fits = write_v2(pair, &[tlv(65_535 - 12 - 3)]);
    assert_eq!(fits.len(), crate::net::stream::PEEK_BYTES_MAX);
    assert_eq!(header(&fits).length, fits.len());
    let too_big = write_v2(pair, &[tlv(65_535 - 12 - 2), tlv(1)]);
    assert_eq!(header(&too_big).tlvs(&too_big).count(), 1);
}

proptest! {
    #[test]
    fn what_is_written_is_read(source: SocketAddr, destination: SocketAddr, kind: u8, value: Vec<u8>) {
        let tlvs = [Tlv { kind, value: value.clone().into() }];
        let same = source.is_ipv4() == destination.is_ipv4();
        for bytes in [write_v1(Some((source, destination))), write_v2(Some((source, destination)), &tlvs)] {
            match read(&bytes) {
                Reading::Header(header) => {
                    prop_assert_eq!(header.length, bytes.len());
                    if let Some((read, _)) = header.addresses {
                        prop_assert_eq!((read.ip(), read.port()), (source.ip(), source.port()));
                    } else {
                        prop_assert_eq!(same, false);
                    }
                    if header.version == Version::V2 && same {
                        let all: Vec<_> = header.tlvs(&bytes).collect();
                        prop_assert_eq!(all, vec![(kind, &value[..])]);
                    }
                }
                // Addresses that no client can have.
                Reading::Broken(_) => {}
                other => unreachable!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_prefix_has_the_same_answer_or_none(
        start in 0..3_usize,
        mut tail in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut bytes = [&b"PROXY TCP4 1.2.3.4 "[..], SIGNATURE, b""][start].to_vec();
        bytes.append(&mut tail);
        let whole = read(&bytes);
        for end in 0..bytes.len() {
            let part = read(&bytes[..end]);
            if part != Reading::More {
                prop_assert_eq!(part, whole.clone());
            }
        }
    }
}
