//! Instants of wall time.

use super::{date, text};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// An instant of wall time, in microseconds since 1970-01-01 UTC. Its text form is RFC 3339 in UTC with microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(i64);

impl Stamp {
    /// From microseconds since the Unix epoch.
    #[must_use]
    pub const fn new(micros: i64) -> Stamp {
        Stamp(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// This instant moved by microseconds; stays at the end of the range when it would leave it.
    #[must_use]
    pub const fn offset(self, micros: i64) -> Stamp {
        Stamp(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to this instant; negative when it lies after.
    #[must_use]
    pub const fn since(self, earlier: Stamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Parses RFC 3339.
    ///
    /// # Errors
    /// When the text is no such instant.
    pub fn parse(text: &str) -> Result<Stamp, String> {
        if let Some(micros) = date::read(text) {
            return Ok(Stamp(micros));
        }
        let at: jiff::Timestamp = text.parse().map_err(|fault| format!("`{text}` is not an RFC 3339 instant: {fault}"))?;
        Ok(Stamp(at.as_microsecond()))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = date::write(self.0) {
            return f.write_str(std::str::from_utf8(&text).unwrap_or_default());
        }
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(at) => write!(f, "{at:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match date::write(self.0).as_ref().map(|text| std::str::from_utf8(text)) {
            Some(Ok(text)) => serializer.serialize_str(text),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Stamp, D::Error> {
        text::read(deserializer, Stamp::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_has_one_text_form_and_is_read_back() {
        let at = Stamp::new(1_795_253_580_000_001);
        assert_eq!(at.to_string(), "2026-11-21T09:33:00.000001Z");
        for at in [at, Stamp::new(0), Stamp::new(i64::MIN), Stamp::new(i64::MAX)] {
            assert_eq!(serde_json::to_string(&at).unwrap(), format!("\"{at}\""));
        }
        assert_eq!(Stamp::parse("2026-11-21T09:33:00.000001Z"), Ok(at));
    }
}
