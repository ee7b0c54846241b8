//! Windows against tables made by hand from the calendar and the rules of zones, which stand here as POSIX has them.

use super::*;

const UTC: &str = "UTC0";
/// 23 hours on the last Sunday of March, 25 on that of October.
const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
/// The last Friday of April has no midnight; the last Thursday of October has its last hour twice.
const CAIRO: &str = "EET-2EEST,M4.5.5/0,M10.5.4/24";
/// As it was until 2019: the first Sunday of November has no midnight; the third Saturday of February has its last hour twice.
const SAO_PAULO: &str = "<-03>3<-02>,M11.1.0/0,M2.3.0/0";
/// Summer lies around the turn of the year.
const SYDNEY: &str = "AEST-10AEDT,M10.1.0,M4.1.0/3";

fn zone(rules: &str) -> TimeZone {
    TimeZone::posix(rules).unwrap()
}

fn instant(text: &str) -> Stamp {
    Stamp::parse(&format!("{text}Z")).unwrap()
}

/// The window that holds each of the instants, its first and its last one included.
#[track_caller]
fn check(rules: &str, period: Period, inside: &[&str], start: &str, end: &str) {
    let (zone, start, end) = (zone(rules), instant(start), instant(end));
    let inside = inside.iter().map(|text| instant(text)).chain([start, end.offset(-1)]);
    for at in inside {
        let window = Window::of(period, at, &zone).unwrap();
        assert_eq!((window.start, window.end), (start, Some(end)), "{rules} {period:?} at {at}");
        assert!(window.holds(at));
    }
    for outside in [start.offset(-1), end] {
        let window = Window::of(period, outside, &zone).unwrap();
        assert!(!window.holds(start) && window.holds(outside), "{rules} {period:?} at {outside}");
    }
}

#[test]
fn days_begin_at_midnight_of_their_zone_whatever_their_length() {
    let day = |rules, inside: &[&str], start, end| check(rules, Period::Day, inside, start, end);
    day(UTC, &["2026-11-21T09:33:00"], "2026-11-21T00:00:00", "2026-11-22T00:00:00");
    day(BERLIN, &["2026-03-28T12:00:00"], "2026-03-27T23:00:00", "2026-03-28T23:00:00");
    // 23 hours, then 24 by summer time.
    day(BERLIN, &["2026-03-29T00:59:59", "2026-03-29T01:00:00"], "2026-03-28T23:00:00", "2026-03-29T22:00:00");
    day(BERLIN, &["2026-03-30T12:00:00"], "2026-03-29T22:00:00", "2026-03-30T22:00:00");
    // 25 hours; 02:30 comes twice.
    day(BERLIN, &["2026-10-25T00:30:00", "2026-10-25T01:30:00"], "2026-10-24T22:00:00", "2026-10-25T23:00:00");
    // No midnight: the day begins at one o'clock.
    day(CAIRO, &["2026-04-23T12:00:00"], "2026-04-22T22:00:00", "2026-04-23T22:00:00");
    day(CAIRO, &["2026-04-24T12:00:00"], "2026-04-23T22:00:00", "2026-04-24T21:00:00");
    day(SAO_PAULO, &["2018-11-04T12:00:00"], "2018-11-04T03:00:00", "2018-11-05T02:00:00");
    // Midnight would have come, but it was eleven again.
    day(CAIRO, &["2026-10-29T20:30:00", "2026-10-29T21:30:00"], "2026-10-28T21:00:00", "2026-10-29T22:00:00");
    day(SAO_PAULO, &["2019-02-17T01:30:00", "2019-02-17T02:30:00"], "2019-02-16T02:00:00", "2019-02-17T03:00:00");
    day(SYDNEY, &["2026-12-31T12:59:59"], "2026-12-30T13:00:00", "2026-12-31T13:00:00");
}

