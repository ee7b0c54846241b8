//! `aexctl group`.

use super::Context;
use super::agent::limit;
use crate::cli::{self, Group as Verb};
use crate::exit::{Exit, Failure};
use crate::units::{count, instant_or};
use crate::view::table;
use aex_proto::account::AccountState;
use aex_proto::group::{Group, GroupCreate, GroupDelete, GroupDeleted, GroupList, GroupUpdate};
use aex_proto::method::{self, Nothing};

pub(super) fn run(context: &Context<'_>, verb: Verb) -> Result<Exit, Failure> {
    let mut client = context.connect()?;
    let view = context.view;
    match verb {
        Verb::Create(flags) => {
            let group = client.call::<method::GroupCreate>(&params(flags))?;
            view.show(&group, |_| told(&group, "created"))?;
        }
        Verb::List => {
            let list = client.call::<method::GroupList>(&Nothing {})?;
            view.show(&list, |_| list_text(&list))?;
        }
        Verb::Update(flags) => {
            let updated = client.call::<method::GroupUpdate>(&changes(flags))?;
            updated.warnings.iter().for_each(|warning| view.note(&format!("warning: {warning}")));
            view.show(&updated, |_| told(&updated.group, "updated"))?;
        }
        Verb::Delete { name, recursive, why } => {
            let deleted = client.call::<method::GroupDelete>(&GroupDelete { name, recursive, reason: why.reason })?;
            view.show(&deleted, |_| deleted_text(&deleted))?;
        }
    }
    Ok(Exit::Done)
}

fn params(flags: cli::GroupCreate) -> GroupCreate {
    let limits = flags.limits;
    GroupCreate {
        name: flags.name,
        parent: flags.parent,
        budget_pico: limits.budget,
        per: limits.per,
        rpm: limits.rpm,
        tpm: limits.tpm,
        max_concurrent: limits.max_concurrent,
        reason: flags.why.reason,
    }
}

fn changes(flags: cli::GroupUpdate) -> GroupUpdate {
    let limits = flags.limits;
    GroupUpdate {
        name: flags.name,
        budget_pico: limits.budget,
        per: limits.per,
        rpm: limits.rpm,
        tpm: limits.tpm,
        max_concurrent: limits.max_concurrent,
        // Flags are written with dashes, fields with underscores.
        clear: flags.clear.iter().map(|name| name.replace('-', "_")).collect(),
        reason: flags.why.reason,
    }
}

fn told(group: &Group, done: &str) -> String {
    let mut lines = vec![format!("Group '{}' {done}.", group.name)];
    lines.extend(group.parent.iter().map(|parent| format!("Above it: group '{parent}'")));
    lines.extend(group.budgets.iter().map(|budget| format!("Budget: {}, {} left", limit(budget), budget.remaining_pico)));
    lines.join("\n")
}

fn list_text(list: &GroupList) -> String {
    let none = || "-".to_owned();
    let number = |limit: Option<u32>| limit.map_or_else(none, |limit| limit.to_string());
    let row = |group: &Group| {
        let name =
            if group.state == AccountState::Active { group.name.clone() } else { format!("{} ({})", group.name, group.state.name()) };
        let budgets = |text: fn(&aex_proto::account::Budget) -> String| {
            let all: Vec<String> = group.budgets.iter().map(text).collect();
            if all.is_empty() { none() } else { all.join(", ") }
        };
        let per = |budget: &aex_proto::account::Budget| format!("{}/{}", budget.limit_pico, budget.period.name());
        [
            name,
            group.parent.clone().unwrap_or_else(none),
            group.agents.to_string(),
            budgets(per),
            group.spent_pico.to_string(),
            budgets(|budget| budget.remaining_pico.to_string()),
            number(group.rpm),
            number(group.tpm),
            number(group.max_concurrent),
            instant_or(group.last_activity_at, "-"),
        ]
    };
    let head = ["Name", "Above", "Agents", "Budget", "Spent in all", "Remaining", "RPM", "TPM", "Concurrent", "Last Activity"];
    table(head, list.groups.iter().map(row))
}

fn deleted_text(deleted: &GroupDeleted) -> String {
    let below = [(deleted.agents_closed, "agent"), (deleted.groups_closed, "group"), (deleted.runs_ended, "run")];
    let below: Vec<String> =
        below.into_iter().filter(|(number, _)| *number > 0).map(|(number, noun)| count(u64::from(number), noun)).collect();
    let with = if below.is_empty() { String::new() } else { format!(" with {}", below.join(", ")) };
    format!("Group '{}' deleted{with}; it spent {}.", deleted.name, deleted.spent_pico)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::account::{Budget, Period};
    use aex_proto::value::{AccountId, Pico, Stamp};

    #[test]
    fn a_group_tells_what_stands_above_and_below_it() {
        let usd = |text: &str| Pico::parse_usd(text).unwrap_or(Pico::ZERO);
        let group = Group {
            id: AccountId::new(3),
            name: "lab".to_owned(),
            parent: Some("org".to_owned()),
            state: AccountState::Paused,
            state_reason: None,
            budgets: vec![Budget::new(Period::Day, usd("5"), usd("1"), usd("0.5"), None, None)],
            spent_pico: usd("7"),
            spent_usd: "7.00".to_owned(),
            rpm: Some(60),
            tpm: None,
            max_concurrent: None,
            agents: 2,
            groups: 0,
            created_at: Stamp::new(0),
            last_activity_at: None,
        };
        let wanted = "
 Name         | Above | Agents | Budget    | Spent in all | Remaining | RPM | TPM | Concurrent | Last Activity
--------------+-------+--------+-----------+--------------+-----------+-----+-----+------------+---------------
 lab (paused) | org   | 2      | $5.00/day | $7.00        | $3.50     | 60  | -   | -          | -";
        assert_eq!(list_text(&GroupList { groups: vec![group.clone()] }), wanted.trim_start_matches('\n'));
        assert_eq!(
            told(&group, "created"),
            "Group 'lab' created.\nAbove it: group 'org'\nBudget: $5.00 (5000000 micro) per day, $3.50 left"
        );
        let deleted = GroupDeleted {
            id: group.id,
            name: group.name,
            spent_pico: group.spent_pico,
            spent_usd: group.spent_usd,
            agents_closed: 2,
            groups_closed: 0,
            runs_ended: 1,
        };
        assert_eq!(deleted_text(&deleted), "Group 'lab' deleted with 2 agents, 1 run; it spent $7.00.");
    }
}
