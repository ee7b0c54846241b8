//! A strict JSON scanner (RFC 8259): one pass over the bytes, no document tree, no allocation, no recursion.
//!
//! The reader pulls: it opens an object or a list, takes key after key, and reads or skips each value. What it skips is
//! checked as strictly as what it reads. Must not: interpret a field.

mod fault;

pub use fault::{Fault, Flaw};

use super::text::Text;
use memchr::memchr2;
use std::ops::Range;

/// Levels of nesting; deeper text is refused. As many as `serde_json` takes, so that what is read here can be read there; the skipper's
/// stack of open brackets is one `u128`.
pub const MAX_DEPTH: u32 = 127;
/// Bytes of a string that are looked at eight by eight before `memchr` is worth its call.
const NEAR: usize = 32;

/// What a value is, told by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    List,
    /// `"…"`
    Text,
    /// A number.
    Number,
    /// `true`
    True,
    /// `false`
    False,
    /// `null`
    Null,
}

/// A number, as far as counting needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Digits alone; what is beyond `u64` is `u64::MAX`.
    Natural(u64),
    /// Zero written otherwise: `-0`, `0.0`, `0e9`.
    Zero,
    /// Negative, fractional, or with an exponent.
    Other,
}

/// An object or a list that is being read.
#[derive(Debug)]
#[must_use]
pub struct Open {
    empty: bool,
}

/// The scanner: a place in a text.
#[derive(Debug)]
pub struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: u32,
    ascii: bool,
    unicode: bool,
}

impl<'a> Scanner<'a> {
    /// At the start of a text, after its encoding was checked.
    ///
    /// # Errors
    /// When the bytes are not UTF-8.
    pub fn new(bytes: &'a [u8]) -> Result<Scanner<'a>, Fault> {
        let text = std::str::from_utf8(bytes).map_err(|fault| Fault { at: fault.valid_up_to(), flaw: Flaw::NotUtf8 })?;
        let ascii = text.is_ascii();
        Ok(Scanner { text, bytes, at: 0, depth: 0, ascii, unicode: !ascii })
    }

    /// The whole text.
    #[must_use]
    pub fn whole(&self) -> &'a str {
        self.text
    }

    /// Whether anything but ASCII was met up to here: the whole text is looked at for raw bytes, what was passed for `\u`.
    #[must_use]
    pub fn beyond_ascii(&self) -> bool {
        self.unicode
    }

