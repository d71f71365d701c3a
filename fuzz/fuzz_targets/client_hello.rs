//! However a ClientHello is cut, the answer is the same; nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::listener::inspect::client_hello::Reading;
use proxy::listener::inspect::client_hello::read;
use proxy::listener::inspect::first_line;

const MAX: usize = 16 * 1024;

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, MAX);
    if let Reading::Hello(hello) = &whole {
        let name = hello.server_name.as_deref().unwrap_or("a");
        assert!(!name.is_empty() && name.len() <= 255);
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
        );
        assert!(
            hello
                .application_protocols
                .iter()
                .all(|name| !name.is_empty())
        );
    }
    let line = first_line::read(bytes);
    for end in 0..bytes.len().min(512) {
        let part = read(&bytes[..end], MAX);
        assert!(part == Reading::More || part == whole);
        let part = first_line::read(&bytes[..end]);
        assert!(part == first_line::Reading::More || part == line);
    }
});
