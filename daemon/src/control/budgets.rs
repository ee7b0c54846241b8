//! Budgets of any account: set, topped up, moved, taken away, shown.

use super::accounts::{all, find, in_order, shown, shown_named};
use super::agents::{budgets_of, check_budget, said, spent_in_all};
use super::fault::{Answer, act, broken, read, unfit};
use crate::gate::Gate;
use crate::ledger::{self, AccountRow, LedgerFault, Reader, Refused, Writer};
use crate::os::clock;
use aex_core::event::By;
use aex_core::window::Period;
use aex_proto::account::{AccountState, Budget};
use aex_proto::budget::{AccountBudgets, BudgetChange, BudgetChanged, BudgetList, BudgetQuery, BudgetRemove, BudgetTransfer};
use aex_proto::rpc::{ErrorObject, Fault};
use aex_proto::tree::AccountRef;
use aex_proto::value::{AccountId, Pico, Stamp};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// How often a change is tried when a new window begins between what is read and what is written.
const TRIES: u32 = 3;

/// What is done to a budget.
#[derive(Clone, Copy, Debug)]
enum Step {
    To(Pico),
    Add(Pico),
    Take(Pico),
    Remove,
}

/// One account whose budget is to be changed.
#[derive(Clone, Debug)]
struct Plan {
    id: AccountId,
    account: String,
    step: Step,
}

pub(super) async fn set(gate: &Gate, by: By, wanted: BudgetChange) -> Answer<BudgetChanged> {
    check_budget(Some(wanted.amount_pico))?;
    let reason = said(wanted.reason, "reason")?;
    let plan = plan(gate, &wanted.account, Step::To(wanted.amount_pico)).await?;
    change(gate, by, vec![plan], wanted.per, reason).await
}

pub(super) async fn add(gate: &Gate, by: By, wanted: BudgetChange) -> Answer<BudgetChanged> {
    check_amount(wanted.amount_pico)?;
    let reason = said(wanted.reason, "reason")?;
    let plan = plan(gate, &wanted.account, Step::Add(wanted.amount_pico)).await?;
    change(gate, by, vec![plan], wanted.per, reason).await
}

pub(super) async fn transfer(gate: &Gate, by: By, wanted: BudgetTransfer) -> Answer<BudgetChanged> {
    let amount = wanted.amount_pico;
    check_amount(amount)?;
    let said = said(wanted.reason, "reason")?;
    let from = plan(gate, &wanted.from, Step::Take(amount)).await?;
    let to = plan(gate, &wanted.to, Step::Add(amount)).await?;
    if from.id == to.id {
        return Err(unfit(format!("{} cannot be given what it has", from.account)));
    }
    // The reason that both events share tells that they belong together.
    let word = format!("transfer of {amount} from {} to {}", from.account, to.account);
    let reason = said.map_or_else(|| word.clone(), |said| format!("{word}: {said}"));
    change(gate, by, vec![from, to], wanted.per, Some(reason)).await
}

pub(super) async fn remove(gate: &Gate, by: By, wanted: BudgetRemove) -> Answer<BudgetChanged> {
    let reason = said(wanted.reason, "reason")?;
    let plan = plan(gate, &wanted.account, Step::Remove).await?;
    change(gate, by, vec![plan], wanted.per, reason).await
}

fn check_amount(amount: Pico) -> Answer<()> {
    check_budget(Some(amount))?;
    if amount == Pico::ZERO { Err(unfit("an amount of nothing changes nothing")) } else { Ok(()) }
}

async fn plan(gate: &Gate, account: &AccountRef, step: Step) -> Answer<Plan> {
    let named = find(gate, account).await?;
    Ok(Plan { id: named.id, account: shown_named(&named), step })
}

/// Changes all budgets in one transaction, or none.
async fn change(gate: &Gate, by: By, plans: Vec<Plan>, period: Period, reason: Option<String>) -> Answer<BudgetChanged> {
    let ids: Vec<AccountId> = plans.iter().map(|plan| plan.id).collect();
    for _ in 0..TRIES {
        let mut pasts = Vec::with_capacity(ids.len());
        for id in &ids {
            pasts.push(gate.ledger().past(*id, period).await.map_err(|fault| broken(&fault))?);
        }
        let (plans, reason, by) = (plans.clone(), reason.clone(), by.clone());
        let done = act(gate, move |writer| {
            let mut changes = Vec::with_capacity(plans.len());
            for (plan, past) in plans.iter().zip(&pasts) {
                if !writer.is_past(plan.id, period, past.as_ref())? {
                    return Ok(Ok(false));
                }
                match limit(writer, plan, period) {
                    Ok(limit) => changes.push(ledger::BudgetChange { account: plan.id, period, limit, reason: reason.clone() }),
                    Err(refused) => return Ok(Err(refused)),
                }
            }
            for (change, past) in changes.iter().zip(&pasts) {
                writer.set_budget(change, past.as_ref(), Some(by.clone()))?;
            }
            Ok(Ok(true))
        });
        if done.await? {
            return changed(gate, ids, period).await;
        }
    }
    Err(windows_turn())
}

