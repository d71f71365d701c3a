//! What forwarding does to header maps: pure functions, no I/O, no clock.
//!
//! | file | holds |
//! |---|---|
//! | `authority` | what may stand in `Host` and `:authority`; checks of a whole request head |
//! | `client_certificate` | `x-forwarded-client-cert` |
//! | `edits` | header edits of the route table, compiled |
//! | `forwarded` | `x-forwarded-for`: who the client is |
//! | `hop` | headers that end at the next hop |
//! | `lookup` | fields that are mostly not there |
//! | `request` | the way to the upstream |
//! | `request_id` | `x-request-id` |
//! | `response` | the way to the downstream |
//! | `websocket` | keys of WebSockets, and what accepts them |
//!
//! None of it allocates for a plain request through a default connection manager, except where a
//! function says so.

mod authority;
mod client_certificate;
mod edits;
mod forwarded;
mod hop;
pub(crate) mod lookup;
mod names;
mod request;
mod request_id;
mod response;
mod websocket;

pub use authority::host_without_port;
pub use authority::validate_authority;
pub use authority::validate_request;
pub use edits::Edits;
pub use edits::Program;
pub use edits::Values;
pub(in crate::http) use names::X_FORWARDED_PROTO;
pub use request::Outcome;
pub use request::Peer;
pub use request::RequestPolicy;
pub use request::sanitize_request;
pub use request::set_expected_timeout;
pub use request::set_original_host;
pub use request::set_original_path;
pub use response::ResponsePolicy;
pub use response::sanitize_response;
pub use response::set_dropped;
pub use response::set_overloaded;
pub use response::set_upstream_service_time;
pub use websocket::WEBSOCKET;
pub use websocket::websocket_accept;
pub use websocket::websocket_key;

#[cfg(test)]
mod tests;
