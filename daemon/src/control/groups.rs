//! Groups: made, listed, changed, deleted.

use super::accounts::{all, in_order};
use super::agents::{DELETED, because, budgets_of, check_budget, said, spent_in_all};
use super::budgets::{warning, windows_turn};
use super::daemon::counted;
use super::fault::{Answer, act, broken, read, tallied, unfit};
use crate::gate::Gate;
use crate::ledger::{AccountRow, BudgetChange, LedgerFault, NewAccount, Reader, Refused, Tallied, Writer};
use crate::os::clock;
use aex_core::books::{Account, AccountKind, Limits};
use aex_core::event::By;
use aex_core::policy::Fields;
use aex_proto::account::{AccountState, check_new_name};
use aex_proto::group::{Group, GroupCreate, GroupDelete, GroupDeleted, GroupList, GroupUpdate, GroupUpdated};
use aex_proto::rpc::{ErrorObject, Fault};
use aex_proto::tree::GroupName;
use aex_proto::value::{AccountId, Pico};
use jiff::tz::TimeZone;

/// Groups on one path, at most: every call counts on each.
const MAX_DEPTH: usize = 8;
/// How often a change is tried when a new window begins meanwhile.
const TRIES: u32 = 3;

pub(super) async fn create(gate: &Gate, by: By, wanted: GroupCreate) -> Answer<Group> {
    check_new_name(wanted.name.as_str(), "a group").map_err(unfit)?;
    check_budget(wanted.budget_pico)?;
    let reason = said(wanted.reason, "reason")?;
    let id = act(gate, move |writer| {
        let parent = match above(writer, wanted.parent.as_ref()) {
            Ok(parent) => parent,
            Err(refused) => return Ok(Err(refused)),
        };
        if writer.depth(parent) >= MAX_DEPTH {
            return Ok(Err(Refused::State(format!("groups stand at most {MAX_DEPTH} deep"))));
        }
        let account = NewAccount {
            parent,
            kind: AccountKind::Group,
            name: wanted.name.to_string(),
            limits: Limits { rpm: wanted.rpm, concurrent: wanted.max_concurrent, tpm: wanted.tpm },
            policy: Fields::default(),
            budgets: wanted.budget_pico.map(|budget| (wanted.per, budget)).into_iter().collect(),
            reason,
        };
        writer.create_account(&account, Some(by))
    });
    one(gate, id.await.map_err(hinted)?).await
}

/// The account that a group of a name is, or the root.
pub(super) fn above(writer: &Writer<'_>, group: Option<&GroupName>) -> Result<AccountId, Refused> {
    group.map_or(Ok(AccountId::ROOT), |name| writer.find(AccountKind::Group, name.as_str()).map(|group| group.id))
}

pub(super) async fn list(gate: &Gate) -> Answer<GroupList> {
    groups(gate).await.map(|groups| GroupList { groups })
}

async fn one(gate: &Gate, id: AccountId) -> Answer<Group> {
    let found = groups(gate).await?.into_iter().find(|group| group.id == id);
    found.ok_or_else(|| ErrorObject::fault(Fault::NotFound, format!("account {id} does not exist")))
}

async fn groups(gate: &Gate) -> Answer<Vec<Group>> {
    let zone = gate.active().config.settings.zone.value.clone();
    let tally = tallied(gate).await?;
    read(gate, move |reader| {
        let rows = in_order(all(reader)?, AccountId::ROOT);
        rows.iter().filter(|row| row.kind == AccountKind::Group).map(|row| view(reader, row, &rows, &tally, &zone)).collect()
    })
    .await
}

fn view(reader: &Reader<'_>, row: &AccountRow, rows: &[AccountRow], tally: &Tallied, zone: &TimeZone) -> Result<Group, LedgerFault> {
    let below = |kind| u32::try_from(rows.iter().filter(|below| below.parent == Some(row.id) && below.kind == kind).count());
    let spent = spent_in_all(&row.balances);
    let parent = rows.iter().find(|above| Some(above.id) == row.parent && above.kind == AccountKind::Group);
    Ok(Group {
        id: row.id,
        name: row.name.clone(),
        parent: parent.map(|above| above.name.clone()),
        state: row.state,
        state_reason: Some(row.reason.clone()).filter(|reason| row.state != AccountState::Active && !reason.is_empty()),
        budgets: budgets_of(reader, row, clock::wall(), zone)?,
        spent_pico: spent,
        spent_usd: spent.usd(),
        rpm: row.limits.rpm,
        tpm: row.limits.tpm,
        max_concurrent: row.limits.concurrent,
        agents: below(AccountKind::Agent).unwrap_or(u32::MAX),
        groups: below(AccountKind::Group).unwrap_or(u32::MAX),
        created_at: row.created_at,
        last_activity_at: tally.last_activity(row.id),
    })
}

