//! The `Date` header (RFC 9110 section 6.6.1), made once a second per worker.

use std::cell::RefCell;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use http::HeaderValue;
use httpdate::HttpDate;

thread_local! {
    /// The second of the last one, and its text.
    static CACHED: RefCell<(u64, HeaderValue)> =
        const { RefCell::new((0, HeaderValue::from_static(""))) };
}

/// Appends `date: ...` and its line end.
pub(super) fn append(out: &mut Vec<u8>) {
    with_current(|value| {
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    });
}

/// The value for now; shared, not copied.
pub(super) fn value() -> HeaderValue {
    with_current(HeaderValue::clone)
}

fn with_current<R>(use_it: impl FnOnce(&HeaderValue) -> R) -> R {
    #[expect(clippy::disallowed_methods, reason = "the header is the time of day")]
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    CACHED.with_borrow_mut(|(cached, value)| {
        if *cached != second || value.is_empty() {
            *cached = second;
            let text = HttpDate::from(now).to_string();
            // A date is a header value; the last one is a second old.
            if let Ok(current) = HeaderValue::try_from(text) {
                *value = current;
            }
        }
        use_it(value)
    })
}
