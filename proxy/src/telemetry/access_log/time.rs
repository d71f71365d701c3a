//! `%START_TIME(...)%`: a UTC date and time in a subset of strftime with Envoy's fractions.
//!
//! No time zones and no locales: `%Z` is `UTC`, `%z` is `+0000`, names are English.

use std::cell::Cell;
use std::time::SystemTime;

const MONTHS: [&[u8]; 12] = [
    b"January",
    b"February",
    b"March",
    b"April",
    b"May",
    b"June",
    b"July",
    b"August",
    b"September",
    b"October",
    b"November",
    b"December",
];

/// 1 January 1970 was a Thursday.
const DAYS: [&[u8]; 7] = [
    b"Thursday",
    b"Friday",
    b"Saturday",
    b"Sunday",
    b"Monday",
    b"Tuesday",
    b"Wednesday",
];

const SECONDS_PER_DAY: u64 = 86_400;

/// The second formatted last, as `YYYY-MM-DDTHH:MM:SS`.
type Cached = (u64, [u8; 19]);

thread_local! {
    /// Entries of one second share their date; only the milliseconds are new.
    static CACHED: Cell<Cached> = const { Cell::new((u64::MAX, [0; 19])) };
}

/// `2026-11-20T23:58:46.123Z`, for dumps.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let mut out = Vec::new();
    write(time, None, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends `time` as `format` says, or as `2026-11-20T23:58:46.123Z`.
pub(super) fn write(time: SystemTime, format: Option<&str>, out: &mut Vec<u8>) {
    // A clock before 1970 is shown as 1970.
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (seconds, nanos) = (since.as_secs(), since.subsec_nanos());
    match format {
        None => default(seconds, nanos, out),
        Some(format) => custom(&Civil::new(seconds, nanos), format.as_bytes(), out),
    }
}

fn default(seconds: u64, nanos: u32, out: &mut Vec<u8>) {
    let (cached, text) = CACHED.get();
    if cached == seconds {
        out.extend_from_slice(&text);
    } else {
        let start = out.len();
        custom(&Civil::new(seconds, 0), b"%Y-%m-%dT%H:%M:%S", out);
        // A year of five digits does not fit: such a clock is not worth a longer cache.
        let fresh = out.get(start..).map(<[u8; 19]>::try_from);
        if let Some(Ok(fresh)) = fresh {
            CACHED.set((seconds, fresh));
        }
    }
    out.push(b'.');
    fraction(nanos, 3, out);
    out.push(b'Z');
}

/// A moment in the proleptic Gregorian calendar.
struct Civil {
    seconds: u64,
    nanos: u32,
    year: u64,
    /// From 1.
    month: u64,
    /// Of the month, from 1.
    day: u64,
    /// Of the year, from 1.
    year_day: u64,
}

impl Civil {
    fn new(seconds: u64, nanos: u32) -> Self {
        // Years are counted from 1 March, so that the leap day is the last one; a cycle of 400
        // years has 146,097 days. 719,468 days lie between 0000-03-01 and 1970-01-01.
        let day = seconds / SECONDS_PER_DAY + 719_468;
        let (cycle, of_cycle) = (day / 146_097, day % 146_097);
        let leap_days = of_cycle / 1_460 - of_cycle / 36_524 + of_cycle / 146_096;
        let year = (of_cycle - leap_days) / 365;
        let of_year = of_cycle - (365 * year + year / 4 - year / 100);
        // March to July and August to December have 153 days each.
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let (year, month) = match month {
            0..=9 => (year + cycle * 400, month + 3),
            _ => (year + cycle * 400 + 1, month - 9),
        };
        let leap = u64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
        let year_day = match month {
            1 | 2 => 31 * (month - 1) + day,
            _ => of_year + 60 + leap,
        };
        Self {
            seconds,
            nanos,
            year,
            month,
            day,
            year_day,
        }
    }

    const fn hour(&self) -> u64 {
        self.seconds % SECONDS_PER_DAY / 3_600
    }

    const fn minute(&self) -> u64 {
        self.seconds / 60 % 60
    }

    fn day_name(&self) -> &'static [u8] {
        let day = usize::try_from(self.seconds / SECONDS_PER_DAY % 7).unwrap_or(0);
        DAYS.get(day).copied().unwrap_or_default()
    }

    fn month_name(&self) -> &'static [u8] {
        let month = usize::try_from(self.month - 1).unwrap_or(0);
        MONTHS.get(month).copied().unwrap_or_default()
    }

    /// 1 is Monday, 7 is Sunday.
    const fn week_day(&self) -> u64 {
        (self.seconds / SECONDS_PER_DAY + 3) % 7 + 1
    }
}

/// What is not understood stands in the output as it stood in the format.
fn custom(time: &Civil, mut format: &[u8], out: &mut Vec<u8>) {
    while let Some(percent) = format.iter().position(|byte| *byte == b'%') {
        let (literal, rest) = format.split_at(percent);
        out.extend_from_slice(literal);
        let used = match rest {
            [_, b'E', b'*', b'S', ..] => {
                number(time.seconds % 60, 2, b'0', out);
                trimmed_fraction(time.nanos, out);
                4
            }
            [_, b'E', width @ b'1'..=b'9', b'S', ..] => {
                number(time.seconds % 60, 2, b'0', out);
                out.push(b'.');
                fraction(time.nanos, width - b'0', out);
                4
            }
            [_, width @ b'1'..=b'9', b'f', ..] => {
                fraction(time.nanos, width - b'0', out);
                3
            }
            [_, conversion, ..] => {
                convert(time, *conversion, out);
                2
            }
            _ => {
                out.push(b'%');
                1
            }
        };
        format = rest.get(used..).unwrap_or_default();
    }
    out.extend_from_slice(format);
}

