//! Secrets from a file: who asks, who asks later, what is changed and what is no good.

use std::path::Path;
use std::sync::Arc;

use crate::config::Change;
use crate::config::Listener;
use crate::config::Secrets;
use crate::config::secret::SecretFile;
use crate::config::secret::SecretKey;
use crate::config::secret::SecretRef;
use crate::config::secret::SecretSource;
use crate::xds::driver::Source;
use crate::xds::driver::tests::rig::Client;
use crate::xds::driver::tests::rig::config;
use crate::xds::driver::tests::rig::soon;
use crate::xds::resource::ResourceType;
use crate::xds::session::Variant;
use crate::xds::stage::StaticResources;
use crate::xds::stage::fixtures;

fn key(path: &Path, name: &str) -> SecretKey {
    SecretKey {
        source: SecretSource::File(Arc::new(SecretFile {
            path: path.to_owned(),
            watched_directory: None,
        })),
        name: name.into(),
    }
}

/// A listener that needs this secret of the file.
fn listener(name: &str, path: &Path, secret: &str) -> Arc<Listener> {
    let named = SecretRef {
        key: key(path, secret),
        ..fixtures::named(secret)
    };
    let plain = fixtures::listener(name, fixtures::inline(&[]));
    fixtures::with_secret_of(&plain, named)
}

fn statics(listeners: &[&Arc<Listener>]) -> StaticResources {
    StaticResources {
        listeners: listeners.iter().map(|one| Arc::clone(one)).collect(),
        ..StaticResources::default()
    }
}

impl Client {
    /// The secrets of the next change, and how many listeners are live with it if it says so.
    async fn secrets(&mut self) -> (Arc<Secrets>, Option<usize>) {
        match soon("a change", self.changes.recv()).await {
            Some(Change::Secrets(secrets)) => (secrets, None),
            Some(Change::Snapshot(snapshot)) => {
                let count = snapshot.listeners.len();
                (Arc::clone(&snapshot.secrets), Some(count))
            }
            other => panic!("no secrets: {other:?}"),
        }
    }
}

#[tokio::test]
async fn c07_secrets_of_a_file_serve_all_who_name_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sds");
    std::fs::write(&path, "a 1\nb 2\n").unwrap();
    let (first, second) = (listener("l", &path, "a"), listener("m", &path, "b"));
    let mut config = config(Variant::Sotw, Vec::new());
    (config.cds, config.lds) = (Source::None, Source::None);
    config.statics = statics(&[&first]);
    let mut client = Client::start(config);
    let expected = |mark: &str| Some(fixtures::secret(mark).secret.clone());
    let (secrets, count) = client.secrets().await;
    assert_eq!((secrets.len(), count), (1, Some(1)));
    assert_eq!(secrets.get(&key(&path, "a")).cloned(), expected("1"));
    // Who asks later gets what the file has already said.
    let both = statics(&[&first, &second]);
    client.statics.send(both).await.unwrap();
    let (secrets, count) = client.secrets().await;
    assert_eq!((secrets.len(), count), (2, Some(2)));
    assert_eq!(secrets.get(&key(&path, "b")).cloned(), expected("2"));
    // One that is no good does not hold up the other.
    std::fs::write(&path, "a 3\nb bad\n").unwrap();
    let (secrets, count) = client.secrets().await;
    assert_eq!((secrets.len(), count), (2, None));
    assert_eq!(secrets.get(&key(&path, "a")).cloned(), expected("3"));
    assert_eq!(secrets.get(&key(&path, "b")).cloned(), expected("2"));
    let facts = client.status.facts();
    let sds = &facts.types[&ResourceType::Secret];
    assert!(sds.update_rejected > 0, "{sds:?}");
    assert!(
        sds.last_error
            .as_ref()
            .is_some_and(|e| e.contains("b: some.field: bad"))
    );
    // Nobody asks any more: the file is let go.
    client.statics.send(statics(&[])).await.unwrap();
    let (secrets, count) = client.secrets().await;
    assert_eq!((secrets.len(), count), (0, Some(0)));
    let is_let_go = async {
        while client.status.with_secrets(|stores| !stores.is_empty()) {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of the feed", is_let_go).await;
}
