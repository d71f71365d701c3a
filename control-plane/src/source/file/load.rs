//! From files to resources. Parses only files whose text changed since they were last good.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::UnixTime;
use xds_proto::Pool;
use xds_proto::load;
use xds_proto::load::LoadError;
use xds_proto::load::LoadedResource;
use xxhash_rust::xxh3::xxh3_64;

use super::Mistake;
use super::scan::Found;
use super::scan::scan;
use crate::limits::MISTAKES_MAX;
use crate::resource::Resource;
use crate::store::Desired;
use crate::transparency;
use crate::types::SECRET;

/// Reads a directory once, for checking it.
///
/// # Errors
/// Every mistake found, up to a bound.
pub fn load_dir(dir: &Path) -> Result<Desired, Vec<Mistake>> {
    Loader::default().load(dir, &Rules::default())
}

/// What files must keep to besides being right.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// Logs whose signed timestamps a certificate must carry.
    pub(super) logs_least: usize,
}

/// Remembers what good files meant.
#[derive(Debug, Default)]
pub(super) struct Loader {
    files: HashMap<PathBuf, Parsed>,
    /// Descriptors cost megabytes, so they live for one load, and only if a file needs them.
    pool: Option<Pool>,
}

#[derive(Clone, Debug)]
struct Parsed {
    hash: u64,
    resources: Vec<Arc<Resource>>,
}

impl Loader {
    /// Gets ready for a load that will probably parse something, which is half of its time.
    pub(super) fn prepare(&mut self) {
        self.pool.get_or_insert_with(Pool::new);
    }

    /// The whole set, or every mistake in it.
    pub(super) fn load(&mut self, dir: &Path, rules: &Rules) -> Result<Desired, Vec<Mistake>> {
        let mut pool = self.pool.take();
        let scan = scan(dir)?;
        if scan.files.is_empty() {
            // An unmounted volume looks like this, and must not delete everything everywhere.
            return Err(vec![Mistake::other(dir, EMPTY)]);
        }
        let mut desired = Desired::from([(String::new(), Vec::new())]);
        desired.extend(scan.groups.into_iter().map(|group| (group, Vec::new())));
        let (mut files, mut mistakes) = (HashMap::new(), Vec::new());
        for found in &scan.files {
            match self.parse(&mut pool, found, rules) {
                Ok(parsed) => {
                    let group = desired.entry(found.group.clone()).or_default();
                    group.extend(parsed.resources.iter().cloned());
                    files.insert(found.path.clone(), parsed);
                }
                Err(found) => mistakes.extend(found),
            }
        }
        self.files = files;
        mistakes.truncate(MISTAKES_MAX);
        if mistakes.is_empty() {
            Ok(desired)
        } else {
            Err(mistakes)
        }
    }

    fn parse(
        &self,
        pool: &mut Option<Pool>,
        found: &Found,
        rules: &Rules,
    ) -> Result<Parsed, Vec<Mistake>> {
        let hash = xxh3_64(found.text.as_bytes());
        if let Some(known) = self
            .files
            .get(&found.path)
            .filter(|parsed| parsed.hash == hash)
        {
            return Ok(known.clone());
        }
        let pool = pool.get_or_insert_with(Pool::new);
        let file = load::resources(pool, &found.path, &found.text).map_err(to_mistakes)?;
        let (mut resources, mut mistakes) = (Vec::new(), Vec::new());
        for loaded in &file.resources {
            match prepare(loaded, rules) {
                Ok(resource) => resources.push(Arc::new(resource)),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if mistakes.is_empty() {
            Ok(Parsed { hash, resources })
        } else {
            Err(mistakes)
        }
    }
}

fn to_mistakes(errors: Vec<LoadError>) -> Vec<Mistake> {
    errors
        .into_iter()
        .map(|error| Mistake::Load(Box::new(error)))
        .collect()
}

fn prepare(loaded: &LoadedResource, rules: &Rules) -> Result<Resource, Mistake> {
    let origin = loaded.origin.to_string();
    if rules.logs_least > 0 && loaded.any.type_url == SECRET {
        let now = UnixTime::now().as_secs();
        let checked = transparency::check(&loaded.any.value, rules.logs_least, now);
        if let Err(error) = checked {
            let reason = format!("secret {:?}: {error}", loaded.name);
            return Err(Mistake::Resource { origin, reason });
        }
    }
    match Resource::named(&loaded.any, &loaded.name) {
        Ok(resource) => {
            let resource = resource.with_origin(&origin);
            Ok(match loaded.ttl {
                Some(ttl) => resource.with_ttl(ttl),
                None => resource,
            })
        }
        Err(error) => Err(Mistake::Resource {
            origin,
            reason: error.to_string(),
        }),
    }
}

const EMPTY: &str =
    "no resource files; to serve nothing on purpose, write a file with `resources: []`";
