//! Prices, the bound of a call and its charge. The only place where tokens become money.

use crate::ask::Ask;
use crate::usage::{Bucket, Usage};
use aex_proto::value::{Digest, Pico};
use serde::{Deserialize, Serialize};

/// Tokens that a provider may add around a request: chat templates, system preambles.
const OVERHEAD_PER_REQUEST: u64 = 64;
/// Tokens that a provider may add around one message: role markers, separators.
const OVERHEAD_PER_MESSAGE: u64 = 16;
/// Tokens that a provider may add around one tool's definition.
const OVERHEAD_PER_TOOL: u64 = 64;

/// Prices of a model per unit. Each unit is one token unless its name says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Audio input; such a call is denied without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_input: Option<Pico>,
    /// Audio output; such a call is denied without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_output: Option<Pico>,
    /// Input written to a cache; the input price when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Pico>,
    /// Input read from a cache; the input price when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<Pico>,
    /// One call, beside its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Pico>,
    /// Text input.
    pub input: Pico,
    /// Output, reasoning included.
    pub output: Pico,
}

impl Price {
    /// The price of one unit of a bucket; `None` when the model has none.
    #[must_use]
    pub fn unit(&self, bucket: Bucket) -> Option<Pico> {
        match bucket {
            Bucket::Input => Some(self.input),
            Bucket::CachedInput => Some(self.cached_input.unwrap_or(self.input)),
            Bucket::CacheWrite => Some(self.cache_write.unwrap_or(self.input)),
            Bucket::Output => Some(self.output),
            Bucket::AudioInput => self.audio_input,
            Bucket::AudioOutput => self.audio_output,
            Bucket::Call => Some(self.call.unwrap_or(Pico::ZERO)),
        }
    }

    fn dearest_input(&self, audio: bool) -> Option<Pico> {
        let text = [Some(self.input), self.cached_input, self.cache_write];
        let dearest = text.into_iter().flatten().max()?;
        if audio { Some(dearest.max(self.audio_input?)) } else { Some(dearest) }
    }

    fn dearest_output(&self, audio: bool) -> Option<Pico> {
        if audio { Some(self.output.max(self.audio_output?)) } else { Some(self.output) }
    }
}

/// The field in which a model takes its output limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensField {
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`: OpenAI's reasoning models refuse the older name.
    MaxCompletionTokens,
}

impl MaxTokensField {
    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            MaxTokensField::MaxTokens => "max_tokens",
            MaxTokensField::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// All that a decision knows of a model. Its digest stands in every event that used it, its text in the ledger's snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// Size of the model's context, in tokens: the bound of what bytes do not show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u64>,
    /// Largest output, in tokens.
    pub max_tokens: u64,
    /// Where it takes its output limit.
    pub max_tokens_field: MaxTokensField,
    /// The name that clients use.
    pub name: String,
    /// `None`: every call is denied as unpriced. Free models say so with zeros.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// The provider that serves it.
    pub provider: String,
    /// The name that is sent to the provider.
    pub provider_model: String,
    /// It thinks before it answers. Tells; enforces nothing.
    pub reasoning: bool,
    /// It takes tools.
    pub tools: bool,
    /// It takes images.
    pub vision: bool,
}

impl ModelCard {
    /// Its canonical JSON (fields are declared in alphabetical order) and the digest of that.
    #[must_use]
    pub fn snapshot(&self) -> (String, Digest) {
        crate::canon::snapshot(self)
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
    /// A tool that the provider runs, without a price.
    HostedTool(String),
    /// A service tier without a price.
    Tier(String),
    /// More money than can be held.
    TooLarge,
}

/// The bound of a call whose output is limited to `max_tokens` per choice.
///
/// Input tokens never exceed the bytes of the request plus what a provider adds around it: a byte-level tokeniser has no
/// token shorter than a byte.
///
/// # Errors
/// When nothing known bounds the call; it is denied then.
pub fn bound(ask: &Ask, card: &ModelCard, max_tokens: u64) -> Result<Bound, Unbounded> {
    let price = card.price.as_ref().ok_or(Unbounded::Unpriced)?;
    if let Some(tool) = ask.hosted_tools.first() {
        return Err(Unbounded::HostedTool(tool.clone()));
    }
    // Standard prices hold for these tiers at OpenAI and Groq; any other is priced differently.
    if let Some(tier) = ask.service_tier.as_deref().filter(|tier| !matches!(*tier, "auto" | "default" | "standard" | "on_demand")) {
        return Err(Unbounded::Tier(tier.to_owned()));
    }
    let shown = ask
        .body_bytes
        .saturating_add(ask.nfkc_extra_bytes)
        .saturating_add(OVERHEAD_PER_REQUEST)
        .saturating_add(ask.messages.saturating_mul(OVERHEAD_PER_MESSAGE))
        .saturating_add(ask.tools.saturating_mul(OVERHEAD_PER_TOOL));
    let hidden = ask.images > 0 || ask.attachments > 0;
    let input_tokens = if hidden { card.context_tokens.ok_or(Unbounded::ContextUnknown)?.max(shown) } else { shown };
    let output_tokens = max_tokens.saturating_mul(ask.choices.max(1)).saturating_add(ask.prediction_bytes);
    let input_unit = price.dearest_input(ask.attachments > 0 && price.audio_input.is_some()).ok_or(Unbounded::AudioUnpriced)?;
    let output_unit = price.dearest_output(ask.audio_out).ok_or(Unbounded::AudioUnpriced)?;
    let amount = input_unit
        .times(input_tokens)
        .and_then(|input| input.plus(output_unit.times(output_tokens)?))
        .and_then(|tokens| tokens.plus(price.call.unwrap_or(Pico::ZERO)))
        .ok_or(Unbounded::TooLarge)?;
    Ok(Bound { amount, input_tokens, output_tokens })
}

/// One line of a charge. In JSON: `["input", 12, "150000"]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line(pub Bucket, pub u64, pub Pico);

