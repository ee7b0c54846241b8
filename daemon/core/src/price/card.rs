//! All that a decision knows of a model. A frozen format: an old card is read for ever.

use super::{Overhead, Price};
use crate::vocabulary::Vocabulary;
use aex_proto::value::Digest;
use serde::{Deserialize, Serialize};

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
    /// Names of tools that the provider runs and that are taken out of a request, `*` for all that have no price; any other without
    /// a price denies the call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop_tools: Vec<String>,
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
    /// It may think before it answers, unseen: a stream that breaks off may have cost what nobody saw ([`crate::ask::Ask::hidden_tokens`]).
    pub reasoning: bool,
    /// How it cuts a text into tokens, where that is public and known for certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Vocabulary>,
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
