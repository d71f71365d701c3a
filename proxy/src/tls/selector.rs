//! Which certificate answers a ClientHello: exact name, then wildcard, then any the client can
//! verify, then the first. Among several of one name the kind of key decides. As Envoy.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;

use crate::net::tls::facts::Names;
use crate::tls::credential::Credential;

/// The certificates of a context.
#[derive(Debug)]
pub(super) struct Selector {
    credentials: Vec<Arc<Credential>>,
    /// By host name; a wildcard stands as what comes after its star: `.rest`.
    by_host: HashMap<Box<str>, Vec<Arc<Credential>>>,
    full_scan_on_mismatch: bool,
}

impl Selector {
    pub(super) fn new(credentials: Vec<Arc<Credential>>, full_scan_on_mismatch: bool) -> Self {
        let mut by_host: HashMap<Box<str>, Vec<Arc<Credential>>> = HashMap::new();
        for credential in &credentials {
            for host in &credential.hosts {
                let key = host.strip_prefix('*').unwrap_or(host);
                let same = by_host.entry(key.into()).or_default();
                same.push(Arc::clone(credential));
            }
        }
        Self {
            credentials,
            by_host,
            full_scan_on_mismatch,
        }
    }

    /// The certificate for this client; `None` only if there is none at all.
    pub(super) fn select(&self, hello: &ClientHello<'_>) -> Option<&Arc<Credential>> {
        let name = hello.server_name();
        let found = name.and_then(|name| {
            let same = self.of_host(&name.to_ascii_lowercase()).next()?;
            // Of a name that there is no other certificate will do, even if the client can verify
            // none of these.
            best(same, hello).or_else(|| same.first())
        });
        let scan = || {
            let scans = name.is_none() || self.full_scan_on_mismatch;
            scans.then(|| best(&self.credentials, hello)).flatten()
        };
        found.or_else(scan).or_else(|| self.credentials.first())
    }
}

impl Selector {
    /// Certificates for `host`, which is in lower case: those of exactly that name, then those of its
    /// wildcard.
    fn of_host(&self, host: &str) -> impl Iterator<Item = &Vec<Arc<Credential>>> {
        let wildcard = parent(host).and_then(|parent| self.by_host.get(parent));
        self.by_host.get(host).into_iter().chain(wildcard)
    }

    /// Whether a client that asks for `host`, in lower case, is shown another certificate than the
    /// one with the names `shown`, which is not for that host.
    pub(super) fn shows_another(&self, host: &str, shown: &Arc<Names>) -> bool {
        let mut known = self.of_host(host).flatten().peekable();
        let is_known = known.peek().is_some();
        is_known && !known.any(|credential| Arc::ptr_eq(&credential.names, shown))
    }

    /// Whether it depends on the client which certificate it is shown.
    pub(super) fn has_choice(&self) -> bool {
        self.credentials.len() > 1
    }
}

/// What a wildcard stands for: everything from the first dot on.
fn parent(name: &str) -> Option<&str> {
    let dot = name.find('.')?;
    name.get(dot..)
}

/// One with a key on a curve if the client can verify it, else another it can verify.
fn best<'c>(
    credentials: &'c [Arc<Credential>],
    hello: &ClientHello<'_>,
) -> Option<&'c Arc<Credential>> {
    let mut usable = credentials.iter().filter(|credential| {
        let key = &credential.certified.key;
        key.choose_scheme(hello.signature_schemes()).is_some()
    });
    let first = usable.next()?;
    if first.is_ecdsa {
        return Some(first);
    }
    Some(
        usable
            .find(|credential| credential.is_ecdsa)
            .unwrap_or(first),
    )
}

impl ResolvesServerCert for Selector {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.select(&hello)
            .map(|credential| Arc::clone(&credential.certified))
    }
}
