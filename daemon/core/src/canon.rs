//! Canonical JSON: keys sorted, no white space, whole numbers only, strings escaped as RFC 8785 has it.
//!
//! Types whose fields are declared in alphabetical order and hold no float serialise to it directly; `serde_json` escapes
//! strings as RFC 8785 does. Money and 64-bit ids are strings, because a double holds whole numbers up to 2⁵³ only.

use aex_proto::value::Digest;
use serde::Serialize;
use std::io::{self, Write};

/// The canonical text of a value. A value that cannot be serialised (none of ours can fail) gives an empty text.
#[must_use]
pub fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Writes the canonical text of a value behind what is there already, so that a buffer can be used again.
pub fn write<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    let from = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(from);
    }
}

/// The canonical text of a value and its digest.
#[must_use]
pub fn snapshot<T: Serialize>(value: &T) -> (String, Digest) {
    let text = text(value);
    let digest = Digest::of(text.as_bytes());
    (text, digest)
}

/// Whether a text is the canonical text of a value: compared as it is written, without a copy.
#[must_use]
pub fn is_text_of<T: Serialize>(value: &T, text: &str) -> bool {
    let mut rest = Rest(text.as_bytes());
    serde_json::to_writer(&mut rest, value).is_ok() && rest.0.is_empty()
}

/// What is still to be written.
struct Rest<'a>(&'a [u8]);

impl Write for Rest<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or(io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a text is canonical JSON as written here.
#[must_use]
pub fn is_canonical(text: &str) -> bool {
    // serde_json's map sorts its keys, so writing the parsed value again is the canonical form.
    serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| self::text(&value) == text)
}
