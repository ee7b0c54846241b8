//! Windows of time that a budget counts in. They derive from the calendar: no job resets them.

pub use aex_proto::account::Period;

use aex_proto::value::Stamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// A span of wall time: from `start` on, before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The first instant after it; `None` when it never ends.
    pub end: Option<Stamp>,
    /// Its first instant.
    pub start: Stamp,
}

impl Window {
    /// The window of everything.
    pub const TOTAL: Window = Window { start: Stamp::new(0), end: None };

    /// Whether an instant lies in it. The window of everything holds every instant.
    #[must_use]
    pub fn holds(&self, at: Stamp) -> bool {
        self.end.is_none_or(|end| self.start <= at && at < end)
    }

    /// The window of a period that holds an instant, in a zone. `None` when the instant is no date of the calendar.
    #[must_use]
    pub fn of(period: Period, at: Stamp, zone: &TimeZone) -> Option<Window> {
        if period == Period::Total {
            return Some(Window::TOTAL);
        }
        let today = Timestamp::from_microsecond(at.micros()).ok()?.to_zoned(zone.clone()).date();
        let (first, next) = days(period, today)?;
        Some(Window { start: midnight(first, zone)?, end: Some(midnight(next, zone)?) })
    }
}

/// The hour of the day in a zone; 0 when the instant is no date of the calendar.
#[must_use]
pub fn hour(at: Stamp, zone: &TimeZone) -> u8 {
    let zoned = Timestamp::from_microsecond(at.micros()).map(|at| at.to_zoned(zone.clone()));
    zoned.ok().and_then(|at| u8::try_from(at.hour()).ok()).unwrap_or(0)
}

/// The first day of the period that holds `today`, and the first day after it.
fn days(period: Period, today: Date) -> Option<(Date, Date)> {
    match period {
        Period::Total => None,
        Period::Day => Some((today, today.checked_add(1.day()).ok()?)),
        Period::Week => {
            let since_monday = i64::from(today.weekday().to_monday_zero_offset());
            let monday = today.checked_sub(since_monday.days()).ok()?;
            Some((monday, monday.checked_add(7.days()).ok()?))
        }
        Period::Month => {
            let first = today.first_of_month();
            Some((first, first.checked_add(1.month()).ok()?))
        }
    }
}

/// The first instant of a day in a zone; where midnight is skipped, the first instant after the gap.
fn midnight(day: Date, zone: &TimeZone) -> Option<Stamp> {
    let start = day.to_zoned(zone.clone()).ok()?.start_of_day().ok()?;
    Some(Stamp::new(start.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(period: Period, at: &str, start: &str, end: &str) {
        let at = Stamp::parse(at).unwrap();
        let window = Window::of(period, at, &TimeZone::UTC).unwrap();
        assert_eq!((window.start.to_string(), window.end.unwrap().to_string()), (start.to_owned(), end.to_owned()), "{period:?}");
        assert!(window.holds(at));
    }

    #[test]
    fn windows_follow_the_calendar() {
        check(Period::Day, "2026-11-21T09:33:00Z", "2026-11-21T00:00:00.000000Z", "2026-11-22T00:00:00.000000Z");
        check(Period::Week, "2026-11-22T23:59:59Z", "2026-11-16T00:00:00.000000Z", "2026-11-23T00:00:00.000000Z");
        check(Period::Month, "2024-02-29T12:00:00Z", "2024-02-01T00:00:00.000000Z", "2024-03-01T00:00:00.000000Z");
        assert_eq!(Window::of(Period::Total, Stamp::new(-5), &TimeZone::UTC), Some(Window::TOTAL));
    }

    proptest::proptest! {
        #[test]
        fn an_instant_lies_in_its_window_and_windows_meet(micros in 0..4_102_444_800_000_000i64) {
            for period in [Period::Day, Period::Week, Period::Month] {
                let at = Stamp::new(micros);
                let window = Window::of(period, at, &TimeZone::UTC).unwrap();
                proptest::prop_assert!(window.holds(at));
                let next = Window::of(period, window.end.unwrap(), &TimeZone::UTC).unwrap();
                proptest::prop_assert_eq!(Some(next.start), window.end);
            }
        }
    }
}
