//! The channel to a control plane: what a stream is opened with, and how it is protected.
//!
//! | file | holds |
//! |---|---|
//! | `recorder` | a server that says nothing and remembers what it was asked with |
//! | `metadata` | `initial_metadata`, as Envoy sends it |

mod metadata;
mod recorder;
