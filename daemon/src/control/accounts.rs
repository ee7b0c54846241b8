//! Accounts of any kind: found by what a person calls them, paused, resumed, killed.

use super::agents::said;
use super::fault::{Answer, act, broken, settled};
use super::runs;
use crate::gate::Gate;
use crate::ledger::{AccountRow, Killed, LedgerFault, Reader, Refused, Writer};
use crate::os::clock;
use aex_core::books::{Account, AccountKind};
use aex_core::decision::{AccountState, Named};
use aex_core::event::By;
use aex_proto::rpc::{ErrorObject, Fault};
use aex_proto::run::{RunEnd, RunId};
use aex_proto::tree::{AccountChange, AccountChanged, AccountRef};
use aex_proto::value::AccountId;

/// An account in the form that names no other, as every command takes it.
pub(super) fn shown(kind: AccountKind, id: AccountId, name: &str) -> String {
    match kind {
        AccountKind::Root => AccountRef::Root.to_string(),
        AccountKind::Group => format!("group:{name}"),
        AccountKind::Agent => format!("agent:{name}"),
        AccountKind::Run => RunId::new(id).to_string(),
    }
}

/// The same of an account as a denial names it.
pub(super) fn shown_named(named: &Named) -> String {
    named.kind.map_or_else(|| named.name.clone(), |kind| shown(kind, named.id, &named.name))
}

/// The command that lifts what stops an account.
pub(super) fn resume_command(named: &Named) -> String {
    match named.kind {
        Some(AccountKind::Root) => "aexctl resume --all".to_owned(),
        Some(AccountKind::Agent) | None => format!("aexctl agent resume {}", named.name),
        Some(AccountKind::Group | AccountKind::Run) => format!("aexctl resume {}", shown_named(named)),
    }
}

/// The open account that is meant, by what finds open accounts: the directory, or the writer.
fn resolve(
    wanted: &AccountRef,
    named: impl Fn(AccountKind, &str) -> Option<AccountId>,
    is_run: impl Fn(AccountId) -> bool,
) -> Result<AccountId, Refused> {
    let found = match wanted {
        AccountRef::Root => Some(AccountId::ROOT),
        AccountRef::Group(name) => named(AccountKind::Group, name.as_str()),
        AccountRef::Agent(name) => named(AccountKind::Agent, name.as_str()),
        AccountRef::Run(run) => Some(run.account()).filter(|id| is_run(*id)),
        AccountRef::Bare(name) => match (named(AccountKind::Agent, name.as_str()), named(AccountKind::Group, name.as_str())) {
            (Some(_), Some(_)) => {
                return Err(Refused::State(format!("'{name}' is an agent and a group: write agent:{name} or group:{name}")));
            }
            (agent, group) => agent.or(group),
        },
    };
    let missing = || match wanted {
        AccountRef::Run(run) => format!("an open run {run}"),
        AccountRef::Bare(name) => format!("an agent or group '{name}'"),
        other => other.to_string(),
    };
    found.ok_or_else(|| Refused::NotFound(missing()))
}

/// The open account that is meant, as of all that was asked before.
pub(super) async fn find(gate: &Gate, wanted: &AccountRef) -> Answer<Named> {
    settled(gate).await?;
    let directory = gate.ledger().directory();
    let named = |kind: AccountKind, name: &str| directory.named(kind, name).map(|view| view.named.id);
    let is_run = |id: AccountId| directory.accounts.get(&id).is_some_and(|view| view.kind == AccountKind::Run);
    let id = resolve(wanted, named, is_run).map_err(|refused| hinted(super::fault::not_possible(&refused)))?;
    Ok(directory.name_of(id))
}

fn hinted(error: ErrorObject) -> ErrorObject {
    if error.which() == Some(Fault::NotFound) { error.hint("aexctl budget show") } else { error }
}

fn of_writer(writer: &Writer<'_>, wanted: &AccountRef) -> Result<Account, Refused> {
    let named = |kind: AccountKind, name: &str| writer.find(kind, name).ok().map(|account| account.id);
    let is_run = |id: AccountId| writer.open_account(id).is_ok_and(|account| account.kind == AccountKind::Run);
    writer.open_account(resolve(wanted, named, is_run)?)
}

