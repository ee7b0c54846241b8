//! The story of one request: checks, bound, money, what was sent, how it ended.

use super::{Caller, EventSeen, PolicyUsed};
use crate::account::Period;
use crate::value::{AccountId, Digest, Pico, RequestId, Stamp};
use serde::{Deserialize, Serialize};

/// What a check said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It lets the call pass.
    Passed,
    /// It denies the call.
    Denied,
    /// It would deny the call, too, but another one came first.
    Broken,
}

/// One check of the request's path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What the limit allows; absent where there is none, or where it was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
    /// What the call asks.
    pub asked: String,
    /// Its name, as events name the rule.
    pub name: String,
    /// Whose limit it is: an account, a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// What it said.
    pub verdict: Verdict,
}

/// How a rule of policy.yaml stood to the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSeen {
    /// It decided.
    pub decided: bool,
    /// deny, ask, limit or allow.
    pub effect: String,
    /// Why it could not be evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Conditions that did not hold; empty: it matched. One alone: a near miss.
    pub failed: Vec<String>,
    /// Its name.
    pub name: String,
    /// Where it stands: `policy.yaml:7`.
    pub place: String,
    /// Why, as the file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A part of a bound: `count` of `what`, `each` tokens at most for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundPart {
    /// byte, text_token, nfkc_byte, request, tools, message, tool, known_tool, context, choice or prediction_byte.
    pub what: String,
    /// How many.
    pub count: u64,
    /// Tokens at most for each.
    pub each: u64,
}

/// A tool that the provider may run for the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolTold {
    /// How often at most.
    pub calls: u64,
    /// Its name.
    pub tool: String,
    /// The price of one call.
    pub unit_pico: Pico,
    /// The same in USD.
    pub unit_usd: String,
}

/// The most that the call could use and cost, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundTold {
    /// The most that it could cost.
    pub amount_pico: Pico,
    /// The same in USD.
    pub amount_usd: String,
    /// The price of the call itself.
    pub call_pico: Pico,
    /// The same in USD.
    pub call_usd: String,
    /// What input is made of.
    pub input: Vec<BoundPart>,
    /// Tokens of input, at most.
    pub input_tokens: u64,
    /// The dearest price of a token of input.
    pub input_unit_pico: Pico,
    /// The same in USD.
    pub input_unit_usd: String,
    /// What output is made of.
    pub output: Vec<BoundPart>,
    /// Tokens of output, at most.
    pub output_tokens: u64,
    /// The dearest price of a token of output.
    pub output_unit_pico: Pico,
    /// The same in USD.
    pub output_unit_usd: String,
    /// Tools that the provider may run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolTold>,
}

/// The money of one account in one period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurseTold {
    /// The account's number.
    pub account: AccountId,
    /// The first instant after its window; absent for a total, and where no call had opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Stamp>,
    /// root, group, agent or run.
    pub kind: String,
    /// limit − spent − reserved; absent without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_pico: Option<Pico>,
    /// The same in USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_usd: Option<String>,
    /// The budget; absent where none is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_pico: Option<Pico>,
    /// The same in USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_usd: Option<String>,
    /// The account's name.
    pub name: String,
    /// Beyond the limit.
    pub overdraft_pico: Pico,
    /// The same in USD.
    pub overdraft_usd: String,
    /// The period.
    pub period: Period,
    /// Held by calls in flight.
    pub reserved_pico: Pico,
    /// The same in USD.
    pub reserved_usd: String,
    /// Charged so far.
    pub spent_pico: Pico,
    /// The same in USD.
    pub spent_usd: String,
}

/// Something that was changed in the request before it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// The field.
    pub field: String,
    /// What the client wrote; absent when it wrote nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What was sent.
    pub to: String,
    /// Why: model_name, output_limit, policy_limit, dropped_tool, usage or standard_price.
    pub why: String,
}

/// What was sent where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentTo {
    /// What was changed in it.
    pub edits: Vec<Edit>,
    /// The SHA-256 of the bytes that the client sent.
    pub input: Digest,
    /// The provider's name in models.yaml.
    pub provider: String,
    /// The model's name at the provider.
    pub provider_model: String,
    /// Where; absent for the built-in provider, and where the events do not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// One line of a charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargeLine {
    /// What was used.
    pub bucket: String,
    /// How much.
    pub quantity: u64,
    /// Quantity × unit.
    pub sum_pico: Pico,
    /// The same in USD.
    pub sum_usd: String,
    /// The price of one.
    pub unit_pico: Pico,
    /// The same in USD.
    pub unit_usd: String,
}

