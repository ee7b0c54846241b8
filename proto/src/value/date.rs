//! The one form in which instants are written, `2026-11-21T09:33:00.000001Z`, both ways, for years of four digits. A tenth of the
//! time that a general reader of dates takes: an audit reads several for each call.

#![expect(clippy::arithmetic_side_effects, reason = "days and microseconds of the years 0 to 9999 are far within the range of an i64")]

const DAY_US: i64 = 86_400_000_000;
/// From 0000-01-01 on, up to the last instant that the general reader knows, 9999-12-30T22:00:00Z.
const KNOWN: std::ops::RangeInclusive<i64> = -719_528 * DAY_US..=253_402_207_200_000_000;

/// The microseconds since 1970 that a text says; `None` when it has another form.
pub(super) fn read(text: &str) -> Option<i64> {
    let b: &[u8; 27] = text.as_bytes().try_into().ok()?;
    let [_, _, _, _, b'-', _, _, b'-', _, _, b'T', _, _, b':', _, _, b':', _, _, b'.', .., b'Z'] = b else { return None };
    let number = |from: usize, to: usize| {
        let digits = b.get(from..to)?;
        digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second, micros) = (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 26)?);
    let days = days(year, month, day);
    let is_one = (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60 && date(days) == (year, month, day);
    let instant = days * DAY_US + ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros;
    (is_one && KNOWN.contains(&instant)).then_some(instant)
}

/// The text of an instant; `None` beyond the known ones.
pub(super) fn write(instant: i64) -> Option<[u8; 27]> {
    if !KNOWN.contains(&instant) {
        return None;
    }
    let (year, month, day) = date(instant.div_euclid(DAY_US));
    let micros = instant.rem_euclid(DAY_US);
    let seconds = micros / 1_000_000;
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let parts = [
        (year, 0, 4),
        (month, 5, 7),
        (day, 8, 10),
        (seconds / 3600, 11, 13),
        (seconds / 60 % 60, 14, 16),
        (seconds % 60, 17, 19),
        (micros % 1_000_000, 20, 26),
    ];
    for (mut number, from, to) in parts {
        for place in text.get_mut(from..to)?.iter_mut().rev() {
            *place = b'0' + u8::try_from(number % 10).ok()?;
            number /= 10;
        }
    }
    Some(text)
}

/// Days since 1970-01-01 of a date (Howard Hinnant, chrono-Compatible Low-Level Date Algorithms).
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day, the other way.
const fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn general(micros: i64) -> Option<String> {
        Timestamp::from_microsecond(micros).ok().map(|at| format!("{at:.6}"))
    }

    #[track_caller]
    fn check(micros: i64) {
        let text = write(micros).and_then(|text| String::from_utf8(text.to_vec()).ok());
        assert_eq!(text, general(micros), "{micros}");
        assert_eq!(text.as_deref().and_then(read), Some(micros));
    }

    #[test]
    fn the_ends_of_the_range_and_what_is_no_date() {
        let (first, last) = (*KNOWN.start(), *KNOWN.end());
        [first, last, 0, -1, 951_782_400_000_000 - 1].into_iter().for_each(check);
        assert_eq!(general(last + 1), None);
        assert_eq!((write(first - 1), write(last + 1), write(i64::MAX), write(i64::MIN)), (None, None, None, None));
        let wrong = [
            "2026-02-29T00:00:00.000000Z",
            "2026-13-01T00:00:00.000000Z",
            "2026-00-01T00:00:00.000000Z",
            "2026-01-00T00:00:00.000000Z",
            "2026-01-01T24:00:00.000000Z",
            "2026-01-01T00:60:00.000000Z",
            "2026-01-01T00:00:60.000000Z",
            "2026-01-01t00:00:00.000000Z",
            "2026-01-01T00:00:00.00000Z",
            "+026-01-01T00:00:00.000000Z",
            "9999-12-30T22:00:01.000000Z",
        ];
        for text in wrong {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn it_is_what_the_general_one_writes(micros in KNOWN) {
            check(micros);
        }
    }
}
