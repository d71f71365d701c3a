//! TLS to a server, as the cluster it is reached by has it.
//!
//! What comes by a name is followed: a connection is made with the secrets of that moment, and stays
//! when they change.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::config::Cluster;
use crate::config::Secrets;
use crate::config::cluster::AutoNames;
use crate::config::secret::SecretKey;
use crate::config::tls::UpstreamTls;
use crate::net::NetStream;
use crate::tls::ClientContext;
use crate::tls::client;
use crate::tls::live::Current;
use crate::tls::live::Following;

/// How long a connection that is wanted waits for its secrets before the attempt counts as failed. They
/// come from elsewhere, mostly from files, at the same time.
const SECRETS_PATIENCE: Duration = Duration::from_secs(3);

/// gRPC speaks nothing else.
const ALPN: &[&[u8]] = &[b"h2"];

/// The TLS of a cluster that is asked.
#[derive(Debug)]
pub struct Security {
    config: UpstreamTls,
    auto_names: AutoNames,
    /// Left out while it is not there.
    optional: Vec<SecretKey>,
    context: Following<ClientContext>,
    /// There is another context.
    changed: Notify,
}

impl Security {
    /// That of a cluster, if it has any. Secrets come with the first [`Self::refresh`].
    pub fn new(cluster: &Cluster) -> Option<Arc<Self>> {
        Self::without(cluster, &[])
    }

    /// The same to where a certificate is asked for: while none of `optional` is there, no certificate
    /// is shown.
    pub fn without(cluster: &Cluster, optional: &[SecretKey]) -> Option<Arc<Self>> {
        let config = cluster.transport.tls.clone()?;
        let auto_names = cluster.auto_names.clone();
        let none = Secrets::new();
        let context = Following::new(&config.common.secrets, &none, || {
            make((&config, &auto_names), optional, &none)
        });
        Some(Arc::new(Self {
            context,
            config,
            auto_names,
            optional: optional.to_vec(),
            changed: Notify::new(),
        }))
    }

    /// Whether it is that of this cluster too.
    pub fn is_of(&self, cluster: &Cluster) -> bool {
        cluster.transport.tls.as_ref() == Some(&self.config)
            && cluster.auto_names == self.auto_names
    }

    /// The secrets it is made of.
    pub fn keys(&self) -> impl Iterator<Item = &SecretKey> {
        self.config.common.secrets.all().map(|named| &named.key)
    }

    /// Takes in secrets; connections from now on use them.
    pub fn refresh(&self, secrets: &Secrets) {
        let config = (&self.config, &self.auto_names);
        let make = || make(config, &self.optional, secrets);
        let named = &self.config.common.secrets;
        if self.context.refresh(named, secrets, make) {
            self.changed.notify_waiters();
        }
    }

    /// Waits until a connection can be made.
    ///
    /// # Errors
    /// What is missing, if it does not come soon.
    pub(super) async fn ready(&self) -> io::Result<Arc<Current<ClientContext>>> {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                let current = self.context.load();
                if current.context.is_ok() {
                    return current;
                }
                changed.await;
            }
        };
        if let Ok(current) = tokio::time::timeout(SECRETS_PATIENCE, waiting).await {
            return Ok(current);
        }
        let current = self.context.load();
        match &current.context {
            Ok(_) => Ok(current),
            Err(reason) => Err(io::Error::other(format!("TLS cannot be used: {reason}"))),
        }
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// Why the server is not talked to.
    pub(super) async fn secure(
        current: &Current<ClientContext>,
        stream: NetStream,
        target: client::Target<'_>,
    ) -> io::Result<NetStream> {
        let context = current.context.as_ref();
        let context = context.map_err(|reason| io::Error::other(reason.clone()))?;
        let target = client::Target {
            alpn: ALPN,
            ..target
        };
        match context.connect(stream, target).await {
            Ok((stream, _)) => Ok(stream),
            Err(failure) => Err(io::Error::other(failure)),
        }
    }
}

fn make(
    (config, names): (&UpstreamTls, &AutoNames),
    optional: &[SecretKey],
    secrets: &Secrets,
) -> Result<ClientContext, String> {
    let mut config = config.clone();
    let is_left_out = |key: &SecretKey| optional.contains(key) && !secrets.contains_key(key);
    let certificates = &mut config.common.secrets.certificates;
    certificates.retain(|named| !is_left_out(&named.key));
    ClientContext::new(&config.resolve(secrets)?, names)
}
