//! A call of a tool as its events tell it, and why one is refused. Frozen formats: an old event is read for ever.
//!
//! Must not: hold arguments or results unless they are to be recorded whole.

use super::decide::{Caller, DecidedBy, Facts, Verdict};
use super::name::ToolName;
use super::spec::Effect;
use crate::event::By;
use crate::policy::NearMiss;
use crate::price::{MaxTokensField, ModelCard, Overhead, Price};
use aex_proto::value::{Digest, Pico};
use serde::{Deserialize, Serialize};

/// What stands before a tool's name where models have theirs.
const PREFIX: &str = "tool:";

/// A call of a tool, as it was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// What the agent answers to questions of the server, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Answers>,
    /// Its arguments in canonical JSON, where they are recorded whole. The SHA-256 of what the call says ([`said`]) is its `input` in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// Who calls, by the names that the rules look at.
    pub caller: Caller,
    /// Who let it pass, where a person had to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,
    /// The digest of what its server says of the tool, as it is trusted; absent where the call was not admitted, or nothing need be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Digest>,
    /// What its arguments show.
    pub facts: Facts,
    /// How the process that it goes to is confined, as the sandbox proved it; absent where the call was not admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// The digest of the permissions that held.
    pub permissions: Digest,
    /// The server.
    pub server: String,
    /// The tool, as its server calls it.
    pub tool: String,
}

/// What an agent answers to questions of a server: `inputResponses` and `requestState` of MCP 2026-07-28, as far as they are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// The SHA-256 of their object in canonical JSON.
    pub digest: Digest,
    /// That, where it is recorded whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// All that a call says: its arguments, and in a line of their own the answers that it brings, each in canonical JSON.
#[must_use]
pub fn said(arguments: &str, answers: Option<&str>) -> String {
    answers.map_or_else(|| arguments.to_owned(), |answers| format!("{arguments}\n{answers}"))
}

/// A person's word for a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// It was given once for all calls of this agent to this tool by this rule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub always: bool,
    /// Who gave it.
    pub by: By,
}

/// What came of a call of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolResult {
    /// Bytes of the result.
    pub bytes: u64,
    /// The SHA-256 of the result in canonical JSON.
    pub digest: Digest,
    /// The tool says that it failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
    /// The result in canonical JSON, where it is recorded whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

/// Why nobody let a call pass that had to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoConsent {
    /// A person said no.
    Refused,
    /// Nobody answered in time.
    Unanswered,
    /// So many calls wait already that no further one may.
    TooMany,
}

/// A call that the permissions do not let pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolDenied {
    /// Names of the other rules that matched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Who decided.
    pub by: DecidedBy,
    /// Rules that nearly matched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<NearMiss>,
    /// Why nobody let it pass, where a person was to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unasked: Option<NoConsent>,
    /// `SERVER.TOOL`.
    pub tool: String,
}

impl ToolDenied {
    /// By a verdict. `unasked`: why it does not pass although a person could let it.
    #[must_use]
    pub fn of(verdict: Verdict, tool: &ToolName, unasked: Option<NoConsent>) -> ToolDenied {
        ToolDenied { also: verdict.also, by: verdict.by, near: verdict.near, unasked, tool: tool.to_string() }
    }

    /// Whether a verdict refuses a call in this way.
    #[must_use]
    pub fn follows(&self, verdict: &Verdict) -> bool {
        let effect = if self.unasked.is_some() { Effect::Ask } else { Effect::Deny };
        verdict.effect == effect && (&verdict.by, &verdict.also, &verdict.near) == (&self.by, &self.also, &self.near)
    }
}

impl ToolCall {
    /// The tool.
    #[must_use]
    pub fn name(&self) -> ToolName {
        ToolName { server: self.server.clone(), tool: self.tool.clone() }
    }

    /// All that it says, where it is recorded whole.
    #[must_use]
    pub fn whole(&self) -> Option<String> {
        let arguments = self.arguments.as_ref()?;
        match &self.answers {
            None => Some(said(arguments, None)),
            Some(answers) => Some(said(arguments, Some(answers.text.as_ref()?))),
        }
    }

    /// Whether a verdict lets it pass, with the consent that it has.
    ///
    /// # Errors
    /// Why it does not, in words.
    pub fn passes(&self, verdict: &Verdict) -> Result<(), String> {
        match (verdict.effect, &self.consent) {
            (Effect::Allow, None) | (Effect::Ask, Some(_)) => Ok(()),
            (Effect::Allow, Some(_)) => Err("with the consent of a person, whom nobody had to ask".to_owned()),
            (Effect::Ask, None) => Err(format!("without the consent of a person, for whom {} asks", verdict.by.rule)),
            (Effect::Deny, _) => Err(format!("and by its permissions it is denied by {}", verdict.by.rule)),
        }
    }
}

/// The name by which the ledger counts the calls of a tool, as it does those of a model.
#[must_use]
pub fn counted_as(tool: &ToolName) -> String {
    format!("{PREFIX}{tool}")
}

/// The card of a tool: a call costs its price and nothing else.
#[must_use]
pub fn card(tool: &ToolName, price: Option<Pico>) -> ModelCard {
    ModelCard {
        context_tokens: None,
        drop_tools: Vec::new(),
        max_tokens: 0,
        max_tokens_field: MaxTokensField::MaxTokens,
        max_tokens_per_minute: None,
        name: counted_as(tool),
        overhead: Overhead { message: 0, request: 0, tool: 0, tools: 0 },
        price: Some(Price { call: price, ..Price::of(Pico::ZERO, Pico::ZERO) }),
        provider: tool.server.clone(),
        provider_model: tool.tool.clone(),
        reasoning: false,
        tokenizer: None,
        tools: false,
        vision: false,
    }
}
