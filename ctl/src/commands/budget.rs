//! `aexctl budget`.

use super::Context;
use crate::cli::{self, Budget as Verb};
use crate::exit::{Exit, Failure};
use crate::units::instant_or;
use crate::view::{View, table};
use aex_proto::account::{AccountState, Budget};
use aex_proto::budget::{AccountBudgets, BudgetChange, BudgetChanged, BudgetList, BudgetQuery, BudgetRemove, BudgetTransfer};
use aex_proto::method;
use std::collections::BTreeMap;

/// The head of the table.
const HEAD: [&str; 8] = ["Account", "Period", "Limit", "Spent", "Reserved", "Left", "Overdraft", "Resets at"];

pub(super) fn run(context: &Context<'_>, verb: Verb) -> Result<Exit, Failure> {
    let mut client = context.connect()?;
    let view = context.view;
    match verb {
        Verb::Set(flags) => changed(view, &client.call::<method::BudgetSet>(&params(flags))?)?,
        Verb::Add(flags) => changed(view, &client.call::<method::BudgetAdd>(&params(flags))?)?,
        Verb::Transfer { from, to, amount, per, why } => {
            let wanted = BudgetTransfer { from, to, amount_pico: amount, per, reason: why.reason };
            changed(view, &client.call::<method::BudgetTransfer>(&wanted)?)?;
        }
        Verb::Remove { account, per, why } => {
            changed(view, &client.call::<method::BudgetRemove>(&BudgetRemove { account, per, reason: why.reason })?)?;
        }
        Verb::Show { account } => {
            let list = client.call::<method::BudgetShow>(&BudgetQuery { account })?;
            view.show(&list, |_| list_text(&list))?;
        }
    }
    Ok(Exit::Done)
}

fn params(flags: cli::BudgetChange) -> BudgetChange {
    BudgetChange { account: flags.account, amount_pico: flags.amount, per: flags.per, reason: flags.why.reason }
}

fn changed(view: &View, changed: &BudgetChanged) -> Result<(), Failure> {
    changed.warnings.iter().for_each(|warning| view.note(&format!("warning: {warning}")));
    view.show(changed, |_| table(HEAD, changed.accounts.iter().flat_map(|account| rows(account, 0))))
}

fn list_text(list: &BudgetList) -> String {
    let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all = Vec::new();
    for account in &list.accounts {
        let depth = account.parent.as_deref().and_then(|parent| depths.get(parent)).map_or(0, |above| above + 1);
        depths.insert(&account.account, depth);
        all.extend(rows(account, depth));
    }
    table(HEAD, all)
}

/// One row for each budget; an account without one tells what it spent in all.
fn rows(account: &AccountBudgets, depth: usize) -> Vec<[String; 8]> {
    let state = if account.state == AccountState::Active { String::new() } else { format!(" ({})", account.state.name()) };
    let name = format!("{}{}{state}", "  ".repeat(depth), account.account);
    if account.budgets.is_empty() {
        let none = || "-".to_owned();
        let (spent, reserved) = (account.spent_pico.to_string(), account.reserved_pico.to_string());
        return vec![[name, none(), "none".to_owned(), spent, reserved, none(), none(), none()]];
    }
    account.budgets.iter().map(|budget| row(&name, budget)).collect()
}

fn row(name: &str, budget: &Budget) -> [String; 8] {
    let overdraft = if budget.overdraft_pico.get() > 0 { budget.overdraft_pico.to_string() } else { "-".to_owned() };
    [
        name.to_owned(),
        budget.period.name().to_owned(),
        budget.limit_pico.to_string(),
        budget.spent_pico.to_string(),
        budget.reserved_pico.to_string(),
        budget.remaining_pico.to_string(),
        overdraft,
        instant_or(budget.resets_at, "never"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::account::Period;
    use aex_proto::value::{AccountId, Pico, Stamp};

    #[test]
    fn the_tree_is_one_table_with_what_is_left_and_when_it_comes_back() {
        let usd = |text: &str| Pico::parse_usd(text).unwrap_or(Pico::ZERO);
        let account = |id: i64, account: &str, parent: Option<&str>, budgets: Vec<Budget>| AccountBudgets {
            account: account.to_owned(),
            id: AccountId::new(id),
            parent: parent.map(str::to_owned),
            state: AccountState::Active,
            state_reason: None,
            spent_pico: usd("3"),
            spent_usd: "3.00".to_owned(),
            reserved_pico: usd("0.5"),
            reserved_usd: "0.50".to_owned(),
            budgets,
        };
        let (since, end) = (Some(Stamp::new(1_795_219_200_000_000)), Some(Stamp::new(1_795_305_600_000_000)));
        let day = Budget::new(Period::Day, usd("2"), usd("3"), usd("0.5"), since, end);
        let total = Budget::new(Period::Total, usd("10"), usd("3"), usd("0.5"), None, None);
        let paused = AccountBudgets { state: AccountState::Paused, ..account(2, "group:lab", Some("root"), vec![total, day]) };
        let list = BudgetList {
            accounts: vec![account(1, "root", None, Vec::new()), paused, account(3, "agent:bot", Some("group:lab"), Vec::new())],
        };
        let wanted = "
 Account              | Period | Limit  | Spent | Reserved | Left   | Overdraft | Resets at
----------------------+--------+--------+-------+----------+--------+-----------+----------------------
 root                 | -      | none   | $3.00 | $0.50    | -      | -         | -
   group:lab (paused) | total  | $10.00 | $3.00 | $0.50    | $6.50  | -         | never
   group:lab (paused) | day    | $2.00  | $3.00 | $0.50    | -$1.50 | $1.50     | 2026-11-22 00:00:00Z
     agent:bot        | -      | none   | $3.00 | $0.50    | -      | -         | -";
        assert_eq!(list_text(&list), wanted.trim_start_matches('\n'));
    }
}
