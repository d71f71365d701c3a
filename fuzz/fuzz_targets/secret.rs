//! A secret from the network is taken or refused, as the message it is and as text in each of its fields.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::xds::decode;

/// One field of a protobuf message, by number.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut len = content.len();
    while len > 127 {
        bytes.push(len.to_le_bytes()[0] | 128);
        len >>= 7;
    }
    bytes.push(len.to_le_bytes()[0]);
    bytes.extend_from_slice(content);
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    let _ = decode::secret(bytes);
    // `inline_bytes` of a `DataSource`.
    let source = field(2, bytes);
    let name = field(1, b"s");
    // `tls_certificate` with a chain and a key, and `validation_context` with roots and lists.
    let certificate = [field(1, &source), field(2, &source)].concat();
    let trust = [field(1, &source), field(7, &source)].concat();
    let _ = decode::secret(&[&*name, &field(2, &certificate)].concat());
    let _ = decode::secret(&[&*name, &field(4, &trust)].concat());
});
