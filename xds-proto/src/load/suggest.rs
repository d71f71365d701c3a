//! "Did you mean": the nearest of the names that would have been right.

/// Names longer than this are no typing mistakes worth the quadratic comparison.
const NAME_BYTES_MAX: usize = 200;

/// The candidate nearest to `given`, where one is near enough to be meant: a third of its length away at most.
pub(crate) fn nearest<'a>(
    given: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let (score, candidate) = scored(given, candidates)?;
    let limit = given.chars().count().max(3) / 3;
    (score <= limit).then_some(candidate)
}

/// The candidate nearest to `given`, however far.
pub(crate) fn closest<'a>(
    given: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    scored(given, candidates).map(|(_, candidate)| candidate)
}

/// The best score with its candidate; the first by name where several are as near.
fn scored<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Option<(usize, &'a str)> {
    if given.len() > NAME_BYTES_MAX {
        return None;
    }
    let wanted = given.to_ascii_lowercase();
    candidates
        .map(|candidate| {
            (
                distance(&wanted, &candidate.to_ascii_lowercase()),
                candidate,
            )
        })
        .min()
}

/// Edits from one name to the other; a swap of neighbors counts as one.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = Vec::with_capacity(to.len() + 1);
        row.push(i + 1);
        for (j, b) in to.iter().enumerate() {
            let replaced = last[j] + usize::from(a != b);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(from.len())
}

#[cfg(test)]
mod tests {
    use super::distance;
    use super::nearest;

    #[test]
    fn distances() {
        let cases = [
            ("", "", 0),
            ("prefxi", "prefix", 1),
            ("abc", "", 3),
            ("cluster", "clusters", 1),
            ("a", "b", 1),
        ];
        for (from, to, expected) in cases {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        }
    }

    #[test]
    fn only_near_names_are_suggested() {
        let names = ["prefix", "path", "safe_regex"];
        assert_eq!(nearest("prefxi", names.into_iter()), Some("prefix"));
        assert_eq!(nearest("Prefix", names.into_iter()), Some("prefix"));
        assert_eq!(nearest("saferegex", names.into_iter()), Some("safe_regex"));
        assert_eq!(nearest("timeout", names.into_iter()), None);
        assert_eq!(nearest("x", [].into_iter()), None);
    }
}
