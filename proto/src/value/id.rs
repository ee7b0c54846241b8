//! Ids and digests.

use super::text;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(i64);

        impl $name {
            /// From its number.
            #[must_use]
            pub const fn new(number: i64) -> Self {
                Self(number)
            }

            /// Its number.
            #[must_use]
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// An account of the tree. Numbers are never used twice; a name may be.
    AccountId
);
number_id!(
    /// One account's balance in one window.
    BalanceId
);

impl AccountId {
    /// The account of the whole machine, from which all others descend.
    pub const ROOT: AccountId = AccountId(1);
}

/// One request of a client. Its text form is `req_` and 16 hex digits: 6 for the daemon's epoch, 10 for a counter in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

impl RequestId {
    /// Bits of the counter below the epoch.
    const COUNTER_BITS: u32 = 40;

    /// The `counter`-th request of an epoch. Wraps after 2⁴⁰ requests in one epoch and 2²⁴ epochs.
    #[must_use]
    pub fn new(epoch: u32, counter: u64) -> RequestId {
        let low = counter & (u64::MAX >> 24);
        RequestId(u64::from(epoch).wrapping_shl(Self::COUNTER_BITS) | low)
    }

    /// The epoch that it was given out in.
    #[must_use]
    pub fn epoch(self) -> u32 {
        u32::try_from(self.0.wrapping_shr(Self::COUNTER_BITS)).unwrap_or(u32::MAX)
    }

    /// From its number.
    #[must_use]
    pub const fn from_bits(bits: u64) -> RequestId {
        RequestId(bits)
    }

    /// Its number.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "req_{:016x}", self.0)
    }
}

impl FromStr for RequestId {
    type Err = String;

    fn from_str(text: &str) -> Result<RequestId, String> {
        text.strip_prefix("req_")
            .filter(|hex| hex.len() == 16)
            .and_then(|hex| u64::from_str_radix(hex, 16).ok())
            .map(RequestId)
            .ok_or_else(|| format!("`{text}` is not a request id such as req_0000010000000001"))
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = *b"req_0000000000000000";
        let (_, digits) = text.split_at_mut(4);
        hex::encode_to_slice(self.0.to_be_bytes(), digits).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RequestId, D::Error> {
        text::read(deserializer, str::parse)
    }
}

/// A SHA-256 digest. Its text form is 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// 32 zero bytes: what the first event of a chain follows.
    pub const ZERO: Digest = Digest([0; 32]);

    /// The SHA-256 of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(sha2::Sha256::digest(bytes).into())
    }

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Digest, String> {
        digits(text).map(Digest).ok_or_else(|| format!("`{text}` is not a SHA-256 digest of 64 hex digits"))
    }
}

/// 64 hex digits; a look-up for each, because an audit reads millions.
fn digits(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (VALUES.get(usize::from(*high))?, VALUES.get(usize::from(*low))?);
        if (high | low) > 15 {
            return None;
        }
        *byte = high.wrapping_shl(4) | low;
    }
    Some(bytes)
}

/// The value of each byte as a hex digit; 255 when it is none.
#[expect(clippy::indexing_slicing, clippy::as_conversions, clippy::cast_possible_truncation, reason = "computed while it is compiled")]
const VALUES: [u8; 256] = {
    let mut values = [255; 256];
    let digits = b"0123456789abcdefABCDEF";
    let mut at = 0;
    while at < digits.len() {
        values[digits[at] as usize] = if at < 16 { at as u8 } else { at as u8 - 6 };
        at += 1;
    }
    values
};

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; 64];
        hex::encode_to_slice(self.0, &mut text).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        text::read(deserializer, str::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_from_64_hex_digits_and_nothing_else() {
        let digest = Digest::of(b"x");
        assert_eq!((digest.to_string().parse(), digest.to_string().to_uppercase().parse()), (Ok(digest), Ok(digest)));
        assert_eq!(Digest::from_bytes([0xfa; 32]).to_string().parse(), Ok(Digest::from_bytes([0xfa; 32])));
        let zeros = "0".repeat(63);
        for text in [String::new(), zeros.clone(), format!("{zeros}g"), format!("{zeros}00"), format!("{zeros}é"), format!(" {zeros}")] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_request_id_is_its_epoch_and_counter_and_is_read_back() {
        let id = RequestId::new(3, 17);
        assert_eq!(id.to_string(), "req_0000030000000011");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(serde_json::to_string(&id).unwrap(), r#""req_0000030000000011""#);
        for text in ["", "req_", "req_3", "0000030000000011", "req_00000300000000zz"] {
            assert!(text.parse::<RequestId>().is_err(), "{text}");
        }
    }
}
