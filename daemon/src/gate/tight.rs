//! A call that a budget denied by the bytes of its prompt, where its tokens may fit.

use super::{Active, Card};
use aex_core::ask::Ask;
use aex_core::decision::Denial;
use aex_core::price;
use aex_core::vocabulary::Vocabulary;
use aex_proto::value::Pico;
use std::sync::Arc;

/// What is left, and for what.
#[derive(Clone, Debug)]
pub struct Tight {
    ask: Ask,
    card: Arc<Card>,
    left: Pico,
    max_tokens: u64,
    vocabulary: Vocabulary,
}

impl Tight {
    /// `None` when no count of tokens can help: the call would not fit if its whole body came to nothing, it was counted
    /// before, or the model has no vocabulary that is known.
    pub(super) fn of(denial: &Denial, active: &Active, ask: &Ask, card: &Arc<Card>, max_tokens: u64) -> Option<Tight> {
        let Denial::Budget { left, .. } = denial else { return None };
        if !active.config.settings.tokenizer.value || ask.tokenized_bytes > 0 {
            return None;
        }
        let vocabulary = card.card.tokenizer?;
        let tight = Tight { ask: ask.clone(), card: Arc::clone(card), left: *left, max_tokens, vocabulary };
        tight.fits(ask.body_bytes, 0).then_some(tight)
    }

    /// How the model cuts a text into tokens.
    #[must_use]
    pub const fn vocabulary(&self) -> Vocabulary {
        self.vocabulary
    }

    /// Whether what was left suffices when so many bytes of the body are counted as so many tokens.
    #[must_use]
    pub fn fits(&self, tokenized_bytes: u64, text_tokens: u64) -> bool {
        let ask = Ask { tokenized_bytes, text_tokens, ..self.ask.clone() };
        price::bound(&ask, &self.card.card, self.max_tokens).is_ok_and(|bound| bound.amount <= self.left)
    }
}
