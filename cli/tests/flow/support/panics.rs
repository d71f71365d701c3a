//! Panics of the code under test, which tasks and threads would otherwise swallow.

use std::panic;
use std::sync::Mutex;
use std::sync::Once;
use std::sync::PoisonError;

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
static WATCH: Once = Once::new();

/// From now on panics outside the tests themselves are kept.
pub(crate) fn watch() {
    WATCH.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            // A failing test panics, too; that is told anyway.
            if !place.contains("tests/flow/") {
                SEEN.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(info.to_string());
            }
            usual(info);
        }));
    });
}

/// What was kept.
pub(crate) fn seen() -> Vec<String> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
