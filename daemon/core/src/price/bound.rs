//! The most that a call can use and cost.

use super::hosted::{HostedCalls, calls};
use super::{ModelCard, tier, without_dropped};
use crate::ask::Ask;
use aex_proto::value::Pico;
use serde::{Deserialize, Serialize};

/// Tokens that a provider may add to what the client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overhead {
    /// Around one message: role markers, separators.
    pub message: u64,
    /// Around a request: chat templates, preambles.
    pub request: u64,
    /// Around one tool's definition.
    pub tool: u64,
    /// Once, when tools are offered: the system prompt that explains them.
    pub tools: u64,
}

impl Overhead {
    /// More than any provider is known to add. Anthropic documents 264 to 530 tokens for the tools' system prompt; OpenAI's
    /// cookbook counts 3 a message and 3 a request; Groq and local servers use the model's own chat template.
    pub const WIDEST: Overhead = Overhead { message: 16, request: 64, tool: 64, tools: 640 };

    /// What is added for a model by the name that its provider knows. xAI puts a system prompt of its own before every request:
    /// about 200 tokens at grok-code-fast-1, about 680 at grok-4, whoever resells them. Anthropic explains tools in up to 804 tokens
    /// to Claude Opus 4.7.
    #[must_use]
    pub fn of_model(provider_model: &str) -> Overhead {
        let name = provider_model.to_ascii_lowercase();
        let request = if name.contains("grok") { 1_024 } else { Overhead::WIDEST.request };
        let tools = if name.contains("claude") { 1_024 } else { Overhead::WIDEST.tools };
        Overhead { request, tools, ..Overhead::WIDEST }
    }

    /// What is added around a request, part by part: its name, how many of it, tokens for each.
    pub(super) fn around(&self, ask: &Ask) -> [(&'static str, u64, u64); 4] {
        let once = u64::from(ask.tools > 0);
        [("request", 1, self.request), ("tools", once, self.tools), ("message", ask.messages, self.message), ("tool", ask.tools, self.tool)]
    }
}

/// The most that a call can use and cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The most that it can cost.
    pub amount: Pico,
    /// Tokens of input, at most.
    pub input_tokens: u64,
    /// Tokens of output over all choices, at most.
    pub output_tokens: u64,
}

/// Why a call has no bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unbounded {
    /// The model has no price.
    Unpriced,
    /// Audio without a price for audio.
    AudioUnpriced,
    /// Parts whose size does not show in bytes, and no `limits.context_tokens`.
    ContextUnknown,
    /// A cache lifetime without a price.
    CacheUnpriced(String),
    /// A tool that the provider runs, without a price.
    HostedTool(String),
    /// A tool that the provider runs, without a limit on how often.
    HostedUnlimited(String),
    /// A service tier without a price.
    Tier(String),
    /// More money than can be held.
    TooLarge,
}

