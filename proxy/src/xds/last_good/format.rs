//! The bytes of the file.
//!
//! ```text
//! magic   "weir last good\n"
//! version u32, 1
//! length  u64, of the rest after the checksum
//! sum     128 bits, XXH3 of the rest
//! rest    seconds since 1970 u64, node id, node cluster, count u32, resources
//! ```
//!
//! A resource is its type URL, name, version and body. Numbers are little-endian; texts and bytes come
//! after their length as u32.

use std::time::Duration;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::Saved;
use super::SavedResource;
use crate::config::limits::RESOURCES_MAX;
use crate::xds::resource::ResourceType;

const MAGIC: &[u8] = b"weir last good\n";
const VERSION: u32 = 1;

/// The whole file.
pub(super) fn encode(saved: &Saved) -> Vec<u8> {
    let bodies = saved
        .resources
        .iter()
        .map(|r| r.body.len() + r.name.len() + 128);
    let mut rest = Vec::with_capacity(bodies.sum());
    let since = saved.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    rest.extend_from_slice(&since.as_secs().to_le_bytes());
    put(&mut rest, saved.node.0.as_bytes());
    put(&mut rest, saved.node.1.as_bytes());
    rest.extend_from_slice(&length(saved.resources.len()).to_le_bytes());
    for resource in &saved.resources {
        put(&mut rest, resource.resource_type.type_url().as_bytes());
        put(&mut rest, resource.name.as_bytes());
        put(&mut rest, resource.version.as_bytes());
        put(&mut rest, &resource.body);
    }
    let mut file = Vec::with_capacity(rest.len() + 64);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&VERSION.to_le_bytes());
    file.extend_from_slice(&(rest.len() as u64).to_le_bytes());
    file.extend_from_slice(&xxh3_128(&rest).to_le_bytes());
    file.append(&mut rest);
    file
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&length(bytes.len()).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// What is longer was never received.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// What is in the file, or why it is refused.
pub(super) fn decode(file: Bytes) -> Result<Saved, String> {
    let mut rest = Rest(file);
    if rest.take(MAGIC.len()).as_deref() != Ok(MAGIC) {
        return Err("it is not a kept configuration".to_owned());
    }
    let version = rest.number()?;
    if version != VERSION {
        return Err(format!(
            "its format has version {version}, and this program reads version {VERSION}"
        ));
    }
    let expected = rest.long()?;
    let sum = rest.take(16)?;
    if rest.0.len() as u64 != expected {
        let found = rest.0.len();
        return Err(format!("it was cut: {found} of {expected} bytes are there"));
    }
    if xxh3_128(&rest.0).to_le_bytes() != *sum {
        return Err("it is corrupt: its checksum is wrong".to_owned());
    }
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(rest.long()?));
    let at = at.ok_or("it was written at an impossible time")?;
    let node = (rest.text()?, rest.text()?);
    let count = rest.number()? as usize;
    if count > RESOURCES_MAX.saturating_mul(ResourceType::ALL.len()) {
        return Err(format!("it has {count} resources"));
    }
    let mut resources = Vec::new();
    for _ in 0..count {
        let type_url = rest.text()?;
        let resource_type = ResourceType::from_type_url(&type_url);
        resources.push(SavedResource {
            resource_type: resource_type.ok_or_else(|| format!("it has a {type_url}"))?,
            name: rest.text()?.into(),
            version: rest.text()?,
            body: rest.bytes()?,
        });
    }
    Ok(Saved {
        at,
        node,
        resources,
    })
}

/// What is not read yet. A right checksum says nothing about who wrote it, so everything is looked at.
struct Rest(Bytes);

impl Rest {
    fn take(&mut self, len: usize) -> Result<Bytes, String> {
        if self.0.len() < len {
            return Err("it was cut: it ends too soon".to_owned());
        }
        Ok(self.0.split_to(len))
    }

    fn number(&mut self) -> Result<u32, String> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.take(4)?);
        Ok(u32::from_le_bytes(bytes))
    }

    fn long(&mut self) -> Result<u64, String> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn bytes(&mut self) -> Result<Bytes, String> {
        let len = self.number()?;
        self.take(len as usize)
    }

    fn text(&mut self) -> Result<String, String> {
        let bytes = self.bytes()?.to_vec();
        String::from_utf8(bytes).map_err(|_| "a name in it is not UTF-8".to_owned())
    }
}
