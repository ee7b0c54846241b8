//! Accounts: agents, their budgets, their policy.

pub use crate::policy::AgentPolicy;

use crate::token::{Scope, Token};
use crate::tree::GroupName;
use crate::value::{AccountId, NewToken, Pico, Stamp};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The period of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// Once and for all.
    Total,
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday.
    Week,
    /// From the first to the first.
    Month,
}

impl Period {
    /// All periods.
    pub const ALL: [Period; 4] = [Period::Total, Period::Day, Period::Week, Period::Month];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Period::Total => "total",
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
        }
    }

    /// The period of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Period> {
        Period::ALL.into_iter().find(|period| period.name() == name)
    }

    pub(crate) const fn total() -> Period {
        Period::Total
    }
}

/// The state of an account. Anything but active denies every call below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountState {
    /// Calls pass.
    Active,
    /// Paused by a person; `resume` lifts it.
    Paused,
    /// Suspended because a bill went beyond its bound.
    Suspended,
    /// Killed by a person; `resume` lifts it.
    Killed,
    /// Closed for ever.
    Closed,
}

impl AccountState {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            AccountState::Active => "active",
            AccountState::Paused => "paused",
            AccountState::Suspended => "suspended",
            AccountState::Killed => "killed",
            AccountState::Closed => "closed",
        }
    }
}

/// The name of an agent: 1 to 64 printable characters, no `/`, no space at the ends, no `-` at the start, and not that of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AgentName(String);

