//! The event that ends a stream which cannot go on, in the stream's own dialect. The connection is broken after it, not ended
//! cleanly: every SDK takes a clean end for a whole answer.

use super::fault::of_provider;
use super::{Addressee, Refusal, UpstreamFault, worded};
use crate::wire::dialect::Dialect;
use aex_core::decision::Denial;
use bytes::Bytes;

/// The event for a fault.
#[must_use]
pub fn stream_fault(fault: UpstreamFault, dialect: Dialect, to: Addressee) -> Bytes {
    event(&of_provider(fault, "The provider").told(to), dialect, to)
}

/// The event for a denial that came within the answer: that of a call which would begin now.
#[must_use]
pub fn stream_denial(denial: &Denial, dialect: Dialect, to: Addressee) -> Bytes {
    event(&worded(denial, to), dialect, to)
}

fn event(refusal: &Refusal, dialect: Dialect, to: Addressee) -> Bytes {
    match dialect {
        Dialect::Chat | Dialect::Completions | Dialect::Embeddings => [b"data: ".as_slice(), &refusal.body(to), b"\n\n"].concat().into(),
        // Anthropic's SDKs pass over an event without a name.
        Dialect::CountTokens | Dialect::Messages => [b"event: error\ndata: ".as_slice(), &refusal.body(to), b"\n\n"].concat().into(),
    }
}
