//! Models that the configuration offers.

use crate::value::Pico;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether the daemon can authenticate to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// The key is there.
    Present,
    /// The variable is not set, or empty: calls are denied.
    Missing,
    /// The provider takes none.
    NotNeeded,
}

/// A tool that the provider runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostedTool {
    /// The most calls in one answer; absent: the request has to state it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_calls: Option<u64>,
    /// One call.
    pub per_call_pico: Pico,
}

/// Prices of a long input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongContext {
    /// They hold for the whole call when its input has more tokens than this.
    pub above: u64,
    /// The prices.
    pub prices: Prices,
}

/// Prices per unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prices {
    /// One token of input.
    pub input_pico: Pico,
    /// One token of output, reasoning included.
    pub output_pico: Pico,
    /// One token of input read from a cache; `None`: as input.
    pub cached_input_pico: Option<Pico>,
    /// One token of input written to a cache; `None`: as input.
    pub cache_write_pico: Option<Pico>,
    /// One call, beside its tokens.
    pub call_pico: Option<Pico>,
    /// One token of other kinds, by the names of their buckets: `cache_write_1h`, `audio_input`, `image_output` …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others_pico: BTreeMap<String, Pico>,
    /// What holds for long inputs, in ascending order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub long_context: Vec<LongContext>,
    /// What holds in service tiers, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<String, Prices>,
    /// Tools that the provider runs, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, HostedTool>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// The name that clients use.
    pub name: String,
    /// A request without `model` gets this one.
    pub default: bool,
    /// The provider that serves it.
    pub provider: String,
    /// The provider's type.
    pub provider_type: String,
    /// The name that is sent to the provider.
    pub provider_model: String,
    /// Its prices; `None`: every call is denied.
    pub prices: Option<Prices>,
    /// Largest output, in tokens.
    pub max_tokens: u64,
    /// Size of its context, in tokens.
    pub context_tokens: Option<u64>,
    /// It thinks before it answers.
    pub reasoning: bool,
    /// It takes tools.
    pub tools: bool,
    /// It takes images.
    pub vision: bool,
    /// Models that its calls fall back on, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<String>,
    /// Its provider fails: no call goes there for so many milliseconds; 0: one is finding out. Absent while all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_ms: Option<u64>,
    /// Tools that the provider runs and that are taken out of a request; `*`: all without a price.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped_tools: Vec<String>,
    /// Whether there is a key for its provider.
    pub key: KeyState,
    /// The environment variable of that key; `None` where none is needed.
    pub key_variable: Option<String>,
}

/// Reply of `model.list`: in the order of models.yaml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelList {
    /// The models.
    pub models: Vec<Model>,
}

/// Reply of `model.reload`: the new configuration is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelReloaded {
    /// Models that it has.
    pub models: u32,
    /// Providers that it has.
    pub providers: u32,
    /// Warnings with file and line.
    pub warnings: Vec<String>,
    /// Settings that differ from those of the daemon's start and take effect at its next one.
    pub needs_restart: Vec<String>,
}
