//! Ways for a text not to be JSON.

use super::MAX_DEPTH;
use std::fmt;

/// What is wrong with a text, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flaw} at byte {at}")]
pub struct Fault {
    /// Offset of the byte.
    pub at: usize,
    /// What is wrong there.
    pub flaw: Flaw,
}

/// Ways for a text not to be JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The bytes are not UTF-8.
    NotUtf8,
    /// The text ends within a value.
    EndsEarly,
    /// Another byte is due.
    Expected(&'static str),
    /// A control character stands in a string.
    ControlCharacter,
    /// A backslash is not followed by an escape.
    BadEscape,
    /// Half of a surrogate pair.
    LoneSurrogate,
    /// More than [`MAX_DEPTH`] levels.
    TooDeep,
    /// Something follows the value.
    TrailingText,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::NotUtf8 => f.write_str("bytes that are not UTF-8"),
            Flaw::EndsEarly => f.write_str("the text ends early"),
            Flaw::Expected(what) => write!(f, "expected {what}"),
            Flaw::ControlCharacter => f.write_str("a control character in a string"),
            Flaw::BadEscape => f.write_str("an unknown escape in a string"),
            Flaw::LoneSurrogate => f.write_str("half of a surrogate pair"),
            Flaw::TooDeep => write!(f, "more than {MAX_DEPTH} levels of nesting"),
            Flaw::TrailingText => f.write_str("text after the value"),
        }
    }
}
