//! The text and the pace of NACKs.
//!
//! The text names every refused resource in one message (C-21) and is bounded; the pace keeps a
//! control plane that repeats what was refused from spinning both sides.

use std::fmt::Write;
use std::time::Duration;

use crate::xds::resource::Refusal;

/// Longest `error_detail.message`, bytes. Some control planes log it as one line and keep it per
/// client, and 4 KiB still names about forty resources.
pub const NACK_TEXT_BYTES_MAX: usize = 4096;

/// Longest part of one resource in it, so that one bad resource cannot hide the others.
const REFUSAL_BYTES_MAX: usize = 512;

/// Room kept for the closing "and N more".
const TAIL_BYTES: usize = 32;

/// NACKs in a row that go out at once: an operator who tries three times is served at once, a loop
/// is slowed down from the fourth on.
const NACK_BURST: u32 = 3;

/// Wait before the first delayed NACK; it doubles from there.
const NACK_DELAY_BASE: Duration = Duration::from_millis(200);

/// Longest wait before a NACK: one decode of a refused response per 10 s is no load, and a
/// control plane's operator still sees the refusal soon.
const NACK_DELAY_MAX: Duration = Duration::from_secs(10);

/// One message for all `refusals`.
pub(super) fn text(refusals: &[Refusal]) -> String {
    let mut out = format!("{} resource(s) refused: ", refusals.len());
    for (i, refusal) in refusals.iter().enumerate() {
        let name = if refusal.name.is_empty() {
            "(no name)"
        } else {
            &*refusal.name
        };
        let part = format!("{name}: {}", refusal.detail);
        let part = clip(&part, REFUSAL_BYTES_MAX);
        if out.len() + part.len() + 2 > NACK_TEXT_BYTES_MAX - TAIL_BYTES {
            let _ = write!(out, " and {} more", refusals.len() - i);
            return out;
        }
        if i > 0 {
            out.push_str("; ");
        }
        out.push_str(part);
    }
    out
}

/// How long the `n`th NACK in a row (from 1) is held back.
pub(super) fn delay(n: u32) -> Duration {
    let Some(doublings) = n.checked_sub(NACK_BURST + 1) else {
        return Duration::ZERO;
    };
    NACK_DELAY_BASE
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(NACK_DELAY_MAX)
}

/// The longest beginning of `text` that is at most `bytes_max` long and ends on a character.
pub(crate) fn clip(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::NACK_TEXT_BYTES_MAX;
    use super::clip;
    use super::delay;
    use super::text;
    use crate::xds::resource::Refusal;

    fn refusal(name: &str, detail: &str) -> Refusal {
        Refusal {
            name: name.into(),
            detail: detail.to_owned(),
        }
    }

    #[test]
    fn c21_text_names_all_that_fit_and_counts_the_rest() {
        let few = text(&[refusal("a", "x.y: bad"), refusal("", "not a message")]);
        assert_eq!(
            few,
            "2 resource(s) refused: a: x.y: bad; (no name): not a message"
        );
        let many: Vec<_> = (0..1000)
            .map(|i| refusal(&format!("r{i}"), &"é".repeat(600)))
            .collect();
        let long = text(&many);
        assert!(long.len() <= NACK_TEXT_BYTES_MAX, "{}", long.len());
        assert!(long.ends_with(" and 993 more"), "{long}");
        assert!(long.contains("r6: ") && !long.contains("r7: "));
    }

    #[test]
    fn clip_ends_on_a_character() {
        assert_eq!(clip("aéb", 2), "a");
        assert_eq!(clip("aéb", 3), "aé");
        assert_eq!(clip("a", 3), "a");
    }

    #[test]
    fn delay_starts_after_the_burst_and_is_capped() {
        assert_eq!(delay(1), Duration::ZERO);
        assert_eq!(delay(3), Duration::ZERO);
        assert_eq!(delay(4), Duration::from_millis(200));
        assert_eq!(delay(5), Duration::from_millis(400));
        assert_eq!(delay(u32::MAX), Duration::from_secs(10));
    }
}
