//! Reads a value from its text where that stands, and writes one without a formatter: an audit reads millions, the ledger writes a
//! dozen for each call.

use serde::Deserializer;
use serde::de::{Error, Visitor};
use std::fmt;

struct Text<T>(fn(&str) -> Result<T, String>);

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

/// The value that a string says.
pub(super) fn read<'de, D: Deserializer<'de>, T>(deserializer: D, read: fn(&str) -> Result<T, String>) -> Result<T, D::Error> {
    deserializer.deserialize_str(Text(read))
}

/// Room for the digits of any number.
pub(super) const DIGITS: usize = 20;

/// A number in decimal digits.
pub(super) fn decimal(number: i64, room: &mut [u8; DIGITS]) -> &str {
    let (mut left, mut from) = (number.unsigned_abs(), DIGITS);
    for place in room.iter_mut().rev() {
        from = from.saturating_sub(1);
        *place = b'0'.saturating_add(u8::try_from(left % 10).unwrap_or(0));
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if number < 0 {
        from = from.saturating_sub(1);
        room.get_mut(from).into_iter().for_each(|place| *place = b'-');
    }
    room.get(from..).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ends_of_the_range_are_written_in_full() {
        for number in [0, 1, -1, 9, 10, -10, i64::MAX, i64::MIN] {
            assert_eq!(decimal(number, &mut [0; DIGITS]), number.to_string());
        }
    }

    proptest! {
        #[test]
        fn a_number_is_written_as_the_general_writer_does(number: i64, shift in 0_u32..63) {
            let (number, mut room) = (number >> shift, [0; DIGITS]);
            prop_assert_eq!(decimal(number, &mut room), number.to_string());
        }
    }
}
