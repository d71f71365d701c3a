//! The index of issued leaves: a line each, appended and synced before a leaf is handed out.

use serde::Deserialize;
use serde::Serialize;

use super::serial::Serial;

/// One leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its serial number.
    pub serial: Serial,
    /// Whom it names.
    pub name: String,
    /// Who signed it.
    pub issuer: String,
    /// First second.
    pub from: u64,
    /// Last second.
    pub until: u64,
}

impl Record {
    pub(super) fn line(&self) -> Result<String, serde_json::Error> {
        Ok(format!("{}\n", serde_json::to_string(self)?))
    }
}

/// What a file of records holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) records: Vec<Record>,
    /// Bytes up to the end of the last whole line. A crash within a write leaves less than a line
    /// after it, of a leaf nobody got.
    pub(super) whole: u64,
}

/// Reads the index, or says what is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Result<Read, String> {
    let mut read = Read::default();
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(line) = line.strip_suffix(b"\n") else {
            break;
        };
        let record = serde_json::from_slice(line)
            .map_err(|error| format!("line {} cannot be understood: {error}", number + 1))?;
        read.records.push(record);
        read.whole += line.len() as u64 + 1;
    }
    Ok(read)
}
