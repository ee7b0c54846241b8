//! Prices, the bound of a call and its charge. The only place where tokens become money.

mod bound;
mod card;
mod charge;
mod hosted;
mod tier;

use crate::ask::Ask;
use crate::usage::{Bucket, ToolName};
use aex_proto::value::Pico;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use bound::{Bound, Overhead, Reckoning, Step, Unbounded, bound, reckon};
pub use card::{MaxTokensField, ModelCard};
pub use charge::{Charge, Line};
pub use hosted::{HostedCalls, ToolPrice, dropped, without_dropped};
pub use tier::{STANDARD_TIERS, Terms, TierField, is_standard_tier, is_tier_by_project, tier};

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
    /// Input written to a cache for 12 hours; as `cache_write` when absent: OpenAI has one price for all lifetimes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_12h: Option<Pico>,
    /// Input written to a cache for an hour; a call that asks for it is denied without this price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<Pico>,
    /// Input written to a cache for 30 minutes; as `cache_write` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_30m: Option<Pico>,
    /// Input written to a cache for 5 minutes; `cache_write` when absent, and denied when that is absent, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_5m: Option<Pico>,
    /// Input read from a cache; the input price when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<Pico>,
    /// One call, beside its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Pico>,
    /// Input of images; the input price when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_input: Option<Pico>,
    /// Output of images, which costs several times what text costs: it has no price when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_output: Option<Pico>,
    /// Text input.
    pub input: Pico,
    /// What holds for the whole call when its input is long, in ascending order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub long_context: Vec<LongContext>,
    /// Output, reasoning included.
    pub output: Pico,
    /// What holds in a service tier instead, by the tier's name. These have no tiers, no tools and no price of the call themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<String, Price>,
    /// Tools that the provider runs, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, ToolPrice>,
}

/// Prices of a call with a long input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongContext {
    /// They hold when the input has more tokens than this, those of caches, sound and images included.
    pub above: u64,
    /// The prices, for all of the call.
    pub price: Price,
}

impl Price {
    /// Text alone.
    #[must_use]
    pub const fn of(input: Pico, output: Pico) -> Price {
        Price {
            audio_input: None,
            audio_output: None,
            cache_write: None,
            cache_write_12h: None,
            cache_write_1h: None,
            cache_write_30m: None,
            cache_write_5m: None,
            cached_input: None,
            call: None,
            image_input: None,
            image_output: None,
            input,
            long_context: Vec::new(),
            output,
            tiers: BTreeMap::new(),
            tools: BTreeMap::new(),
        }
    }

    /// The price of one unit of a bucket; `None` when the model has none.
    #[must_use]
    pub fn unit(&self, bucket: Bucket) -> Option<Pico> {
        match bucket {
            Bucket::Input => Some(self.input),
            Bucket::CachedInput => Some(self.cached_input.unwrap_or(self.input)),
            Bucket::CacheWrite => Some(self.cache_write.unwrap_or(self.input)),
            Bucket::CacheWrite5m => self.cache_write_5m.or(self.cache_write),
            Bucket::CacheWrite30m => self.cache_write_30m.or(self.unit(Bucket::CacheWrite)),
            Bucket::CacheWrite1h => self.cache_write_1h,
            Bucket::CacheWrite12h => self.cache_write_12h.or(self.unit(Bucket::CacheWrite)),
            Bucket::Output => Some(self.output),
            Bucket::AudioInput => self.audio_input,
            Bucket::AudioOutput => self.audio_output,
            Bucket::ImageInput => Some(self.image_input.unwrap_or(self.input)),
            Bucket::ImageOutput => self.image_output,
            Bucket::Tool(tool) => self.tool(tool).map(|tool| tool.per_call),
            Bucket::Call => Some(self.call.unwrap_or(Pico::ZERO)),
        }
    }

    /// The price of a tool that the provider runs.
    #[must_use]
    pub fn tool(&self, tool: ToolName) -> Option<&ToolPrice> {
        self.tools.get(tool.as_str())
    }

    /// What holds for an input of so many tokens.
    #[must_use]
    pub fn at(&self, input_tokens: u64) -> &Price {
        self.crossed(input_tokens).last().map_or(self, |long| &long.price)
    }

    /// The prices of long inputs that an input of so many tokens has passed.
    fn crossed(&self, input_tokens: u64) -> impl Iterator<Item = &LongContext> {
        self.long_context.iter().take_while(move |long| input_tokens > long.above)
    }

    /// The dearest price of anything: what a quantity without a price of its own costs.
    fn dearest(&self) -> Pico {
        let optional = [
            self.cached_input,
            self.cache_write,
            self.cache_write_5m,
            self.cache_write_30m,
            self.cache_write_1h,
            self.cache_write_12h,
            self.audio_input,
            self.audio_output,
            self.image_input,
            self.image_output,
        ];
        let tools = self.tools.values().map(|tool| tool.per_call);
        optional.into_iter().flatten().chain(tools).fold(self.input.max(self.output), Pico::max)
    }

    fn dearest_input(&self, ask: &Ask) -> Result<Pico, Unbounded> {
        // Caches of these kinds are written by the provider on its own, the others where the request says so.
        let text = [Some(self.input), self.cached_input, self.cache_write, self.cache_write_30m, self.cache_write_12h];
        let mut dearest = text.into_iter().flatten().fold(self.input, Pico::max);
        for lifetime in &ask.cache_lifetimes {
            let bucket = match lifetime.as_str() {
                "5m" => Some(Bucket::CacheWrite5m),
                "1h" => Some(Bucket::CacheWrite1h),
                _ => None,
            };
            let unit = bucket.and_then(|bucket| self.unit(bucket));
            dearest = dearest.max(unit.ok_or_else(|| Unbounded::CacheUnpriced(lifetime.clone()))?);
        }
        // A file or a video may hold sound and images.
        if ask.images > 0 || ask.attachments > 0 {
            dearest = dearest.max(self.image_input.unwrap_or(dearest));
        }
        if ask.audio_in > 0 {
            return Ok(dearest.max(self.audio_input.ok_or(Unbounded::AudioUnpriced)?));
        }
        Ok(if ask.attachments > 0 { dearest.max(self.audio_input.unwrap_or(dearest)) } else { dearest })
    }

    fn dearest_output(&self, ask: &Ask) -> Result<Pico, Unbounded> {
        if ask.audio_out { Ok(self.output.max(self.audio_output.ok_or(Unbounded::AudioUnpriced)?)) } else { Ok(self.output) }
    }
}

#[cfg(test)]
mod tests;
