//! The event that ends a stream which cannot go on, in the stream's own dialect. The connection is broken after it, not ended
//! cleanly: every SDK takes a clean end for a whole answer.

use super::fault::of_provider;
use super::{Addressee, Refusal, UpstreamFault, worded};
use crate::wire::dialect::Dialect;
use crate::wire::stream::Meter;
use aex_core::decision::Denial;
use bytes::Bytes;
use serde_json::json;

/// The event for a fault.
#[must_use]
pub fn stream_fault(fault: UpstreamFault, dialect: Dialect, to: Addressee, meter: &Meter) -> Bytes {
    event(&of_provider(fault, "The provider").told(to), dialect, to, meter)
}

/// The event for a denial that came within the answer: that of a call which would begin now.
#[must_use]
pub fn stream_denial(denial: &Denial, dialect: Dialect, to: Addressee, meter: &Meter) -> Bytes {
    event(&worded(denial, to), dialect, to, meter)
}

fn event(refusal: &Refusal, dialect: Dialect, to: Addressee, meter: &Meter) -> Bytes {
    match dialect {
        Dialect::Chat | Dialect::Completions | Dialect::Embeddings => [b"data: ".as_slice(), &refusal.body(to), b"\n\n"].concat().into(),
        // Anthropic's SDKs pass over an event without a name.
        Dialect::CountTokens | Dialect::Messages => [b"event: error\ndata: ".as_slice(), &refusal.body(to), b"\n\n"].concat().into(),
        Dialect::Responses => failed_response(refusal, to, meter),
    }
}

/// `response.failed`, numbered as the stream is, about the response that the stream began.
fn failed_response(refusal: &Refusal, to: Addressee, meter: &Meter) -> Bytes {
    let kept = meter.kept.as_deref();
    let id = kept.map(|kept| kept.id.clone()).filter(|id| !id.is_empty()).unwrap_or_else(|| format!("resp_{}", to.request));
    let event = json!({"type": "response.failed", "sequence_number": meter.next_sequence, "response": {
        "id": id, "object": "response", "created_at": kept.map_or(0, |kept| kept.created_at), "status": "failed",
        "error": {"code": refusal.code, "message": refusal.message}, "incomplete_details": null, "output": [], "usage": null,
    }});
    Bytes::from(format!("event: response.failed\ndata: {event}\n\n"))
}
