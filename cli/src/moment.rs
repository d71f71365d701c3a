//! Points in time and lengths of time, as people write them.

use std::fmt;
use std::time::Duration;

/// A second, written as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(u64);

impl Moment {
    /// So many seconds after 1970 began.
    pub(crate) fn new(seconds: u64) -> Self {
        Self(seconds)
    }

    /// How far it is, in the two units that matter: `in 23 h 59 min`, `3 d 4 h ago`.
    pub(crate) fn seen_from(self, now: u64) -> String {
        let length = words(self.0.abs_diff(now));
        if self.0 >= now {
            format!("in {length}")
        } else {
            format!("{length} ago")
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / DAY, self.0 % DAY);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
        f.pad(&text)
    }
}

fn words(seconds: u64) -> String {
    let units = [
        (365 * DAY, "y"),
        (DAY, "d"),
        (3_600, "h"),
        (60, "min"),
        (1, "s"),
    ];
    let Some(first) = units.iter().position(|(unit, _)| seconds >= *unit) else {
        return "0 s".to_owned();
    };
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, name) in units.iter().skip(first).take(2) {
        if rest >= *unit {
            parts.push(format!("{} {name}", rest / unit));
        }
        rest %= unit;
    }
    parts.join(" ")
}

/// Year, month and day of so many days after 1970 began: whole cycles of 400 years, then years that
/// begin in March, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01 to 1970-01-01
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// Reads `90s`, `30m`, `24h`, `7d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => DAY,
        _ => return Err("write 90s, 30m, 24h or 7d".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "write 90s, 30m, 24h or 7d".to_owned())?;
    let seconds = number
        .checked_mul(scale)
        .filter(|seconds| *seconds <= 100 * 365 * DAY);
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| "that is more than a century".to_owned())
}

const DAY: u64 = 24 * 3_600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_rfc_3339() {
        let check = |seconds, text: &str| assert_eq!(Moment::new(seconds).to_string(), text);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_399, "2000-02-28T23:59:59Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(951_868_800, "2000-03-01T00:00:00Z");
        check(1_790_000_000, "2026-09-21T14:13:20Z");
        check(4_107_542_400, "2100-03-01T00:00:00Z");
    }

    #[test]
    fn distances_have_two_units_at_most() {
        let check = |at, now, text: &str| assert_eq!(Moment::new(at).seen_from(now), text);
        check(100, 100, "in 0 s");
        check(161, 100, "in 1 min 1 s");
        check(100 + DAY - 1, 100, "in 23 h 59 min");
        check(0, 3 * DAY + 7, "3 d ago");
        check(400 * DAY, 0, "in 1 y 35 d");
    }

    #[test]
    fn lengths_need_a_unit() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2d"), Ok(Duration::from_secs(2 * DAY)));
        for bad in [
            "",
            "h",
            "1",
            "1 h",
            "1w",
            "-1h",
            "99999999999999999999s",
            "1000000d",
        ] {
            parse_duration(bad).unwrap_err();
        }
    }
}
