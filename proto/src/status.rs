//! The whole in figures.

use crate::account::{AccountState, Budget};
use crate::daemon::DaemonStatus;
use crate::value::Pico;
use serde::{Deserialize, Serialize};

/// Reply of `status.get`. Sums are over living agents and their current windows; counts are over all events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Living agents.
    pub agents: u64,
    /// Living groups.
    #[serde(default)]
    pub groups: u64,
    /// What the root, and with it every call, is stopped by: `paused` or `killed`; `None`: calls pass.
    #[serde(default)]
    pub stopped: Option<AccountState>,
    /// Sum of the agents' budgets.
    pub budget_pico: Pico,
    /// The same in USD.
    pub budget_usd: String,
    /// What they have spent.
    pub spent_pico: Pico,
    /// The same in USD.
    pub spent_usd: String,
    /// What calls in flight hold.
    pub reserved_pico: Pico,
    /// The same in USD.
    pub reserved_usd: String,
    /// budget − spent − reserved.
    pub remaining_pico: Pico,
    /// The same in USD.
    pub remaining_usd: String,
    /// The root's own budgets, which hold for all calls together; none when it has none.
    #[serde(default)]
    pub root_budgets: Vec<Budget>,
    /// What was ever spent, by agents that are gone, too.
    #[serde(default)]
    pub spent_in_all_pico: Pico,
    /// The same in USD.
    #[serde(default)]
    pub spent_in_all_usd: String,
    /// Calls that were charged.
    pub requests: u64,
    /// Calls denied for want of money.
    pub budget_denials: u64,
    /// Calls denied by a rate.
    pub rate_denials: u64,
    /// Calls denied by policy, scope or state.
    pub policy_denials: u64,
    /// Runs that are open.
    pub active_runs: u64,
    /// The daemon.
    pub daemon: DaemonStatus,
}