pub(super) async fn update(gate: &Gate, by: By, wanted: GroupUpdate) -> Answer<GroupUpdated> {
    check_budget(wanted.budget_pico)?;
    let stated = [("rpm", wanted.rpm), ("tpm", wanted.tpm), ("max_concurrent", wanted.max_concurrent)];
    for name in &wanted.clear {
        match stated.iter().find(|(known, _)| known == name) {
            None => return Err(unfit(format!("`{name}` cannot be cleared; rpm, tpm, max_concurrent can"))),
            Some((_, Some(_))) => return Err(unfit(format!("`{name}` is to be set and cleared at once"))),
            Some(_) => {}
        }
    }
    let changes_limits = !wanted.clear.is_empty() || stated.iter().any(|(_, limit)| limit.is_some());
    if !changes_limits && wanted.budget_pico.is_none() {
        return Err(unfit("nothing is to be changed").hint("aexctl group update --help"));
    }
    let reason = said(wanted.reason.clone(), "reason")?;
    for _ in 0..TRIES {
        let (name, per) = (wanted.name.to_string(), wanted.per);
        let known = act(gate, move |writer| Ok(writer.find(AccountKind::Group, &name))).await.map_err(hinted)?;
        let past = match wanted.budget_pico {
            Some(_) => gate.ledger().past(known.id, per).await.map_err(|fault| broken(&fault))?,
            None => None,
        };
        let (wanted, reason, by) = (wanted.clone(), reason.clone(), by.clone());
        let done = act(gate, move |writer| {
            let group = match writer.open_account(known.id) {
                Ok(group) => group,
                Err(refused) => return Ok(Err(refused)),
            };
            if wanted.budget_pico.is_some() && !writer.is_past(group.id, wanted.per, past.as_ref())? {
                return Ok(Ok(None));
            }
            if changes_limits {
                let limits = changed(&wanted, group.limits);
                writer.update_account(&group, &Fields::default(), limits, reason.clone(), Some(by.clone()))?;
            }
            if let Some(limit) = wanted.budget_pico {
                let change = BudgetChange { account: group.id, period: wanted.per, limit: Some(limit), reason };
                writer.set_budget(&change, past.as_ref(), Some(by))?;
            }
            Ok(Ok(Some(group.id)))
        });
        if let Some(id) = done.await.map_err(hinted)? {
            let group = one(gate, id).await?;
            let warnings = group.budgets.iter().filter(|budget| budget.period == per).filter_map(warning).collect();
            return Ok(GroupUpdated { group, warnings });
        }
    }
    Err(windows_turn())
}

fn changed(wanted: &GroupUpdate, limits: Limits) -> Limits {
    let kept = |name: &str, limit: Option<u32>| limit.filter(|_| !wanted.clear.iter().any(|cleared| cleared == name));
    Limits {
        concurrent: wanted.max_concurrent.or_else(|| kept("max_concurrent", limits.concurrent)),
        rpm: wanted.rpm.or_else(|| kept("rpm", limits.rpm)),
        tpm: wanted.tpm.or_else(|| kept("tpm", limits.tpm)),
    }
}

pub(super) async fn delete(gate: &Gate, by: By, wanted: GroupDelete) -> Answer<GroupDeleted> {
    let reason = because(DELETED, said(wanted.reason, "reason")?);
    let (name, recursive) = (wanted.name.to_string(), wanted.recursive);
    let (id, below) = act(gate, move |writer| {
        let group = match writer.find(AccountKind::Group, &name) {
            Ok(group) => group,
            Err(refused) => return Ok(Err(refused)),
        };
        let below = writer.open_below(group.id);
        if !recursive && !below.is_empty() {
            let (agents, groups) = (count(&below, AccountKind::Agent), count(&below, AccountKind::Group));
            let what = format!("{} and {} stand below group '{name}'", counted(agents.into(), "agent"), counted(groups.into(), "group"));
            return Ok(Err(Refused::State(format!("{what}: delete them first, or all of it with --recursive"))));
        }
        writer.close_account(group.id, &reason, Some(&by))?;
        Ok(Ok((group.id, below)))
    })
    .await
    .map_err(hinted)?;
    let row = read(gate, move |reader| reader.account(id, clock::wall())).await?;
    let spent = row.map_or(Pico::ZERO, |row| spent_in_all(&row.balances));
    Ok(GroupDeleted {
        id,
        name: wanted.name.to_string(),
        spent_pico: spent,
        spent_usd: spent.usd(),
        agents_closed: count(&below, AccountKind::Agent),
        groups_closed: count(&below, AccountKind::Group),
        runs_ended: count(&below, AccountKind::Run),
    })
}

fn count(accounts: &[Account], kind: AccountKind) -> u32 {
    u32::try_from(accounts.iter().filter(|account| account.kind == kind).count()).unwrap_or(u32::MAX)
}

fn hinted(error: ErrorObject) -> ErrorObject {
    if matches!(error.which(), Some(Fault::NotFound | Fault::Conflict)) { error.hint("aexctl group list") } else { error }
}
