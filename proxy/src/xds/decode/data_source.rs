//! `core.v3.DataSource` of secrets: inline, from a file, or from a variable of the environment.
//!
//! Files are read when the resource that names them is decoded. Those of a `Secret` are followed: the
//! context is told where they are. What is read never shows in a message, as it may be a key.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::data_source::Specifier;

use super::Context;
use crate::config::limits;

/// Reads what the source names; it is not empty.
pub(crate) fn secret(context: &mut Context, source: core::DataSource) -> Option<Vec<u8>> {
    let core::DataSource {
        watched_directory,
        specifier,
    } = source;
    watched(context, watched_directory);
    let (field, bytes) = match specifier {
        Some(Specifier::Filename(path)) => {
            let bytes = file(&path).map_err(|reason| context.reject("filename", reason));
            context.follow(Path::new(&path).parent().unwrap_or_else(|| Path::new("")));
            ("filename", bytes.ok()?)
        }
        Some(Specifier::InlineBytes(bytes)) => ("inline_bytes", bytes),
        Some(Specifier::InlineString(text)) => ("inline_string", text.into_bytes()),
        Some(Specifier::EnvironmentVariable(name)) => {
            let field = "environment_variable";
            // The standard library panics on a name that no variable can have.
            let is_name = !name.is_empty() && !name.contains(['=', '\0']);
            let Some(value) = is_name.then(|| std::env::var_os(&name)).flatten() else {
                return context.refuse(field, format!("{name:?} is not set"));
            };
            (field, value.into_encoded_bytes())
        }
        None => return context.refuse("", "needs a source such as inline_string or filename"),
    };
    if bytes.is_empty() {
        return context.refuse(field, "is empty");
    }
    Some(bytes)
}

/// The file that the source names, if it names one.
pub(crate) fn path(source: Option<&core::DataSource>) -> Option<Box<str>> {
    match source?.specifier.as_ref()? {
        Specifier::Filename(path) => Some(path.as_str().into()),
        Specifier::EnvironmentVariable(_)
        | Specifier::InlineBytes(_)
        | Specifier::InlineString(_) => None,
    }
}

/// Takes note of a directory in which a change means that files are to be read again.
pub(crate) fn watched(context: &mut Context, directory: Option<core::WatchedDirectory>) {
    let Some(directory) = directory else { return };
    context.field("watched_directory", |context| {
        if !context.is_following() {
            let reason = "not supported outside of a Secret: other files are read once";
            context.reject_unsupported("", reason);
            return;
        }
        let core::WatchedDirectory {
            path,
            watch_modify: _, // files edited in place are always noticed
        } = directory;
        if path.is_empty() {
            context.reject("path", "must not be empty");
        }
        context.follow(Path::new(&path));
    });
}

/// Only ordinary files of a bounded size: a pipe would stop the control side, a device never end.
fn file(path: &str) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("{path:?} cannot be read: {error}");
    let no_wait = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let open = OpenOptions::new()
        .read(true)
        .custom_flags(no_wait)
        .open(path);
    let file = open.map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(format!("{path:?} is not a file"));
    }
    let mut bytes = Vec::new();
    let most = limits::SECRET_FILE_BYTES_MAX;
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(format!("{path:?} is larger than {most} bytes"));
    }
    Ok(bytes)
}
