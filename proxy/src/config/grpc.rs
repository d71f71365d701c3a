//! A gRPC service that is asked for something (`core.v3.GrpcService`): how its streams are opened.

use std::fmt;
use std::time::Duration;

use crate::config::Name;

/// What keys of binary metadata end in (gRPC over HTTP/2, section on custom metadata).
pub const BINARY_SUFFIX: &str = "-bin";

/// How the streams to a service are opened, whoever serves it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrpcSettings {
    /// `:authority`, if not the cluster's name.
    pub authority: Option<Name>,
    /// Sent at the begin of each.
    pub metadata: Metadata,
    /// First and last bound of the wait before the next attempt, where given.
    pub backoff: (Option<Duration>, Option<Duration>),
}

/// Metadata of a stream (`initial_metadata`), in the order it was given. It is where tokens stand, so
/// the values never show in `Debug`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Metadata(Vec<(Box<str>, Box<[u8]>)>);

impl Metadata {
    /// Adds an entry; one of the same key is gone, as with Envoy.
    pub fn set(&mut self, key: &str, value: Box<[u8]>) {
        self.0.retain(|(known, _)| **known != *key);
        self.0.push((key.into(), value));
    }

    /// Keys in lower case, and what is to be said of them; binary values as they are.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|(key, _)| key))
            .finish()
    }
}
