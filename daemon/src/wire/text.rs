//! A JSON string as it stands, and what it says.

use std::borrow::Cow;
use std::ops::Range;

/// A string in the text.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// What stands between its quotes.
    pub raw: &'a str,
    /// Offset of the first of them.
    pub start: usize,
    /// Bytes of its escapes beyond one for each character that they stand for.
    pub(super) excess: usize,
    /// Whether the whole document is ASCII.
    pub(super) ascii: bool,
}

impl<'a> Text<'a> {
    /// Its span with the quotes.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.start - 1..self.start + self.raw.len() + 1
    }

    /// Whether it says `name`, however it is escaped.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        if self.excess == 0 { self.raw == name } else { self.unescape() == name }
    }

    /// Its characters, each escape counted as what it stands for.
    #[must_use]
    pub fn chars(&self) -> usize {
        let written = if self.ascii { self.raw.len() } else { self.raw.chars().count() };
        written - self.excess
    }

    /// What it says.
    #[must_use]
    pub fn unescape(&self) -> Cow<'a, str> {
        if self.excess == 0 { Cow::Borrowed(self.raw) } else { Cow::Owned(unescape(self.raw)) }
    }

    /// Puts what it says behind a text.
    pub(super) fn unescape_into(&self, said: &mut String) {
        if self.excess == 0 { said.push_str(self.raw) } else { unescape_into(said, self.raw) }
    }
}

/// Undoes the escapes of a string that was scanned before.
pub(super) fn unescape(written: &str) -> String {
    let mut said = String::with_capacity(written.len());
    unescape_into(&mut said, written);
    said
}

fn unescape_into(said: &mut String, written: &str) {
    let mut rest = written;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        said.push_str(plain);
        let mut chars = escaped.chars();
        match chars.next() {
            Some('n') => said.push('\n'),
            Some('t') => said.push('\t'),
            Some('r') => said.push('\r'),
            Some('b') => said.push('\u{8}'),
            Some('f') => said.push('\u{c}'),
            Some('u') => {
                let high = unit(chars.as_str());
                chars = skipped(chars.as_str(), 4).chars();
                let paired = (0xd800..0xdc00).contains(&high);
                let code = if paired {
                    0x10000 + ((high - 0xd800) << 10) + (unit(skipped(chars.as_str(), 2)).wrapping_sub(0xdc00) & 0x3ff)
                } else {
                    high
                };
                chars = skipped(chars.as_str(), if paired { 6 } else { 0 }).chars();
                said.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(itself) => said.push(itself),
            None => {}
        }
        rest = chars.as_str();
    }
    said.push_str(rest);
}

fn unit(hex: &str) -> u32 {
    hex.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

fn skipped(text: &str, bytes: usize) -> &str {
    text.get(bytes..).unwrap_or_default()
}
