//! The figures of an account and all below it, and the forms in which they are told: Prometheus text, and AEX's JSON.

pub mod json;
pub mod prometheus;
mod text;

use crate::gate::Gate;
use crate::ledger::{AccountRow, Counts, LedgerFault, Reader, Tallied};
use crate::os::clock;
use aex_core::books::AccountKind;
use aex_core::decision::{AccountState, AuthCause};
use aex_core::window::Period;
use aex_proto::value::{AccountId, Pico, Stamp};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// Windows in which an agent is looked at, by name and in seconds.
pub const WINDOWS: [(&str, u32); 3] = [("1m", 60), ("15m", 900), ("1h", 3_600)];
/// Models that are told as the most used ones.
const TOP_MODELS: usize = 5;

/// An account and all below it, in figures.
#[derive(Clone, Debug)]
pub struct Figures {
    /// When they were taken.
    pub at: Stamp,
    /// The agents among them; a run that looks at itself stands here alone.
    pub agents: Vec<AgentFigures>,
    /// Spent in all, by accounts that are gone, too.
    pub spent: Pico,
    /// Runs that are open.
    pub open_runs: u64,
    /// Calls for which money is held.
    pub in_flight: u64,
    /// Calls and denials, those of accounts that are gone included.
    pub counts: Counts,
    /// What is told of the daemon itself, to whoever may see all accounts.
    pub whole: Option<Whole>,
}

/// An agent and its runs in figures.
#[derive(Clone, Debug)]
pub struct AgentFigures {
    /// Its name.
    pub name: String,
    /// The group above it.
    pub group: Option<String>,
    /// Calls pass.
    pub is_active: bool,
    /// When it was made.
    pub created_at: Stamp,
    /// Spent in all.
    pub spent: Pico,
    /// What calls in flight hold.
    pub reserved: Pico,
    /// Its budgets with their balances; the first is the one that `agent create` set.
    pub budgets: Vec<BudgetFigures>,
    /// Requests in any 60 seconds.
    pub rpm: Option<u32>,
    /// Calls and denials.
    pub counts: Counts,
}

/// A budget and what is used of it in its running period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetFigures {
    /// Its period.
    pub period: Period,
    /// What may be spent in it.
    pub limit: Pico,
    /// What is spent.
    pub spent: Pico,
    /// What calls in flight hold.
    pub reserved: Pico,
}

impl BudgetFigures {
    /// limit − spent − reserved; negative in overdraft.
    #[must_use]
    pub const fn remaining(&self) -> Pico {
        Pico::new(self.limit.get().saturating_sub(self.spent.get()).saturating_sub(self.reserved.get()))
    }
}

/// The money of an agent in one row: that of its first budget in the running period; without a budget, that of all time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    /// What is spent.
    pub spent: Pico,
    /// What calls in flight hold.
    pub reserved: Pico,
    /// The budget.
    pub budget: Option<Pico>,
    /// What is left of it.
    pub remaining: Option<Pico>,
}

/// The daemon in figures.
#[derive(Clone, Debug)]
pub struct Whole {
    /// Events in the ledger.
    pub events: u64,
    /// Failed authentications by cause.
    pub auth_failed: BTreeMap<AuthCause, u64>,
}

impl Figures {
    /// The most used models with their charged calls, the most used first.
    #[must_use]
    pub fn top_models(&self) -> Vec<(&str, u64)> {
        let mut models: Vec<(&str, u64)> = self.counts.models.iter().map(|(model, sums)| (model.as_str(), sums.calls)).collect();
        models.sort_by(|(a, more), (b, less)| less.cmp(more).then(a.cmp(b)));
        models.truncate(TOP_MODELS);
        models
    }
}

/// Charged calls of the last 24 hours, oldest first, each hour by its first minute on a clock of the zone.
#[must_use]
pub fn hours(figures: &Figures, zone: &TimeZone) -> Vec<(String, u64)> {
    let named = |start: Stamp| {
        let at = Timestamp::from_microsecond(start.micros()).unwrap_or_default().to_zoned(zone.clone());
        format!("{:02}:{:02}", at.hour(), at.minute())
    };
    figures.counts.last_hours(figures.at).into_iter().map(|(start, calls)| (named(start), calls)).collect()
}

