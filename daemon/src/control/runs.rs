//! Runs: an account below an agent for the life of one command.
//!
//! A run ends by its account being closed, and the reason of that says how: what the words here are, a restart reads back.

use super::accounts::{resume_command, shown_named};
use super::agents::{self, DELETED};
use super::connection::After;
use super::fault::{Answer, act, no_agent, read, tallied, unfit};
use crate::gate::{Facts, Gate};
use crate::ledger::{AccountRow, LedgerFault, NewAccount, NewTokenRow, Refused, Writer};
use crate::os::clock;
use aex_core::books::{Account, AccountKind, Limits};
use aex_core::decision::{AccountState, Denial};
use aex_core::event::By;
use aex_proto::account::{AgentName, Period};
use aex_proto::rpc::{ErrorObject, Fault};
use aex_proto::run::{RunAttach, RunAttached, RunClose, RunEnd, RunId, RunOpen, RunOpened, RunSummary};
use aex_proto::value::{AccountId, Pico, Stamp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::time::timeout;

/// The agent of a run that names none.
const DEFAULT_AGENT: &str = "default";
/// How long a summary waits for the calls in flight of a run that is closed: they are cancelled within a second.
const LAST_CALLS: Duration = Duration::from_millis(1_500);

/// What the transaction that opens a run made.
struct Opened {
    account: AccountId,
    agent: String,
    expires_at: Option<Stamp>,
    head: i64,
}

pub(super) async fn open(gate: &Gate, facts: &Facts, by: By, wanted: RunOpen) -> Answer<(RunOpened, After)> {
    if gate.is_draining() {
        return Err(ErrorObject::fault(Fault::Unavailable, "the daemon is stopping and opens no run"));
    }
    agents::check_budget(wanted.budget_pico)?;
    let lasts_us = agents::lasts_us(wanted.ttl_ms)?;
    let (token, hash) = agents::new_token()?;
    let name = wanted.agent.as_ref().map_or(DEFAULT_AGENT, AgentName::as_str).to_owned();
    let agent_name = name.clone();
    let row = NewTokenRow { hash, read_only: false, lasts_us, label: String::new(), reason: None };
    let stop_on_budget = wanted.stop_on_budget;
    let head = gate.ledger().head().borrow().seq;
    let opened = act(gate, move |writer| {
        let agent = match writer.find(AccountKind::Agent, &agent_name) {
            Ok(agent) => agent,
            Err(refused) => return Ok(Err(refused)),
        };
        if let Err(error) = may_open(writer, &agent, wanted.budget_pico) {
            return Ok(Ok(Err(error)));
        }
        insert(writer, &agent, &wanted, &row, by)
            .map(|opened| opened.map(|(account, expires_at)| Ok(Opened { account, agent: agent.name, expires_at, head })))
    });
    let opened = opened.await.map_err(|error| if error.which() == Some(Fault::NotFound) { missing(&name) } else { error })??;
    let origin = origin(facts.listen);
    let active = gate.active();
    let keys = active.config.catalog.providers.values().filter(|provider| provider.needs_key());
    let reply = RunOpened {
        run: RunId::new(opened.account),
        account: opened.account,
        agent: opened.agent,
        token,
        expires_at: opened.expires_at,
        openai_base_url: format!("{origin}/v1"),
        origin,
        provider_key_variables: keys.map(|provider| provider.key_variable.clone()).collect(),
    };
    let after = After::Tie { run: opened.account, stop_on_budget: stop_on_budget.then_some(opened.head) };
    Ok((reply, after))
}

fn missing(name: &str) -> ErrorObject {
    let error = no_agent(name);
    if name == DEFAULT_AGENT { error.hint("aexctl agent create default 5 60 --per day") } else { error }
}

fn may_open(writer: &Writer<'_>, agent: &Account, budget: Option<Pico>) -> Answer<()> {
    if let Some(Denial::Account { account, reason, state }) = writer.stopped(agent.id) {
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let error = ErrorObject::fault(Fault::Denied, format!("{} is {}{why}", shown_named(&account), state.name()));
        return Err(error.hint(resume_command(&account)));
    }
    let whole = agent.budgets.get(&Period::Total);
    match (budget, whole) {
        (Some(budget), Some(whole)) if budget > *whole => {
            Err(unfit(format!("the run's budget of {budget} is above that of agent '{}', {whole}", agent.name)))
        }
        _ => Ok(()),
    }
}

fn insert(
    writer: &mut Writer<'_>,
    agent: &Account,
    wanted: &RunOpen,
    row: &NewTokenRow,
    by: By,
) -> Result<Result<(AccountId, Option<Stamp>), Refused>, LedgerFault> {
    let Some(policy) = writer.policy(agent.id).cloned() else {
        return Ok(Err(Refused::State(format!("the stored policy of agent '{}' cannot be read", agent.name))));
    };
    let account = NewAccount {
        parent: agent.id,
        kind: AccountKind::Run,
        name: format!("run-{}", writer.next_account()),
        limits: Limits { rpm: wanted.rpm, concurrent: None, tpm: wanted.tpm },
        policy,
        budgets: wanted.budget_pico.map(|budget| (Period::Total, budget)).into_iter().collect(),
        reason: None,
    };
    let id = match writer.create_account(&account, Some(by.clone()))? {
        Ok(id) => id,
        Err(refused) => return Ok(Err(refused)),
    };
    let expires_at = writer.create_token(id, row, Some(by))?;
    Ok(Ok((id, expires_at)))
}

pub(super) async fn attach(gate: &Gate, facts: &Facts, wanted: RunAttach) -> Answer<(RunAttached, After)> {
    let row = account(gate, wanted.run).await?;
    if row.state == AccountState::Closed {
        return Err(ErrorObject::fault(Fault::Gone, over(&row.reason)));
    }
    let reply = RunAttached { run: wanted.run, origin: origin(facts.listen) };
    // A restart may have come between the denial and the end: any denial of the run counts, however old.
    Ok((reply, After::Tie { run: row.id, stop_on_budget: wanted.stop_on_budget.then_some(0) }))
}

pub(super) async fn close(gate: &Gate, by: By, wanted: RunClose) -> Answer<RunSummary> {
    let before = account(gate, wanted.run).await?;
    let id = before.id;
    let reason = wanted.exit_status.map_or_else(|| CLOSED.to_owned(), |status| format!("{CLOSED}: exit status {status}"));
    act(gate, move |writer| writer.close_account(id, &reason, Some(&by)).map(Ok)).await?;
    last_calls(gate, id).await;
    let counts = tallied(gate).await?.of(id);
    let run = wanted.run;
    read(gate, move |reader| {
        let now = clock::wall();
        let agent = before.parent.map(|parent| reader.account(parent, now)).transpose()?.flatten();
        // Whoever closed it first has said why.
        let ended = reader.account(id, now)?.and_then(|row| end_of(&row.reason));
        let sums = counts.first_call.map(|first| reader.run_sums(id, first)).transpose()?.unwrap_or_default();
        Ok(RunSummary {
            run,
            agent: agent.map_or_else(String::new, |agent| agent.name),
            calls: sums.calls,
            tokens: sums.tokens,
            input_tokens: sums.input_tokens,
            output_tokens: sums.output_tokens,
            cost_pico: sums.charged,
            cost_usd: sums.charged.usd(),
            estimated: sums.estimated,
            worst_case: sums.worst_case,
            denials: counts.denied(),
            ended,
        })
    })
    .await
}

/// Waits for the calls in flight of a closed run, so that its summary has their cost.
async fn last_calls(gate: &Gate, run: AccountId) {
    let mut head = gate.ledger().head();
    let ended = async {
        while read(gate, move |reader| reader.open_holds(run)).await.is_ok_and(|open| open > 0) {
            if head.changed().await.is_err() {
                return;
            }
        }
    };
    if timeout(LAST_CALLS, ended).await.is_err() {
        tracing::warn!(run = %run, "calls of a closed run are still in flight; its summary is without them");
    }
}

/// The row of a run, open or closed.
async fn account(gate: &Gate, run: RunId) -> Answer<AccountRow> {
    let id = run.account();
    let row = read(gate, move |reader| reader.account(id, clock::wall())).await?;
    row.filter(|row| row.kind == AccountKind::Run).ok_or_else(|| ErrorObject::fault(Fault::NotFound, format!("no run {run}")))
}

/// Where clients of this machine reach the proxy.
pub(super) fn origin(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}

/// Why the account of a run that its client closed is closed.
const CLOSED: &str = "closed";

/// Why the account of a run that was ended from elsewhere is closed.
pub(super) fn reason(end: RunEnd, detail: &str) -> String {
    let word = word(end);
    if detail.is_empty() { word.to_owned() } else { format!("{word}: {detail}") }
}

/// How a run was ended from elsewhere, by the reason that its account was closed with; `None` when its client closed it.
pub(super) fn end_of(reason: &str) -> Option<RunEnd> {
    let (found, _) = split(reason);
    ENDS.into_iter().find(|end| word(*end) == found)
}

/// What is said of a run whose account was closed with a reason.
pub(super) fn over(reason: &str) -> String {
    let told = match end_of(reason) {
        Some(RunEnd::Killed) => "the run was killed",
        Some(RunEnd::Deleted) => "the run's agent was deleted",
        Some(RunEnd::Suspended) => "the run's agent was suspended",
        Some(RunEnd::Budget) => "the run's budget is spent",
        Some(RunEnd::Expired) => "the run's time is over",
        Some(RunEnd::Abandoned) => "the run was closed because its aexctl had gone",
        None => "the run is closed",
    };
    let (_, detail) = split(reason);
    if detail.is_empty() { told.to_owned() } else { format!("{told}: {detail}") }
}

fn split(reason: &str) -> (&str, &str) {
    reason.split_once(": ").unwrap_or((reason, ""))
}

const ENDS: [RunEnd; 6] = [RunEnd::Killed, RunEnd::Deleted, RunEnd::Suspended, RunEnd::Budget, RunEnd::Expired, RunEnd::Abandoned];

const fn word(end: RunEnd) -> &'static str {
    match end {
        RunEnd::Killed => "killed",
        RunEnd::Deleted => DELETED,
        RunEnd::Suspended => "suspended",
        RunEnd::Budget => "budget",
        RunEnd::Expired => "expired",
        RunEnd::Abandoned => "abandoned",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_run_ended_is_read_back_from_the_reason_of_its_account() {
        for end in ENDS {
            for detail in ["", "deleted: by hand"] {
                let text = reason(end, detail);
                assert_eq!(end_of(&text), Some(end), "{text}");
                assert!(over(&text).ends_with(detail), "{text}");
            }
        }
        for text in ["", "closed", "closed: exit status 3", "budgeted"] {
            assert_eq!(end_of(text), None, "{text}");
        }
        assert_eq!(over("closed: exit status 3"), "the run is closed: exit status 3");
        assert_eq!(over(&reason(RunEnd::Killed, "too loud")), "the run was killed: too loud");
    }

    #[test]
    fn an_origin_is_one_that_a_client_can_connect_to() {
        let rows = [
            ("127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:9000", "http://[::1]:9000"),
            ("10.0.0.7:1", "http://10.0.0.7:1"),
        ];
        for (listen, wanted) in rows {
            assert_eq!(origin(listen.parse().unwrap()), wanted);
        }
    }
}
