//! Groups: accounts whose limits all agents and groups below them share.

use crate::account::{AccountState, Budget, Period};
use crate::tree::GroupName;
use crate::value::{AccountId, Pico, Stamp};
use serde::{Deserialize, Serialize};

/// `group.create`: a new group below the root or another group. It stays there: an account's path is final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupCreate {
    /// A name that no living group has.
    pub name: GroupName,
    /// The group above it; `None`: the root.
    #[serde(default)]
    pub parent: Option<GroupName>,
    /// What all below it may spend in a period; `None`: no budget of its own.
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
    /// Why, for the event.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `group.update`: changes what is stated here, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupUpdate {
    /// The group.
    pub name: GroupName,
    /// Its budget of the period `per`.
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
    /// Limits that it no longer has: `rpm`, `tpm`, `max_concurrent`.
    #[serde(default)]
    pub clear: Vec<String>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `group.delete`: closes a group and frees its name; its events stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupDelete {
    /// The group.
    pub name: GroupName,
    /// With all agents and groups below it; without this, one that has any is refused.
    #[serde(default)]
    pub recursive: bool,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// One group. Money and activity are those of all below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its number: a name may be used again, a number never.
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// The group above it; `None`: the root.
    pub parent: Option<String>,
    /// Its state.
    pub state: AccountState,
    /// Why it is not active.
    pub state_reason: Option<String>,
    /// Its budgets; there may be none.
    pub budgets: Vec<Budget>,
    /// Spent in all.
    pub spent_pico: Pico,
    /// The same in USD.
    pub spent_usd: String,
    /// Requests in any 60 seconds; `None`: no limit of its own.
    pub rpm: Option<u32>,
    /// Tokens in any 60 seconds; `None`: no limit of its own.
    pub tpm: Option<u32>,
    /// Requests in flight; `None`: no limit of its own.
    pub max_concurrent: Option<u32>,
    /// Living agents directly below it.
    pub agents: u32,
    /// Living groups directly below it.
    pub groups: u32,
    /// When it was made.
    pub created_at: Stamp,
    /// The last request below it, denied ones included; `None`: there was none.
    pub last_activity_at: Option<Stamp>,
}

/// Reply of `group.list`: living groups, each before those below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupList {
    /// The groups.
    pub groups: Vec<Group>,
}

/// Reply of `group.update`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupUpdated {
    /// The group.
    #[serde(flatten)]
    pub group: Group,
    /// What a user should know, such as a budget below what is spent.
    pub warnings: Vec<String>,
}

/// Reply of `group.delete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDeleted {
    /// Its number.
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// What all below it spent in all.
    pub spent_pico: Pico,
    /// The same in USD.
    pub spent_usd: String,
    /// Agents that were closed with it.
    pub agents_closed: u32,
    /// Groups below it that were closed with it.
    pub groups_closed: u32,
    /// Runs that were ended with it.
    pub runs_ended: u32,
}