fn convert(time: &Civil, conversion: u8, out: &mut Vec<u8>) {
    let short = |name: &'static [u8]| name.get(..3).unwrap_or(name);
    match conversion {
        b'%' => out.push(b'%'),
        b'A' => out.extend_from_slice(time.day_name()),
        b'a' => out.extend_from_slice(short(time.day_name())),
        b'B' => out.extend_from_slice(time.month_name()),
        b'b' | b'h' => out.extend_from_slice(short(time.month_name())),
        b'D' => custom(time, b"%m/%d/%y", out),
        b'd' => number(time.day, 2, b'0', out),
        b'e' => number(time.day, 2, b' ', out),
        b'F' => custom(time, b"%Y-%m-%d", out),
        b'f' => fraction(time.nanos, 9, out),
        b'H' => number(time.hour(), 2, b'0', out),
        b'I' => number((time.hour() + 11) % 12 + 1, 2, b'0', out),
        b'j' => number(time.year_day, 3, b'0', out),
        b'M' => number(time.minute(), 2, b'0', out),
        b'm' => number(time.month, 2, b'0', out),
        b'n' => out.push(b'\n'),
        b'p' => out.extend_from_slice(if time.hour() < 12 { b"AM" } else { b"PM" }),
        b'R' => custom(time, b"%H:%M", out),
        b'S' => number(time.seconds % 60, 2, b'0', out),
        b's' => number(time.seconds, 1, b'0', out),
        b'T' => custom(time, b"%H:%M:%S", out),
        b't' => out.push(b'\t'),
        b'u' => number(time.week_day(), 1, b'0', out),
        b'w' => number(time.week_day() % 7, 1, b'0', out),
        b'Y' => number(time.year, 4, b'0', out),
        b'y' => number(time.year % 100, 2, b'0', out),
        b'Z' => out.extend_from_slice(b"UTC"),
        b'z' => out.extend_from_slice(b"+0000"),
        unknown => out.extend_from_slice(&[b'%', unknown]),
    }
}

fn number(value: u64, width: usize, pad: u8, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value).as_bytes();
    out.extend((digits.len()..width).map(|_| pad));
    out.extend_from_slice(digits);
}

/// The first `width` digits after the decimal point.
fn fraction(nanos: u32, width: u8, out: &mut Vec<u8>) {
    let kept = nanos / 10_u32.pow(9 - u32::from(width.min(9)));
    number(kept.into(), width.into(), b'0', out);
}

/// As many digits as there are.
fn trimmed_fraction(nanos: u32, out: &mut Vec<u8>) {
    let mut width = 9;
    while width > 0 && nanos.is_multiple_of(10_u32.pow(10 - u32::from(width))) {
        width -= 1;
    }
    if width > 0 {
        out.push(b'.');
        fraction(nanos, width, out);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;
    use std::time::SystemTime;

    use proptest::proptest;

    fn formatted(seconds: u64, nanos: u32, format: Option<&str>) -> String {
        let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        let mut out = Vec::new();
        super::write(time, format, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    /// Formats and output of Envoy 1.40.0.
    #[test]
    fn as_envoy() {
        let format = "%s|%3f|%6f|%9f|%f|%Y-%m-%dT%H:%M:%S%z|%a %b %e %j %H:%M:%S.%3f|%s%3f|%1f|%E3S|%E*S|%Z|%D|%T|%F";
        let expected = "1795219266|642|642800|642800000|642800000|2026-11-21T00:01:06+0000|\
                        Sat Nov 21 325 00:01:06.642|1795219266642|6|06.642|06.6428|UTC|11/21/26|\
                        00:01:06|2026-11-21";
        assert_eq!(
            formatted(1_795_219_266, 642_800_000, Some(format)),
            expected
        );
    }

    #[test]
    fn default_is_iso_with_milliseconds() {
        for _ in 0..2 {
            let text = formatted(1_795_219_266, 42_999_999, None);
            assert_eq!(text, "2026-11-21T00:01:06.042Z");
        }
        assert_eq!(formatted(951_782_400, 0, None), "2000-02-29T00:00:00.000Z");
        assert_eq!(formatted(0, 1_000_000, None), "1970-01-01T00:00:00.001Z");
    }

    #[test]
    fn the_rest_of_the_conversions() {
        let check = |format, expected: &str| {
            // Sunday, 5 January 2025, 13:04:09.
            assert_eq!(formatted(1_736_082_249, 0, Some(format)), expected);
        };
        check("%A %B %h", "Sunday January Jan");
        check("%e|%d|%j", " 5|05|005");
        check("%I %p %R %u %w %y", "01 PM 13:04 7 0 25");
        check("%E*S %E1S", "09 09.0");
        check("100%% %q %", "100% %q %");
    }

    proptest! {
        #[test]
        fn days_follow_each_other(day in 0_u64..100_000) {
            let date = |day: u64| formatted(day * 86_400, 0, Some("%Y %j %m %d"));
            let numbers = |text: String| -> Vec<u32> {
                text.split(' ').map(|part| part.parse().expect("a number")).collect()
            };
            let (today, next) = (numbers(date(day)), numbers(date(day + 1)));
            let same_year = today[0] == next[0];
            assert_eq!(next[1], if same_year { today[1] + 1 } else { 1 });
            assert_eq!(next[3], if today[2] == next[2] { today[3] + 1 } else { 1 });
            assert!(same_year || (next[2] == 1 && today[2] == 12 && today[1] >= 365));
        }
    }
}
