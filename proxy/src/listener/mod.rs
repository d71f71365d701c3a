//! From a socket to a connection that is served.
//!
//! | file | holds |
//! |---|---|
//! | `active` | a listener as it lives: its filter chains behind one swap |
//! | `acceptor` | the accept loop of one worker |
//! | `balance` | which worker serves it, if they are to have equally many |
//! | `budget` | how many connections may be open |
//! | `directory` | which listener is for an address |
//! | `entry` | what the listener's access logs say of a connection |
//! | `connection` | one accepted connection, step by step |
//! | `inspect` | listener filters: what the first bytes tell |
//! | `territory` | which hosts a connection over TLS is for |
//! | `peers` | clients over TLS, and when certificates end or are trusted no more |
//! | `transport` | the transport socket of a chain |

pub mod acceptor;
pub mod active;
pub mod balance;
pub mod budget;
pub mod connection;
pub mod directory;
mod entry;
pub mod inspect;
pub mod peers;
mod territory;
mod transport;

pub use active::ActiveChain;
pub use active::ActiveFilter;
pub use active::ActiveListener;
