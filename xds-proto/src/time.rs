//! Durations and timestamps in their JSON forms: `0.25s` and RFC 3339.
//!
//! Pure arithmetic on seconds and nanoseconds; reads no clock.

/// Limit of `google.protobuf.Duration`: about 10,000 years.
const DURATION_SECONDS_MAX: u64 = 315_576_000_000;

const NANOS_PER_SECOND: u32 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Seconds and nanoseconds, of one sign in a duration, nanoseconds never negative in a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seconds {
    pub(crate) seconds: i64,
    pub(crate) nanos: i32,
}

/// Reads `1s`, `0.25s`, `-1.5s`.
pub(crate) fn parse_duration(text: &str) -> Option<Seconds> {
    let (negative, rest) = text
        .strip_prefix('-')
        .map_or((false, text), |rest| (true, rest));
    let number = rest.strip_suffix('s')?;
    let (whole, fraction) = number
        .split_once('.')
        .map_or((number, None), |(whole, fraction)| (whole, Some(fraction)));
    let seconds = digits(whole)?;
    let nanos = fraction.map_or(Some(0), parse_nanos)?;
    if seconds > DURATION_SECONDS_MAX || (seconds == DURATION_SECONDS_MAX && nanos > 0) {
        return None;
    }
    let (seconds, nanos) = (i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?);
    Some(if negative {
        Seconds {
            seconds: -seconds,
            nanos: -nanos,
        }
    } else {
        Seconds { seconds, nanos }
    })
}

/// The duration somebody meant who wrote a bare number or another unit, as protobuf wants it written.
pub(crate) fn guess_duration(text: &str) -> Option<String> {
    let end = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let nanos = u128::from(digits(whole)?) * u128::from(NANOS_PER_SECOND)
        + u128::from(parse_nanos_or_none(fraction)?);
    let total = match unit.trim() {
        "" | "s" | "sec" | "seconds" => nanos,
        "us" => nanos / 1_000_000,
        "ms" => nanos / 1_000,
        "m" | "min" => nanos * 60,
        "h" => nanos * 3_600,
        "d" => nanos * 86_400,
        _ => return None,
    };
    let seconds = i64::try_from(total / u128::from(NANOS_PER_SECOND)).ok()?;
    let nanos = i32::try_from(total % u128::from(NANOS_PER_SECOND)).ok()?;
    Some(format_duration(Seconds { seconds, nanos }))
}

/// Writes a duration with as few decimals as it needs.
pub(crate) fn format_duration(value: Seconds) -> String {
    let sign = if value.seconds < 0 || value.nanos < 0 {
        "-"
    } else {
        ""
    };
    format!(
        "{sign}{}{}s",
        value.seconds.unsigned_abs(),
        fraction(value.nanos.unsigned_abs())
    )
}

/// Reads `2024-02-29T12:00:00.5Z`, also with an offset such as `+01:00`.
pub(crate) fn parse_timestamp(text: &str) -> Option<Seconds> {
    let (date, time) = text.split_once(['T', 't'])?;
    let mut parts = date.splitn(3, '-');
    let (year, month, day) = (
        fixed(parts.next()?, 4)?,
        fixed(parts.next()?, 2)?,
        fixed(parts.next()?, 2)?,
    );
    if year == 0 || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(zone)?;
    let (clock, nanos) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, parse_nanos(fraction)?),
        None => (clock, 0),
    };
    let mut parts = clock.splitn(3, ':');
    let (hour, minute, second) = (
        fixed(parts.next()?, 2)?,
        fixed(parts.next()?, 2)?,
        fixed(parts.next()?, 2)?,
    );
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let local =
        days_from_civil(year, month, day) * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second;
    Some(Seconds {
        seconds: local - zone_offset(zone)?,
        nanos: i32::try_from(nanos).ok()?,
    })
}

/// Writes a timestamp in UTC; nothing for one outside the years 1 to 9999.
pub(crate) fn format_timestamp(value: Seconds) -> Option<String> {
    let nanos = u32::try_from(value.nanos)
        .ok()
        .filter(|nanos| *nanos < NANOS_PER_SECOND)?;
    let (year, month, day) = civil_from_days(value.seconds.div_euclid(SECONDS_PER_DAY))?;
    let clock = value.seconds.rem_euclid(SECONDS_PER_DAY);
    let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{}Z",
        fraction(nanos)
    ))
}

/// Three, six or nine decimals, none for zero.
fn fraction(nanos: u32) -> String {
    match nanos {
        0 => String::new(),
        _ if nanos.is_multiple_of(1_000_000) => format!(".{:03}", nanos / 1_000_000),
        _ if nanos.is_multiple_of(1_000) => format!(".{:06}", nanos / 1_000),
        _ => format!(".{nanos:09}"),
    }
}

