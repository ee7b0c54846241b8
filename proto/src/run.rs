//! Runs: an account below an agent, for the life of one command.

use crate::account::AgentName;
use crate::value::{AccountId, NewToken, Pico, Stamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A run. Its text form is `run_` and the number of its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(AccountId);

impl RunId {
    /// The run of an account.
    #[must_use]
    pub const fn new(account: AccountId) -> RunId {
        RunId(account)
    }

    /// Its account.
    #[must_use]
    pub const fn account(self) -> AccountId {
        self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run_{}", self.0)
    }
}

impl FromStr for RunId {
    type Err = String;

    fn from_str(text: &str) -> Result<RunId, String> {
        let number = text.strip_prefix("run_").and_then(|digits| digits.parse().ok());
        number.map(|number| RunId(AccountId::new(number))).ok_or_else(|| format!("`{text}` is not the id of a run such as run_17"))
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RunId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// `run.open`: an account below an agent, with a token that dies with this connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunOpen {
    /// The agent; `None`: the agent `default`.
    #[serde(default)]
    pub agent: Option<AgentName>,
    /// What the run may spend, within the agent's budget; `None`: all that the agent may.
    #[serde(default)]
    pub budget_pico: Option<Pico>,
    /// Requests of the run in any 60 seconds; `None`: as the agent.
    #[serde(default)]
    pub rpm: Option<u32>,
    /// Tokens of the run in any 60 seconds; `None`: as the agent.
    #[serde(default)]
    pub tpm: Option<u32>,
    /// How long the run may last; `None`: for ever.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
    /// The first denial for want of money ends the run.
    #[serde(default)]
    pub stop_on_budget: bool,
    /// The command without its arguments: those may hold secrets.
    pub command: String,
}

/// Reply of `run.open`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOpened {
    /// The run.
    pub run: RunId,
    /// Its account.
    pub account: AccountId,
    /// The agent above it.
    pub agent: String,
    /// The run's token, for its child alone.
    pub token: NewToken,
    /// When the run ends by itself.
    pub expires_at: Option<Stamp>,
    /// Where the daemon listens: `http://127.0.0.1:9000`. Groq's and Anthropic's SDKs take the origin.
    pub origin: String,
    /// The origin and `/v1`, as OpenAI's SDK takes it.
    pub openai_base_url: String,
    /// Variables that hold providers' keys by the configuration: the child gets none of them.
    pub provider_key_variables: Vec<String>,
}

/// Names one run on a new connection: `run.attach`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunAttach {
    /// The run.
    pub run: RunId,
    /// As in `run.open`: a daemon that was restarted does not know it any more.
    #[serde(default)]
    pub stop_on_budget: bool,
}

/// Reply of `run.attach`: the run is tied to this connection now. A run that is over is a `Gone` that says why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAttached {
    /// The run.
    pub run: RunId,
    /// Where the daemon listens now.
    pub origin: String,
}

/// `run.close`: the command has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunClose {
    /// The run.
    pub run: RunId,
    /// Exit status of the command, 128 + n for signal n; `None` when it never ran.
    #[serde(default)]
    pub exit_status: Option<i32>,
}

/// Reply of `run.close`: what the run did. A run that was ended from elsewhere has one, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// The agent above it.
    pub agent: String,
    /// Calls charged.
    pub calls: u64,
    /// Tokens of these calls; those of a call at its worst case are its bound's.
    pub tokens: u64,
    /// Tokens of input on their bills.
    pub input_tokens: u64,
    /// Tokens of output on their bills.
    pub output_tokens: u64,
    /// What they cost.
    pub cost_pico: Pico,
    /// The same in USD.
    pub cost_usd: String,
    /// Calls of which the cost is an estimate.
    pub estimated: u64,
    /// Calls of which the cost is the worst case: nobody knows more.
    pub worst_case: u64,
    /// Calls denied.
    pub denials: u64,
    /// Why the run was ended from elsewhere; `None`: it was not.
    pub ended: Option<RunEnd>,
}

/// Why a run was ended from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    /// A person killed it, or its agent.
    Killed,
    /// Its agent was deleted.
    Deleted,
    /// Its agent was suspended.
    Suspended,
    /// Its budget is spent, and `--stop-on-budget` was set.
    Budget,
    /// Its time is over.
    Expired,
    /// Its connection was gone for longer than `run_grace`.
    Abandoned,
}

/// The notification `run.ended`, pushed to the connection of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnded {
    /// The run.
    pub run: RunId,
    /// Why.
    pub reason: RunEnd,
    /// The same for a person, with the words that whoever ended it gave.
    pub message: String,
}
