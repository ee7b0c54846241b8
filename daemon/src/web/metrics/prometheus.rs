//! PURE: the figures as Prometheus' text.
//!
//! Written here and not by prometheus-client: that writes OpenMetrics, whose counters have another name in TYPE than in their
//! samples, and takes values as floats, which money must not pass. Labels are agents, models, rules, states and causes: names
//! that an administrator or this program gives. Never a run, and never an agent with a model.

use super::text::{Kind, Text};
use super::{AgentFigures, BudgetFigures, Figures};
use crate::ledger::{Counts, Sums};
use aex_core::decision::AuthCause;
use aex_proto::value::{Pico, Stamp};
use std::fmt::Display;
use std::time::Duration;

/// The type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The process in figures, told beside those of all accounts.
#[derive(Clone, Debug)]
pub struct Process {
    /// When it started.
    pub started_at: Stamp,
    /// Connections to the proxy.
    pub connections: usize,
    /// Calls can be admitted.
    pub is_available: bool,
    /// Providers, and whether their calls are refused because they fail.
    pub providers: Vec<(String, bool)>,
    /// Flushes of the ledger, and how long they took in all.
    pub flushes: (u64, Duration),
    /// What it takes of the machine.
    pub usage: crate::os::usage::Usage,
}

/// The figures as text. `process` is told with those of all accounts only.
#[must_use]
pub fn text(figures: &Figures, process: &Process) -> String {
    let mut text = Text::default();
    let version = env!("CARGO_PKG_VERSION");
    one(&mut text, "aexd_build_info", Kind::Gauge, "The daemon's version.", &[("version", version)], 1);
    gauge(&mut text, "aexd_agents", "Living agents.", figures.agents.len());
    gauge(&mut text, "aexd_open_runs", "Runs that are open.", figures.open_runs);
    gauge(&mut text, "aexd_in_flight_calls", "Calls for which money is held.", figures.in_flight);
    calls(&mut text, figures);
    money(&mut text, figures);
    agents(&mut text, figures);
    models(&mut text, figures);
    if figures.whole.is_some() {
        daemon(&mut text, figures, process);
    }
    text.finish()
}

fn one(text: &mut Text, name: &str, kind: Kind, help: &str, labels: &[(&str, &str)], value: impl Display) {
    text.family(name, kind, help);
    text.sample(name, labels, value);
}

fn gauge(text: &mut Text, name: &str, help: &str, value: impl Display) {
    one(text, name, Kind::Gauge, help, &[], value);
}

const CALLS: &str = "aexd_calls_total";
const TOKENS: &str = "aexd_tokens_total";
const DENIALS: &str = "aexd_denials_total";
const SPENT: &str = "aexd_spent_dollars_total";

fn calls(text: &mut Text, figures: &Figures) {
    text.family(
        CALLS,
        Kind::Counter,
        "Calls that ended, by how sure their charge is; released ones cost nothing. agent=\"\": deleted or unknown.",
    );
    for (at, (state, _)) in figures.counts.ends.rows().into_iter().enumerate() {
        by_agent(text, figures, CALLS, Some(("state", state)), |counts| counts.ends.rows().get(at).map_or(0, |(_, calls)| *calls));
    }
    text.family(TOKENS, Kind::Counter, "Tokens of the calls that were charged.");
    by_agent(text, figures, TOKENS, None, |counts| counts.sums().tokens);
    if !figures.counts.denials.is_empty() {
        text.family(DENIALS, Kind::Counter, "Calls that were denied, by the rule that denied them.");
    }
    for rule in figures.counts.denials.keys() {
        by_agent(text, figures, DENIALS, Some(("rule", rule)), |counts| counts.denials.get(rule).copied().unwrap_or(0));
    }
}

/// One count by agent, and what remains for agents that are gone. A rule that never denied an agent is left out.
fn by_agent(text: &mut Text, figures: &Figures, name: &str, label: Option<(&str, &str)>, count: impl Fn(&Counts) -> u64) {
    let mut sample = |agent: &str, count: u64| {
        let labels: Vec<(&str, &str)> = std::iter::once(("agent", agent)).chain(label).collect();
        text.sample(name, &labels, count);
    };
    let mut rest = count(&figures.counts);
    for agent in &figures.agents {
        let own = count(&agent.counts);
        rest = rest.saturating_sub(own);
        if own > 0 || name != DENIALS {
            sample(&agent.name, own);
        }
    }
    if rest > 0 {
        sample("", rest);
    }
}

fn money(text: &mut Text, figures: &Figures) {
    text.family(SPENT, Kind::Counter, "Money spent in all.");
    let mut rest = figures.spent;
    for agent in &figures.agents {
        rest = rest.minus(agent.spent).unwrap_or(Pico::ZERO);
        text.sample(SPENT, &[("agent", &agent.name)], agent.spent.usd());
    }
    if rest > Pico::ZERO {
        text.sample(SPENT, &[("agent", "")], rest.usd());
    }
    type Row = (&'static str, &'static str, fn(&BudgetFigures) -> Pico);
    let rows: [Row; 4] = [
        ("aexd_budget_dollars", "The budget of a period.", |budget| budget.limit),
        ("aexd_budget_spent_dollars", "Money spent in the running period of a budget.", |budget| budget.spent),
        ("aexd_reserved_dollars", "Money that calls in flight hold of a budget.", |budget| budget.reserved),
        ("aexd_remaining_dollars", "budget - spent - reserved; negative when a bill went beyond its bound.", BudgetFigures::remaining),
    ];
    for (name, help, amount) in rows {
        let budgets = figures.agents.iter().flat_map(|agent| agent.budgets.iter().map(|budget| (agent.name.as_str(), budget)));
        family(text, name, help, budgets, |text, (agent, budget)| {
            text.sample(name, &[("agent", agent), ("period", budget.period.name())], amount(budget).usd());
        });
    }
}

