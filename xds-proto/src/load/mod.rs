//! Reads bootstrap and resource files, YAML or JSON, and says where every mistake is.
//!
//! `yaml` makes a tree of the text, `convert` an encoded message of the tree, `resources` knows the shape of
//! resource files; `report` collects mistakes and `spans` remembers places for mistakes found later.
//! Reads no files itself: text comes in, and the name of its file only to be shown.

mod convert;
mod error;
mod report;
mod resources;
mod spans;
mod suggest;
mod tree;
mod unwrap;
mod yaml;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use prost::Name;

use self::convert::Converter;
use self::report::Report;
use self::tree::Mark;
use crate::Code;
use crate::Pool;
use crate::pb::envoy::config::bootstrap::v3::Bootstrap;
use crate::pb::google::protobuf::Any;

pub use self::error::LoadError;
pub use self::error::Origin;
pub use self::error::Snippet;
pub use self::spans::Spans;

pub(crate) use self::unwrap::unwrap_struct;

/// A message with the places its fields were written at.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The message.
    pub message: T,
    /// Where its fields stand.
    pub spans: Spans,
}

/// One resource of a file.
#[derive(Clone, Debug)]
pub struct LoadedResource {
    /// Type and encoded bytes.
    pub any: Any,
    /// Its xDS name.
    pub name: String,
    /// Its own version, where it stands in a wrapper that gives one.
    pub version: String,
    /// How long it lives, where it stands in a wrapper that says so.
    pub ttl: Option<Duration>,
    /// Where it begins.
    pub origin: Origin,
    /// Where its fields stand, by paths relative to the resource.
    pub spans: Spans,
}

/// A file shaped like a `DiscoveryResponse`.
#[derive(Clone, Debug)]
pub struct ResourcesFile {
    /// The version the file gives itself, empty where it gives none.
    pub version_info: String,
    /// The resources in the order of the file.
    pub resources: Vec<LoadedResource>,
}

/// Reads an Envoy bootstrap.
///
/// # Errors
///
/// Every mistake of the file, fifty at most.
pub fn bootstrap(
    pool: &Pool,
    file: &Path,
    text: &str,
) -> Result<Loaded<Bootstrap>, Vec<LoadError>> {
    let mut report = Report::new(Arc::from(file), text);
    let loaded = message(pool, &Bootstrap::full_name(), text, &mut report);
    match loaded {
        Some(loaded) if report.is_clean() => Ok(loaded),
        _ => Err(report.into_errors()),
    }
}

/// Reads a file of resources: a `DiscoveryResponse` as Envoy's file-based subscriptions have it, a bare list, or
/// one resource.
///
/// # Errors
///
/// Every mistake of the file, fifty at most.
pub fn resources(pool: &Pool, file: &Path, text: &str) -> Result<ResourcesFile, Vec<LoadError>> {
    let mut report = Report::new(Arc::from(file), text);
    let read = yaml::parse(text, &mut report)
        .ok()
        .and_then(|root| resources::read(pool, &root, &mut report));
    match read {
        Some(read) if report.is_clean() => Ok(read),
        _ => Err(report.into_errors()),
    }
}

/// A file that is one message.
fn message<M: Message + Default>(
    pool: &Pool,
    name: &str,
    text: &str,
    report: &mut Report<'_>,
) -> Option<Loaded<M>> {
    let id = pool.message(name)?;
    let root = yaml::parse(text, report).ok()?;
    let spans = Spans::new(Arc::clone(report.file()), String::new(), root.mark);
    let mut converter = Converter::new(pool, report, spans);
    let bytes = converter.message(id, &root, Spans::ROOT);
    let spans = converter.into_spans();
    decode(&bytes, root.mark, report).map(|message| Loaded { message, spans })
}

/// The typed message of what the converter wrote. Fails for what only prost refuses, such as nesting past its limit.
fn decode<M: Message + Default>(bytes: &[u8], mark: Mark, report: &mut Report<'_>) -> Option<M> {
    if !report.is_clean() {
        return None;
    }
    match M::decode(bytes) {
        Ok(message) => Some(message),
        Err(error) => {
            let message = format!("not decodable: {error}");
            report.push(Code::Limit, mark, String::new(), message, None);
            None
        }
    }
}
