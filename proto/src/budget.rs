//! Budgets of any account: set, topped up, moved, taken away, shown.

use crate::account::{AccountState, Budget, Period};
use crate::tree::AccountRef;
use crate::value::{AccountId, Pico};
use serde::{Deserialize, Serialize};

/// `budget.set` and `budget.add`: an account's budget of a period, or what is added to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetChange {
    /// The account.
    pub account: AccountRef,
    /// What may be spent in the period; of `budget.add`: so much more than before.
    pub amount_pico: Pico,
    /// The period.
    #[serde(default = "Period::total")]
    pub per: Period,
    /// Why, for the event.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `budget.transfer`: lowers one account's budget of a period and raises another's by the same amount, at once or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetTransfer {
    /// Whose budget is lowered.
    pub from: AccountRef,
    /// Whose budget is raised.
    pub to: AccountRef,
    /// By how much.
    pub amount_pico: Pico,
    /// The period of both.
    #[serde(default = "Period::total")]
    pub per: Period,
    /// Why, for both events.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `budget.remove`: an account no longer has a budget of a period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetRemove {
    /// The account.
    pub account: AccountRef,
    /// The period.
    #[serde(default = "Period::total")]
    pub per: Period,
    /// Why, for the event.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `budget.show`: an account and all below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetQuery {
    /// The account; `None`: the root.
    #[serde(default)]
    pub account: Option<AccountRef>,
}

/// The money of one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountBudgets {
    /// The account, in the form that names no other: `group:research`.
    pub account: String,
    /// Its number.
    pub id: AccountId,
    /// The account above it, in the same form; `None` for the root.
    pub parent: Option<String>,
    /// Its state.
    pub state: AccountState,
    /// Why it is not active.
    pub state_reason: Option<String>,
    /// What it and all below it have spent in all.
    pub spent_pico: Pico,
    /// The same in USD.
    pub spent_usd: String,
    /// What their calls in flight hold.
    pub reserved_pico: Pico,
    /// The same in USD.
    pub reserved_usd: String,
    /// Its budgets; there may be none.
    pub budgets: Vec<Budget>,
}

/// Reply of `budget.show`: open accounts, each before those below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetList {
    /// The accounts.
    pub accounts: Vec<AccountBudgets>,
}

/// Reply of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetChanged {
    /// The accounts that it changed.
    pub accounts: Vec<AccountBudgets>,
    /// What a user should know, such as a budget below what is spent.
    pub warnings: Vec<String>,
}
