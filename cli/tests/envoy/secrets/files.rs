//! One bootstrap with files, two proxies: both show the same certificates before and after a change.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

use bench::peer::Envoy;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use super::authority::Authority;
use super::authority::Leaf;
use super::authority::secret;
use super::caller::subject;
use super::site;
use crate::identity::free_ports;
use crate::identity::open;
use crate::setting::Weir;
use crate::setting::envoy_is_there;
use crate::setting::until;

/// A volume as Kubernetes makes it: `NAME` leads to `..data/NAME`, and `..data` to a directory that
/// is never changed.
struct Volume {
    directory: TempDir,
    version: u32,
}

impl Volume {
    fn new(files: &[(&str, String)]) -> Self {
        let mut volume = Self {
            directory: tempfile::tempdir().expect("a directory"),
            version: 0,
        };
        volume.publish(files);
        for (name, _) in files {
            symlink(Path::new("..data").join(name), volume.path(name)).expect("a link");
        }
        volume
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn publish(&mut self, files: &[(&str, String)]) {
        self.version += 1;
        let version = format!("..v{}", self.version);
        std::fs::create_dir(self.path(&version)).expect("a directory");
        for (name, text) in files {
            std::fs::write(self.path(&version).join(name), text).expect("a file");
        }
        symlink(&version, self.path("..data_tmp")).expect("a link");
        std::fs::rename(self.path("..data_tmp"), self.path("..data")).expect("a rename");
    }
}

fn sds_yaml(resource: &Value) -> String {
    json!({"resources": [resource]}).to_string()
}

fn leaf_files(leaf: &Leaf) -> [(&'static str, String); 2] {
    [
        ("tls.crt", leaf.chain.clone()),
        ("tls.key", leaf.key.clone()),
    ]
}

/// A bootstrap of one listener whose leaf comes from this file.
fn bootstrap(port: u16, file: &Path, watched: Option<&Path>) -> String {
    let mut source = json!({"path": file});
    if let Some(watched) = watched {
        source["watched_directory"] = json!({"path": watched});
    }
    let source = json!({"resource_api_version": "V3", "path_config_source": source});
    let tls = site::downstream(site::named("leaf", &source), None);
    let mut listener = site::answering("l", port, &tls);
    listener
        .as_object_mut()
        .map(|members| members.remove("@type"));
    let bootstrap = crate::identity::bootstrap(&[listener], &[]);
    format!("node: {{id: i, cluster: c}}\n{bootstrap}")
}

/// What `openssl s_client` is shown by Envoy and then by Weir, before `change` and after.
async fn both(
    bootstrap: impl Fn(u16) -> String,
    mut reset: impl FnMut(),
    mut change: impl FnMut(),
) {
    let port = free_ports(1).remove(0);
    let text = bootstrap(port.number());
    for who in ["Envoy", "Weir"] {
        reset();
        let (mut envoy, mut weir) = (None, None);
        if who == "Envoy" {
            envoy = Some(
                Envoy::start(&text)
                    .await
                    .expect("Envoy takes the bootstrap"),
            );
        } else {
            weir = Some(Weir::start(&text).await);
        }
        open(std::slice::from_ref(&port)).await;
        shows(who, &port, "before").await;
        change();
        shows(who, &port, "after").await;
        drop(envoy);
        if let Some(weir) = weir {
            weir.stop().await;
        }
    }
}

async fn shows(who: &str, port: &bench::ports::ReservedPort, name: &str) {
    let shown = until(|| async {
        let seen = subject(port.addr()).await;
        let is_it = seen.ends_with(&format!("CN = {name}"));
        is_it
            .then_some(())
            .ok_or_else(|| format!("{who} shows {seen:?} instead of {name:?}"))
    });
    shown.await.expect("both show the same");
}

/// The certificate's own files are replaced by moving the link of the volume; the resource that
/// names them stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c07_files_of_a_certificate_follow_the_link_of_their_volume() {
    if !envoy_is_there() {
        return;
    }
    let root = Authority::new("root");
    let (before, after) = (root.issue("before"), root.issue("after"));
    let volume = std::cell::RefCell::new(Volume::new(&leaf_files(&before)));
    let place = volume.borrow().directory.path().to_owned();
    let sds = tempfile::tempdir().expect("a directory");
    let file = sds.path().join("sds.yaml");
    let certificate = json!({
        "certificate_chain": {"filename": place.join("tls.crt")},
        "private_key": {"filename": place.join("tls.key")},
        "watched_directory": {"path": place},
    });
    let resource = secret("leaf", json!({"tls_certificate": certificate}));
    std::fs::write(&file, sds_yaml(&resource)).expect("a file");
    Box::pin(both(
        |port| bootstrap(port, &file, None),
        || volume.borrow_mut().publish(&leaf_files(&before)),
        || volume.borrow_mut().publish(&leaf_files(&after)),
    ))
    .await;
}

/// The file of resources itself is in a volume whose link is moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c07_a_file_of_secrets_follows_the_link_of_its_volume() {
    if !envoy_is_there() {
        return;
    }
    let root = Authority::new("root");
    let text = |leaf: &Leaf| [("sds.yaml", sds_yaml(&leaf.secret("leaf")))];
    let (before, after) = (text(&root.issue("before")), text(&root.issue("after")));
    let volume = std::cell::RefCell::new(Volume::new(&before));
    let place = volume.borrow().directory.path().to_owned();
    Box::pin(both(
        |port| bootstrap(port, &place.join("sds.yaml"), Some(&place)),
        || volume.borrow_mut().publish(&before),
        || volume.borrow_mut().publish(&after),
    ))
    .await;
}

/// A file of resources is replaced by a rename, without a directory to watch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c07_a_file_of_secrets_is_read_again_when_it_is_moved_into_place() {
    if !envoy_is_there() {
        return;
    }
    let root = Authority::new("root");
    let text = |leaf: &Leaf| sds_yaml(&leaf.secret("leaf"));
    let (before, after) = (text(&root.issue("before")), text(&root.issue("after")));
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("sds.yaml");
    let put = |text: &str| {
        let fresh = directory.path().join("fresh");
        std::fs::write(&fresh, text).expect("a file");
        std::fs::rename(&fresh, &file).expect("a rename");
    };
    Box::pin(both(
        |port| bootstrap(port, &file, None),
        || put(&before),
        || put(&after),
    ))
    .await;
}