impl AgentFigures {
    /// Its money in one row.
    #[must_use]
    pub fn money(&self) -> Money {
        match self.budgets.first() {
            Some(first) => {
                Money { spent: first.spent, reserved: first.reserved, budget: Some(first.limit), remaining: Some(first.remaining()) }
            }
            None => Money { spent: self.spent, reserved: self.reserved, budget: None, remaining: None },
        }
    }

    /// Spent per second since it was made, in whole µUSD as AEX has it: slower spending is none.
    #[must_use]
    pub fn burn_micro_per_sec(&self, now: Stamp) -> u64 {
        let seconds = u64::try_from(now.since(self.created_at)).unwrap_or(0) / 1_000_000;
        u64::try_from(self.spent.micro()).unwrap_or(0) / seconds.max(1)
    }

    /// Seconds until the first budget is used up at that speed; `None`: never.
    #[must_use]
    pub fn ttb_seconds(&self, now: Stamp) -> Option<u64> {
        let remaining = self.budgets.first()?.remaining().micro();
        u64::try_from(remaining).unwrap_or(0).checked_div(self.burn_micro_per_sec(now))
    }
}

/// The figures of an account and all below it, as of the last commit.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn gather(gate: &Gate, scope: AccountId) -> Result<Figures, LedgerFault> {
    let tally = gate.ledger().tally().await?;
    let (mut agents, mut open_runs) = (Vec::new(), 0);
    for view in gate.ledger().directory().accounts.values().filter(|view| view.path.contains(&scope)) {
        match view.kind {
            AccountKind::Agent => agents.push(view.named.id),
            AccountKind::Run => open_runs += 1,
            AccountKind::Root | AccountKind::Group => {}
        }
    }
    if agents.is_empty() && scope != AccountId::ROOT {
        agents.push(scope);
    }
    let now = clock::wall();
    gate.ledger()
        .read(move |reader| {
            let rows = agents.into_iter().map(|id| agent(reader, id, now, &tally));
            let agents = rows.filter_map(Result::transpose).collect::<Result<_, _>>()?;
            let events = reader.head()?.seq.unsigned_abs();
            Ok(Figures {
                at: now,
                agents,
                spent: reader.account(scope, now)?.map_or(Pico::ZERO, |row| in_all(&row).0),
                open_runs,
                in_flight: reader.open_holds(scope)?,
                counts: tally.of(scope),
                whole: (scope == AccountId::ROOT).then(|| Whole { events, auth_failed: tally.auth_failed.clone() }),
            })
        })
        .await
}

fn agent(reader: &Reader<'_>, id: AccountId, now: Stamp, tally: &Tallied) -> Result<Option<AgentFigures>, LedgerFault> {
    let Some(row) = reader.account(id, now)?.filter(|row| row.state != AccountState::Closed) else { return Ok(None) };
    let budgets = reader.budgets(id)?.into_iter().map(|(period, limit)| budget(&row, period, limit)).collect();
    let (spent, reserved) = in_all(&row);
    Ok(Some(AgentFigures {
        is_active: row.state == AccountState::Active && is_open_above(reader, row.parent, now)?,
        group: reader.groups_above(id)?.into_iter().next(),
        created_at: row.created_at,
        spent,
        reserved,
        budgets,
        rpm: row.limits.rpm,
        counts: tally.of(id),
        name: row.name,
    }))
}

/// Whether nothing above an account stops its calls.
fn is_open_above(reader: &Reader<'_>, parent: Option<AccountId>, now: Stamp) -> Result<bool, LedgerFault> {
    let mut next = parent;
    while let Some(row) = next.map(|id| reader.account(id, now)).transpose()?.flatten() {
        if row.state != AccountState::Active {
            return Ok(false);
        }
        next = row.parent;
    }
    Ok(true)
}

/// A period that no call has opened yet is whole.
fn budget(row: &AccountRow, period: Period, limit: Pico) -> BudgetFigures {
    let (spent, reserved) = used(row, period);
    BudgetFigures { period, limit, spent, reserved }
}

/// Spent and reserved over all time.
fn in_all(row: &AccountRow) -> (Pico, Pico) {
    used(row, Period::Total)
}

fn used(row: &AccountRow, period: Period) -> (Pico, Pico) {
    let balance = row.balances.iter().find(|balance| balance.period == period);
    balance.map_or((Pico::ZERO, Pico::ZERO), |balance| (balance.spent, balance.reserved))
}

#[cfg(test)]
mod tests;
