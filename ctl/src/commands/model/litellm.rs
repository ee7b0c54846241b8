//! LiteLLM's public price file: what its fields mean here. Reads text, knows no file.
//!
//! What is not understood is told, not guessed: a model whose price per token is not known in full is left out.

use super::decimal::{self, Amount};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A provider that is known by both sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// As LiteLLM calls it.
    pub(super) litellm: &'static str,
    /// As models.yaml calls it, unless it uses LiteLLM's name.
    pub(super) name: &'static str,
    /// What stands below its name in models.yaml.
    pub(super) lines: &'static [&'static str],
}

const fn known(litellm: &'static str, name: &'static str, lines: &'static [&'static str]) -> Known {
    Known { litellm, name, lines }
}

/// Providers with an API of OpenAI's or Anthropic's shape, by their documentation.
const KNOWN: [Known; 21] = [
    known("anthropic", "anthropic", &["type: anthropic", "base_url: https://api.anthropic.com"]),
    known("cerebras", "cerebras", &["base_url: https://api.cerebras.ai/v1"]),
    known("dashscope", "dashscope", &["base_url: https://dashscope-intl.aliyuncs.com/compatible-mode/v1"]),
    known("deepinfra", "deepinfra", &["base_url: https://api.deepinfra.com/v1/openai"]),
    known("deepseek", "deepseek", &["base_url: https://api.deepseek.com/v1"]),
    known("fireworks_ai", "fireworks", &["base_url: https://api.fireworks.ai/inference/v1"]),
    known("fireworks_ai-embedding-models", "fireworks", &["base_url: https://api.fireworks.ai/inference/v1"]),
    known("gemini", "gemini", &["base_url: https://generativelanguage.googleapis.com/v1beta/openai"]),
    known("groq", "groq", &["base_url: https://api.groq.com/openai/v1"]),
    known("hyperbolic", "hyperbolic", &["base_url: https://api.hyperbolic.xyz/v1"]),
    known("minimax", "minimax", &["base_url: https://api.minimax.io/v1"]),
    known("mistral", "mistral", &["base_url: https://api.mistral.ai/v1"]),
    known("moonshot", "moonshot", &["base_url: https://api.moonshot.ai/v1"]),
    known("openai", "openai", &["base_url: https://api.openai.com/v1"]),
    known("openrouter", "openrouter", &["base_url: https://openrouter.ai/api/v1"]),
    known("perplexity", "perplexity", &["base_url: https://api.perplexity.ai"]),
    known("sambanova", "sambanova", &["base_url: https://api.sambanova.ai/v1"]),
    known("text-completion-openai", "openai", &["base_url: https://api.openai.com/v1"]),
    known("together_ai", "together", &["base_url: https://api.together.xyz/v1"]),
    known("xai", "xai", &["base_url: https://api.x.ai/v1"]),
    known("zai", "zai", &["base_url: https://api.z.ai/api/paas/v4"]),
];

/// The known providers that either side calls so.
pub(super) fn providers_named(name: &str) -> Vec<Known> {
    KNOWN.into_iter().filter(|known| known.litellm == name || known.name == name).collect()
}

/// Prices of tokens by the beginning of their key in models.yaml, in its order.
pub(super) const RATES: [&str; 9] =
    ["input", "output", "cached_input", "cache_write", "cache_write_1h", "audio_input", "audio_output", "image_input", "image_output"];

/// The prices of one tier up to one length of the input.
pub(super) type Rates = BTreeMap<&'static str, Amount>;

/// What one entry says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) provider: String,
    /// The provider's name of the model.
    pub(super) model: String,
    /// By tier (none for the standard one) and the tokens of input above which they hold.
    pub(super) rates: BTreeMap<(Option<String>, u64), Rates>,
    /// Tiers that multiply the standard prices.
    pub(super) multiplied: BTreeMap<String, String>,
    pub(super) call: Option<Amount>,
    /// One search of the web.
    pub(super) search: Option<Amount>,
    pub(super) max_tokens: u64,
    pub(super) context_tokens: Option<u64>,
    pub(super) reasoning: bool,
    pub(super) tools: bool,
    pub(super) vision: bool,
    /// Fields about money that were left out.
    pub(super) not_understood: Vec<String>,
}