/// What a bound is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reckoning {
    /// Input that bytes and tokens show: what, how many of it, tokens at most for each.
    pub shown: [(&'static str, u64, u64); 9],
    /// How often the model's context may be read, and its size: where the request has parts whose size does not show in bytes, or
    /// the provider runs tools, each call of which has the model read all of it again.
    pub context: Option<(u64, u64)>,
    /// The dearest price that a token of input could have.
    pub input_unit: Pico,
    /// Output: what, how many of it, tokens at most for each.
    pub output: [(&'static str, u64, u64); 2],
    /// The dearest price that a token of output could have.
    pub output_unit: Pico,
    /// The price of the call itself.
    pub call: Pico,
    /// Tools that the provider may run.
    pub tools: Vec<HostedCalls>,
}

/// The sum of parts.
pub(super) fn sum(parts: &[(&'static str, u64, u64)]) -> u64 {
    parts.iter().fold(0, |sum, (_, count, each)| sum.saturating_add(count.saturating_mul(*each)))
}

/// The tokens of input.
fn input(shown: &[(&'static str, u64, u64)], context: Option<(u64, u64)>) -> u64 {
    sum(shown).max(context.map_or(0, |(times, tokens)| times.saturating_mul(tokens)))
}

/// Input that bytes show.
fn shown(ask: &Ask, card: &ModelCard) -> [(&'static str, u64, u64); 9] {
    let [request, hosted, message, tool] = card.overhead.around(ask);
    let known_tool = ("known_tool", ask.known_tool_tokens, 1);
    let (bytes, tokens) = counted(ask, card);
    let nfkc = ("nfkc_byte", ask.nfkc_extra_bytes, 1);
    let rewritten = ("rewritten_token", ask.rewritten_tokens, 1);
    [("byte", bytes, 1), ("text_token", tokens, 1), nfkc, rewritten, request, hosted, message, tool, known_tool]
}

/// Whether a request has parts whose size does not show in bytes.
const fn hides(ask: &Ask) -> bool {
    ask.images > 0 || ask.attachments > 0 || ask.audio_in > 0
}

/// Tokens of input that the model reads at most in one step: where nobody knows how many steps a provider made, an estimate counts
/// one. The bound counts all that it may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// In the first, before any tool has run: what the request shows, or the context where it hides parts.
    pub first: u64,
    /// In any: where the provider runs tools, the context, which holds what they found.
    pub any: u64,
}

impl Step {
    /// Of a request without the tools that its card takes out.
    pub(super) fn of(ask: &Ask, card: &ModelCard, runs_tools: bool) -> Step {
        let shown = shown(ask, card);
        let once = |whole: bool| input(&shown, card.context_tokens.filter(|_| whole).map(|tokens| (1, tokens)));
        Step { first: once(hides(ask)), any: once(hides(ask) || runs_tools) }
    }
}

impl Reckoning {
    /// What it comes to; `None` when that is more money than can be held.
    #[must_use]
    pub fn bound(&self) -> Option<Bound> {
        let input_tokens = input(&self.shown, self.context);
        let output_tokens = sum(&self.output);
        let input = self.input_unit.times(input_tokens)?;
        let tokens = input.plus(self.output_unit.times(output_tokens)?)?.plus(self.call)?;
        let amount = self.tools.iter().try_fold(tokens, |sum, tool| sum.plus(tool.unit.times(tool.calls)?))?;
        Some(Bound { amount, input_tokens, output_tokens })
    }
}

/// The parts of the bound of a call whose output is limited to `max_tokens` per choice.
///
/// Input tokens never exceed the bytes of the request plus what a provider adds around it: a byte-level tokeniser has no
/// token shorter than a byte. What a provider may add to the JSON of tools, which it writes anew, counts on top. Texts that were
/// tokenised count by their tokens instead. Each price is the dearest that could apply: of the standard tier and the one that is asked for, of
/// all lengths of the input that the bound passes.
///
/// # Errors
/// When nothing known bounds the call; it is denied then.
pub fn reckon(ask: &Ask, card: &ModelCard, max_tokens: u64) -> Result<Reckoning, Unbounded> {
    let price = card.price.as_ref().ok_or(Unbounded::Unpriced)?;
    let ask = &*without_dropped(ask, card);
    let tools = calls(ask, price)?;
    let asked = match tier::asked(ask) {
        Some(tier) => Some(price.tiers.get(tier).ok_or_else(|| Unbounded::Tier(tier.to_owned()))?),
        None => None,
    };
    // The order of refusals stays, so that old ones are found again.
    let (mut input_unit, mut output_unit) = (price.dearest_input(ask)?, price.dearest_output(ask)?);
    let shown = shown(ask, card);
    let hidden = hides(ask) || !tools.is_empty();
    let steps = tools.iter().fold(1_u64, |steps, tool| steps.saturating_add(tool.calls));
    let context = if hidden { Some((steps, card.context_tokens.ok_or(Unbounded::ContextUnknown)?)) } else { None };
    let input_tokens = input(&shown, context);
    for rates in std::iter::once(price).chain(asked) {
        for rates in std::iter::once(rates).chain(rates.crossed(input_tokens).map(|long| &long.price)) {
            input_unit = input_unit.max(rates.dearest_input(ask)?);
            output_unit = output_unit.max(rates.dearest_output(ask)?);
        }
    }
    let output = [("choice", ask.choices.max(1), max_tokens), ("prediction_byte", ask.prediction_bytes, 1)];
    Ok(Reckoning { shown, context, input_unit, output, output_unit, call: price.call.unwrap_or(Pico::ZERO), tools })
}

/// The bytes and the tokens that an input counts with. Never more together than its bytes, and all of them as bytes for a model whose
/// vocabulary is not known.
fn counted(ask: &Ask, card: &ModelCard) -> (u64, u64) {
    let tokenized = if card.tokenizer.is_some() { ask.tokenized_bytes.min(ask.body_bytes) } else { 0 };
    (ask.body_bytes.saturating_sub(tokenized), ask.text_tokens.min(tokenized))
}

/// The bound of a call whose output is limited to `max_tokens` per choice: the sum of its parts.
///
/// # Errors
/// When nothing known bounds the call; it is denied then.
pub fn bound(ask: &Ask, card: &ModelCard, max_tokens: u64) -> Result<Bound, Unbounded> {
    reckon(ask, card, max_tokens)?.bound().ok_or(Unbounded::TooLarge)
}
