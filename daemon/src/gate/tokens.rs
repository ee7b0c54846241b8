//! Tokens per minute of a call: taken at its admission, corrected when it ends.

use super::{Card, Gate};
use crate::ledger::{AccountView, Ending};
use crate::os::clock;
use aex_core::ask::Ask;
use aex_core::decision::Denial;
use aex_core::rate::{Counted, Spent, Taken};

/// Tokens that a call took. Dropped without a correction they stay taken until they leave the window.
#[derive(Debug)]
pub(super) struct TakenTokens {
    gate: Gate,
    /// `None` where no limit counts them.
    taken: Option<Taken>,
}

impl TakenTokens {
    /// Replaces the estimate by what was used.
    pub(super) fn correct(self, used: u64) {
        if let (Some(taken), Ok(mut tokens)) = (&self.taken, self.gate.inner.tokens.lock()) {
            tokens.correct(taken, used);
        }
    }

    /// Corrects by how the call ended; nobody knows what a worst case used.
    pub(super) fn end(self, ending: &Ending) {
        if let Some(used) = ending.tokens() {
            self.correct(used);
        }
    }
}

impl Gate {
    /// Takes a call's estimate on every level of its path, and of its model, that has a limit; or on none.
    pub(super) fn take_tokens(&self, view: &AccountView, card: &Card, ask: &Ask, max_tokens: u64) -> Result<TakenTokens, Denial> {
        let accounts = view.limits.iter().filter_map(|(account, limits)| Some((Counted::Account(*account), limits.tpm?)));
        let model = card.card.max_tokens_per_minute.map(|limit| (Counted::Model(card.card.name.clone()), limit));
        let levels: Vec<(Counted, u32)> = accounts.chain(model).collect();
        if levels.is_empty() {
            return Ok(TakenTokens { gate: self.clone(), taken: None });
        }
        let asked = ask.estimated_tokens(max_tokens);
        // A panic while they were held: they cannot be trusted, so nothing passes.
        let mut tokens = self.inner.tokens.lock().map_err(|_| Denial::LedgerUnavailable)?;
        let taken = tokens.take(levels, asked, clock::mono_ms());
        drop(tokens);
        match taken {
            Ok(taken) => Ok(TakenTokens { gate: self.clone(), taken: Some(taken) }),
            Err(Spent { counted, limit, retry_after_ms }) => {
                let account = match counted {
                    Counted::Account(id) => Some(self.inner.ledger.directory().name_of(id)),
                    Counted::Model(_) | Counted::Rule(..) => None,
                };
                Err(Denial::TokenRate { account, asked, limit, model: card.card.name.clone(), retry_after_ms })
            }
        }
    }
}
