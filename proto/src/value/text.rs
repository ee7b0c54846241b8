//! Reads a value from its text where that stands: an audit reads millions, and each copy would be one more allocation.

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
