//! Agent tokens: their text, their checksum and the digest that is stored.

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;
use subtle::ConstantTimeEq;

/// What every token begins with.
const PREFIX: &str = "aex_";
/// Random base62 digits of a token: 30 × log₂ 62 ≈ 178 bits.
const RANDOM_DIGITS: usize = 30;
/// Digits of the checksum behind them.
const CHECK_DIGITS: usize = 6;
/// Bytes of a token.
const TOKEN_BYTES: usize = PREFIX.len() + RANDOM_DIGITS + CHECK_DIGITS;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A token in the one answer that creates it. Debug hides it; serialising it is the reveal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NewToken(String);

impl NewToken {
    /// Wraps a token's text.
    #[must_use]
    pub const fn new(text: String) -> NewToken {
        NewToken(text)
    }

    /// The token itself. Callers: the answer that creates it, the command that shows it once, the child of a run.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewToken(***)")
    }
}

/// Why a text cannot be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Neither `aex_` and 36 base62 digits, nor the earlier program's 32 hex digits.
    #[error("is not of the form of a token")]
    Form,
    /// The checksum does not fit: a character was changed or left out.
    #[error("has a wrong checksum: a character was changed or left out")]
    Checksum,
}

/// The SHA-256 of a token's text: all that is stored of it. Compared in constant time.
#[derive(Clone, Copy, Debug, Eq, PartialOrd, Ord)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Checks the form of a token and hashes it.
    ///
    /// # Errors
    /// When the text cannot be a token; such a text need not be looked up.
    pub fn of(text: &str) -> Result<TokenHash, TokenError> {
        check_form(text)?;
        Ok(TokenHash(sha2::Sha256::digest(text.as_bytes()).into()))
    }

    /// From its bytes, as stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> TokenHash {
        TokenHash(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hex digits: enough to name a token to a person, useless to a thief.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(self.0).chars().take(12).collect()
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &TokenHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Whether a token of ours stands anywhere in these bytes. The earlier program's have no mark to be found by: among other text any
/// digest looks like one.
#[must_use]
pub fn holds_token(bytes: &[u8]) -> bool {
    let is_token =
        |window: &[u8]| window.starts_with(PREFIX.as_bytes()) && std::str::from_utf8(window).is_ok_and(|text| check_form(text).is_ok());
    bytes.windows(TOKEN_BYTES).any(is_token)
}

fn check_form(text: &str) -> Result<(), TokenError> {
    let Some(digits) = text.strip_prefix(PREFIX) else {
        let old = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        return if old { Ok(()) } else { Err(TokenError::Form) };
    };
    let (random, check) = digits.split_at_checked(RANDOM_DIGITS).ok_or(TokenError::Form)?;
    if check.len() != CHECK_DIGITS || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(TokenError::Form);
    }
    if checksum(random) == check { Ok(()) } else { Err(TokenError::Checksum) }
}

/// Makes a token of 32 random bytes: `aex_`, 30 base62 digits of randomness and 6 of checksum.
#[must_use]
pub fn token_text(random: &[u8; 32]) -> NewToken {
    let digits = base62(random, RANDOM_DIGITS);
    let check = checksum(&digits);
    NewToken(format!("{PREFIX}{digits}{check}"))
}

/// The low base62 digits of the SHA-256, taken as a big-endian number. It is asked for each call, so the number is not divided as a whole.
fn checksum(random: &str) -> String {
    const SPAN: u64 = 62_u64.pow(6);
    const { assert!(CHECK_DIGITS == 6) };
    let digest = sha2::Sha256::digest(random.as_bytes());
    let low = digest.iter().fold(0, |low: u64, byte| ((low << 8) | u64::from(*byte)) % SPAN);
    base62(&low.to_be_bytes(), CHECK_DIGITS)
}

/// The low `count` base62 digits of a big-endian number, by repeated division.
fn base62(number: &[u8], count: usize) -> String {
    let mut number = number.to_vec();
    let mut text = String::with_capacity(count);
    for _ in 0..count {
        let mut rest: u16 = 0;
        for byte in &mut number {
            let wide = (rest << 8) | u16::from(*byte);
            *byte = u8::try_from(wide.checked_div(62).unwrap_or(0)).unwrap_or(0);
            rest = wide.checked_rem(62).unwrap_or(0);
        }
        text.push(char::from(BASE62.get(usize::from(rest)).copied().unwrap_or(b'0')));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_with_one_character_changed_is_refused_without_a_look_up() {
        let token = token_text(&[7; 32]);
        let text = token.expose();
        assert_eq!(text.len(), 40);
        assert!(TokenHash::of(text).is_ok());
        for at in PREFIX.len()..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = if *byte == b'x' { b'y' } else { b'x' };
            }
            let changed = String::from_utf8(bytes).unwrap_or_default();
            assert_eq!(TokenHash::of(&changed), Err(TokenError::Checksum), "{changed}");
        }
    }

    #[test]
    fn the_checksum_is_the_low_digits_of_the_whole_number() {
        for text in (0..500).map(|number| format!("{number:030}")) {
            assert_eq!(checksum(&text), base62(&sha2::Sha256::digest(text.as_bytes()), CHECK_DIGITS), "{text}");
        }
    }

    #[test]
    fn the_earlier_programs_tokens_keep_their_form() {
        assert!(TokenHash::of("0123456789abcdef0123456789abcdef").is_ok());
        for text in ["", "aex_", "sk-123", "0123456789ABCDEF0123456789abcdef", "aex_short", "aex_é"] {
            assert_eq!(TokenHash::of(text), Err(TokenError::Form), "{text}");
        }
    }

    #[test]
    fn a_token_is_found_among_other_bytes() {
        let token = token_text(&[7; 32]);
        let text = token.expose();
        for holding in [text.to_owned(), format!("Basic {text}"), format!("aex_aex_{text}xyz"), format!("é?k={text}&b=1")] {
            assert!(holds_token(holding.as_bytes()), "{holding}");
        }
        let cut = text.get(..39).unwrap_or_default();
        for other in ["", "aex_", cut, &text.to_lowercase(), "0123456789abcdef0123456789abcdef", &"aex_".repeat(20)] {
            assert!(!holds_token(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_new_token_is_hidden_from_debug_output() {
        assert_eq!(format!("{:?}", token_text(&[1; 32])), "NewToken(***)");
    }
}
