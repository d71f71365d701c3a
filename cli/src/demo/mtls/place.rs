//! The demo's temporary directory: its authority, and the sockets of its control planes.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use control_plane::ca::Authority;
use control_plane::ca::SpiffeId;
use control_plane::ca::authority::KeySource;
use control_plane::ca::authority::Leaf;
use control_plane::ca::authority::Options;
use control_plane::ca::authority::Order;
use control_plane::ca::key::KeyKind;
use rustls_pki_types::UnixTime;

/// Whom the authority vouches for.
const DOMAIN: &str = "mesh.example";

/// The shortest there is: whoever looks on sees certificates replaced.
const LEAF_LIFE: Duration = Duration::from_mins(1);

/// Directories tried; one of a process with this number may have been left behind.
const DIRECTORIES_TRIED: u32 = 100;

/// The directory; gone with this value.
pub(super) struct Place(PathBuf);

impl Place {
    /// Makes the directory, for its owner alone, with a new authority.
    pub(super) fn new() -> Result<Self, String> {
        let place = Self(directory()?);
        init(&place.authority())?;
        Ok(place)
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Where the authority is.
    pub(super) fn authority(&self) -> PathBuf {
        self.file("ca")
    }

    /// The authority, once more.
    pub(super) fn open(&self) -> Result<Authority, String> {
        Authority::open(&self.authority()).map_err(|error| format!("error: {error}"))
    }

    /// What everybody of the domain is called at the beginning.
    #[expect(clippy::unused_self, reason = "it is the name of this place")]
    pub(super) fn domain(&self) -> String {
        format!("spiffe://{DOMAIN}/")
    }

    /// The name of a workload.
    pub(super) fn identity(&self, name: &str) -> String {
        self.domain() + name
    }

    /// A certificate of the same name by another authority.
    pub(super) fn forged(&self, name: &str) -> Result<Leaf, String> {
        let failed = |error: &dyn ToString| format!("another authority: {}", error.to_string());
        let identity: SpiffeId = self
            .identity(name)
            .parse()
            .map_err(|error| failed(&error))?;
        let order = Order {
            name: &identity,
            key: KeySource::Made(KeyKind::EcdsaP256),
            life: None,
            actor: "the demo",
        };
        let mut other = init(&self.file("other"))?;
        let leaf = other.issue(UnixTime::now(), &order);
        leaf.map_err(|error| failed(&error))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("error: {} is left behind: {error}", self.0.display());
        }
    }
}

fn directory() -> Result<PathBuf, String> {
    let parent = std::env::temp_dir();
    for number in 0..DIRECTORIES_TRIED {
        let path = parent.join(format!("weir-demo-{}-{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("error: {}: {error}", path.display())),
        }
    }
    Err(format!(
        "error: {}: {DIRECTORIES_TRIED} directories of this demo are there already",
        parent.display()
    ))
}

fn init(path: &Path) -> Result<Authority, String> {
    let domain = DOMAIN.parse();
    let domain = domain.map_err(|error| format!("error: {DOMAIN}: {error}"))?;
    let mut options = Options::new(domain);
    options.leaf_life = LEAF_LIFE;
    let made = Authority::init(path, &options, UnixTime::now());
    made.map_err(|error| format!("error: {}: {error}", path.display()))
}
