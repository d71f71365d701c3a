//! The `Date` header (RFC 9110 section 6.6.1), made once a second per worker.

use std::cell::RefCell;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use httpdate::HttpDate;

struct Cached {
    second: u64,
    text: String,
}

thread_local! {
    static CACHED: RefCell<Cached> = const { RefCell::new(Cached { second: 0, text: String::new() }) };
}

/// Appends `date: ...` and its line end.
pub(super) fn append(out: &mut Vec<u8>) {
    #[expect(clippy::disallowed_methods, reason = "the header is the time of day")]
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    CACHED.with_borrow_mut(|cached| {
        if cached.second != second || cached.text.is_empty() {
            cached.second = second;
            cached.text = HttpDate::from(now).to_string();
        }
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(cached.text.as_bytes());
        out.extend_from_slice(b"\r\n");
    });
}
