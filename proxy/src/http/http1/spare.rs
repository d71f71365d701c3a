//! The worker's spare header maps: a map that was written is emptied and filled again by the next
//! message, so that a message allocates none.

use std::cell::RefCell;

use http::HeaderMap;

/// As many as messages that are usually on their way at once; the rest is freed.
const SPARE_MAX: usize = 64;

/// Fields for which a spare map has room; larger ones are freed, few messages have as many.
const FIELDS_MAX: usize = 64;

/// Fields that forwarding may add, so that a map need not grow after it was filled.
const ADDED: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map with room for `fields`, and for what is added to them.
pub(super) fn take(fields: usize) -> HeaderMap {
    let mut map = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
    map.reserve(fields + ADDED);
    map
}

/// Takes back a map that is not needed any more.
pub(in crate::http) fn give_back(mut map: HeaderMap) {
    if map.capacity() == 0 || map.capacity() > FIELDS_MAX {
        return;
    }
    map.clear();
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAX {
            spare.push(map);
        }
    });
}
