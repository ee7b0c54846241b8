//! Tokenises the prompt of a call that a budget denied by its bytes. Only such a call pays for it, and only where it can help.

use super::dispatch::Message;
use crate::gate::Tight;
use crate::tokenizer;
use crate::wire::texts::texts;
use aex_core::ask::Ask;
use aex_core::vocabulary::Vocabulary;

/// What the texts of a prompt come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokenized {
    vocabulary: Vocabulary,
    counted: tokenizer::Counted,
}

impl Tokenized {
    /// Whether it holds for a model of this vocabulary.
    pub(super) fn holds_for(&self, vocabulary: Option<Vocabulary>) -> bool {
        vocabulary == Some(self.vocabulary)
    }

    /// Notes it in an ask.
    pub(super) fn note(&self, ask: &mut Ask) {
        (ask.tokenized_bytes, ask.text_tokens) = (self.counted.bytes, self.counted.tokens);
    }
}

/// Counts the tokens of a prompt; `None` when that does not make the call fit what was left.
pub(super) async fn tighten(tight: Tight, message: &Message) -> Option<Tokenized> {
    let (dialect, body) = (message.dialect, message.body.clone());
    let counted = tokenizer::aside(move || {
        let texts = texts(dialect, &body).ok()?;
        let least = tokenizer::least(&texts);
        if !tight.fits(least.bytes, least.tokens) {
            return None;
        }
        let vocabulary = tight.vocabulary();
        let counted = tokenizer::most(vocabulary, &texts)?;
        tight.fits(counted.bytes, counted.tokens).then_some(Tokenized { vocabulary, counted })
    });
    counted.await?
}