/// What a call costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// One line per bucket used.
    pub lines: Vec<Line>,
    /// Their sum.
    pub total: Pico,
}

impl Charge {
    /// The sum of lines; `None` when out of range.
    #[must_use]
    pub fn sum(lines: &[Line]) -> Option<Pico> {
        lines.iter().try_fold(Pico::ZERO, |sum, Line(_, quantity, unit)| sum.plus(unit.times(*quantity)?))
    }

    /// Prices a usage. A quantity whose bucket has no price is priced at the dearest price of the model, never at zero.
    /// `None` when the sum is out of range.
    #[must_use]
    pub fn of(usage: &Usage, price: &Price) -> Option<Charge> {
        let dearest = [Some(price.input), Some(price.output), price.cache_write, price.audio_input, price.audio_output]
            .into_iter()
            .flatten()
            .max()
            .unwrap_or(price.output);
        let call = price.call.map(|unit| Line(Bucket::Call, 1, unit));
        let lines: Vec<Line> = usage
            .quantities
            .iter()
            .map(|(bucket, quantity)| Line(*bucket, *quantity, price.unit(*bucket).unwrap_or(dearest)))
            .chain(call)
            .collect();
        let total = Charge::sum(&lines)?;
        Some(Charge { lines, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> ModelCard {
        ModelCard {
            context_tokens: None,
            max_tokens: 100,
            max_tokens_field: MaxTokensField::MaxTokens,
            name: "m".to_owned(),
            price: Some(Price {
                audio_input: None,
                audio_output: None,
                cache_write: Some(Pico::new(5)),
                cached_input: Some(Pico::new(1)),
                call: None,
                input: Pico::new(4),
                output: Pico::new(8),
            }),
            provider: "p".to_owned(),
            provider_model: "pm".to_owned(),
            reasoning: false,
            tools: true,
            vision: true,
        }
    }

    fn ask() -> Ask {
        Ask { body_bytes: 1000, choices: 2, messages: 3, model: "m".to_owned(), text_chars: 900, ..Ask::default() }
    }

    #[test]
    fn the_bound_takes_the_dearest_input_and_every_choice() {
        let bound = bound(&ask(), &card(), 50);
        assert_eq!(bound, Ok(Bound { amount: Pico::new(1112 * 5 + 100 * 8), input_tokens: 1112, output_tokens: 100 }));
    }

    #[test]
    fn what_bytes_do_not_show_is_bounded_by_the_context_or_denied() {
        let image = Ask { images: 1, ..ask() };
        assert_eq!(bound(&image, &card(), 1), Err(Unbounded::ContextUnknown));
        let known = ModelCard { context_tokens: Some(8000), ..card() };
        assert_eq!(bound(&image, &known, 1).map(|b| b.input_tokens), Ok(8000));
    }

    #[test]
    fn what_has_no_price_is_denied_never_free() {
        assert_eq!(bound(&ask(), &ModelCard { price: None, ..card() }, 1), Err(Unbounded::Unpriced));
        let hosted = Ask { hosted_tools: vec!["web_search".to_owned()], ..ask() };
        assert_eq!(bound(&hosted, &card(), 1), Err(Unbounded::HostedTool("web_search".to_owned())));
        let tier = Ask { service_tier: Some("priority".to_owned()), ..ask() };
        assert_eq!(bound(&tier, &card(), 1), Err(Unbounded::Tier("priority".to_owned())));
        assert_eq!(bound(&Ask { audio_out: true, ..ask() }, &card(), 1), Err(Unbounded::AudioUnpriced));
        assert_eq!(bound(&ask(), &card(), u64::MAX), Err(Unbounded::TooLarge));
    }

    #[test]
    fn a_charge_prices_each_bucket_once() {
        let mut usage = Usage::text(10, 3);
        usage.add(Bucket::CachedInput, 7);
        let price = card().price.unwrap_or_else(|| unreachable!("the card has a price"));
        let charge = Charge::of(&usage, &price).unwrap_or_default();
        assert_eq!(charge.total, Pico::new(10 * 4 + 7 + 3 * 8));
        assert_eq!(charge.lines.len(), 3);
    }
}
