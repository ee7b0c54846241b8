//! What was used, by whom and how fast.

use crate::value::{Pico, Stamp};
use serde::{Deserialize, Serialize};

/// Reply of `metrics.get`. Counts are over all events, those of deleted agents included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// Living agents, in the order in which they were made.
    pub agents: Vec<AgentMetrics>,
    /// Spent in all, by deleted agents, too.
    pub spent_pico: Pico,
    /// The same in USD.
    pub spent_usd: String,
    /// Runs that are open.
    pub active_runs: u64,
    /// Calls that were charged.
    pub requests: u64,
    /// Calls denied for want of money.
    pub budget_denials: u64,
    /// Calls denied by a rate.
    pub rate_denials: u64,
    /// Calls denied by policy, scope or state.
    pub policy_denials: u64,
    /// The five most used models, the most used first.
    pub top_models: Vec<ModelCount>,
    /// The last 24 hours, oldest first, the running one included.
    pub hours: Vec<HourCount>,
    /// Events in the ledger.
    pub events: u64,
}

/// A model and how often it was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCount {
    /// Its name.
    pub model: String,
    /// Calls that were charged.
    pub requests: u64,
}

/// An hour and what was used in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourCount {
    /// Its first minute on a clock of the daemon's zone: `09:00`.
    pub hour: String,
    /// Calls that ended in it and were charged.
    pub requests: u64,
}

/// One agent and its runs. Money is that of its first budget in the running period; without a budget, that of all time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentMetrics {
    /// Its name.
    pub name: String,
    /// The group above it; `None`: the root.
    #[serde(default)]
    pub group: Option<String>,
    /// What it spent.
    pub spent_pico: Pico,
    /// The same in USD.
    pub spent_usd: String,
    /// What its calls in flight hold.
    pub reserved_pico: Pico,
    /// The same in USD.
    pub reserved_usd: String,
    /// Its budget; `None`: it has none.
    pub budget_pico: Option<Pico>,
    /// The same in USD.
    pub budget_usd: Option<String>,
    /// budget − spent − reserved.
    pub remaining_pico: Option<Pico>,
    /// The same in USD.
    pub remaining_usd: Option<String>,
    /// Spent per second since it was made, in whole µUSD: slower spending is none.
    pub burn_micro_per_sec: u64,
    /// Seconds until the budget is used up at that speed; `None`: never.
    pub ttb_seconds: Option<u64>,
    /// Requests in any 60 seconds; `None`: no limit of its own.
    pub rpm: Option<u32>,
    /// Its last request, denied ones included; `None`: there was none.
    pub last_activity_at: Option<Stamp>,
    /// What it did lately: the last minute, quarter of an hour and hour.
    pub windows: Vec<WindowMetrics>,
}

/// What an agent did in a span of time that ends now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowMetrics {
    /// Its length; up to ten seconds more are counted.
    pub seconds: u64,
    /// Calls that were charged.
    pub requests: u64,
    /// Calls that were denied.
    pub denied: u64,
    /// What was charged.
    pub spent_pico: Pico,
    /// The same in USD.
    pub spent_usd: String,
}