/// No window lasts as short as that, unless the clock is being set.
pub(super) fn windows_turn() -> ErrorObject {
    ErrorObject::fault(Fault::Unavailable, "windows begin and end faster than a budget can be set: is the clock being set?")
}

/// What a budget is to be; a refusal changes nothing.
fn limit(writer: &Writer<'_>, plan: &Plan, period: Period) -> Result<Option<Pico>, Refused> {
    let account = writer.open_account(plan.id)?;
    let now = account.budgets.get(&period).copied();
    let name = &plan.account;
    let has = || now.ok_or_else(|| Refused::State(format!("{name} has no budget by {}: `aexctl budget set` gives it one", period.name())));
    match plan.step {
        Step::To(amount) => Ok(Some(amount)),
        Step::Add(amount) => has()?.plus(amount).map(Some).ok_or_else(|| Refused::State(format!("{name}: more money than can be counted"))),
        Step::Take(amount) => {
            let limit = has()?;
            let left = limit.minus(amount).filter(|left| !left.is_negative());
            left.map(Some).ok_or_else(|| Refused::State(format!("{name} has a budget of {limit} by {}, less than {amount}", period.name())))
        }
        Step::Remove => has().map(|_| None),
    }
}

async fn changed(gate: &Gate, ids: Vec<AccountId>, period: Period) -> Answer<BudgetChanged> {
    let zone = gate.active().config.settings.zone.value.clone();
    let accounts = read(gate, move |reader| {
        let rows = all(reader)?;
        let names = names(&rows);
        let wanted = ids.iter().filter_map(|id| rows.iter().find(|row| row.id == *id));
        wanted.map(|row| view(reader, row, &names, &zone)).collect::<Result<Vec<_>, _>>()
    })
    .await?;
    let warnings = accounts.iter().flat_map(|account| {
        let warned = account.budgets.iter().filter(move |budget| budget.period == period).filter_map(warning);
        warned.map(|warning| format!("{}: {warning}", account.account))
    });
    Ok(BudgetChanged { warnings: warnings.collect(), accounts })
}

/// What to know of a total budget, which is meant where no period is named, when it comes beside others: it changed none of them.
pub(super) fn budget_added(before: &[Budget], period: Period) -> Option<String> {
    let others: Vec<&str> = before.iter().map(|budget| budget.period.name()).collect();
    let [first, ..] = others.as_slice() else { return None };
    let is_new = period == Period::Total && !others.contains(&period.name());
    is_new.then(|| {
        format!("a total budget was added beside that per {}, and all of them hold; `--per {first}` changes the other", others.join(", "))
    })
}

/// What a user should know of a budget that is below what is used.
pub(super) fn warning(budget: &Budget) -> Option<String> {
    if budget.overdraft_pico <= Pico::ZERO {
        return None;
    }
    let used = budget.spent_pico.plus(budget.reserved_pico).unwrap_or(Pico::MAX);
    let until = match budget.resets_at {
        Some(at) => format!("until {}, when the {} ends, or until the budget is raised", second(at), budget.period.name()),
        None => "until the budget is raised".to_owned(),
    };
    Some(format!("{used} is spent or held already, which is more than {}: every further call is denied {until}", budget.limit_pico))
}

/// An instant to the second.
fn second(at: Stamp) -> String {
    let text = at.to_string();
    text.split_once('.').map_or_else(|| text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

pub(super) async fn show(gate: &Gate, query: BudgetQuery) -> Answer<BudgetList> {
    let top = match &query.account {
        Some(account) => find(gate, account).await?.id,
        None => AccountId::ROOT,
    };
    let zone = gate.active().config.settings.zone.value.clone();
    let accounts = read(gate, move |reader| {
        let rows = all(reader)?;
        let names = names(&rows);
        in_order(rows, top).iter().map(|row| view(reader, row, &names, &zone)).collect::<Result<Vec<_>, _>>()
    })
    .await?;
    Ok(BudgetList { accounts })
}

fn names(rows: &[AccountRow]) -> BTreeMap<AccountId, String> {
    rows.iter().map(|row| (row.id, shown(row.kind, row.id, &row.name))).collect()
}

fn view(
    reader: &Reader<'_>,
    row: &AccountRow,
    names: &BTreeMap<AccountId, String>,
    zone: &TimeZone,
) -> Result<AccountBudgets, LedgerFault> {
    let spent = spent_in_all(&row.balances);
    let total = row.balances.iter().find(|balance| balance.period == Period::Total);
    let reserved = total.map_or(Pico::ZERO, |balance| balance.reserved);
    Ok(AccountBudgets {
        account: shown(row.kind, row.id, &row.name),
        id: row.id,
        parent: row.parent.and_then(|parent| names.get(&parent).cloned()),
        state: row.state,
        state_reason: Some(row.reason.clone()).filter(|reason| row.state != AccountState::Active && !reason.is_empty()),
        spent_pico: spent,
        spent_usd: spent.usd(),
        reserved_pico: reserved,
        reserved_usd: reserved.usd(),
        budgets: budgets_of(reader, row, clock::wall(), zone)?,
    })
}
