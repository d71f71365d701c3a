//! `name:number, name:number`: the form that a person can write.

use super::Nonsense;
use crate::config::load_report::Metric;

/// Gives each number with its name. A name comes once, and is one of a report's.
pub(super) fn each(
    value: &[u8],
    take: &mut impl FnMut(Metric<&str>, f64) -> Result<(), Nonsense>,
) -> Result<(), Nonsense> {
    let value = std::str::from_utf8(value).map_err(|_| Nonsense::Syntax)?;
    for (place, entry) in entries(value).enumerate() {
        let (name, number) = entry.split_once(':').ok_or(Nonsense::Syntax)?;
        let name = name.trim();
        let metric = Metric::of_name(name).ok_or(Nonsense::Syntax)?;
        let mut before = entries(value).take(place);
        if before.any(|entry| entry.split(':').next().map(str::trim) == Some(name)) {
            return Err(Nonsense::Syntax);
        }
        let number = number.trim().parse().map_err(|_| Nonsense::Number)?;
        take(metric, number)?;
    }
    Ok(())
}

fn entries(value: &str) -> impl Iterator<Item = &str> {
    let entries = value.split(',').map(str::trim);
    entries.filter(|entry| !entry.is_empty())
}
