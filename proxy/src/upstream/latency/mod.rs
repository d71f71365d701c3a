//! Latency as the proxy itself measures it, and the weights that follow from it.
//!
//! ```text
//! worker:  end of an attempt ── record ──► Samples (its own cells of the host)
//! control: every period ── Feedback::fold reads all cells ──► a weight per member
//! worker:  pick ◄── pointer load ── the picker's table
//! ```
//!
//! Time comes in as an argument; no file here reads a clock.
//!
//! | file | holds |
//! |---|---|
//! | `samples` | what one worker measured of one host |
//! | `window` | the baseline: a percentile over a sliding window |
//! | `estimate` | what is believed of one host |
//! | `feedback` | from all of it to weights |
//! | `peak_ewma` | latencies that fade, for the policy of that name |

mod estimate;
mod feedback;
mod peak_ewma;
mod samples;
#[cfg(test)]
mod swing_tests;
#[cfg(test)]
mod tests;
pub(super) mod window;

pub use feedback::Feedback;
pub use feedback::Guard;
pub use feedback::Standing;
pub use peak_ewma::PeakEwma;
pub use samples::Outcome;
pub use samples::Samples;
