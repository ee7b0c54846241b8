//! The daemon itself, and the whole in figures.

use super::agents;
use super::connection::After;
use super::fault::{Answer, read, tallied};
use super::models::key_state;
use crate::config::{Config, Settings};
use crate::gate::{Facts, Gate};
use crate::ledger::Jump;
use crate::os::clock;
use crate::tools::gatekeeper::Gatekeeper;
use aex_core::books::AccountKind;
use aex_core::decision::AccountState;
use aex_core::event::By;
use aex_proto::account::Budget;
use aex_proto::daemon::{Check, DaemonState, DaemonStatus, Hello, PROTOCOL, Stopping};
use aex_proto::model::KeyState;
use aex_proto::status::Status;
use aex_proto::value::{AccountId, Pico};

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn hello(gate: &Gate, facts: &Facts) -> Hello {
    Hello {
        version: VERSION.to_owned(),
        protocol: PROTOCOL,
        pid: std::process::id(),
        port: facts.listen.port(),
        epoch: gate.ledger().epoch(),
        home: facts.home.display().to_string(),
    }
}

pub(super) async fn status(keeper: &Gatekeeper, facts: &Facts) -> Answer<DaemonStatus> {
    let gate = keeper.gate();
    // A ledger that cannot commit is told by the checks: its health can be asked for when nothing else can.
    let _caught_up = gate.ledger().settled().await.is_ok();
    let head = *gate.ledger().head().borrow();
    let active = gate.active();
    let mut checks = vec![ledger_check(gate), config_check(&active.config), super::permissions::health(gate)];
    let tools = super::tools::health(&active.config, keeper);
    checks.extend(tools.map(|(passed, detail)| Check { name: "tools".to_owned(), passed, detail }));
    let failed = |name: &str, detail: String| Check { name: name.to_owned(), passed: false, detail };
    let (problem, full) = (keeper.pins().problem(), keeper.pins().full().join(", "));
    checks.extend(problem.map(|why| failed("pins", format!("every tool is quarantined: {why}"))));
    let is_full =
        format!("new tools are quarantined, because too many are pinned already, of {full}; `aexctl tools remove` forgets a server's");
    checks.extend((!full.is_empty()).then(|| failed("pins", is_full)));
    let asked = keeper.approvals().lasting().err().map(|why| failed("approvals", format!("no approval is lasting: {why}")));
    checks.extend(asked);
    checks.extend(gate.ledger().recent_jump().as_ref().map(clock_check));
    // Calls of models are admitted whatever is wrong with permissions.json and mcp.json.
    let state = match (gate.is_draining(), gate.ledger().is_available()) {
        (true, _) => DaemonState::Draining,
        (false, true) => DaemonState::Ready,
        (false, false) => DaemonState::Unhealthy,
    };
    Ok(DaemonStatus {
        state,
        version: VERSION.to_owned(),
        pid: std::process::id(),
        port: facts.listen.port(),
        listen: facts.listen.to_string(),
        origin: super::runs::origin(facts.listen),
        home: facts.home.display().to_string(),
        epoch: gate.ledger().epoch(),
        started_at: facts.started_at,
        uptime_ms: u64::try_from(clock::boot_us().saturating_sub(facts.started_boot_us) / 1_000).unwrap_or(0),
        durability: gate.ledger().durability().name().to_owned(),
        in_flight: in_flight(gate),
        head_seq: head.seq.unsigned_abs(),
        head_hash: head.hash,
        checks,
    })
}

/// The reply goes out before the daemon begins to stop.
pub(super) fn stop(gate: &Gate, started: &Settings, by: &By) -> (Stopping, After) {
    tracing::info!(pid = by.pid, uid = by.uid, "a stop was asked for on the control socket");
    let drain_ms = started.drain_timeout.value.as_millis();
    let stopping = Stopping { pid: std::process::id(), in_flight: in_flight(gate), drain_ms: u64::try_from(drain_ms).unwrap_or(u64::MAX) };
    (stopping, After::Drain)
}