impl Entry {
    /// All prices in it.
    pub(super) fn amounts(&self) -> impl Iterator<Item = &Amount> {
        self.rates.values().flat_map(BTreeMap::values).chain(&self.call).chain(&self.search)
    }
}

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// One entry of the file.
#[derive(Debug)]
pub(super) struct Read {
    /// As LiteLLM calls it.
    pub(super) provider: String,
    /// What it says, or why it is left out.
    pub(super) entry: Result<Entry, String>,
}

/// The entries of the file by their names.
///
/// # Errors
/// What is wrong with the file as a whole.
pub(super) fn file(text: &str) -> Result<BTreeMap<String, Read>, String> {
    let all: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(|fault| fault.to_string())?;
    let entries = all.into_iter().filter(|(name, raw)| name != "sample_spec" && raw.get().starts_with('{'));
    entries
        .map(|(name, raw)| {
            let fields: Fields<'_> = serde_json::from_str(raw.get()).map_err(|fault| format!("{name}: {fault}"))?;
            let provider: String = value(&fields, "litellm_provider").unwrap_or_default();
            let entry = entry(&name, &provider, &fields);
            Ok((name, Read { provider, entry }))
        })
        .collect()
}

fn value<'a, T: Deserialize<'a>>(fields: &Fields<'a>, name: &str) -> Option<T> {
    fields.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
}

/// One entry, or why it is left out.
fn entry(name: &str, provider: &str, fields: &Fields<'_>) -> Result<Entry, String> {
    let mode: String = value(fields, "mode").unwrap_or_default();
    if !matches!(mode.as_str(), "chat" | "completion" | "embedding" | "responses") {
        return Err(format!("is of the mode {}", if mode.is_empty() { "?" } else { &mode }));
    }
    if name.starts_with("ft:") {
        return Err("is a price for models of one's own, which have other names".to_owned());
    }
    let model = name.strip_prefix(&format!("{provider}/")).unwrap_or(name).to_owned();
    let is_embedding = mode == "embedding";
    let flag = |name: &str| value::<bool>(fields, name).unwrap_or(false);
    let limit = |name: &str| value::<u64>(fields, name).filter(|tokens| *tokens > 0);
    let max_tokens = if is_embedding { Some(1) } else { limit("max_output_tokens").or_else(|| limit("max_tokens")) };
    let mut entry = Entry {
        max_tokens: max_tokens.ok_or("states no limit of its output")?,
        context_tokens: limit("max_input_tokens"),
        reasoning: flag("supports_reasoning"),
        tools: flag("supports_function_calling"),
        vision: flag("supports_vision"),
        provider: provider.to_owned(),
        model,
        ..Entry::default()
    };
    let mut reasoning = None;
    for (field, raw) in fields.iter().filter(|(field, _)| is_money(field)) {
        entry.money(field, raw.get(), &mut reasoning)?;
    }
    let standard = entry.rates.entry((None, 0)).or_default();
    if is_embedding {
        standard.entry("output").or_insert(Amount { pico: aex_proto::value::Pico::ZERO, exact: true });
    }
    let (Some(input), Some(output)) = (standard.get("input").copied(), standard.get("output").copied()) else {
        return Err("has no price per token".to_owned());
    };
    if input.pico.get() == 0 && output.pico.get() == 0 {
        return Err("costs nothing, or nobody knows: `pricing: free` is for you to say".to_owned());
    }
    if reasoning.is_some_and(|reasoning: Amount| reasoning != output) {
        return Err("prices reasoning apart from other output".to_owned());
    }
    if entry.search.is_some() && (entry.provider == "perplexity" || entry.model.contains("search")) {
        return Err("searches in every call, at a price that depends on the search".to_owned());
    }
    entry.complete();
    Ok(entry)
}

fn is_money(field: &str) -> bool {
    ["cost", "pricing", "multiplier", "provider_specific_entry"].iter().any(|word| field.contains(word))
}

