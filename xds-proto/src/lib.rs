//! The wire: Envoy v3 messages, their type URLs, and the way between files and bytes.
//!
//! [`pb`] holds the messages, [`type_url`] their names, [`any`] and [`mod@name`] open what xDS carries. A [`Pool`]
//! describes messages at run time; [`load`] reads YAML and JSON with it and [`dump`] prints JSON.
//!
//! Decides nothing about meaning: whether a configuration makes sense is the decoders' business.
//! Invariants: reading never panics, is bounded in size, depth and aliases, and reports every
//! mistake with its place. A `Pool` is for the time of reading or printing, never kept.

pub mod any;
pub mod dump;
pub mod load;
pub mod name;
pub mod pb;
pub mod type_url;

mod code;
mod pool;
mod time;
mod wire;

pub use crate::code::Code;
pub use crate::code::UnknownCode;
pub use crate::pool::Pool;
