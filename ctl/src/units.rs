//! Units on the command line and in its output: spans of time, counts, instants.

use aex_proto::value::Stamp;

const MS_PER_HOUR: u128 = 3_600_000;

/// Units of a span, longest name first, so that `ms` is not taken for `s`.
const SPAN_UNITS: [(&str, u128); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", MS_PER_HOUR), ("d", 24 * MS_PER_HOUR)];

/// A life time: a bare number is hours, as in AEX; `90s`, `30m`, `2h`, `7d` are taken, too.
pub(crate) fn ttl_ms(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text).unwrap_or((text, MS_PER_HOUR));
    scaled(number, unit).ok_or_else(|| format!("`{text}` is no span of time such as 24 or 0.5 (hours), 30m or 7d"))
}

/// A span that states its unit.
pub(crate) fn span_ms(text: &str) -> Result<u64, String> {
    split_unit(text)
        .and_then(|(number, unit)| scaled(number, unit))
        .ok_or_else(|| format!("`{text}` is no span of time with a unit such as 90s, 10m or 2h"))
}

fn split_unit(text: &str) -> Option<(&str, u128)> {
    SPAN_UNITS.into_iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))
}

/// Whole milliseconds of a decimal number of units; `None` when it is no number, nothing, or out of range.
fn scaled(number: &str, unit: u128) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit()) && part.len() <= 12;
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let units: u128 = format!("{whole}{fraction}").parse().ok()?;
    u64::try_from(units * unit / scale).ok().filter(|ms| *ms > 0)
}

/// An instant to the second: `2026-11-21 09:33:00Z`.
pub(crate) fn instant(at: Stamp) -> String {
    let text = at.to_string();
    let seconds = text.split('.').next().unwrap_or(&text);
    format!("{}Z", seconds.replacen('T', " ", 1))
}

/// An instant that may be missing.
pub(crate) fn instant_or(at: Option<Stamp>, missing: &str) -> String {
    at.map_or_else(|| missing.to_owned(), instant)
}

/// A span for reading: `2h 5m`, `3m 10s`, `4.2s`.
pub(crate) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, _) => format!("{}.{}s", seconds, ms % 1000 / 100),
        (0, 0, minutes, rest) => format!("{minutes}m {rest}s"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, hours, ..) => format!("{days}d {hours}h"),
    }
}

/// A count with its noun: `1 call`, `3,456 tokens`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// A number in groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_life_time_is_hours_and_may_be_a_fraction() {
        for (text, ms) in [("24", 86_400_000), ("0.0005", 1800), (".5", 1_800_000), ("90s", 90_000), ("250ms", 250), ("7d", 604_800_000)] {
            assert_eq!(ttl_ms(text), Ok(ms), "{text}");
        }
        for text in ["", ".", "0", "-1", "1e3", "h", "1 h", "1.2.3", "0.0000000001", "99999999999999"] {
            assert!(ttl_ms(text).is_err(), "{text}");
        }
        assert_eq!(span_ms("10m"), Ok(600_000));
        assert!(span_ms("10").is_err());
    }

    #[test]
    fn numbers_and_spans_read_well() {
        assert_eq!(
            (grouped(0), grouped(999), grouped(1000), grouped(1_234_567)),
            ("0".into(), "999".into(), "1,000".into(), "1,234,567".into())
        );
        assert_eq!((count(1, "call"), count(3456, "token")), ("1 call".to_owned(), "3,456 tokens".to_owned()));
        assert_eq!([span(4210), span(190_000), span(7_500_000), span(90_000_000)], ["4.2s", "3m 10s", "2h 5m", "1d 1h"]);
        assert_eq!(instant(Stamp::new(1_795_253_580_000_001)), "2026-11-21 09:33:00Z");
    }
}