impl Entry {
    fn money(&mut self, field: &str, raw: &str, reasoning: &mut Option<Amount>) -> Result<(), String> {
        match field {
            "search_context_cost_per_query" => {
                let sizes: BTreeMap<String, &RawValue> = serde_json::from_str(raw).map_err(|_| format!("has no price in {field}"))?;
                let prices: Option<Vec<Amount>> = sizes.values().map(|raw| decimal::usd(raw.get())).collect();
                // How much is searched is up to the request: the dearest holds.
                self.search = prices.ok_or(format!("has no price in {field}"))?.into_iter().max_by_key(|price| price.pico);
                return Ok(());
            }
            "provider_specific_entry" => {
                let factors: BTreeMap<String, &RawValue> = serde_json::from_str(raw).unwrap_or_default();
                for (name, raw) in factors {
                    // Anthropic's fast mode and inference in the US.
                    if matches!(name.as_str(), "fast" | "us") {
                        self.multiplied.insert(name, raw.get().to_owned());
                    } else {
                        self.not_understood.push(format!("{field}.{name}"));
                    }
                }
                return Ok(());
            }
            _ => {}
        }
        let Some(price) = decimal::usd(raw) else {
            if raw != "null" {
                self.not_understood.push(field.to_owned());
            }
            return Ok(());
        };
        match (field, rate(field)) {
            ("output_cost_per_reasoning_token", _) => *reasoning = Some(price),
            ("input_cost_per_request", _) => self.call = Some(price),
            (_, Some((key, tier, above))) => drop(self.rates.entry((tier.map(str::to_owned), above)).or_default().insert(key, price)),
            _ if price.pico.get() == 0 => {}
            (other, None) => {
                // Billed by the image beside its tokens: such calls are kept out.
                self.vision &= other != "input_cost_per_image";
                self.not_understood.push(other.to_owned());
            }
        }
        Ok(())
    }

    /// What a tier or a long input leaves out costs what it costs without them, as LiteLLM computes it; a read from the cache, which is
    /// cheap, costs what input costs there. A tier without input or output is none.
    fn complete(&mut self) {
        let standard = self.rates.get(&(None, 0)).cloned().unwrap_or_default();
        let tiers: Vec<String> = self.rates.keys().filter_map(|(tier, _)| tier.clone()).collect();
        for tier in tiers {
            let own = self.rates.get(&(Some(tier.clone()), 0));
            if own.is_some_and(|own| own.contains_key("input") && own.contains_key("output")) {
                continue;
            }
            self.rates.retain(|(of, _), _| of.as_ref() != Some(&tier));
            self.not_understood.push(format!("prices of the tier {tier} without input or output"));
        }
        let bases: BTreeMap<Option<String>, Rates> =
            self.rates.iter().filter(|((_, above), _)| *above == 0).map(|((tier, _), rates)| (tier.clone(), rates.clone())).collect();
        for ((tier, above), rates) in &mut self.rates {
            let base = if *above == 0 { Some(&standard) } else { bases.get(tier) };
            for (key, price) in base.into_iter().flatten().filter(|(key, _)| **key != "cached_input") {
                rates.entry(key).or_insert(*price);
            }
        }
    }
}

/// What a field prices: the key's beginning, the tier, the tokens of input above which it holds.
fn rate(field: &str) -> Option<(&'static str, Option<&'static str>, u64)> {
    const TIERS: [(&str, &str); 3] = [("_flex", "flex"), ("_priority", "priority"), ("_batches", "batch")];
    let tiered = TIERS.iter().find_map(|(suffix, tier)| Some((field.strip_suffix(suffix)?, Some(*tier))));
    let (field, tier) = tiered.unwrap_or((field, None));
    let long = field.rsplit_once("_above_").and_then(|(front, length)| {
        let thousands: u64 = length.strip_suffix("k_tokens")?.parse().ok()?;
        Some((front, thousands.checked_mul(1_000)?))
    });
    let (field, above) = long.unwrap_or((field, 0));
    let key = match field {
        "input_cost_per_token" => "input",
        "output_cost_per_token" => "output",
        "cache_read_input_token_cost" | "input_cost_per_token_cache_hit" => "cached_input",
        "cache_creation_input_token_cost" => "cache_write",
        "cache_creation_input_token_cost_above_1hr" => "cache_write_1h",
        "input_cost_per_audio_token" => "audio_input",
        "output_cost_per_audio_token" => "audio_output",
        "input_cost_per_image_token" => "image_input",
        "output_cost_per_image_token" => "image_output",
        _ => return None,
    };
    Some((key, tier, above))
}

// By its path, for tests/fuzz compiles this file in from elsewhere.
#[cfg(test)]
#[path = "litellm/tests.rs"]
mod tests;