    /// The offset of the next byte to read.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// What the next value is.
    ///
    /// # Errors
    /// When no value begins here.
    #[inline]
    pub fn kind(&mut self) -> Result<Kind, Fault> {
        self.space();
        match self.bytes.get(self.at) {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::List),
            Some(b'"') => Ok(Kind::Text),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't') => Ok(Kind::True),
            Some(b'f') => Ok(Kind::False),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => Err(self.fault(Flaw::Expected("a value"))),
            None => Err(self.fault(Flaw::EndsEarly)),
        }
    }

    /// Opens an object.
    ///
    /// # Errors
    /// When none begins here, or it lies too deep.
    pub fn object(&mut self) -> Result<Open, Fault> {
        self.enter(b'{', "an object")?;
        Ok(Open { empty: true })
    }

    /// Opens a list.
    ///
    /// # Errors
    /// When none begins here, or it lies too deep.
    pub fn list(&mut self) -> Result<Open, Fault> {
        self.enter(b'[', "a list")?;
        Ok(Open { empty: true })
    }

    /// The next key of an object; its value must be read or skipped before the next call. `None` closes the object.
    ///
    /// # Errors
    /// When the text is not JSON here.
    #[inline]
    pub fn key(&mut self, open: &mut Open) -> Result<Option<Text<'a>>, Fault> {
        if !self.more(open, b'}', "`,` or `}`")? {
            return Ok(None);
        }
        self.name().map(Some)
    }

    /// Whether a list has another item, which must be read or skipped before the next call. `false` closes the list.
    ///
    /// # Errors
    /// When the text is not JSON here.
    #[inline]
    pub fn item(&mut self, open: &mut Open) -> Result<bool, Fault> {
        self.more(open, b']', "`,` or `]`")
    }

    /// Reads a string.
    ///
    /// # Errors
    /// When none stands here, or it is malformed.
    pub fn text(&mut self) -> Result<Text<'a>, Fault> {
        self.expect(b'"', "a string")?;
        self.string()
    }

    /// Reads a number.
    ///
    /// # Errors
    /// When none stands here, or it is malformed.
    pub fn number(&mut self) -> Result<Number, Fault> {
        self.space();
        let start = self.at;
        self.digits_and_signs()?;
        let written = self.bytes.get(start..self.at).unwrap_or_default();
        if written.iter().all(u8::is_ascii_digit) {
            let step = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
            return Ok(Number::Natural(written.iter().try_fold(0, step).unwrap_or(u64::MAX)));
        }
        let mantissa = written.split(|byte| matches!(byte, b'e' | b'E')).next().unwrap_or_default();
        Ok(if mantissa.iter().any(|byte| matches!(byte, b'1'..=b'9')) { Number::Other } else { Number::Zero })
    }

    /// Skips a value and gives its span. Non-recursive: which brackets are open is a stack of bits.
    ///
    /// # Errors
    /// When the value is malformed.
    pub fn skip(&mut self) -> Result<Range<usize>, Fault> {
        self.space();
        let start = self.at;
        let floor = self.depth;
        let mut objects = 0_u128;
        loop {
            match self.kind()? {
                Kind::Object => {
                    self.enter(b'{', "an object")?;
                    objects = objects << 1 | 1;
                    if !self.closes(b'}') {
                        self.name()?;
                        continue;
                    }
                    objects >>= 1;
                }
                Kind::List => {
                    self.enter(b'[', "a list")?;
                    objects <<= 1;
                    if !self.closes(b']') {
                        continue;
                    }
                    objects >>= 1;
                }
                Kind::Text => {
                    self.at += 1;
                    self.string()?;
                }
                Kind::Number => self.digits_and_signs()?,
                Kind::True => self.literal(b"true")?,
                Kind::False => self.literal(b"false")?,
                Kind::Null => self.literal(b"null")?,
            }
            // A value has ended, and with it all brackets that close here.
            loop {
                if self.depth == floor {
                    return Ok(start..self.at);
                }
                let object = objects & 1 == 1;
                if self.closes(if object { b'}' } else { b']' }) {
                    objects >>= 1;
                    continue;
                }
                self.expect(b',', if object { "`,` or `}`" } else { "`,` or `]`" })?;
                if object {
                    self.name()?;
                }
                break;
            }
        }
    }

    /// Skips a value whose span nobody needs.
    ///
    /// # Errors
    /// When the value is malformed.
    pub fn pass(&mut self) -> Result<(), Fault> {
        self.skip().map(|_| ())
    }

    /// Checks that nothing follows.
    ///
    /// # Errors
    /// When something does.
    pub fn finish(&mut self) -> Result<(), Fault> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.fault(Flaw::TrailingText)) }
    }

    fn fault(&self, flaw: Flaw) -> Fault {
        Fault { at: self.at, flaw }
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Fault> {
        self.space();
        match self.bytes.get(self.at) {
            Some(found) if *found == byte => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(self.fault(Flaw::Expected(what))),
            None => Err(self.fault(Flaw::EndsEarly)),
        }
    }

    #[inline]
    fn enter(&mut self, bracket: u8, what: &'static str) -> Result<(), Fault> {
        self.space();
        if self.depth == MAX_DEPTH {
            return Err(self.fault(Flaw::TooDeep));
        }
        self.expect(bracket, what)?;
        self.depth += 1;
        Ok(())
    }

    #[inline]
    fn closes(&mut self, bracket: u8) -> bool {
        self.space();
        let closes = self.bytes.get(self.at) == Some(&bracket);
        if closes {
            self.at += 1;
            self.depth -= 1;
        }
        closes
    }

    #[inline]
    fn more(&mut self, open: &mut Open, bracket: u8, what: &'static str) -> Result<bool, Fault> {
        if self.closes(bracket) {
            return Ok(false);
        }
        if !open.empty {
            self.expect(b',', what)?;
        }
        open.empty = false;
        Ok(true)
    }

    #[inline]
    fn name(&mut self) -> Result<Text<'a>, Fault> {
        self.expect(b'"', "a key in quotes")?;
        let name = self.string()?;
        self.expect(b':', "`:`")?;
        Ok(name)
    }

    /// A string whose opening quote was read.
    #[inline]
    fn string(&mut self) -> Result<Text<'a>, Fault> {
        let start = self.at;
        let mut excess = 0;
        loop {
            self.at = plain_end(self.bytes, self.at);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    let raw = self.text.get(start..self.at).unwrap_or_default();
                    self.at += 1;
                    return Ok(Text { raw, start, excess, ascii: self.ascii });
                }
                Some(b'\\') => excess += self.escape()?,
                Some(_) => return Err(self.fault(Flaw::ControlCharacter)),
                None => return Err(self.fault(Flaw::EndsEarly)),
            }
        }
    }

    /// Passes an escape and gives its bytes beyond one.
    fn escape(&mut self) -> Result<usize, Fault> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(1)
            }
            Some(b'u') => {
                self.unicode = true;
                let first = self.code_unit()?;
                if !(0xd800..0xe000).contains(&first) {
                    return Ok(5);
                }
                if first >= 0xdc00 || self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
                    return Err(self.fault(Flaw::LoneSurrogate));
                }
                if (0xdc00..0xe000).contains(&self.code_unit()?) { Ok(11) } else { Err(self.fault(Flaw::LoneSurrogate)) }
            }
            Some(_) => Err(self.fault(Flaw::BadEscape)),
            None => Err(self.fault(Flaw::EndsEarly)),
        }
    }

    fn code_unit(&mut self) -> Result<u32, Fault> {
        let digits = self.bytes.get(self.at + 2..self.at + 6).ok_or(self.fault(Flaw::EndsEarly))?;
        let step = |sum: u32, digit: &u8| char::from(*digit).to_digit(16).map(|digit| sum << 4 | digit);
        let code = digits.iter().try_fold(0, step).ok_or(self.fault(Flaw::BadEscape))?;
        self.at += 6;
        Ok(code)
    }

    fn digits_and_signs(&mut self) -> Result<(), Fault> {
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.fault(Flaw::Expected("a digit"))) }
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<(), Fault> {
        if self.bytes.get(self.at..self.at + word.len()) != Some(word) {
            return Err(self.fault(Flaw::Expected("a value")));
        }
        self.at += word.len();
        Ok(())
    }
}

/// The first byte from `from` on that is no plain text of a string: a quote, a backslash or a control character; else the end.
#[inline]
fn plain_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while at < from + NEAR
        && let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk)
    {
        let special = specials(u64::from_le_bytes(*word));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let plain = rest.get(..memchr2(b'"', b'\\', rest).unwrap_or(rest.len())).unwrap_or_default();
    // Folded whole, so that it becomes a vector loop.
    let controls = plain.iter().fold(false, |found, byte| found | (*byte < 0x20));
    at + if controls { plain.iter().position(|byte| *byte < 0x20).unwrap_or(plain.len()) } else { plain.len() }
}

/// Eight bytes at once: the lowest bit set lies in the first quote, backslash or control character. Bits above it may lie.
#[inline]
fn specials(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    (below(word ^ (ONES * 0x22), 1) | below(word ^ (ONES * 0x5c), 1) | below(word, 0x20)) & (ONES * 0x80)
}

#[cfg(test)]
mod tests;
