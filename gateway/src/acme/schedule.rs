//! Schedule: when a certificate is renewed, and when the next attempt is made after one that failed.
//!
//! For: `keeper.rs`. May touch: nothing but chance. Promises: a fresh certificate is never due at once, whatever is configured;
//! attempts that fail come ever more rarely, and no two gateways keep the same step. Read next: `keeper.rs`.

use std::time::Duration;

use common::backoff;

/// First wait after an attempt that failed; doubled up to the longest. Authorities count failures by the hour.
const RETRY_FIRST: Duration = Duration::from_secs(10);
const RETRY_LONGEST: Duration = Duration::from_hours(6);

/// A certificate is renewed at the latest when this part of its time is left.
const LAST_PART: i64 = 3;

/// Seconds since the Unix epoch at which a certificate is due: `renew_before` before its end, but in the last third of its time
/// at the earliest; sooner only if the authority says so.
pub(super) fn due(begins: i64, ends: i64, renew_before: Duration, advised: Option<i64>) -> i64 {
    let before = i64::try_from(renew_before.as_secs()).unwrap_or(i64::MAX);
    let due = ends.saturating_sub(before.min(ends.saturating_sub(begins).max(0) / LAST_PART));
    advised.map_or(due, |advised| advised.min(due))
}

/// A moment between two, so that not everybody comes at the same time (RFC 9773 §4.2).
pub(super) fn between(start: i64, end: i64) -> i64 {
    if start < end { rand::random_range(start..end) } else { start }
}

/// How long to wait after so many failures in a row, from a half of it to the whole.
pub(super) fn retry_after(failures: u32) -> Duration {
    backoff::spread(backoff::wait_after(failures, RETRY_FIRST, RETRY_LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60;

    fn days(days: u64) -> Duration {
        Duration::from_secs(days * 24 * 60 * 60)
    }

    #[test]
    fn a_certificate_is_due_before_its_end_and_never_at_once() {
        let cases = [
            // Ninety days, and thirty before the end.
            (90 * DAY, days(30), None, 60 * DAY),
            (90 * DAY, days(10), None, 80 * DAY),
            // Six days: thirty days before would be at once, and for ever.
            (6 * DAY, days(30), None, 4 * DAY),
            // The authority wants it sooner; later than we would is not followed.
            (90 * DAY, days(30), Some(DAY), DAY),
            (90 * DAY, days(30), Some(80 * DAY), 60 * DAY),
            // A certificate that ends before it begins is due at its end.
            (-DAY, days(30), None, -DAY),
        ];
        for (ends, renew_before, advised, expected) in cases {
            assert_eq!(due(0, ends, renew_before, advised), expected, "{ends} {renew_before:?} {advised:?}");
        }
    }

    #[test]
    fn attempts_come_ever_more_rarely_up_to_a_bound() {
        for failures in [0, 1, 2, 5, 20, u32::MAX] {
            let wait = retry_after(failures);
            assert!(wait >= RETRY_FIRST / 2 && wait <= RETRY_LONGEST, "{failures}: {wait:?}");
        }
        assert!(retry_after(1) <= RETRY_FIRST);
        assert!(retry_after(20) >= RETRY_LONGEST / 2);
        assert_eq!(between(5, 5), 5);
        assert_eq!(between(9, 5), 9);
        assert!((5..7).contains(&between(5, 7)));
    }
}
