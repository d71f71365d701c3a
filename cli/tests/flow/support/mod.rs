//! What the modules share.
//!
//! | file | holds |
//! |---|---|
//! | `bootstrap` | bootstrap files |
//! | `child` | `weir` as a child process |
//! | `curl` | a client that others wrote |
//! | `hostile` | an ADS server that sends in any order |
//! | `panics` | panics of the code under test |
//! | `raw` | bytes to a socket and what comes back |
//! | `relay` | an ADS server that passes on and records |
//! | `resources` | resources as messages |
//! | `servers` | our control plane and our proxy inside the test's process |
//! | `streams` | bodies without end, and an origin that counts them |
//! | `traffic` | clients that send without pause |
//! | `world` | a random configuration that changes step by step |

use std::future::Future;
use std::time::Duration;

pub(crate) mod bootstrap;
pub(crate) mod child;
pub(crate) mod curl;
pub(crate) mod hostile;
pub(crate) mod panics;
pub(crate) mod raw;
pub(crate) mod relay;
pub(crate) mod resources;
pub(crate) mod servers;
pub(crate) mod streams;
pub(crate) mod traffic;
pub(crate) mod world;

/// Only a failure waits so long. Both cores may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Between two looks at something that tells nobody when it changes.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Fails the test instead of hanging it.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(PATIENCE, future).await;
    assert!(result.is_ok(), "waited in vain for {what}");
    result.expect("checked above")
}

/// Looks until `look` finds something.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    soon(what, async {
        loop {
            if let Some(found) = Box::pin(look()).await {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
    .await
}
