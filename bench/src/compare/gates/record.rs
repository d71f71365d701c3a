//! The recorded values: a JSON object of numbers, rounded to hundredths.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Values by the names of their gates.
#[derive(Debug, Default)]
pub(super) struct Recorded(BTreeMap<String, f64>);

impl Recorded {
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = fs::read_to_string(file).map_err(|error| told(&error))?;
        serde_json::from_str(&text)
            .map(Self)
            .map_err(|error| told(&error))
    }

    pub(super) fn write(&self, file: &Path) -> Result<(), String> {
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = serde_json::to_string_pretty(&self.0).map_err(|error| told(&error))?;
        fs::write(file, text + "\n").map_err(|error| told(&error))
    }

    pub(super) fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    pub(super) fn set(&mut self, name: &str, value: f64) {
        let rounded = (value * 1e2).round() / 1e2;
        self.0.insert(name.to_owned(), rounded);
    }
}
