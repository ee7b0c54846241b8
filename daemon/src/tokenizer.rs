//! The tokeniser: the only user of tiktoken-rs. Loads a vocabulary at its first need, and counts off the async threads, a few
//! prompts and answers at a time.
//!
//! Must not: decide what a count is for.

use crate::os::clock;
use crate::wire::said::{Field, Said, SaidText};
use crate::wire::texts::Told;
use aex_core::vocabulary::Vocabulary;
use std::collections::HashSet;
use std::sync::LazyLock;
use tiktoken_rs::CoreBPE;
use tokio::sync::Semaphore;

/// Bytes of the longest token of a text: `o200k_base` has one of 128 spaces. What follows is that no text has fewer tokens than this part
/// of its bytes.
const LONGEST_TOKEN: u64 = 128;
/// Tokens that stand round the name and the arguments of a call and that no text shows. OpenAI's example of a call in chat is billed 4
/// beyond its texts; the format of gpt-oss writes 12 (`<|start|>assistant<|channel|>commentary to=functions.… <|constrain|>json<|message|>…<|call|>`).
const CALL_FRAME: u64 = 12;

/// Prompts and answers that are counted at a time: as many as there are cores. Others wait for their turn.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)));
static CL100K: LazyLock<Option<CoreBPE>> = LazyLock::new(|| load(Vocabulary::Cl100k));
static O200K: LazyLock<Option<CoreBPE>> = LazyLock::new(|| load(Vocabulary::O200k));

/// What texts of a request come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Bytes that they take in the body.
    pub bytes: u64,
    /// Their tokens, at most.
    pub tokens: u64,
}

/// Runs `work` where it holds up no other call, when it is its turn. `None` after a panic of it.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let turn = TURNS.acquire().await.ok()?;
    let done = tokio::task::spawn_blocking(move || {
        // The turn ends with the work, also when nobody waits for it any more.
        let _turn = turn;
        work()
    });
    done.await.ok()
}

/// The fewest tokens that texts can have, without looking at them.
#[must_use]
pub fn least(texts: &[Told<'_>]) -> Counted {
    texts.iter().fold(Counted::default(), |sum, text| sum.with(text, number(text.said.len()).div_ceil(LONGEST_TOKEN)))
}

/// The most tokens that texts can have in a model of this vocabulary. `None`: a text defeats the tokeniser.
///
/// A model may get a text as it is said, or written as JSON (gpt-oss gets results of tools so): the larger count holds. One token more
/// for each text covers a join with its neighbour; the quotes, which stay out of the count but not out of its bytes, pay for it.
#[must_use]
pub fn most(vocabulary: Vocabulary, texts: &[Told<'_>]) -> Option<Counted> {
    texts.iter().try_fold(Counted::default(), |sum, text| {
        let said = tokens(vocabulary, &text.said)?;
        let most = if *text.said == *text.written { said } else { said.max(tokens(vocabulary, text.written)?) };
        Some(sum.with(text, most))
    })
}

impl Counted {
    fn with(self, text: &Told<'_>, tokens: u64) -> Counted {
        Counted { bytes: self.bytes.saturating_add(number(text.bytes())), tokens: self.tokens.saturating_add(tokens).saturating_add(1) }
    }
}

/// The most tokens that output of so many bytes came to, of which these are the texts. `None`: the vocabulary cannot be loaded.
///
/// Each text is counted as it is, all of one place together: a model makes its tokens of that text alone, and the end of a piece is
/// seldom the end of a token that a count of pieces would find. One token more for each covers its end, where the text was cut. No text
/// counts more than its bytes, and what is no text, or was not kept, counts by its bytes.
#[must_use]
pub fn spoken(vocabulary: Vocabulary, said: &Said, bytes: u64) -> Option<u64> {
    let loaded = loaded(vocabulary)?;
    let counted = |text: &SaidText| {
        let around = if text.field() == Field::Name { CALL_FRAME } else { 1 };
        tokens_in(loaded, &text.text).map_or(text.bytes, |tokens| tokens.saturating_add(around).min(text.bytes))
    };
    let texts = said.texts();
    let rest = bytes.saturating_sub(texts.iter().map(|text| text.bytes).sum());
    Some(texts.iter().map(counted).fold(rest, u64::saturating_add))
}

/// The tokens of a text.
fn tokens(vocabulary: Vocabulary, text: &str) -> Option<u64> {
    tokens_in(loaded(vocabulary)?, text)
}

/// The tokens of a text. What is written like a special token is text: that makes more of it, not fewer.
fn tokens_in(vocabulary: &CoreBPE, text: &str) -> Option<u64> {
    // `count` gives a fault where `count_ordinary` panics: the pattern's matcher gives up on some texts.
    vocabulary.count(text, &HashSet::new()).ok().map(number)
}

fn loaded(vocabulary: Vocabulary) -> Option<&'static CoreBPE> {
    match vocabulary {
        Vocabulary::Cl100k => CL100K.as_ref(),
        Vocabulary::O200k => O200K.as_ref(),
    }
}

fn load(vocabulary: Vocabulary) -> Option<CoreBPE> {
    let begun = clock::mono();
    let loaded = match vocabulary {
        Vocabulary::Cl100k => tiktoken_rs::cl100k_base(),
        Vocabulary::O200k => tiktoken_rs::o200k_base(),
    };
    let took_ms = u64::try_from(clock::mono().saturating_sub(begun).as_millis()).unwrap_or(u64::MAX);
    match loaded {
        Ok(loaded) => {
            tracing::info!(
                vocabulary = vocabulary.name(),
                took_ms,
                "loaded a vocabulary, for a prompt whose bytes do not fit a budget or a stream that broke off"
            );
            Some(loaded)
        }
        Err(fault) => {
            tracing::error!(vocabulary = vocabulary.name(), %fault, "a vocabulary cannot be loaded: its models are bounded and charged by bytes");
            None
        }
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