fn parse_nanos(decimals: &str) -> Option<u32> {
    let missing = 9_u32.checked_sub(u32::try_from(decimals.len()).ok()?)?;
    let value = u32::try_from(digits(decimals)?).ok()?;
    value.checked_mul(10_u32.pow(missing))
}

fn parse_nanos_or_none(decimals: &str) -> Option<u32> {
    if decimals.is_empty() {
        Some(0)
    } else {
        parse_nanos(decimals)
    }
}

/// Digits and nothing else, at least one.
fn digits(text: &str) -> Option<u64> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if all { text.parse().ok() } else { None }
}

fn fixed(text: &str, length: usize) -> Option<i64> {
    if text.len() == length {
        i64::try_from(digits(text)?).ok()
    } else {
        None
    }
}

/// Seconds east of UTC.
fn zone_offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = zone.strip_prefix('+').map_or_else(
        || Some((-1, zone.strip_prefix('-')?)),
        |rest| Some((1, rest)),
    )?;
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) = (fixed(hours, 2)?, fixed(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date in the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let before = |year: i64| year * 365 + year / 4 - year / 100 + year / 400;
    let months: i64 = (1..month).map(|month| days_in(year, month)).sum();
    before(year - 1) - before(1969) + months + day - 1
}

fn civil_from_days(days: i64) -> Option<(i64, i64, i64)> {
    // The estimate by the average year is off by one at most.
    let mut year = 1970 + days.checked_mul(400)?.div_euclid(146_097);
    if !(0..=10_000).contains(&year) {
        return None;
    }
    while days_from_civil(year, 1, 1) > days {
        year -= 1;
    }
    while days_from_civil(year + 1, 1, 1) <= days {
        year += 1;
    }
    if !(1..=9_999).contains(&year) {
        return None;
    }
    let mut day = days - days_from_civil(year, 1, 1);
    let mut month = 1;
    while day >= days_in(year, month) {
        day -= days_in(year, month);
        month += 1;
    }
    Some((year, month, day + 1))
}

#[cfg(test)]
mod tests {
    use super::Seconds;
    use super::format_duration;
    use super::format_timestamp;
    use super::guess_duration;
    use super::parse_duration;
    use super::parse_timestamp;

    fn at(seconds: i64, nanos: i32) -> Seconds {
        Seconds { seconds, nanos }
    }

    #[test]
    fn durations() {
        let cases = [
            ("0s", at(0, 0)),
            ("1s", at(1, 0)),
            ("0.250s", at(0, 250_000_000)),
            ("-1.500s", at(-1, -500_000_000)),
            ("-0.000001s", at(0, -1_000)),
            ("3.000000001s", at(3, 1)),
            ("315576000000s", at(315_576_000_000, 0)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), Some(expected), "{text}");
            assert_eq!(format_duration(expected), text);
        }
        for text in [
            "",
            "s",
            "1",
            "1m",
            ".5s",
            "1.s",
            "+1s",
            "1.0000000001s",
            "--1s",
            "1e3s",
            " 1s",
            "315576000001s",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn guesses_at_durations() {
        let cases = [
            ("5", "5s"),
            ("250ms", "0.250s"),
            ("1.5h", "5400s"),
            ("2m", "120s"),
            ("0.5", "0.500s"),
        ];
        for (text, expected) in cases {
            assert_eq!(guess_duration(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "soon", "1:30", "1w", "-5"] {
            assert_eq!(guess_duration(text), None, "{text}");
        }
    }

    #[test]
    fn timestamps() {
        let cases = [
            ("1970-01-01T00:00:00Z", at(0, 0)),
            ("1969-12-31T23:59:59Z", at(-1, 0)),
            ("2000-02-29T00:00:00Z", at(951_782_400, 0)),
            ("2024-12-31T23:59:59.500Z", at(1_735_689_599, 500_000_000)),
            ("0001-01-01T00:00:00Z", at(-62_135_596_800, 0)),
            ("9999-12-31T23:59:59Z", at(253_402_300_799, 0)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_timestamp(text), Some(expected), "{text}");
            assert_eq!(format_timestamp(expected).as_deref(), Some(text));
        }
        assert_eq!(parse_timestamp("1970-01-01T01:00:00+01:00"), Some(at(0, 0)));
        for text in [
            "",
            "2024-02-30T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
        for outside in [
            at(i64::MAX, 0),
            at(i64::MIN, 0),
            at(253_402_300_800, 0),
            at(0, -1),
        ] {
            assert_eq!(format_timestamp(outside), None);
        }
    }
}