pub(super) async fn pause(gate: &Gate, by: By, wanted: AccountChange) -> Answer<AccountChanged> {
    let reason = said(wanted.reason, "reason")?.unwrap_or_default();
    change(gate, wanted.account, move |writer, account| match account.state {
        AccountState::Active => writer.set_state(account, AccountState::Paused, &reason, Some(by)).map(|()| Ok(Killed::default())),
        AccountState::Paused => Ok(Ok(Killed::default())),
        // A pause would lift the other, and a resume after it both.
        other => Ok(Err(Refused::State(format!("{} is {} already", shown(account.kind, account.id, &account.name), other.name())))),
    })
    .await
}

pub(super) async fn resume(gate: &Gate, by: By, wanted: AccountChange) -> Answer<AccountChanged> {
    let reason = said(wanted.reason, "reason")?.unwrap_or_default();
    change(gate, wanted.account, move |writer, account| {
        writer.set_state(account, AccountState::Active, &reason, Some(by)).map(|()| Ok(Killed::default()))
    })
    .await
}

pub(super) async fn kill(gate: &Gate, by: By, wanted: AccountChange) -> Answer<AccountChanged> {
    let reason = said(wanted.reason, "reason")?.unwrap_or_default();
    change(gate, wanted.account, move |writer, account| writer.kill(account, &reason, &runs::reason(RunEnd::Killed, &reason), &by).map(Ok))
        .await
}

/// Finds the account and changes it in one transaction, so that nothing is waited for before it.
async fn change<F>(gate: &Gate, wanted: AccountRef, action: F) -> Answer<AccountChanged>
where
    F: FnOnce(&mut Writer<'_>, &Account) -> Result<Result<Killed, Refused>, LedgerFault> + Send + 'static,
{
    let done = act(gate, move |writer| match of_writer(writer, &wanted) {
        Ok(account) => action(writer, &account).map(|done| done.map(|ended| (account, ended))),
        Err(refused) => Ok(Err(refused)),
    });
    let (before, ended) = done.await.map_err(hinted)?;
    // It is committed, and its answer does not wait behind reports.
    let (row, above) = gate.ledger().read_at_once(move |reader| lineage(reader, before.id)).await.map_err(|fault| broken(&fault))?;
    let row = row.ok_or_else(|| ErrorObject::fault(Fault::NotFound, format!("account {} does not exist", before.id)))?;
    let stopped = above.iter().filter(|row| row.state != AccountState::Active);
    Ok(AccountChanged {
        account: shown(before.kind, before.id, &before.name),
        id: before.id,
        before: before.state,
        state: row.state,
        state_reason: Some(row.reason).filter(|reason| row.state != AccountState::Active && !reason.is_empty()),
        stopped_above: stopped.map(|row| shown(row.kind, row.id, &row.name)).collect(),
        runs_ended: u32::try_from(ended.runs).unwrap_or(u32::MAX),
        calls_cut: u32::try_from(ended.calls).unwrap_or(u32::MAX),
    })
}

/// An account, closed ones included, and all above it, the nearest first.
fn lineage(reader: &Reader<'_>, id: AccountId) -> Result<(Option<AccountRow>, Vec<AccountRow>), LedgerFault> {
    let now = clock::wall();
    let row = reader.account(id, now)?;
    let (mut above, mut next) = (Vec::new(), row.as_ref().and_then(|row| row.parent));
    while let Some(row) = next.map(|id| reader.account(id, now)).transpose()?.flatten() {
        next = row.parent;
        above.push(row);
    }
    Ok((row, above))
}

/// Rows of open accounts as a tree: each before those below it, siblings by number. What is not below `top` is left out.
pub(super) fn in_order(rows: Vec<AccountRow>, top: AccountId) -> Vec<AccountRow> {
    let mut waiting = rows;
    // Popped from the end, so that the smallest number comes first.
    waiting.sort_by_key(|row| std::cmp::Reverse(row.id));
    let mut stack: Vec<AccountRow> = waiting.extract_if(.., |row| row.id == top).collect();
    let mut ordered = Vec::with_capacity(waiting.len());
    while let Some(row) = stack.pop() {
        stack.extend(waiting.extract_if(.., |below| below.parent == Some(row.id)));
        ordered.push(row);
    }
    ordered
}

/// Every open account.
pub(super) fn all(reader: &Reader<'_>) -> Result<Vec<AccountRow>, LedgerFault> {
    let now = clock::wall();
    let kinds = [AccountKind::Root, AccountKind::Group, AccountKind::Agent, AccountKind::Run];
    let rows = kinds.into_iter().map(|kind| reader.accounts(kind, now)).collect::<Result<Vec<_>, _>>()?;
    Ok(rows.into_iter().flatten().collect())
}
