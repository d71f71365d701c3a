//! A header that is read is read the same however it is cut, and again after it is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::downstream::Tlv;
use proxy::net::proxy_protocol::Reading;
use proxy::net::proxy_protocol::Version;
use proxy::net::proxy_protocol::read;
use proxy::net::proxy_protocol::write_v1;
use proxy::net::proxy_protocol::write_v2;

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes);
    for end in 0..bytes.len().min(512) {
        let part = read(&bytes[..end]);
        assert!(part == Reading::More || part == whole);
    }
    let Reading::Header(header) = whole else {
        return;
    };
    assert!(header.length <= bytes.len());
    let tlvs: Vec<Tlv> = header
        .tlvs(bytes)
        .map(|(kind, value)| Tlv {
            kind,
            value: value.into(),
        })
        .collect();
    let again = match header.version {
        Version::V1 => write_v1(header.addresses),
        Version::V2 => write_v2(header.addresses, &tlvs),
    };
    let Reading::Header(read) = read(&again) else {
        panic!("what was written cannot be read: {again:?}");
    };
    assert_eq!(read.addresses, header.addresses);
    if header.addresses.is_some() {
        assert!(read.tlvs(&again).eq(header.tlvs(bytes)));
    }
});
