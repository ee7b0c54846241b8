//! `explain.get`: the story of a request, a run or an event, recomputed from what the ledger stored.
//!
//! Money is in pico-USD with the same in USD beside it, tokens and units are whole. What is not known is absent, never guessed. Names of states, kinds, buckets
//! and rules are those of the events.

mod call;

pub use call::{
    AttemptTold, BoundPart, BoundTold, CallStory, ChargeLine, Check, Edit, Ended, PersonTold, PurseTold, Recomputed, RelayedTold, RuleSeen,
    SentTo, ToolTold, Verdict,
};

use crate::account::AccountState;
use crate::run::RunId;
use crate::value::{AccountId, Digest, Pico, RequestId, Stamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// What is to be explained. Its text form is `req_…`, `run_…` or the number of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExplainId {
    /// A request, as `x-aex-request-id` names it.
    Request(RequestId),
    /// A run.
    Run(RunId),
    /// An event, by its number.
    Event(u64),
}

impl fmt::Display for ExplainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExplainId::Request(request) => request.fmt(f),
            ExplainId::Run(run) => run.fmt(f),
            ExplainId::Event(seq) => seq.fmt(f),
        }
    }
}

impl FromStr for ExplainId {
    type Err = String;

    fn from_str(text: &str) -> Result<ExplainId, String> {
        let request = || text.parse().map(ExplainId::Request).ok();
        let run = || text.parse().map(ExplainId::Run).ok();
        let event = || text.parse().map(ExplainId::Event).ok();
        request().or_else(run).or_else(event).ok_or_else(|| {
            format!("`{text}` is no id: a request such as req_0000010000000001, a run such as run_17, or the number of an event")
        })
    }
}

impl Serialize for ExplainId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ExplainId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ExplainId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// `explain.get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainGet {
    /// What is to be explained.
    pub id: ExplainId,
}

/// A story, by what it is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub enum Story {
    /// A request that has an event of its own: admitted or denied.
    Call(Box<CallStory>),
    /// A refusal that is told only as one of several.
    Repeat(Box<RepeatStory>),
    /// A run.
    Run(Box<RunStory>),
    /// Anything else that happened.
    Action(Box<ActionStory>),
}

/// An event of the chain that a story rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSeen {
    /// Its number.
    pub seq: u64,
    /// When it was recorded.
    pub at: Stamp,
    /// What happened.
    pub kind: String,
    /// Its hash.
    pub hash: Digest,
}

/// One account of a path, as it stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its number.
    pub id: AccountId,
    /// root, group, agent or run.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: AccountState,
}

/// Who called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The name of the agent; absent for the root and for groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// From the caller's account up to the root.
    pub path: Vec<Holder>,
}

/// The policy that held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyUsed {
    /// allow or deny: what happens to a call that no rule matches.
    pub default: String,
    /// The digest of its snapshot.
    pub digest: Digest,
    /// Where its profile stands: `policy.yaml:3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The name of its profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

/// Refusals that are told together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The event that tells them.
    pub event: EventSeen,
    /// Whose calls; absent for callers that are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
    /// The rule that denied, or why the caller is not known.
    pub rule: String,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: RequestId,
    /// The last of them.
    pub last: RequestId,
    /// The refusal that came before them by the same rule, with all its facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Box<CallStory>>,
}

/// A refusal without facts of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RepeatStory {
    /// The request; absent when an event was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// It is surely one of the group: its first, its last, or all numbers between are in it.
    pub certain: bool,
    /// The groups whose range holds it; several when calls were refused for several reasons at the time.
    pub groups: Vec<Group>,
}

/// Who did an admin action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The process.
    pub pid: i32,
    /// The user.
    pub uid: u32,
}

/// One call of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCall {
    /// When it was admitted.
    pub at: Stamp,
    /// What it cost; absent while it is in flight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charge_pico: Option<Pico>,
    /// The same in USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charge_usd: Option<String>,
    /// The model.
    pub model: String,
    /// The request.
    pub request: RequestId,
    /// exact, estimated, worst_case, released or in_flight.
    pub state: String,
}

/// Denials of a run by one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDenials {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: RequestId,
    /// The rule.
    pub rule: String,
}

/// The story of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStory {
    /// The run.
    pub run: RunId,
    /// When it was opened.
    pub opened_at: Stamp,
    /// Who opened it; absent for the daemon itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
    /// The run's account and those above it, as they stood when it was opened.
    pub caller: Caller,
    /// What it may spend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_pico: Option<Pico>,
    /// The same in USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_usd: Option<String>,
    /// Calls that were admitted.
    pub admitted: u64,
    /// How many ended how: exact, estimated, worst_case, released, in_flight.
    pub ended: Vec<(String, u64)>,
    /// Tokens of input that were charged; a worst case has none.
    pub input_tokens: u64,
    /// Tokens of output that were charged.
    pub output_tokens: u64,
    /// What its calls cost.
    pub charged_pico: Pico,
    /// The same in USD.
    pub charged_usd: String,
    /// The newest calls, at most [`RunStory::MAX_CALLS`], in their order.
    pub calls: Vec<RunCall>,
    /// Denials by rule.
    pub denials: Vec<RunDenials>,
    /// When it ended; absent while it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Stamp>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_because: Option<String>,
    /// Its events, but for those of calls.
    pub events: Vec<EventSeen>,
}

impl RunStory {
    /// Most calls that are listed.
    pub const MAX_CALLS: usize = 100;
}

/// Something that an action changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// What.
    pub what: String,
    /// What it was; absent when there was none, or it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it is; absent when it was taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// The story of an event that is no call: an admin action, or one of the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionStory {
    /// The event.
    pub event: EventSeen,
    /// Who did it; absent for the daemon itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
    /// The account that it is about and those above it; absent where it is about none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Caller>,
    /// Why, when that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What changed.
    pub changes: Vec<Changed>,
    /// The event's body as it was hashed.
    pub body: serde_json::Value,
    /// Events that were recorded together with it: what it caused at once.
    pub together: Vec<EventSeen>,
    /// The next event of its kind about the same thing, which replaced what it set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<EventSeen>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_told_by_its_form_and_comes_back_as_it_was() {
        for text in ["req_0000010000000001", "run_17", "42"] {
            let id: ExplainId = text.parse().unwrap_or_else(|fault| unreachable!("{fault}"));
            assert_eq!(id.to_string(), text);
        }
        for text in ["", "bot", "req_1", "-3", "run_", "req_00000100000000zz"] {
            assert!(text.parse::<ExplainId>().is_err(), "{text}");
        }
    }
}