/// The output that an estimate rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayedTold {
    /// Its bytes, as they stand in the answer.
    pub bytes: u64,
    /// Its tokens, at most; absent where each byte counts as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How the money stood afterwards.
    pub after: Vec<PurseTold>,
    /// When.
    pub at: Stamp,
    /// What it cost.
    pub charge_pico: Pico,
    /// The same in USD.
    pub charge_usd: String,
    /// What was held for it.
    pub held_pico: Pico,
    /// The same in USD.
    pub held_usd: String,
    /// The charge; empty for a worst case, which charges what was held, and for a release.
    pub lines: Vec<ChargeLine>,
    /// Why it ended so: answered, client_left, crash …; for a release: never_sent, refused …
    pub outcome: String,
    /// The output that an estimate rests on; absent for any other charge, and where a model that thinks is charged its whole bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relayed: Option<RelayedTold>,
    /// exact, estimated, worst_case or released.
    pub state: String,
    /// The status of the provider's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The service tier whose prices hold, when it is not the standard one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The event that suspended the agent for this bill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_by: Option<u64>,
    /// Fields of the reported usage that were not known, with their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_usage: Vec<(String, String)>,
}

/// One of several attempts of a call, or a model that it did not go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptTold {
    /// Which attempt, from 0; absent for a model that was passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u8>,
    /// What was charged for it.
    pub charge_pico: Pico,
    /// The same in USD.
    pub charge_usd: String,
    /// The events that it rests on.
    pub events: Vec<EventSeen>,
    /// What was held for it.
    pub held_pico: Pico,
    /// The same in USD.
    pub held_usd: String,
    /// The model.
    pub model: String,
    /// Why it ended so; for a model that was passed over, the rule that kept the call from it. Absent while it is in flight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The provider; absent where its card is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// exact, estimated, worst_case, released, in_flight, or passed_over.
    pub state: String,
    /// The status of the provider's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// Something that was computed again from the stored inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recomputed {
    /// What comes out again.
    pub again: String,
    /// What the event says.
    pub recorded: String,
    /// Whether they are the same.
    pub same: bool,
    /// decision, bound, charge or known_model.
    pub what: String,
}

/// A person's answer to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonTold {
    /// `approved`, `always` or `denied`.
    pub answer: String,
    /// When it was recorded.
    pub at: Stamp,
    /// Whose process it was.
    pub pid: i32,
    /// Why, when that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whose user it was.
    pub uid: u32,
}

/// The story of one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallStory {
    /// The request.
    pub request: RequestId,
    /// When it was decided.
    pub at: Stamp,
    /// Whether it was admitted.
    pub admitted: bool,
    /// What a person answered, where it waited for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<PersonTold>,
    /// Who called.
    pub caller: Caller,
    /// The policy that held; absent where the call was denied before one was needed, or its text is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyUsed>,
    /// What it asked, as far as it was read: the event's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<serde_json::Value>,
    /// The name of the rule that denied it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied_by: Option<String>,
    /// The denial: the event's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denial: Option<serde_json::Value>,
    /// Every check that was made, in order; the one that denied is the last of the path.
    pub checks: Vec<Check>,
    /// How each rule of policy.yaml stood to it.
    pub rules: Vec<RuleSeen>,
    /// The most that it could use and cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<BoundTold>,
    /// How the money of each account on its path stood before it; for a denial, when that was recorded.
    pub money: Vec<PurseTold>,
    /// What was sent where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<SentTo>,
    /// How it ended; absent while it is in flight, and for a denial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Ended>,
    /// When the daemon ends it at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Stamp>,
    /// All attempts, when there was more than one, and the models that were passed over: the last attempt is the one told here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptTold>,
    /// What was computed again for this story.
    pub recomputed: Vec<Recomputed>,
    /// The events that it rests on.
    pub events: Vec<EventSeen>,
}
