//! Who is connected, and what each client acknowledged or refused.
//!
//! Written by the streams, read by people and tests. Holds what a stream last reported, so reading
//! never waits for a stream. An entry lives exactly as long as its stream.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::watch;

use crate::stream::TypeReport;
use crate::subscription::Variant;

/// All connected streams.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    streams: Mutex<Streams>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Streams {
    next_id: u64,
    by_id: BTreeMap<u64, ClientStatus>,
}

/// One stream of one client.
#[derive(Clone, Debug)]
pub struct ClientStatus {
    /// Distinguishes the streams of one server.
    pub id: u64,
    /// Where the client connects from.
    pub peer: Option<SocketAddr>,
    /// `node.id`.
    pub node_id: String,
    /// `node.cluster`.
    pub node_cluster: String,
    /// What the client calls itself.
    pub user_agent: String,
    /// Group it is served from; empty for the one everybody shares.
    pub group: Arc<str>,
    /// Protocol variant.
    pub variant: Variant,
    /// What it was sent, type by type.
    pub types: Vec<TypeReport>,
}

/// Removes the entry when the stream ends.
#[derive(Debug)]
pub(crate) struct Entry {
    registry: Registry,
    id: u64,
}

impl Default for Registry {
    fn default() -> Self {
        let (streams, changes) = (Mutex::default(), watch::Sender::new(0));
        Self(Arc::new(Inner { streams, changes }))
    }
}

impl Registry {
    /// Every connected stream, in the order they came.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientStatus> {
        self.streams().by_id.values().cloned().collect()
    }

    /// Wakes whenever [`Self::clients`] would answer differently.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    pub(crate) fn add(&self, client: ClientStatus) -> Entry {
        let mut streams = self.streams();
        streams.next_id += 1;
        let id = streams.next_id;
        streams.by_id.insert(id, ClientStatus { id, ..client });
        drop(streams);
        self.notify();
        Entry {
            registry: self.clone(),
            id,
        }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.0
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.0
            .changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Entry {
    pub(crate) fn update(&self, group: &Arc<str>, types: Vec<TypeReport>) {
        if let Some(client) = self.registry.streams().by_id.get_mut(&self.id) {
            client.group = Arc::clone(group);
            client.types = types;
        }
        self.registry.notify();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.streams().by_id.remove(&self.id);
        self.registry.notify();
    }
}
