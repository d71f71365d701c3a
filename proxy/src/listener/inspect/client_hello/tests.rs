//! T1 of the project's security notes: however a ClientHello is cut, and whatever else comes.

use proptest::prelude::any;
use proptest::prop_assert;
use proptest::prop_assert_eq;
use proptest::proptest;

use super::ClientHello;
use super::Reading;
use super::read;

const MAX: usize = 16 * 1024;

fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector16(value)].concat()
}

fn sni(name: &[u8]) -> Vec<u8> {
    let entry = [&[0][..], &vector16(name)].concat();
    extension(0, &vector16(&entry))
}

fn alpn(names: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = names
        .iter()
        .flat_map(|name| [&[u8::try_from(name.len()).unwrap()][..], name].concat())
        .collect();
    extension(16, &vector16(&list))
}

fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0); // no session
    body.extend([0, 2, 0x13, 0x01, 1, 0]); // one cipher, no compression
    body.extend(vector16(&extensions.concat()));
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1], &length[1..], &body].concat()
}

/// In records of this size.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|part| [&[22, 3, 1][..], &vector16(part)].concat())
        .collect()
}

fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    records(&message(extensions), 16_384)
}

fn name_of(bytes: &[u8]) -> Option<String> {
    match read(bytes, MAX) {
        Reading::Hello(hello) => hello.server_name.map(String::from),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn names_and_protocols_are_read() {
    let bytes = hello(&[
        extension(10, &[0, 2, 0, 29]),
        sni(b"WWW.Example.com"),
        alpn(&[b"h2", b"http/1.1"]),
    ]);
    let Reading::Hello(ClientHello {
        server_name,
        application_protocols,
    }) = read(&bytes, MAX)
    else {
        unreachable!("it is a ClientHello")
    };
    assert_eq!(server_name.as_deref(), Some("www.example.com"));
    let protocols: Vec<_> = application_protocols.iter().collect();
    assert_eq!(protocols, [&b"h2"[..], b"http/1.1"]);
    assert_eq!(name_of(&hello(&[])), None);
    assert_eq!(name_of(&hello(&[sni("ü".as_bytes())])), None);
}

#[test]
fn t01_cut_into_bytes_and_records_it_is_the_same() {
    let whole = message(&[sni(b"a.example"), alpn(&[b"h2"])]);
    let expected = read(&records(&whole, 16_384), MAX);
    for size in [1, 2, 3, 5, 100] {
        let bytes = records(&whole, size);
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end], MAX), Reading::More, "{size} {end}");
        }
        assert_eq!(read(&bytes, MAX), expected, "{size}");
        assert_eq!(read(&[&bytes[..], b"more"].concat(), MAX), expected);
    }
}

#[test]
fn t01_many_extensions_are_no_trouble() {
    let mut extensions = vec![extension(0xfafa, b""); 5000];
    extensions.push(sni(b"a"));
    let bytes = records(&message(&extensions), 100);
    assert_eq!(
        read(&bytes, 64 * 1024),
        read(&hello(&extensions), 64 * 1024)
    );
    assert_eq!(read(&bytes, MAX), Reading::TooBig);
}

#[test]
fn what_is_too_big_is_known_at_once() {
    assert_eq!(read(&[22, 3, 1, 0, 4, 1, 0, 0x40, 0], MAX), Reading::TooBig);
}

#[test]
fn broken_hellos_are_none() {
    let twice = hello(&[sni(b"a"), sni(b"b")]);
    let two_names = hello(&[extension(0, &vector16(b"\0\0\x01a\0\0\x01b"))]);
    let empty = hello(&[sni(b"")]);
    let nul = hello(&[sni(b"a\0b")]);
    let mut cut = message(&[sni(b"a")]);
    cut.truncate(cut.len() - 1);
    let length = u32::try_from(cut.len() - 4).unwrap().to_be_bytes();
    cut[1..4].copy_from_slice(&length[1..]);
    let cut = records(&cut, 16_384);
    for bytes in [
        &twice[..],
        &two_names,
        &empty,
        &nul,
        &cut,
        b"GET / HTTP/1.1\r\n",
        &[22, 2, 0, 0, 1, 1],
        &[22, 3, 1, 0, 0],
        &[22, 3, 1, 0x40, 1],
        &[22, 3, 1, 0, 1, 2],
        &[21, 3, 1, 0, 2, 1, 0],
        &[0x80, 0x2e, 1, 0, 2],
    ] {
        assert_eq!(read(bytes, MAX), Reading::NotTls, "{bytes:?}");
    }
    // The application decides what it thinks of such a list.
    let odd = hello(&[sni(b"a"), extension(16, &[0, 1, 0])]);
    assert_eq!(name_of(&odd).as_deref(), Some("a"));
}

proptest! {
    #[test]
    fn a_prefix_has_the_same_answer_or_none(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        as_record: bool,
    ) {
        if as_record {
            let body = std::mem::take(&mut bytes);
            bytes = records(&[&[1, 0, 0, 60][..], &body].concat(), 50);
        }
        let whole = read(&bytes, MAX);
        for end in 0..bytes.len() {
            let part = read(&bytes[..end], MAX);
            prop_assert!(part == Reading::More || part == whole);
        }
    }

    #[test]
    fn any_name_comes_through(name in "[a-z0-9]{1,20}(\\.[a-z0-9]{1,20}){0,5}", size in 1..40_usize) {
        let bytes = records(&message(&[sni(name.as_bytes())]), size);
        prop_assert_eq!(name_of(&bytes), Some(name));
    }
}
