//! Prices, the bound of a call and its charge. The only place where tokens become money.

mod bound;
mod card;
mod charge;

use crate::ask::Ask;
use crate::usage::Bucket;
use aex_proto::value::Pico;
use serde::{Deserialize, Serialize};

pub use bound::{Bound, Overhead, Reckoning, Unbounded, bound, reckon};
pub use card::{MaxTokensField, ModelCard};
pub use charge::{Charge, Line};

/// Service tiers for which the standard prices hold at OpenAI and Groq; any other is priced differently.
pub const STANDARD_TIERS: [&str; 4] = ["auto", "default", "standard", "on_demand"];

/// At OpenAI a project's settings decide the tier of a request that names none, or `auto`. Elsewhere the field may be refused.
#[must_use]
pub fn is_tier_by_project(host: &str) -> bool {
    const OPENAI: &str = "api.openai.com";
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == OPENAI || host.strip_suffix(OPENAI).is_some_and(|region| region.ends_with('.'))
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

#[cfg(test)]
mod tests;
