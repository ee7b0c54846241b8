//! `aexctl metrics`: what was used, by whom and how fast.

use super::Context;
use crate::exit::{Exit, Failure};
use crate::units::{grouped, instant_or, span};
use crate::view::table;
use aex_proto::method::{MetricsGet, Nothing};
use aex_proto::metrics::{AgentMetrics, Metrics};

pub(super) fn run(context: &Context<'_>) -> Result<Exit, Failure> {
    let metrics = context.connect()?.call::<MetricsGet>(&Nothing {})?;
    context.view.show(&metrics, |_| text(&metrics))?;
    Ok(Exit::Done)
}

fn text(metrics: &Metrics) -> String {
    let rows = [
        ("Agents", grouped(u64::try_from(metrics.agents.len()).unwrap_or(u64::MAX))),
        ("Total spent", metrics.spent_pico.to_string()),
        ("Active runs", grouped(metrics.active_runs)),
        ("Requests", grouped(metrics.requests)),
        ("Last 24 hours", grouped(metrics.hours.iter().map(|hour| hour.requests).fold(0, u64::saturating_add))),
        ("Budget denials", grouped(metrics.budget_denials)),
        ("Rate denials", grouped(metrics.rate_denials)),
        ("Policy denials", grouped(metrics.policy_denials)),
        ("Top models", top_models(metrics)),
    ];
    let mut text = super::daemon::rows(&rows);
    if !metrics.agents.is_empty() {
        text.push_str("\n\n");
        text.push_str(&agents(metrics));
    }
    text
}

fn agents(metrics: &Metrics) -> String {
    let [agent, spent, remaining, burn, ttb, rpm, last] = ["Agent", "Spent", "Remaining", "Burn Rate (µ/s)", "TTB", "RPM", "Last Activity"];
    if metrics.agents.iter().all(|agent| agent.group.is_none()) {
        return table([agent, spent, remaining, burn, ttb, rpm, last], metrics.agents.iter().map(row));
    }
    let with_group = |agent: &AgentMetrics| {
        let [name, spent, remaining, burn, ttb, rpm, last] = row(agent);
        [name, agent.group.clone().unwrap_or_else(|| "-".to_owned()), spent, remaining, burn, ttb, rpm, last]
    };
    table([agent, "Group", spent, remaining, burn, ttb, rpm, last], metrics.agents.iter().map(with_group))
}

fn top_models(metrics: &Metrics) -> String {
    let models: Vec<String> = metrics.top_models.iter().map(|used| format!("{} ({})", used.model, grouped(used.requests))).collect();
    if models.is_empty() { "-".to_owned() } else { models.join(", ") }
}

fn row(agent: &AgentMetrics) -> [String; 7] {
    [
        agent.name.clone(),
        agent.spent_pico.to_string(),
        agent.remaining_pico.map_or_else(|| "no budget".to_owned(), |left| left.to_string()),
        grouped(agent.burn_micro_per_sec),
        agent.ttb_seconds.map_or_else(|| "∞".to_owned(), |seconds| span(seconds.saturating_mul(1_000))),
        agent.rpm.map_or_else(|| "-".to_owned(), |rpm| grouped(u64::from(rpm))),
        instant_or(agent.last_activity_at, "-"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::metrics::{HourCount, ModelCount};
    use aex_proto::value::{Pico, Stamp};

    fn agent(name: &str, ttb_seconds: Option<u64>) -> AgentMetrics {
        AgentMetrics {
            name: name.to_owned(),
            group: None,
            spent_pico: Pico::new(125_000_000),
            spent_usd: "0.000125".to_owned(),
            reserved_pico: Pico::ZERO,
            reserved_usd: "0.00".to_owned(),
            budget_pico: Some(Pico::new(5_000_125_000_000)),
            budget_usd: Some("5.000125".to_owned()),
            remaining_pico: Some(Pico::new(5_000_000_000_000)),
            remaining_usd: Some("5.00".to_owned()),
            burn_micro_per_sec: 1_250,
            ttb_seconds,
            rpm: Some(60),
            last_activity_at: Some(Stamp::new(1_795_253_580_000_001)),
            windows: Vec::new(),
        }
    }

    #[test]
    fn the_totals_come_first_and_then_a_row_for_each_agent() {
        let idle = AgentMetrics { remaining_pico: None, burn_micro_per_sec: 0, rpm: None, last_activity_at: None, ..agent("idle", None) };
        let mut metrics = Metrics {
            agents: vec![agent("bot", Some(7_500)), idle],
            spent_pico: Pico::new(250_000_000),
            spent_usd: "0.00025".to_owned(),
            active_runs: 1,
            requests: 1_234,
            budget_denials: 1,
            rate_denials: 0,
            policy_denials: 3,
            top_models: vec![ModelCount { model: "m1".to_owned(), requests: 1_200 }, ModelCount { model: "m2".to_owned(), requests: 34 }],
            hours: vec![HourCount { hour: "08:00".to_owned(), requests: 3 }, HourCount { hour: "09:00".to_owned(), requests: 4 }],
            events: 9,
        };
        let wanted = "\
Agents:         2
Total spent:    $0.00025
Active runs:    1
Requests:       1,234
Last 24 hours:  7
Budget denials: 1
Rate denials:   0
Policy denials: 3
Top models:     m1 (1,200), m2 (34)

 Agent | Spent     | Remaining | Burn Rate (µ/s) | TTB   | RPM | Last Activity
-------+-----------+-----------+-----------------+-------+-----+----------------------
 bot   | $0.000125 | $5.00     | 1,250           | 2h 5m | 60  | 2026-11-21 09:33:00Z
 idle  | $0.000125 | no budget | 0               | ∞     | -   | -";
        assert_eq!(text(&metrics), wanted);
        metrics.agents.clear();
        metrics.top_models.clear();
        assert!(text(&metrics).ends_with("Top models:     -"));
    }
}