impl AgentName {
    /// Most characters of a name.
    pub const MAX_CHARS: usize = 64;

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentName {
    type Err = String;

    fn from_str(text: &str) -> Result<AgentName, String> {
        checked_name(text, "an agent").map(AgentName)
    }
}

/// The one rule for names that people give to accounts.
pub(crate) fn checked_name(text: &str, noun: &str) -> Result<String, String> {
    if is_name_of_run(text, "run-") {
        return Err(format!("{text:?} is no name of {noun}: runs are named run-1, run-2 and so on"));
    }
    let printable = text.chars().all(|c| !c.is_control() && c != '/');
    let fits = (1..=AgentName::MAX_CHARS).contains(&text.chars().count());
    if fits && printable && text.trim() == text && !text.starts_with('-') {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no name of {noun}: 1 to 64 printable characters, no `/`, no space at the ends, no `-` at the start"))
    }
}

/// Whether a new account may have a name: not one that means another account where commands take any. Accounts of before may
/// have one; `agent:NAME` and `group:NAME` reach them.
///
/// # Errors
/// What it means instead.
pub fn check_new_name(name: &str, noun: &str) -> Result<(), String> {
    let means = if name == "root" {
        "is the account of this machine"
    } else if is_name_of_run(name, "run_") {
        "is a run"
    } else if name.contains(':') {
        "has a `:`, which stands behind `agent` or `group` alone"
    } else {
        return Ok(());
    };
    Err(format!("{name:?} cannot name {noun}: where commands take any account, it {means}"))
}

/// Refusals name the account that is out of money: it must be clear whether that is an agent.
fn is_name_of_run(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AgentName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AgentName, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// `agent.create`: a new agent below the root or a group. It stays there: an account's path is final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentCreate {
    /// A name that no living agent has.
    pub name: AgentName,
    /// The group above it; `None`: the root.
    #[serde(default)]
    pub group: Option<GroupName>,
    /// What it may spend in a period.
    pub budget_pico: Pico,
    /// The period.
    #[serde(default = "Period::total")]
    pub per: Period,
    /// Requests in any 60 seconds; 0 denies every call.
    pub rpm: u32,
    /// Tokens in any 60 seconds; `None`: no limit of its own.
    #[serde(default)]
    pub tpm: Option<u32>,
    /// Requests in flight; `None`: no limit of its own.
    #[serde(default)]
    pub max_concurrent: Option<u32>,
    /// What its token may do.
    #[serde(default = "Scope::execution")]
    pub scope: Scope,
    /// How long its token lives; `None`: for ever.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
    /// What it may ask for.
    #[serde(default = "AgentPolicy::silent")]
    pub policy: AgentPolicy,
    /// Why, for the event.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `agent.update`: changes what is stated here, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentUpdate {
    /// The agent.
    pub name: AgentName,
    /// Its budget of the period `per`: a new one beside those of other periods, or the old one changed.
    #[serde(default)]
    pub budget_pico: Option<Pico>,
    /// The period.
    #[serde(default = "Period::total")]
    pub per: Period,
    /// Requests in any 60 seconds; 0 denies every call.
    #[serde(default)]
    pub rpm: Option<u32>,
    /// Tokens in any 60 seconds; 0 denies every call.
    #[serde(default)]
    pub tpm: Option<u32>,
    /// Requests in flight.
    #[serde(default)]
    pub max_concurrent: Option<u32>,
    /// What it may ask for.
    #[serde(default = "AgentPolicy::silent")]
    pub policy: AgentPolicy,
    /// Fields of its policy that it no longer states, and limits that it no longer has: `rpm`, `tpm`, `max_concurrent`.
    #[serde(default)]
    pub clear: Vec<String>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Names one agent: the parameters of `agent.inspect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRef {
    /// Its name.
    pub name: AgentName,
}

/// Changes one agent's state: `agent.pause`, `agent.resume` and `agent.delete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentChange {
    /// The agent.
    pub name: AgentName,
    /// Why, for the event; of a pause, as the denials will say.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `agent.rotate_token`: a new token; the old ones are revoked at once, or after the grace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRotateToken {
    /// The agent.
    pub name: AgentName,
    /// How long the new token lives; `None`: for ever.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
    /// How long the old tokens still pass; `None`: not at all.
    #[serde(default)]
    pub grace_ms: Option<u64>,
    /// Why, for the events.
    #[serde(default)]
    pub reason: Option<String>,
}

/// One budget with its balance in the current window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Its period.
    pub period: Period,
    /// What may be spent in it.
    pub limit_pico: Pico,
    /// The same in USD.
    pub limit_usd: String,
    /// What is spent.
    pub spent_pico: Pico,
    /// The same in USD.
    pub spent_usd: String,
    /// What calls in flight hold.
    pub reserved_pico: Pico,
    /// The same in USD.
    pub reserved_usd: String,
    /// limit − spent − reserved; negative in overdraft.
    pub remaining_pico: Pico,
    /// The same in USD.
    pub remaining_usd: String,
    /// How far spent + reserved lie above the limit.
    pub overdraft_pico: Pico,
    /// The same in USD.
    #[serde(default)]
    pub overdraft_usd: String,
    /// When the window began; `None` for a total.
    pub since: Option<Stamp>,
    /// When the window ends; `None` for a total.
    pub resets_at: Option<Stamp>,
}

impl Budget {
    /// Computes what follows from the balance. A difference out of range stays at the end of the range.
    #[must_use]
    pub fn new(period: Period, limit: Pico, spent: Pico, reserved: Pico, since: Option<Stamp>, resets_at: Option<Stamp>) -> Budget {
        let remaining = Pico::new(limit.get().saturating_sub(spent.get()).saturating_sub(reserved.get()));
        let overdraft = Pico::new(remaining.get().saturating_neg().max(0));
        Budget {
            period,
            limit_pico: limit,
            limit_usd: limit.usd(),
            spent_pico: spent,
            spent_usd: spent.usd(),
            reserved_pico: reserved,
            reserved_usd: reserved.usd(),
            remaining_pico: remaining,
            remaining_usd: remaining.usd(),
            overdraft_pico: overdraft,
            overdraft_usd: overdraft.usd(),
            since,
            resets_at,
        }
    }
}

/// One agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its number: a name may be used again, a number never.
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// The group above it; `None`: the root.
    #[serde(default)]
    pub group: Option<String>,
    /// Its state.
    pub state: AccountState,
    /// Why it is not active.
    pub state_reason: Option<String>,
    /// What its newest living token may do; `None`: it has none.
    pub scope: Option<Scope>,
    /// When that token ends; `None`: never, or there is none.
    pub token_expires_at: Option<Stamp>,
    /// Its budgets, the total first; none when they were taken away.
    pub budgets: Vec<Budget>,
    /// Requests in any 60 seconds; `None`: no limit of its own.
    pub rpm: Option<u32>,
    /// Tokens in any 60 seconds; `None`: no limit of its own.
    #[serde(default)]
    pub tpm: Option<u32>,
    /// Requests in flight; `None`: no limit of its own.
    pub max_concurrent: Option<u32>,
    /// What it may ask for: the values that hold.
    pub policy: AgentPolicy,
    /// Who states them, by field: `agent` or `profile`; the rest are built-in defaults.
    #[serde(default)]
    pub policy_from: BTreeMap<String, String>,
    /// The profile that is bound to it.
    #[serde(default)]
    pub profile: Option<String>,
    /// When it was made.
    pub created_at: Stamp,
    /// Its last request, denied ones included; `None`: there was none.
    pub last_activity_at: Option<Stamp>,
}

