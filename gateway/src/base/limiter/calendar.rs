//! Calendar: so many a day or a month, in UTC. All of them may be spent at once; at midnight they are there again.

use std::time::Duration;

use chrono::{DateTime, Datelike as _, Months, NaiveDate, NaiveTime};

use super::keyed::{KeyId, Keyed, State};
use super::{Decision, Standing};
use crate::base::now::Now;

/// Seconds of a day.
const DAY_SECONDS: u64 = 86_400;

/// How long a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calendar {
    Day,
    Month,
}

/// One quota and the state of all its keys.
#[derive(Debug)]
pub(crate) struct CalendarMeter {
    calendar: Calendar,
    count: u64,
    used: Keyed<Used>,
}

/// What was spent in the window that ends at this second.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    ends_unix_seconds: u64,
    units: u64,
    /// Whether units were spent here since the store was last heard.
    untold: bool,
}

impl State for Used {
    fn is_spent(&self, now: Now) -> bool {
        self.ends_unix_seconds <= now.unix_seconds
    }
}

impl Calendar {
    /// When the window of this second ends, in Unix seconds.
    pub(crate) fn ends(self, unix_seconds: u64) -> u64 {
        match self {
            Self::Day => (unix_seconds / DAY_SECONDS + 1) * DAY_SECONDS,
            // A moment that no calendar holds has no months; a day is as good a window there as any.
            Self::Month => month_ends(unix_seconds).unwrap_or_else(|| Self::Day.ends(unix_seconds)),
        }
    }

    /// Length in seconds, as clients are told it: a month has thirty days there.
    pub(crate) fn nominal_seconds(self) -> u64 {
        match self {
            Self::Day => DAY_SECONDS,
            Self::Month => 30 * DAY_SECONDS,
        }
    }
}

fn month_ends(unix_seconds: u64) -> Option<u64> {
    let date = DateTime::from_timestamp(i64::try_from(unix_seconds).ok()?, 0)?.date_naive();
    let first = NaiveDate::from_ymd_opt(date.year(), date.month(), 1)?;
    let next = first.checked_add_months(Months::new(1))?.and_time(NaiveTime::MIN).and_utc();
    u64::try_from(next.timestamp()).ok()
}

impl CalendarMeter {
    /// A quota whose state never exceeds about `keys_max` keys (64 bytes each).
    pub(crate) fn new(calendar: Calendar, count: u64, keys_max: usize) -> Self {
        Self { calendar, count, used: Keyed::new(keys_max) }
    }

    pub(crate) fn calendar(&self) -> Calendar {
        self.calendar
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The key made of these parts.
    pub(crate) fn id(&self, parts: &[&[u8]]) -> KeyId {
        self.used.id(parts)
    }

    /// What is left of the window when so much is used.
    pub(crate) fn standing(&self, used: u64, now: Now) -> Standing {
        Standing { remaining: self.count.saturating_sub(used), reset_after: self.left(now) }
    }

    /// Time until the window ends.
    pub(crate) fn left(&self, now: Now) -> Duration {
        Duration::from_secs(self.calendar.ends(now.unix_seconds).saturating_sub(now.unix_seconds))
    }

    /// Spends so many units of a key.
    pub(crate) fn take(&self, id: KeyId, units: u64, now: Now) -> Decision {
        self.in_window(id, now, |used| {
            // What costs more than the quota passes when nothing is used: else it never could.
            if used.units > 0 && used.units.saturating_add(units) > self.count {
                return Decision::Refused { retry_after: self.left(now) };
            }
            used.units = used.units.saturating_add(units);
            used.untold = true;
            Decision::Admitted(self.standing(used.units, now))
        })
    }

    /// How long a key has to wait for so many units; nothing is spent.
    pub(crate) fn wait(&self, id: KeyId, units: u64, now: Now) -> Duration {
        let used = self.used_units(id, now);
        let over = used > 0 && used.saturating_add(units) > self.count;
        if over { self.left(now) } else { Duration::ZERO }
    }

    /// What a key has used of this window.
    pub(crate) fn used_units(&self, id: KeyId, now: Now) -> u64 {
        self.used.look(id).filter(|used| !used.is_spent(now)).map_or(0, |used| used.units)
    }

    /// What a key has used of this window by what the store was not told, and what it told before; 0 when it was told all.
    pub(crate) fn untold_units(&self, id: KeyId, now: Now) -> u64 {
        self.used.look(id).filter(|used| used.untold && !used.is_spent(now)).map_or(0, |used| used.units)
    }

    /// Gives units back.
    pub(crate) fn refund(&self, id: KeyId, units: u64, now: Now) {
        self.in_window(id, now, |used| used.units = used.units.saturating_sub(units));
    }

    /// Spends units whether they are there or not.
    pub(crate) fn charge(&self, id: KeyId, units: u64, now: Now) {
        self.in_window(id, now, |used| used.units = used.units.saturating_add(units));
    }

    /// Takes over what a store knows of a key.
    pub(crate) fn note(&self, id: KeyId, units: u64, now: Now) {
        self.in_window(id, now, |used| (used.units, used.untold) = (units, false));
    }

    fn in_window<R>(&self, id: KeyId, now: Now, work: impl FnOnce(&mut Used) -> R) -> R {
        let ends_unix_seconds = self.calendar.ends(now.unix_seconds);
        self.used.with(id, now, |used, _| {
            if used.ends_unix_seconds != ends_unix_seconds {
                *used = Used { ends_unix_seconds, ..Used::default() };
            }
            work(used)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_seconds: u64) -> Now {
        Now { steady_ns: unix_seconds * 1_000_000_000, unix_seconds }
    }

    /// 2026-02-27T23:59:50Z.
    const LATE: u64 = 1_772_236_790;

    #[test]
    fn windows_end_where_the_calendar_says() {
        assert_eq!(Calendar::Day.ends(LATE), LATE + 10);
        assert_eq!(Calendar::Day.ends(LATE + 10), LATE + 10 + DAY_SECONDS, "midnight belongs to the new day");
        assert_eq!(Calendar::Month.ends(LATE), LATE + 10 + DAY_SECONDS, "2026 is no leap year");
        assert_eq!(Calendar::Month.ends(LATE + 10 + DAY_SECONDS), LATE + 10 + 32 * DAY_SECONDS, "March has 31 days");
    }

    #[test]
    fn what_is_left_over_is_lost_and_what_is_used_up_comes_back_at_midnight() {
        let meter = CalendarMeter::new(Calendar::Day, 3, 100);
        let id = meter.id(&[b"a"]);
        for left in [2, 1, 0] {
            let standing = Standing { remaining: left, reset_after: Duration::from_secs(10) };
            assert_eq!(meter.take(id, 1, at(LATE)), Decision::Admitted(standing));
        }
        assert_eq!(meter.take(id, 1, at(LATE)), Decision::Refused { retry_after: Duration::from_secs(10) });
        assert_eq!(meter.wait(id, 1, at(LATE + 3)), Duration::from_secs(7));
        meter.refund(id, 1, at(LATE + 3));
        assert!(matches!(meter.take(id, 1, at(LATE + 9)), Decision::Admitted(_)));
        assert!(matches!(meter.take(id, 3, at(LATE + 10)), Decision::Admitted(_)), "a new day, and all of it");
        assert!(matches!(meter.take(id, 1, at(LATE + 10)), Decision::Refused { .. }));
        meter.charge(id, 100, at(LATE + 10));
        assert_eq!(meter.standing(meter.used_units(id, at(LATE + 10)), at(LATE + 10)).remaining, 0);
    }
}
