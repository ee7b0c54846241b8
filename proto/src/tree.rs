//! The tree of accounts: what a person calls an account, and changes of state that any account takes.

use crate::account::{AccountState, AgentName, checked_name};
use crate::run::RunId;
use crate::value::AccountId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The name of a group: as an agent's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct GroupName(String);

impl GroupName {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = String;

    fn from_str(text: &str) -> Result<GroupName, String> {
        checked_name(text, "a group").map(GroupName)
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for GroupName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<GroupName, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An account as a person writes it: `root`, `group:NAME`, `agent:NAME`, `run_17`, or a bare name of an agent or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountRef {
    /// The account of this machine.
    Root,
    /// A group.
    Group(GroupName),
    /// An agent.
    Agent(AgentName),
    /// A run.
    Run(RunId),
    /// Whichever of agent and group has this name; both is an error of whoever looks it up.
    Bare(AgentName),
}

impl FromStr for AccountRef {
    type Err = String;

    fn from_str(text: &str) -> Result<AccountRef, String> {
        if text == "root" {
            return Ok(AccountRef::Root);
        }
        if let Some(name) = text.strip_prefix("group:") {
            return name.parse().map(AccountRef::Group);
        }
        if let Some(name) = text.strip_prefix("agent:") {
            return name.parse().map(AccountRef::Agent);
        }
        // Denials name the account of a run, `run-17`; no agent can have that name.
        let number = text.strip_prefix("run_").or_else(|| text.strip_prefix("run-"));
        let number = number.filter(|digits| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()));
        if let Some(number) = number.and_then(|digits| digits.parse().ok()) {
            return Ok(AccountRef::Run(RunId::new(AccountId::new(number))));
        }
        text.parse()
            .map(AccountRef::Bare)
            .map_err(|_| format!("{text:?} names no account: root, group:NAME, agent:NAME, run_17, or a name"))
    }
}

impl fmt::Display for AccountRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccountRef::Root => f.write_str("root"),
            AccountRef::Group(name) => write!(f, "group:{name}"),
            AccountRef::Agent(name) => write!(f, "agent:{name}"),
            AccountRef::Run(run) => write!(f, "{run}"),
            AccountRef::Bare(name) => write!(f, "{name}"),
        }
    }
}

impl Serialize for AccountRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AccountRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AccountRef, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Changes one account's state: `account.pause`, `account.resume` and `account.kill`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountChange {
    /// The account. The root's state holds for all.
    pub account: AccountRef,
    /// Why, for the event; of a pause and a kill, as the denials will say.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Reply of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountChanged {
    /// The account, in the form that names no other: `group:research`.
    pub account: String,
    /// Its number.
    pub id: AccountId,
    /// Its state before.
    pub before: AccountState,
    /// Its state now. A run that is killed is closed.
    pub state: AccountState,
    /// Why it is not active.
    pub state_reason: Option<String>,
    /// Accounts above it that are not active themselves: its calls are denied all the same.
    pub stopped_above: Vec<String>,
    /// Runs that were ended by it.
    pub runs_ended: u32,
    /// Calls in flight, of it and of all below it, that were told to end.
    pub calls_cut: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_read_as_it_is_written() {
        for text in ["root", "group:a b", "agent:root", "agent:group:x", "group:agent:x", "run_17", "agent:run_17", "bot", "Root", "run"] {
            assert_eq!(text.parse::<AccountRef>().map(|account| account.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("run-17".parse::<AccountRef>(), "run_17".parse::<AccountRef>());
        assert_eq!("run_x".parse::<AccountRef>(), Ok(AccountRef::Bare("run_x".parse().unwrap_or_else(|fault| unreachable!("{fault}")))));
        for text in ["", "group:", "agent:", "agent:run-1", "group:run-1", "a/b", "-a", "run-99999999999999999999"] {
            assert!(text.parse::<AccountRef>().is_err(), "{text}");
        }
        assert_eq!("-a".parse::<GroupName>().unwrap_err().split(':').next(), Some("\"-a\" is no name of a group"));
    }
}