/// Reply of `agent.list`: living agents in the order in which they were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentList {
    /// The agents.
    pub agents: Vec<Agent>,
}

/// Reply of `agent.create`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCreated {
    /// The agent.
    #[serde(flatten)]
    pub agent: Agent,
    /// Its token: shown here and never again.
    pub token: NewToken,
}

/// Reply of `agent.update`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentUpdated {
    /// The agent.
    #[serde(flatten)]
    pub agent: Agent,
    /// What a user should know, such as a budget below what is spent.
    pub warnings: Vec<String>,
}

/// Reply of `agent.inspect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInspection {
    /// The agent.
    #[serde(flatten)]
    pub agent: Agent,
    /// Its tokens, revoked and expired ones included, newest first.
    pub tokens: Vec<Token>,
    /// Calls charged since it was made, its runs included.
    pub calls: u64,
    /// Calls denied since it was made, its runs included.
    pub denials: u64,
    /// Runs that are open.
    pub active_runs: u32,
}

/// Reply of `agent.delete`: its events stay, its name is free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentDeleted {
    /// Its number.
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// What it spent in all.
    pub spent_pico: Pico,
    /// The same in USD.
    pub spent_usd: String,
    /// Runs that were ended with it.
    pub runs_ended: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_cannot_have_the_name_of_a_run() {
        for name in ["a", "run", "run-", "run-5a", "running-5", "Run-5", "déjà vu"] {
            assert_eq!(name.parse::<AgentName>().map(|name| name.to_string()), Ok(name.to_owned()));
        }
        for name in ["run-5", "run-0017"] {
            let wanted = format!("{name:?} is no name of an agent: runs are named run-1, run-2 and so on");
            assert_eq!(name.parse::<AgentName>(), Err(wanted));
        }
        for name in ["root", "run_5", "run_0017", "agent:a", "group:a", "a:b", ":"] {
            assert!(check_new_name(name, "an agent").is_err_and(|fault| fault.starts_with(&format!("{name:?} cannot name an agent"))));
            // An account of before may have it.
            assert!(name.parse::<AgentName>().is_ok(), "{name}");
        }
        for name in ["a", "Root", "roots", "run_", "run_5a", "run", "déjà vu"] {
            assert_eq!(check_new_name(name, "an agent"), Ok(()));
        }
        for name in ["", " a", "a ", "-a", "a/b", "a\nb", &"x".repeat(65)] {
            assert!(name.parse::<AgentName>().is_err(), "{name}");
        }
    }
}
