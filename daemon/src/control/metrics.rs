//! The figures of all accounts, as the protocol tells them.

use super::fault::{Answer, broken};
use crate::gate::Gate;
use crate::web::metrics::{AgentFigures, WINDOWS, gather, hours};
use aex_proto::metrics::{AgentMetrics, HourCount, Metrics, ModelCount, WindowMetrics};
use aex_proto::value::{AccountId, Pico, Stamp};

pub(super) async fn get(gate: &Gate) -> Answer<Metrics> {
    gate.flush_denials().await;
    let figures = gather(gate, AccountId::ROOT).await.map_err(|fault| broken(&fault))?;
    let denied = figures.counts.denied_by_kind();
    let zone = &gate.active().config.settings.zone.value;
    Ok(Metrics {
        agents: figures.agents.iter().map(|row| agent(row, figures.at)).collect(),
        spent_pico: figures.spent,
        spent_usd: figures.spent.usd(),
        active_runs: figures.open_runs,
        requests: figures.counts.ends.charged(),
        budget_denials: denied.budget,
        rate_denials: denied.rate,
        policy_denials: denied.policy,
        top_models: figures.top_models().into_iter().map(|(model, requests)| ModelCount { model: model.to_owned(), requests }).collect(),
        hours: hours(&figures, zone).into_iter().map(|(hour, requests)| HourCount { hour, requests }).collect(),
        events: figures.whole.map_or(0, |whole| whole.events),
    })
}

fn agent(row: &AgentFigures, now: Stamp) -> AgentMetrics {
    let money = row.money();
    AgentMetrics {
        name: row.name.clone(),
        group: row.group.clone(),
        spent_pico: money.spent,
        spent_usd: money.spent.usd(),
        reserved_pico: money.reserved,
        reserved_usd: money.reserved.usd(),
        budget_pico: money.budget,
        budget_usd: money.budget.map(Pico::usd),
        remaining_pico: money.remaining,
        remaining_usd: money.remaining.map(Pico::usd),
        burn_micro_per_sec: row.burn_micro_per_sec(now),
        ttb_seconds: row.ttb_seconds(now),
        rpm: row.rpm,
        last_activity_at: row.counts.last_activity,
        windows: WINDOWS.iter().map(|(_, seconds)| window(row, now, *seconds)).collect(),
    }
}

fn window(row: &AgentFigures, now: Stamp, seconds: u32) -> WindowMetrics {
    let span = row.counts.last_seconds(now, seconds);
    WindowMetrics {
        seconds: u64::from(seconds),
        requests: span.calls,
        denied: span.denied,
        spent_pico: span.charged,
        spent_usd: span.charged.usd(),
    }
}
