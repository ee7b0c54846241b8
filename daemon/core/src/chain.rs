//! The hash chain over events.
//!
//! hash = SHA-256(previous hash ‖ seq ‖ time ‖ kind ‖ SHA-256(body)): 32 bytes, 8 bytes big-endian, 8 bytes big-endian
//! microseconds since 1970, the kind's UTF-8 bytes, 32 bytes. All but the kind have a fixed length, so the text is unambiguous.

use aex_proto::value::{Digest, Stamp};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// Where a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The last event's hash; zeros before the first.
    pub hash: Digest,
    /// The last event's number; 0 before the first.
    pub seq: i64,
}

impl Head {
    /// Before the first event.
    pub const START: Head = Head { seq: 0, hash: Digest::ZERO };

    /// The head after one more event.
    #[must_use]
    pub fn link(&self, at: Stamp, kind: &str, body: &Digest) -> Head {
        let seq = self.seq.saturating_add(1);
        let mut hasher = sha2::Sha256::new();
        hasher.update(self.hash.bytes());
        hasher.update(seq.to_be_bytes());
        hasher.update(at.micros().to_be_bytes());
        hasher.update(kind.as_bytes());
        hasher.update(body.bytes());
        Head { seq, hash: Digest::from_bytes(hasher.finalize().into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_link_is_what_any_sha256_tool_computes() {
        // printf of 32 zero bytes, 00..01, 00..02, "epoch.closed" and the SHA-256 of `{}`, piped through sha256sum.
        let mut text = vec![0; 32];
        text.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
        text.extend(b"epoch.closed");
        text.extend(Digest::of(b"{}").bytes());
        let head = Head::START.link(Stamp::new(2), "epoch.closed", &Digest::of(b"{}"));
        assert_eq!(head, Head { seq: 1, hash: Digest::of(&text) });
        assert_eq!(head.hash.to_string(), "ea8b53dedcabb61aa7c98db9770f71fa8e5c5bc7205e9489457be68379b7bef1");
    }
}
