//! Windows of time that a budget counts in. They derive from the calendar: no job resets them.

pub use aex_proto::account::Period;

use aex_proto::value::Stamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// A span of wall time: from `start` on, before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
mod tests;
