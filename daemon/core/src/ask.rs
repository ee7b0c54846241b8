//! What a call asks for, as far as a decision needs it. Made by a dialect from the client's bytes; kept in the decision's event.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names of a list that are kept in an ask; more are counted but not named.
pub const NAMES_KEPT: usize = 32;

/// The facts of one request. Fields are in alphabetical order, so that its JSON is canonical; what is absent is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Parts whose size does not show in bytes and that are neither image nor audio: files, video, stored items.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attachments: u64,
    /// Audio that is sent, or an earlier spoken answer that is named.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub audio_in: u64,
    /// Audio is asked for as output.
    #[serde(default, skip_serializing_if = "is_false")]
    pub audio_out: bool,
    /// Bytes of the request's body.
    pub body_bytes: u64,
    /// How long input shall stay in the provider's cache where the request asks that it be written there: `5m`, `1h`, sorted, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache_lifetimes: Vec<String>,
    /// Answers asked for over all prompts (`n`, `best_of`); 1 when absent.
    pub choices: u64,
    /// A tool choice is stated: `tool_choice` or `function_call` is present and not null.
    #[serde(default, skip_serializing_if = "is_false")]
    pub function_calling: bool,
    /// Tokens of output that a model which thinks may write unseen, at most, as far as the request says it: 0 where it may not think.
    /// Absent: up to its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_tokens: Option<u64>,
    /// Tools that the provider itself runs, by type: each costs extra.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosted_tools: Vec<String>,
    /// How often a hosted tool may be called at most, where the request says so, by its type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosted_uses: BTreeMap<String, u64>,
    /// Content parts that are images.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub images: u64,
    /// Tokens that the provider adds, at most, for tools that the request names by a type alone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub known_tool_tokens: u64,
    /// The largest output limit that the request states, in tokens; 0 where there is no output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// How often hosted tools may be called at most, all together, where the request says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tool_calls: Option<u64>,
    /// Messages of the conversation, or texts without roles.
    pub messages: u64,
    /// The model's name as the client wrote it; empty when the request names none.
    pub model: String,
    /// Bytes that NFKC normalisation adds to the request's texts: a model may normalise before it counts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nfkc_extra_bytes: u64,
    /// Bytes that may come back as output: a prediction, which is billed when it is rejected, or prompts that are to be echoed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prediction_bytes: u64,
    /// Tokens that tools and schemas may take beyond their bytes: a provider writes their JSON anew, with white space and escapes of its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rewritten_tokens: u64,
    /// The service tier asked for; where more fields than one choose a price, what [`crate::price::tier`] makes of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
    /// A stream is asked for.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stream: bool,
    /// The temperature, as it is written in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<String>,
    /// Characters of all message contents: what the estimate of input tokens is made from.
    pub text_chars: u64,
    /// Tokens of the texts that were tokenised, at most; 0 where none was.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub text_tokens: u64,
    /// Bytes of the body that these texts take, their quotes and escapes included.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tokenized_bytes: u64,
    /// Names of the functions offered, at most [`NAMES_KEPT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_names: Vec<String>,
    /// Tools offered: functions, custom and hosted ones, and legacy functions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tools: u64,
    /// Top-level fields that this daemon does not know, at most [`NAMES_KEPT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_fields: Vec<String>,
}

impl Ask {
    /// Input tokens as the policy counts them: characters of all contents ÷ 4, rounded up.
    #[must_use]
    pub fn estimated_input_tokens(&self) -> u64 {
        self.text_chars.div_ceil(4)
    }
}

impl Ask {
    /// Counts a tool that the provider runs. `uses`: how often at most, when the request says so. Each entry of a name adds its own; one
    /// that states none leaves the name without.
    pub fn offer_hosted(&mut self, kind: String, uses: Option<u64>) {
        self.tools = self.tools.saturating_add(1);
        if self.hosted_tools.len() >= NAMES_KEPT {
            return;
        }
        let before = if self.hosted_tools.contains(&kind) { self.hosted_uses.remove(&kind) } else { Some(0) };
        if let Some(sum) = before.zip(uses).map(|(before, uses)| before.saturating_add(uses)) {
            self.hosted_uses.insert(kind.clone(), sum);
        }
        self.hosted_tools.push(kind);
    }

    /// Notes that input shall be written to the provider's cache for so long.
    pub fn write_cache(&mut self, lifetime: &str) {
        if let Err(at) = self.cache_lifetimes.binary_search_by(|held| held.as_str().cmp(lifetime))
            && self.cache_lifetimes.len() < NAMES_KEPT
        {
            self.cache_lifetimes.insert(at, lifetime.to_owned());
        }
    }

    /// Tokens that the call counts with until it is known what it used: the estimate of its input, and all output that it may have.
    #[must_use]
    pub fn estimated_tokens(&self, max_tokens: u64) -> u64 {
        self.estimated_input_tokens().saturating_add(max_tokens.saturating_mul(self.choices.max(1)))
    }
}

/// Something that a provider has stored, by the name that it gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A response.
    Response(String),
    /// An item of a response's output.
    Item(String),
}

impl Reference {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Reference::Response(id) | Reference::Item(id) => id,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}
