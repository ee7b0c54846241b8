//! PURE: the figures under AEX's keys, with windows and the size of the event log beside them.

use super::{AgentFigures, Figures, WINDOWS, hours};
use crate::ledger::Span;
use aex_proto::value::{Pico, Stamp};
use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

#[derive(Serialize)]
struct Whole<'a> {
    total_agents: usize,
    total_spent_global_usd: Usd,
    active_processes: u64,
    total_requests: u64,
    total_denied_budget: u64,
    total_denied_rate_limit: u64,
    total_policy_violations: u64,
    top_models: Vec<Model<'a>>,
    usage_histogram: Vec<Hour>,
    agents: Vec<Agent<'a>>,
    event_log_size: Option<u64>,
}

#[derive(Serialize)]
struct Model<'a> {
    model: &'a str,
    count: u64,
}

#[derive(Serialize)]
struct Hour {
    hour: String,
    requests: u64,
}

#[derive(Serialize)]
struct Agent<'a> {
    name: &'a str,
    spent_usd: Usd,
    remaining_usd: Option<Usd>,
    budget_usd: Option<Usd>,
    reserved_usd: Usd,
    burn_rate_micro_per_sec: u64,
    ttb_seconds: Option<u64>,
    rpm_limit: Option<u32>,
    last_activity: Option<Stamp>,
    windows: Windows,
}

/// By the name of the window.
struct Windows([(&'static str, Span); 3]);

impl Serialize for Windows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, span)| (name, Window::of(*span))))
    }
}

#[derive(Serialize)]
struct Window {
    requests: u64,
    denied: u64,
    spent_usd: Usd,
}

impl Window {
    const fn of(span: Span) -> Window {
        Window { requests: span.calls, denied: span.denied, spent_usd: Usd(span.charged) }
    }
}

/// AEX tells money as a number of dollars. The digits are written as they are: no float is made.
struct Usd(Pico);

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.usd()).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// The figures as one JSON text, hours named in a zone.
///
/// # Errors
/// When they have no JSON, which is a bug.
pub fn text(figures: &Figures, zone: &TimeZone) -> Result<String, serde_json::Error> {
    let denied = figures.counts.denied_by_kind();
    serde_json::to_string(&Whole {
        total_agents: figures.agents.len(),
        total_spent_global_usd: Usd(figures.spent),
        active_processes: figures.open_runs,
        total_requests: figures.counts.ends.charged(),
        total_denied_budget: denied.budget,
        total_denied_rate_limit: denied.rate,
        total_policy_violations: denied.policy,
        top_models: figures.top_models().into_iter().map(|(model, count)| Model { model, count }).collect(),
        usage_histogram: hours(figures, zone).into_iter().map(|(hour, requests)| Hour { hour, requests }).collect(),
        agents: figures.agents.iter().map(|row| agent(row, figures.at)).collect(),
        event_log_size: figures.whole.as_ref().map(|whole| whole.events),
    })
}

fn agent(row: &AgentFigures, now: Stamp) -> Agent<'_> {
    let money = row.money();
    Agent {
        name: &row.name,
        spent_usd: Usd(money.spent),
        remaining_usd: money.remaining.map(Usd),
        budget_usd: money.budget.map(Usd),
        reserved_usd: Usd(money.reserved),
        burn_rate_micro_per_sec: row.burn_micro_per_sec(now),
        ttb_seconds: row.ttb_seconds(now),
        rpm_limit: row.rpm,
        last_activity: row.counts.last_activity,
        windows: Windows(WINDOWS.map(|(name, seconds)| (name, row.counts.last_seconds(now, seconds)))),
    }
}