/// A gauge with a sample for each row; none without rows.
fn family<T>(text: &mut Text, name: &str, help: &str, rows: impl Iterator<Item = T>, sample: impl Fn(&mut Text, T)) {
    let mut rows = rows.peekable();
    if rows.peek().is_some() {
        text.family(name, Kind::Gauge, help);
    }
    rows.for_each(|row| sample(text, row));
}

fn agents(text: &mut Text, figures: &Figures) {
    let now = figures.at;
    let burn = |agent: &AgentFigures| Some(micro(agent.burn_micro_per_sec(now)));
    let mut each = |name: &str, help: &str, value: &dyn Fn(&AgentFigures) -> Option<String>| {
        let rows = figures.agents.iter().filter_map(|agent| Some((agent.name.as_str(), value(agent)?)));
        family(text, name, help, rows, |text, (agent, value)| text.sample(name, &[("agent", agent)], value));
    };
    each("aexd_agent_active", "1: its calls pass; 0: it is paused, suspended or killed.", &|agent| {
        Some(u8::from(agent.is_active).to_string())
    });
    each("aexd_agent_burn_dollars_per_second", "Money spent per second since the agent was made, in whole millionths.", &burn);
    each("aexd_agent_budget_exhaustion_seconds", "Time until the budget is used up at that speed; absent: never.", &|agent| {
        agent.ttb_seconds(now).map(|seconds| seconds.to_string())
    });
    each("aexd_agent_limit_requests_per_minute", "Requests that the agent may make in any 60 seconds.", &|agent| {
        agent.rpm.map(|rpm| rpm.to_string())
    });
    each("aexd_agent_last_activity_timestamp_seconds", "When a call last began, ended or was denied.", &|agent| {
        agent.counts.last_activity.map(seconds)
    });
}

fn models(text: &mut Text, figures: &Figures) {
    type Row = (&'static str, &'static str, fn(&Sums) -> String);
    let rows: [Row; 3] = [
        ("aexd_model_calls_total", "Calls that were charged.", |sums| sums.calls.to_string()),
        ("aexd_model_tokens_total", "Tokens of the calls that were charged.", |sums| sums.tokens.to_string()),
        ("aexd_model_spent_dollars_total", "What they cost.", |sums| sums.charged.usd()),
    ];
    for (name, help, value) in rows.into_iter().filter(|_| !figures.counts.models.is_empty()) {
        text.family(name, Kind::Counter, help);
        for (model, sums) in &figures.counts.models {
            text.sample(name, &[("model", model)], value(sums));
        }
    }
}

fn daemon(text: &mut Text, figures: &Figures, process: &Process) {
    let Some(whole) = &figures.whole else { return };
    let auth = "aexd_failed_authentications_total";
    if !whole.auth_failed.is_empty() {
        text.family(auth, Kind::Counter, "Requests whose token was not accepted, by cause.");
    }
    for (cause, count) in &whole.auth_failed {
        text.sample(auth, &[("cause", cause_name(*cause))], count);
    }
    gauge(text, "aexd_ledger_available", "1: calls can be admitted; 0: the ledger cannot commit.", u8::from(process.is_available));
    gauge(text, "aexd_ledger_events", "Events in the ledger.", whole.events);
    let flush = "aexd_ledger_flush_seconds";
    text.family(flush, Kind::Summary, "How long the disk took to flush the ledger.");
    text.sample(&format!("{flush}_sum"), &[], micro(u64::try_from(process.flushes.1.as_micros()).unwrap_or(u64::MAX)));
    text.sample(&format!("{flush}_count"), &[], process.flushes.0);
    gauge(text, "aexd_connections", "Connections to the proxy.", process.connections);
    let help = "1: the provider fails, and calls to it are refused or go to fallbacks; 0: they pass.";
    family(text, "aexd_provider_down", help, process.providers.iter(), |text, (provider, is_down)| {
        text.sample("aexd_provider_down", &[("provider", provider)], u8::from(*is_down));
    });
    gauge(text, "process_start_time_seconds", "When the daemon started.", seconds(process.started_at));
    let cpu = micro(u64::try_from(process.usage.cpu.as_micros()).unwrap_or(u64::MAX));
    one(text, "process_cpu_seconds_total", Kind::Counter, "Processor time of the daemon.", &[], cpu);
    let rows = [
        ("process_resident_memory_bytes", "Memory of the daemon.", process.usage.resident_bytes),
        ("process_open_fds", "Open file descriptors.", process.usage.open_files),
        ("process_max_fds", "File descriptors that may be open.", process.usage.max_files),
    ];
    for (name, help, value) in rows {
        family(text, name, help, value.into_iter(), |text, value| text.sample(name, &[], value));
    }
}

const fn cause_name(cause: AuthCause) -> &'static str {
    match cause {
        AuthCause::Missing => "missing",
        AuthCause::Malformed => "malformed",
        AuthCause::Unknown => "unknown",
        AuthCause::Expired => "expired",
        AuthCause::Revoked => "revoked",
    }
}

/// Millionths as a decimal number.
fn micro(millionths: u64) -> String {
    format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
}

fn seconds(at: Stamp) -> String {
    micro(u64::try_from(at.micros()).unwrap_or(0))
}
