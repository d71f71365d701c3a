//! Changing the level of the diagnostic log while running.
//!
//! The subscriber belongs to the binary; the admin server only knows this trait.

use std::fmt;

/// The filter of the diagnostic log, as the binary that installed it offers it.
pub trait LogControl: fmt::Debug + Send + Sync {
    /// Replaces the filter, for example by `info,h2=debug`, and gives it back as understood.
    ///
    /// # Errors
    /// Says in one sentence what is wrong with `spec`; the old filter stays.
    fn set(&self, spec: &str) -> Result<String, String>;

    /// The filter in force.
    fn current(&self) -> String;
}