pub(super) async fn figures(keeper: &Gatekeeper, facts: &Facts) -> Answer<Status> {
    let gate = keeper.gate();
    let tally = tallied(gate).await?;
    let counts = tally.of(AccountId::ROOT);
    let active = gate.active();
    let (agents, groups, runs, root, root_budgets) = read(gate, move |reader| {
        let now = clock::wall();
        let number = |kind| reader.accounts(kind, now).map(|rows| rows.len());
        let (groups, runs) = (number(AccountKind::Group)?, number(AccountKind::Run)?);
        let root = reader.account(AccountId::ROOT, now)?;
        let zone = &active.config.settings.zone.value;
        let budgets = root.as_ref().map(|root| agents::budgets_of(reader, root, now, zone)).transpose()?.unwrap_or_default();
        Ok((agents::living(reader, now, &active.config, &tally)?, groups, runs, root, budgets))
    })
    .await?;
    // An agent's other budgets limit the same money.
    let first: Vec<&Budget> = agents.iter().filter_map(|agent| agent.budgets.first()).collect();
    let sum = |amount: fn(&Budget) -> Pico| first.iter().fold(Pico::ZERO, |sum, budget| sum.plus(amount(budget)).unwrap_or(Pico::MAX));
    let (budget, spent) = (sum(|budget| budget.limit_pico), sum(|budget| budget.spent_pico));
    let (reserved, remaining) = (sum(|budget| budget.reserved_pico), sum(|budget| budget.remaining_pico));
    let in_all = root.as_ref().map_or(Pico::ZERO, |root| agents::spent_in_all(&root.balances));
    let denied = counts.denied_by_kind();
    Ok(Status {
        agents: u64::try_from(agents.len()).unwrap_or(u64::MAX),
        groups: u64::try_from(groups).unwrap_or(u64::MAX),
        stopped: root.map(|root| root.state).filter(|state| *state != AccountState::Active),
        budget_pico: budget,
        budget_usd: budget.usd(),
        spent_pico: spent,
        spent_usd: spent.usd(),
        reserved_pico: reserved,
        reserved_usd: reserved.usd(),
        remaining_pico: remaining,
        remaining_usd: remaining.usd(),
        root_budgets,
        spent_in_all_pico: in_all,
        spent_in_all_usd: in_all.usd(),
        requests: counts.ends.charged(),
        budget_denials: denied.budget,
        rate_denials: denied.rate,
        policy_denials: denied.policy,
        active_runs: u64::try_from(runs).unwrap_or(u64::MAX),
        daemon: status(keeper, facts).await?,
    })
}

fn in_flight(gate: &Gate) -> u32 {
    u32::try_from(gate.in_flight()).unwrap_or(u32::MAX)
}

fn ledger_check(gate: &Gate) -> Check {
    let ledger = gate.ledger();
    let passed = ledger.is_available();
    let detail = match (passed, ledger.damage()) {
        (true, _) => recovered_text(ledger.recovered()),
        (false, Some(what)) => format!("damaged: {what}; no call is admitted"),
        (false, None) => "cannot commit: no call is admitted; the log says why".to_owned(),
    };
    Check { name: "ledger".to_owned(), passed, detail }
}

fn recovered_text(calls: u64) -> String {
    match calls {
        0 => "commits".to_owned(),
        _ => format!("commits; its start ended {} of a daemon that had died", counted(calls, "call")),
    }
}

/// `1 model`, `2 models`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn counted_all<T>(all: &[T], noun: &str) -> String {
    counted(u64::try_from(all.len()).unwrap_or(u64::MAX), noun)
}

/// A clock that was set is no fault of the daemon's; periods of budgets follow it, so it is told for a day.
fn clock_check(jump: &Jump) -> Check {
    let way = if jump.to < jump.from { "back" } else { "ahead" };
    Check { name: "clock".to_owned(), passed: true, detail: format!("was set {way}, from {} to {}", jump.from, jump.to) }
}

/// A configuration in force is a good one; what it lacks is told, because calls are denied for it.
fn config_check(config: &Config) -> Check {
    let missing = config.catalog.providers.values().filter(|provider| key_state(config, provider) == KeyState::Missing);
    let missing: Vec<&str> = missing.map(|provider| provider.key_variable.as_str()).collect();
    let mut detail = [counted_all(&config.catalog.models, "model"), counted_all(&config.warnings, "warning")].join(", ");
    if !missing.is_empty() {
        detail.push_str("; not set: ");
        detail.push_str(&missing.join(", "));
    }
    Check { name: "config".to_owned(), passed: true, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_told_in_the_singular() {
        assert_eq!((counted(1, "warning"), counted(0, "warning")), ("1 warning".to_owned(), "0 warnings".to_owned()));
        assert_eq!(
            (recovered_text(0), recovered_text(1)),
            ("commits".to_owned(), "commits; its start ended 1 call of a daemon that had died".to_owned())
        );
    }
}
