//! Prices, the bound of a call and its charge. The only place where tokens become money.

use crate::ask::Ask;
use crate::usage::{Bucket, Usage};
use aex_proto::value::{Digest, Pico};
use serde::{Deserialize, Serialize};

/// Service tiers for which the standard prices hold at OpenAI and Groq; any other is priced differently.
pub const STANDARD_TIERS: [&str; 4] = ["auto", "default", "standard", "on_demand"];

/// At OpenAI a project's settings decide the tier of a request that names none, or `auto`. Elsewhere the field may be refused.
#[must_use]
pub fn is_tier_by_project(host: &str) -> bool {
    const OPENAI: &str = "api.openai.com";
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == OPENAI || host.strip_suffix(OPENAI).is_some_and(|region| region.ends_with('.'))
}

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
    fn around(&self, ask: &Ask) -> [(&'static str, u64, u64); 4] {
        let once = u64::from(ask.tools > 0);
        [("request", 1, self.request), ("tools", once, self.tools), ("message", ask.messages, self.message), ("tool", ask.tools, self.tool)]
    }
}

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

    fn dearest_input(&self, ask: &Ask) -> Option<Pico> {
        let text = [Some(self.input), self.cached_input, self.cache_write];
        let dearest = text.into_iter().flatten().max()?;
        if ask.audio_in > 0 {
            return Some(dearest.max(self.audio_input?));
        }
        // A file or a video may hold sound.
        Some(if ask.attachments > 0 { dearest.max(self.audio_input.unwrap_or(dearest)) } else { dearest })
    }

    fn dearest_output(&self, ask: &Ask) -> Option<Pico> {
        if ask.audio_out { Some(self.output.max(self.audio_output?)) } else { Some(self.output) }
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
    /// Tokens of all callers in any 60 seconds, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens_per_minute: Option<u32>,
    /// The name that clients use.
    pub name: String,
    /// What its provider may add to a request. In the card, so that an old bound can be computed again for ever.
    pub overhead: Overhead,
    /// `None`: every call is denied as unpriced. Free models say so: their prices are zeros.
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

/// What a bound is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reckoning {
    /// Input that bytes show: what, how many of it, tokens at most for each.
    pub shown: [(&'static str, u64, u64); 7],
    /// The model's context, where the request has parts whose size does not show in bytes.
    pub context: Option<u64>,
    /// The dearest price that a token of input could have.
    pub input_unit: Pico,
    /// Output: what, how many of it, tokens at most for each.
    pub output: [(&'static str, u64, u64); 2],
    /// The dearest price that a token of output could have.
    pub output_unit: Pico,
    /// The price of the call itself.
    pub call: Pico,
}

/// The sum of parts.
fn sum(parts: &[(&'static str, u64, u64)]) -> u64 {
    parts.iter().fold(0, |sum, (_, count, each)| sum.saturating_add(count.saturating_mul(*each)))
}

impl Reckoning {
    /// What it comes to; `None` when that is more money than can be held.
    #[must_use]
    pub fn bound(&self) -> Option<Bound> {
        let input_tokens = sum(&self.shown).max(self.context.unwrap_or(0));
        let output_tokens = sum(&self.output);
        let input = self.input_unit.times(input_tokens)?;
        let amount = input.plus(self.output_unit.times(output_tokens)?)?.plus(self.call)?;
        Some(Bound { amount, input_tokens, output_tokens })
    }
}

/// The parts of the bound of a call whose output is limited to `max_tokens` per choice.
///
/// Input tokens never exceed the bytes of the request plus what a provider adds around it: a byte-level tokeniser has no
/// token shorter than a byte.
///
/// # Errors
/// When nothing known bounds the call; it is denied then.
pub fn reckon(ask: &Ask, card: &ModelCard, max_tokens: u64) -> Result<Reckoning, Unbounded> {
    let price = card.price.as_ref().ok_or(Unbounded::Unpriced)?;
    if let Some(tool) = ask.hosted_tools.first() {
        return Err(Unbounded::HostedTool(tool.clone()));
    }
    if let Some(tier) = ask.service_tier.as_deref().filter(|tier| !STANDARD_TIERS.contains(tier)) {
        return Err(Unbounded::Tier(tier.to_owned()));
    }
    let input_unit = price.dearest_input(ask).ok_or(Unbounded::AudioUnpriced)?;
    let output_unit = price.dearest_output(ask).ok_or(Unbounded::AudioUnpriced)?;
    let [request, tools, message, tool] = card.overhead.around(ask);
    let known_tool = ("known_tool", ask.known_tool_tokens, 1);
    let shown = [("byte", ask.body_bytes, 1), ("nfkc_byte", ask.nfkc_extra_bytes, 1), request, tools, message, tool, known_tool];
    let hidden = ask.images > 0 || ask.attachments > 0 || ask.audio_in > 0;
    let context = if hidden { Some(card.context_tokens.ok_or(Unbounded::ContextUnknown)?) } else { None };
    let output = [("choice", ask.choices.max(1), max_tokens), ("prediction_byte", ask.prediction_bytes, 1)];
    Ok(Reckoning { shown, context, input_unit, output, output_unit, call: price.call.unwrap_or(Pico::ZERO) })
}

/// The bound of a call whose output is limited to `max_tokens` per choice: the sum of its parts.
///
/// # Errors
/// When nothing known bounds the call; it is denied then.
pub fn bound(ask: &Ask, card: &ModelCard, max_tokens: u64) -> Result<Bound, Unbounded> {
    reckon(ask, card, max_tokens)?.bound().ok_or(Unbounded::TooLarge)
}

/// One line of a charge. In JSON: `["input", 12, "150000"]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line(pub Bucket, pub u64, pub Pico);

/// What a call costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// One line per bucket used.
    pub lines: Vec<Line>,
    /// Every quantity had its price. If not, the charge is none that the provider's report proves.
    pub priced: bool,
    /// The sum of the lines.
    pub total: Pico,
}

impl Charge {
    /// The sum of lines; `None` when out of range.
    #[must_use]
    pub fn sum(lines: &[Line]) -> Option<Pico> {
        lines.iter().try_fold(Pico::ZERO, |sum, Line(_, quantity, unit)| sum.plus(unit.times(*quantity)?))
    }

    /// Prices a usage. A quantity whose bucket has no price is priced at the dearest price of the model, never at zero, and the
    /// charge is not `priced` then; nor is it when the usage has unknown quantities. `None` when the sum is out of range.
    #[must_use]
    pub fn of(usage: &Usage, price: &Price) -> Option<Charge> {
        let optional = [price.cached_input, price.cache_write, price.audio_input, price.audio_output];
        let dearest = optional.into_iter().flatten().fold(price.input.max(price.output), Pico::max);
        let priced = usage.unknown.is_empty() && usage.quantities.iter().all(|(bucket, _)| price.unit(*bucket).is_some());
        let call = price.call.map(|unit| Line(Bucket::Call, 1, unit));
        let lines: Vec<Line> = usage
            .quantities
            .iter()
            .map(|(bucket, quantity)| Line(*bucket, *quantity, price.unit(*bucket).unwrap_or(dearest)))
            .chain(call)
            .collect();
        let total = Charge::sum(&lines)?;
        Some(Charge { lines, priced, total })
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
            max_tokens_per_minute: None,
            name: "m".to_owned(),
            overhead: Overhead::WIDEST,
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
    fn tools_that_the_request_only_names_cost_what_the_provider_adds_for_them() {
        let named = Ask { known_tool_tokens: 2048, tools: 1, ..ask() };
        let once = Overhead::WIDEST.tools + Overhead::WIDEST.tool;
        assert_eq!(bound(&named, &card(), 1).map(|bound| bound.input_tokens), Ok(1112 + once + 2048));
    }

    #[test]
    fn what_has_no_price_is_denied_never_free() {
        assert_eq!(bound(&ask(), &ModelCard { price: None, ..card() }, 1), Err(Unbounded::Unpriced));
        let hosted = Ask { hosted_tools: vec!["web_search".to_owned()], ..ask() };
        assert_eq!(bound(&hosted, &card(), 1), Err(Unbounded::HostedTool("web_search".to_owned())));
        let tier = Ask { service_tier: Some("priority".to_owned()), ..ask() };
        assert_eq!(bound(&tier, &card(), 1), Err(Unbounded::Tier("priority".to_owned())));
        assert_eq!(bound(&Ask { audio_out: true, ..ask() }, &card(), 1), Err(Unbounded::AudioUnpriced));
        assert_eq!(bound(&Ask { audio_in: 1, ..ask() }, &card(), 1), Err(Unbounded::AudioUnpriced));
        assert_eq!(bound(&ask(), &card(), u64::MAX), Err(Unbounded::TooLarge));
    }

    #[test]
    fn audio_is_bounded_by_the_context_at_the_dearest_price_of_input() {
        let price = card().price.map(|price| Price { audio_input: Some(Pico::new(40)), ..price });
        let hearing = ModelCard { context_tokens: Some(8000), price, ..card() };
        let heard = Ask { audio_in: 1, choices: 1, ..ask() };
        assert_eq!(bound(&heard, &hearing, 1).map(|bound| bound.amount), Ok(Pico::new(8000 * 40 + 8)));
        assert_eq!(bound(&heard, &ModelCard { context_tokens: None, ..hearing.clone() }, 1), Err(Unbounded::ContextUnknown));
        let file = Ask { attachments: 1, choices: 1, ..ask() };
        assert_eq!(bound(&file, &hearing, 1).map(|bound| bound.amount), Ok(Pico::new(8000 * 40 + 8)));
    }

    /// What providers document or report to add to the texts of a request, beside a tool's definition, which is at most its bytes.
    #[test]
    fn no_provider_adds_more_than_the_overhead() {
        #[track_caller]
        fn check(model: &str, messages: u64, tools: u64, added: u64) {
            let ask = Ask { messages, tools, ..Ask::default() };
            let overhead = sum(&Overhead::of_model(model).around(&ask));
            assert!(added <= overhead, "{model} adds {added}, of {overhead}");
        }
        // OpenAI's cookbook: 3 a message, 1 for its name, 3 that prime the answer; 7 a function, 12 for all of them.
        check("gpt-4o", 1, 0, 7);
        check("gpt-4o", 1000, 0, 4 * 1000 + 3);
        check("gpt-4o", 1, 128, 7 + 128 * 7 + 12);
        // Anthropic's tool use system prompt, from Claude 3 Haiku's 264 to Opus' 530.
        check("claude-3-haiku", 1, 1, 264 + 8);
        check("claude-3-opus", 1, 1, 530 + 8);
        // The same of later models, with a forced tool: platform.claude.com, "Tool use with Claude".
        check("claude-opus-4-7", 0, 1, 804);
        check("anthropic/claude-sonnet-4.6", 0, 1, 589);
        // Llama 3 at Groq: five for the frame of a message, its role and end; once a date preamble and the answer's header.
        check("llama-3.3-70b-versatile", 1, 0, 12 + 40);
        check("llama-3.3-70b-versatile", 1000, 0, 12 * 1000 + 40);
        // Prompt tokens that charmbracelet/fantasy recorded for two messages, less the 8 that their texts have at least.
        check("gpt-4o-mini", 2, 0, 20 - 8);
        check("gpt-5-mini", 2, 0, 19 - 8);
        check("moonshotai/kimi-k2-instruct-0905", 2, 0, 20 - 8);
        check("openai/gpt-oss-20b", 2, 0, 84 - 8);
        check("anthropic/claude-haiku-4.5", 2, 1, 607 - 8);
        check("grok-4-fast", 2, 0, 165 - 8);
        check("grok-code-fast-1", 2, 0, 213 - 8);
        check("grok-3-mini", 2, 1, 288 - 8);
        // "Hello", as a reseller shows it in its documentation.
        check("x-ai/grok-4", 1, 0, 686 - 1);
    }

    #[test]
    fn a_charge_prices_each_bucket_once() {
        let mut usage = Usage::text(10, 3);
        usage.add(Bucket::CachedInput, 7);
        let price = card().price.unwrap_or_else(|| unreachable!("the card has a price"));
        let charge = Charge::of(&usage, &price).unwrap_or_default();
        assert_eq!(charge.total, Pico::new(10 * 4 + 7 + 3 * 8));
        assert_eq!(charge.lines.len(), 3);
        assert!(charge.priced);
    }

    #[test]
    fn a_quantity_without_a_price_costs_the_dearest_and_is_told() {
        let price = card().price.unwrap_or_else(|| unreachable!("the card has a price"));
        let mut heard = Usage::text(1, 0);
        heard.add(Bucket::AudioInput, 2);
        let charge = Charge::of(&heard, &price).unwrap_or_default();
        assert_eq!((charge.total, charge.priced), (Pico::new(4 + 2 * 8), false));
        let unknown = Usage { unknown: vec![("searches".to_owned(), "2".to_owned())], ..Usage::text(1, 0) };
        let charge = Charge::of(&unknown, &price).unwrap_or_default();
        assert_eq!((charge.total, charge.priced), (Pico::new(4), false));
    }
}
