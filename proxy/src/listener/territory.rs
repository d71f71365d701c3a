//! Which hosts a connection over TLS is for (security case T3).
//!
//! Chain and certificate are chosen by the name a client asks for in its ClientHello; what it is then
//! allowed, and by whom it was verified, holds for that name. A request for a host that would have
//! got another chain, or a certificate that was not shown, belongs on a connection of its own and is
//! answered with 421 (RFC 9110 section 15.5.20). One certificate for several hosts is for all of them.
//! Envoy answers such requests.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::chain_selector::ChainSelector;
use crate::downstream::Downstream;
use crate::http::connection_manager::Reach;
use crate::listener::ActiveChain;
use crate::listener::ActiveListener;
use crate::listener::active::Chains;

/// The connections of one chain of a listener.
#[derive(Debug)]
struct Territory {
    listener: Arc<ActiveListener>,
    /// Its id.
    chain: u64,
}

/// Tells hosts apart on a connection of this chain; none if they are all alike there.
pub(super) fn of(listener: &Arc<ActiveListener>, chain: &ActiveChain) -> Option<Box<dyn Reach>> {
    if !chain.transport.minds_name()? && !minds_name(&listener.chains()) {
        return None;
    }
    Some(Box::new(Territory {
        listener: Arc::clone(listener),
        chain: chain.id,
    }))
}

/// Whether it depends on the server name which chain is chosen.
fn minds_name(chains: &Chains) -> bool {
    match *chains.config.selector {
        ChainSelector::Index(_) => {
            let mut chains = chains.chains.iter();
            chains.any(|chain| !chain.config.conditions.server_names.is_empty())
        }
        ChainSelector::Tree(_) => true,
    }
}

impl Reach for Territory {
    fn includes(&self, downstream: &Downstream, host: &str) -> bool {
        let Some(facts) = &downstream.tls else {
            return true;
        };
        let asked = facts.server_name.as_deref().unwrap_or_default();
        let host = host.strip_suffix('.').unwrap_or(host); // as ClientHellos have it
        // Who asks for no host, or for an address, which no ClientHello names.
        let is_name = !host.is_empty() && host.parse::<IpAddr>().is_err() && !host.starts_with('[');
        let host = if is_name { host } else { "" };
        if asked.eq_ignore_ascii_case(host) {
            return true;
        }
        let host = host.to_ascii_lowercase();
        let chains = self.listener.chains();
        let Some(own) = chains.all().find(|chain| chain.id == self.chain) else {
            return true; // it is being drained, by what was configured before
        };
        let mut other = downstream.clone();
        other.found_mut().server_name = is_name.then(|| host.as_str().into());
        if chains.find(&other).is_some_and(|chain| chain.id != own.id) {
            return false;
        }
        !own.transport.shows_another(&host, facts)
    }
}
