//! Where desired state comes from. A source yields whole sets, each resource with its origin, and
//! commits them to the [`crate::store::Store`]; it never talks to clients.

pub mod file;
pub mod push;
