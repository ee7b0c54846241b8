//! The charge of a stream that broke off: by the tokens of what it said, where the model's vocabulary is known, else by its bytes.
//!
//! Tokens are counted when the client has gone, or has been told that its answer broke off: nobody waits for them but the money. Must
//! not: decide what is charged.

use crate::gate::{Active, Ended, Gate, Hold, Uncounted, settle};
use crate::tokenizer;
use crate::wire::said::Said;
use tokio::runtime::Handle;

/// Whether the texts of a stream are to be kept for a count. Where a model may think unseen up to its limit, that is charged, whatever was said.
pub(super) fn may_count(active: &Active, hold: &Hold) -> bool {
    let card = &hold.card.card;
    active.config.settings.tokenizer.value && card.tokenizer.is_some() && hold.terms.hidden.is_some()
}

/// Settles a stream that broke off: at once, or in a task when there is something to count. That task may end, or never begin, at any
/// moment: by then the stream is settled, by tokens or by bytes.
pub(super) fn settle_broken(gate: &Gate, hold: Hold, ended: Ended, said: Said) {
    let Ended::Relayed { relayed, .. } = &ended else { return settle(gate, hold, ended) };
    let (bytes, vocabulary) = (relayed.bytes, hold.card.card.tokenizer);
    match (vocabulary, Handle::try_current()) {
        (Some(vocabulary), Ok(runtime)) if !said.is_empty() => {
            let uncounted = Uncounted::new(gate, hold, ended);
            drop(runtime.spawn(async move {
                if let Some(Some(tokens)) = tokenizer::aside(move || tokenizer::spoken(vocabulary, &said, bytes)).await {
                    uncounted.counted(tokens);
                }
            }));
        }
        _ => settle(gate, hold, ended),
    }
}
