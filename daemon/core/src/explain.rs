//! Tells the story of what the ledger recorded: of a request, a run, an admin action.
//!
//! Pure: it is given the events, the accounts as they stood, and the snapshots, wherever they come from, and decides and prices
//! again by the functions that decided and priced first. Must not: guess what no event tells.

mod action;
mod attempts;
mod call;
mod checks;
mod group;
mod run;
mod tool;

pub use action::{ActionDossier, Neighbours, account_of, action};
pub use attempts::Attempt;
pub use call::{CallDossier, call};
pub use group::{Alike, Search, repeat};
pub use run::RunTold;

use crate::books::AccountKind;
use crate::event::By;
use crate::verify::{Record, Standing};
use aex_proto::explain::{Actor, Caller, EventSeen, Holder, PurseTold};
use aex_proto::value::Pico;

/// An event as a story names it.
#[must_use]
pub fn seen(record: &Record) -> EventSeen {
    EventSeen { seq: record.seq.unsigned_abs(), at: record.at, kind: record.kind.clone(), hash: record.hash }
}

fn actor(by: Option<&By>) -> Option<Actor> {
    by.map(|by| Actor { pid: by.pid, uid: by.uid })
}

const fn kind(kind: AccountKind) -> &'static str {
    match kind {
        AccountKind::Root => "root",
        AccountKind::Group => "group",
        AccountKind::Agent => "agent",
        AccountKind::Run => "run",
    }
}

/// Who an account is, with all above it.
#[must_use]
pub fn caller(standing: &Standing) -> Caller {
    let holder = |holder: &crate::verify::Holder| Holder {
        id: holder.id,
        kind: kind(holder.kind).to_owned(),
        name: holder.name.clone(),
        state: holder.state,
    };
    Caller { agent: standing.agent.clone(), path: standing.path.iter().map(holder).collect() }
}

/// The money of a path, from the caller up, the total of each account first.
fn money(standing: &Standing) -> Vec<PurseTold> {
    let told = |holder: &crate::verify::Holder| {
        let (account, name, kind) = (holder.id, holder.name.clone(), kind(holder.kind).to_owned());
        let purses = holder.purses.iter().map(move |purse| {
            let (spent, reserved) = purse.balance.as_ref().map_or((Pico::ZERO, Pico::ZERO), |balance| (balance.spent, balance.reserved));
            let used = spent.plus(reserved).unwrap_or(Pico::MAX);
            let left = purse.limit.and_then(|limit| limit.minus(used));
            let overdraft = left.and_then(|left| Pico::ZERO.minus(left)).unwrap_or(Pico::ZERO).max(Pico::ZERO);
            PurseTold {
                account,
                ends_at: purse.balance.as_ref().and_then(|balance| balance.window.end),
                kind: kind.clone(),
                left_pico: left,
                left_usd: left.map(Pico::usd),
                limit_pico: purse.limit,
                limit_usd: purse.limit.map(Pico::usd),
                name: name.clone(),
                overdraft_pico: overdraft,
                overdraft_usd: overdraft.usd(),
                period: purse.period,
                reserved_pico: reserved,
                reserved_usd: reserved.usd(),
                spent_pico: spent,
                spent_usd: spent.usd(),
            }
        });
        purses.collect::<Vec<_>>()
    };
    standing.path.iter().flat_map(told).collect()
}

/// The JSON name of an enum's value.
fn name<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn json<T: serde::Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
