//! Steps of a walk: each is told as it ends, and counted.

use std::future::Future;

/// An error in these words unless it is right.
pub(crate) fn expect(right: bool, told: impl FnOnce() -> String) -> Result<(), String> {
    if right { Ok(()) } else { Err(told()) }
}

/// What went right and wrong so far.
#[derive(Default)]
pub(crate) struct Steps {
    passed: u32,
    failed: u32,
}

impl Steps {
    /// Does a step and says how it went.
    pub(crate) async fn step(
        &mut self,
        what: &str,
        check: impl Future<Output = Result<(), String>>,
    ) {
        match check.await {
            Ok(()) => {
                self.passed += 1;
                println!("ok    {what}");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAIL  {what}: {error}");
            }
        }
    }

    /// Sums up; true if everything was right.
    pub(crate) fn report(&self) -> bool {
        println!("{} steps right, {} wrong", self.passed, self.failed);
        self.failed == 0
    }
}