#[test]
fn weeks_begin_on_monday_and_pay_no_heed_to_months_and_years() {
    let week = |rules, inside: &[&str], start, end| check(rules, Period::Week, inside, start, end);
    week(UTC, &["2026-11-22T23:59:59"], "2026-11-16T00:00:00", "2026-11-23T00:00:00");
    // ISO weeks 2026-W53, 2025-W01 and 2023-W52.
    week(UTC, &["2026-12-31T23:59:59", "2027-01-01T00:00:00", "2027-01-03T12:00:00"], "2026-12-28T00:00:00", "2027-01-04T00:00:00");
    week(UTC, &["2024-12-31T12:00:00", "2025-01-01T00:00:00"], "2024-12-30T00:00:00", "2025-01-06T00:00:00");
    week(UTC, &["2023-12-31T23:59:59"], "2023-12-25T00:00:00", "2024-01-01T00:00:00");
    week(UTC, &["2028-02-29T12:00:00", "2028-03-01T12:00:00"], "2028-02-28T00:00:00", "2028-03-06T00:00:00");
    // 167 and 169 hours.
    week(BERLIN, &["2026-03-29T12:00:00"], "2026-03-22T23:00:00", "2026-03-29T22:00:00");
    week(BERLIN, &["2026-10-25T12:00:00"], "2026-10-18T22:00:00", "2026-10-25T23:00:00");
    week(SYDNEY, &["2026-12-31T13:00:00"], "2026-12-27T13:00:00", "2027-01-03T13:00:00");
}

#[test]
fn months_have_the_days_that_they_have() {
    let month = |rules, inside: &[&str], start, end| check(rules, Period::Month, inside, start, end);
    month(UTC, &["2026-01-31T12:00:00"], "2026-01-01T00:00:00", "2026-02-01T00:00:00");
    month(UTC, &["2026-02-28T12:00:00"], "2026-02-01T00:00:00", "2026-03-01T00:00:00");
    month(UTC, &["2028-02-28T23:59:59", "2028-02-29T12:00:00"], "2028-02-01T00:00:00", "2028-03-01T00:00:00");
    month(UTC, &["2000-02-29T12:00:00"], "2000-02-01T00:00:00", "2000-03-01T00:00:00");
    month(UTC, &["2100-02-28T12:00:00"], "2100-02-01T00:00:00", "2100-03-01T00:00:00");
    month(UTC, &["2026-04-30T12:00:00"], "2026-04-01T00:00:00", "2026-05-01T00:00:00");
    month(UTC, &["2026-12-31T12:00:00"], "2026-12-01T00:00:00", "2027-01-01T00:00:00");
    month(BERLIN, &["2026-03-29T01:00:00"], "2026-02-28T23:00:00", "2026-03-31T22:00:00");
    month(BERLIN, &["2026-10-25T01:00:00"], "2026-09-30T22:00:00", "2026-10-31T23:00:00");
    month(SYDNEY, &["2026-12-31T12:59:59"], "2026-11-30T13:00:00", "2026-12-31T13:00:00");
}

#[test]
fn the_window_of_everything_has_no_edge() {
    assert_eq!(Window::of(Period::Total, Stamp::new(-5), &TimeZone::UTC), Some(Window::TOTAL));
    assert!(Window::TOTAL.holds(Stamp::new(-5)) && Window::TOTAL.holds(Stamp::new(i64::MAX)));
}

#[test]
fn the_hour_of_the_day_is_that_of_the_zone() {
    for (rules, at, wanted) in [
        (UTC, "2026-03-29T00:59:59", 0),
        (BERLIN, "2026-03-29T00:59:59", 1),
        (BERLIN, "2026-03-29T01:00:00", 3),
        (BERLIN, "2026-10-25T00:30:00", 2),
        (BERLIN, "2026-10-25T01:30:00", 2),
        (CAIRO, "2026-04-23T22:00:00", 1),
    ] {
        assert_eq!(hour(instant(at), &zone(rules)), wanted, "{rules} at {at}");
    }
}

proptest::proptest! {
    #[test]
    fn an_instant_lies_in_its_window_and_windows_meet(micros in 0..4_102_444_800_000_000i64, place in 0..5usize) {
        let zone = zone([UTC, BERLIN, CAIRO, SAO_PAULO, SYDNEY][place]);
        for period in [Period::Day, Period::Week, Period::Month] {
            let at = Stamp::new(micros);
            let window = Window::of(period, at, &zone).unwrap();
            proptest::prop_assert!(window.holds(at));
            let next = Window::of(period, window.end.unwrap(), &zone).unwrap();
            proptest::prop_assert_eq!(Some(next.start), window.end);
            let before = Window::of(period, window.start.offset(-1), &zone).unwrap();
            proptest::prop_assert_eq!(before.end, Some(window.start));
        }
    }
}
