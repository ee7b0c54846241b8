//! Money as whole pico-USD.

use super::text;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Pico-USD in one US dollar.
const PER_USD: i64 = 1_000_000_000_000;
/// Pico-USD in one micro-USD.
const PER_MICRO: i64 = 1_000_000;

/// An amount of money in pico-USD (10⁻¹² USD). Range: about ±9.2 million USD.
///
/// In JSON it is a string of decimal digits, because a number above 2⁵³ is not exact in every reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pico(i64);

/// Why a text is no amount of money.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not a plain decimal number.
    #[error("`{0}` is not a decimal number such as 5.00")]
    NotDecimal(String),
    /// Finer than the unit allows; amounts are never rounded.
    #[error("`{0}` has more than {1} decimals, and amounts are never rounded")]
    NotExact(String, usize),
    /// Above what can be held.
    #[error("`{0}` is larger than the largest amount (9,000,000 USD)")]
    TooLarge(String),
}

impl Pico {
    /// No money.
    pub const ZERO: Pico = Pico(0);
    /// The largest amount that can be held.
    pub const MAX: Pico = Pico(i64::MAX);

    /// From whole pico-USD.
    #[must_use]
    pub const fn new(pico: i64) -> Pico {
        Pico(pico)
    }

    /// From whole micro-USD; `None` when out of range.
    #[must_use]
    pub fn from_micro(micro: i64) -> Option<Pico> {
        micro.checked_mul(PER_MICRO).map(Pico)
    }

    /// Whole pico-USD.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Parses decimal USD, such as `5`, `5.00` or `0.0005`, exactly.
    ///
    /// # Errors
    /// When the text is not a non-negative decimal number, has more than 12 decimals, or is out of range.
    pub fn parse_usd(text: &str) -> Result<Pico, MoneyError> {
        Self::parse_decimal(text, 12)
    }

    /// Parses decimal USD per million units into pico-USD per unit, exactly: `0.15` is 150,000.
    ///
    /// # Errors
    /// When the text is not a non-negative decimal number, has more than 6 decimals, or is out of range.
    pub fn parse_usd_per_million(text: &str) -> Result<Pico, MoneyError> {
        Self::parse_decimal(text, 6)
    }

    fn parse_decimal(text: &str, decimals: usize) -> Result<Pico, MoneyError> {
        let trimmed = text.trim();
        let (whole, fraction) = trimmed.split_once('.').unwrap_or((trimmed, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
            return Err(MoneyError::NotDecimal(text.to_owned()));
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > decimals {
            return Err(MoneyError::NotExact(text.to_owned(), decimals));
        }
        let number = format!("{whole}{fraction:0<decimals$}");
        number.parse().map(Pico).map_err(|_| MoneyError::TooLarge(text.to_owned()))
    }

    /// The sum; `None` when out of range.
    #[must_use]
    pub fn plus(self, other: Pico) -> Option<Pico> {
        self.0.checked_add(other.0).map(Pico)
    }

    /// The difference; `None` when out of range.
    #[must_use]
    pub fn minus(self, other: Pico) -> Option<Pico> {
        self.0.checked_sub(other.0).map(Pico)
    }

    /// This unit price times a quantity; `None` when out of range.
    #[must_use]
    pub fn times(self, quantity: u64) -> Option<Pico> {
        i128::from(self.0).checked_mul(i128::from(quantity)).and_then(|wide| i64::try_from(wide).ok()).map(Pico)
    }

    /// Whether it is below zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Whole micro-USD, rounded towards zero: for display beside the exact amount.
    #[must_use]
    pub fn micro(self) -> i64 {
        self.0.checked_div(PER_MICRO).unwrap_or(0)
    }

    /// Dollars with at least two decimals and no more than are needed, such as `5.00` or `0.000125`.
    #[must_use]
    pub fn usd(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let units = self.0.unsigned_abs();
        let per = PER_USD.unsigned_abs();
        let (whole, rest) = (units.checked_div(per).unwrap_or(0), units.checked_rem(per).unwrap_or(0));
        let fraction = format!("{rest:012}");
        let short = fraction.trim_end_matches('0');
        format!("{sign}{whole}.{short:0<2}")
    }
}

impl fmt::Display for Pico {
    /// `$5.00`, `-$0.0016`; exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usd = self.usd();
        match usd.strip_prefix('-') {
            Some(amount) => write!(f, "-${amount}"),
            None => write!(f, "${usd}"),
        }
    }
}

impl Serialize for Pico {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text::decimal(self.0, &mut [0; text::DIGITS]))
    }
}

impl<'de> Deserialize<'de> for Pico {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pico, D::Error> {
        text::read(deserializer, |text| {
            let value = text.parse().map_err(|_| format!("`{text}` is not whole pico-USD"))?;
            let digits = text.strip_prefix('-').unwrap_or(text);
            let is_canonical = text == "0" || digits.starts_with(|first: char| matches!(first, '1'..='9'));
            if is_canonical { Ok(Pico(value)) } else { Err(format!("`{text}` is not canonical")) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_exactly_or_refused() {
        let rows = [("5", 5 * PER_USD), ("5.00", 5 * PER_USD), ("0.0005", 500_000_000), (".5", PER_USD / 2), ("0.000000000001", 1)];
        for (text, pico) in rows {
            assert_eq!(Pico::parse_usd(text), Ok(Pico(pico)), "{text}");
        }
        assert!(matches!(Pico::parse_usd("0.0000000000001"), Err(MoneyError::NotExact(..))));
        assert!(matches!(Pico::parse_usd("99999999999"), Err(MoneyError::TooLarge(_))));
        for text in ["", ".", "-1", "1e3", "five", "1,5", "+1", "NaN"] {
            assert!(matches!(Pico::parse_usd(text), Err(MoneyError::NotDecimal(_))), "{text}");
        }
        assert_eq!(Pico::parse_usd_per_million("0.15"), Ok(Pico(150_000)));
    }

    #[test]
    fn dollars_are_written_with_all_and_only_their_decimals() {
        let rows =
            [(0, "0.00"), (5 * PER_USD, "5.00"), (125_000_000, "0.000125"), (-1, "-0.000000000001"), (i64::MAX, "9223372.036854775807")];
        for (pico, text) in rows {
            assert_eq!(Pico(pico).usd(), text);
        }
        assert_eq!((Pico(-1_600_000_000).to_string(), Pico(0).to_string()), ("-$0.0016".to_owned(), "$0.00".to_owned()));
    }

    #[test]
    fn json_is_a_string_of_digits_and_nothing_else_is_read() {
        assert_eq!(serde_json::to_string(&Pico(i64::MAX)).ok(), Some("\"9223372036854775807\"".to_owned()));
        for text in ["5", "\"05\"", "\"+5\"", "\"5.0\"", "\"\"", "null"] {
            assert!(serde_json::from_str::<Pico>(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(pico in 0..i64::MAX) {
            proptest::prop_assert_eq!(Pico::parse_usd(&Pico(pico).usd()), Ok(Pico(pico)));
        }
    }
}
