//! Outlier detection: members judged by what they answer.
//!
//! Workers report what becomes of attempts (`monitor`); the thread of the health checks decides who is
//! ejected and when that is over (`detector`, sans-IO).
//!
//! | file | holds |
//! |---|---|
//! | `monitor` | what workers tell of a host |
//! | `detector` | who is ejected, and for how long |
//! | `ward` | both, for one cluster: verdicts become flags |

pub mod detector;
pub mod monitor;
#[cfg(test)]
mod tests;
pub(super) mod ward;

pub use monitor::Report;
pub use monitor::Streaks;
pub use monitor::Sums;
pub use monitor::Tally;
