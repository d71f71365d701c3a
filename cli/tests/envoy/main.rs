//! A real Envoy beside Weir: as a client of our control plane, and as the one that decides what a
//! bootstrap means.
//!
//! | file | holds |
//! |---|---|
//! | `setting` | Envoy, Weir and the control plane as running things; waiting |
//! | `world` | a random configuration, its random changes, and what they must answer |
//! | `alike` | one bootstrap, 1,000 requests, two proxies, equal outcomes |
//! | `balancing` | members chosen alike |
//! | `channel` | how a control plane is spoken to |
//! | `breakers` | one request too many, refused alike |
//! | `chains` | generated filter chains and connections, equal choices |
//! | `closing` | how long the client of a connection that has said its last is waited for |
//! | `handshake` | whom TLS lets in, in every cell of a matrix of clients |
//! | `health` | which members are fit |
//! | `identity` | who the client is, told to upstreams, routes and logs alike |
//! | `retries` | requests that are sent again |
//! | `overload` | what is refused when memory runs short |
//! | `sockets` | what is set on listening sockets, and which listener a redirected connection gets |
//! | `streams` | what becomes of TCP streams, and what is logged of them |
//! | `untaken` | clients that take nothing of an answer |
//! | `upgrades` | WebSockets |
//! | `upstream` | how servers are met: transports, names, sessions |
//! | `secrets` | certificates and trust by name, and their rotation |
//! | `follow` | Envoy and Weir follow the same control plane through those changes |
//!
//! Without Envoy, nginx or OpenSSL those that need it say so on the standard error and pass; with
//! `WEIR_REQUIRE_PEERS=1` they fail. Seeds are fixed and stand in every failure.

mod alike;
mod balancing;
mod breakers;
mod chains;
mod channel;
mod closing;
mod follow;
mod handshake;
mod health;
mod identity;
mod overload;
mod retries;
mod secrets;
mod setting;
mod sockets;
mod streams;
mod untaken;
mod upgrades;
mod upstream;
mod world;
