//! From a socket to a connection that is served.
//!
//! | file | holds |
//! |---|---|
//! | `active` | a listener as it lives: its filter chains behind one swap |
//! | `acceptor` | the accept loop of one worker |
//! | `connection` | one accepted connection |

pub mod acceptor;
pub mod active;
pub mod connection;

pub use active::ActiveChain;
pub use active::ActiveListener;
