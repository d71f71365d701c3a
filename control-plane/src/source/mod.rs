//! Where desired state comes from. A source yields whole sets, each resource with its origin, and
//! commits them to the [`crate::store::Store`]; it never talks to clients. Secrets of the CA are the
//! exception: they are for one client alone, so [`secrets`] lays them over what the store has.

pub mod file;
pub mod push;
pub mod secrets;
