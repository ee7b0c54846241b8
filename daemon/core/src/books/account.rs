//! One account: a node of the tree.

use super::Books;
use crate::decision::{AccountState, Named};
use crate::window::Period;
use aex_proto::value::{AccountId, Pico};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an account stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountKind {
    /// This machine.
    Root,
    /// Accounts that share limits.
    Group,
    /// An agent: what tokens belong to.
    Agent,
    /// One run of a command under an agent.
    Run,
}

/// Limits on calls, not on money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Requests in flight, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u32>,
    /// Requests in any 60 seconds, at most; 0 denies all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpm: Option<u32>,
    /// Tokens in any 60 seconds, at most; 0 denies all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<u32>,
}

/// A node of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub id: AccountId,
    /// The account above; `None` for the root.
    pub parent: Option<AccountId>,
    /// What it stands for.
    pub kind: AccountKind,
    /// Its name, unique among open accounts of its kind.
    pub name: String,
    /// Whether calls pass.
    pub state: AccountState,
    /// Why it is in that state.
    pub reason: String,
    /// Its limits on calls.
    pub limits: Limits,
    /// Its budgets, one per period at most.
    pub budgets: BTreeMap<Period, Pico>,
}

impl Account {
    /// As a denial names it.
    #[must_use]
    pub fn named(&self) -> Named {
        Named { id: self.id, kind: Some(self.kind), name: self.name.clone() }
    }
}

impl Books {
    /// Whom a bill beyond what an account may spend suspends: its agent, not the groups above. `None` when that does not run.
    #[must_use]
    pub fn overdrawer(&self, account: AccountId) -> Option<&Account> {
        let path = self.path(account);
        let agent = path.iter().filter_map(|id| self.account(*id)).find(|account| account.kind == AccountKind::Agent);
        agent.filter(|agent| agent.state == AccountState::Active)
    }
}
