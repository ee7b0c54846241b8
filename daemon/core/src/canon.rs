//! Canonical JSON: keys sorted, no white space, whole numbers only, strings escaped as RFC 8785 has it.
//!
//! Types whose fields are declared in alphabetical order and hold no float serialise to it directly; `serde_json` escapes
//! strings as RFC 8785 does. Money and 64-bit ids are strings, because a double holds whole numbers up to 2⁵³ only.

use aex_proto::value::Digest;
use serde::Serialize;

/// The canonical text of a value. A value that cannot be serialised (none of ours can fail) gives an empty text.
#[must_use]
pub fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The canonical text of a value and its digest.
#[must_use]
pub fn snapshot<T: Serialize>(value: &T) -> (String, Digest) {
    let text = text(value);
    let digest = Digest::of(text.as_bytes());
    (text, digest)
}

/// Whether a text is canonical JSON as written here.
#[must_use]
pub fn is_canonical(text: &str) -> bool {
    // serde_json's map sorts its keys, so writing the parsed value again is the canonical form.
    serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| self::text(&value) == text)
}
