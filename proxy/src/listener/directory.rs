//! Which listener is for an address: where a connection goes that was redirected to a listener with
//! `use_original_dst`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Weak;

use arc_swap::ArcSwap;

use crate::config::endpoint::Address;
use crate::listener::ActiveListener;

/// Listeners by address, those without sockets of their own, too.
#[derive(Debug, Default)]
pub struct Directory(ArcSwap<HashMap<SocketAddr, Weak<ActiveListener>>>);

impl Directory {
    /// The listener for this address: its own, or the one for all addresses with its port.
    pub fn find(&self, wanted: SocketAddr) -> Option<Arc<ActiveListener>> {
        let known = self.0.load();
        let found = known.get(&wanted);
        let any: IpAddr = match wanted {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let found = found.or_else(|| known.get(&SocketAddr::new(any, wanted.port())));
        found?.upgrade()
    }

    /// Whether another than the listener of this name has exactly this address.
    pub fn is_taken(&self, address: &Address, name: &str) -> bool {
        let Address::Socket(address) = address else {
            return false;
        };
        let found = self.0.load().get(address).and_then(Weak::upgrade);
        found.is_some_and(|other| !other.is_closed() && *other.name != *name)
    }

    /// These are the listeners from now on; of two with one address the first counts. Called by
    /// `apply`.
    pub fn set<'a>(&self, listeners: impl Iterator<Item = &'a Arc<ActiveListener>>) {
        let mut all = HashMap::new();
        for listener in listeners {
            for address in listener.taken() {
                all.entry(address)
                    .or_insert_with(|| Arc::downgrade(listener));
            }
        }
        self.0.store(Arc::new(all));
    }
}
