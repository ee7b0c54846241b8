//! What rows and events hold, in the words of findings: money in dollars, names and numbers as lists show them. A finding is read by
//! people, so nothing in it has a form of the code.

use super::rows::Seal;
use super::tree::Tree;
use crate::books::{AccountKind, Limits};
use crate::chain::Head;
use crate::decision::{AccountState, Denial};
use crate::event::{Released, Settled};
use crate::policy::Change;
use crate::price::{Bound, Line, Unbounded};
use crate::window::{Period, Window};
use aex_proto::value::{AccountId, BalanceId, Digest, Pico, Stamp};
use serde::Serialize;

/// A value as a finding tells it.
pub(super) trait Said {
    fn said(&self) -> String;
}

macro_rules! as_shown {
    ($($of:ty),*) => {$(impl Said for $of {
        fn said(&self) -> String {
            self.to_string()
        }
    })*};
}

macro_rules! by_name {
    ($($of:ty),*) => {$(impl Said for $of {
        fn said(&self) -> String {
            named(self)
        }
    })*};
}

as_shown!(bool, u16, u32, i64, String, Pico, Stamp, Digest, AccountId, BalanceId);
by_name!(AccountKind, AccountState, Period, Released);

impl<T: Said> Said for Option<T> {
    fn said(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), Said::said)
    }
}

/// How a call ended.
impl Said for Option<Settled> {
    fn said(&self) -> String {
        self.map_or("released", Settled::name).replace('_', " ")
    }
}

impl<T: Said> Said for Vec<T> {
    fn said(&self) -> String {
        if self.is_empty() { "none".to_owned() } else { self.iter().map(Said::said).collect::<Vec<_>>().join(", ") }
    }
}

impl Said for Head {
    fn said(&self) -> String {
        format!("event {} with the hash {}", self.seq, self.hash)
    }
}

impl Said for Window {
    fn said(&self) -> String {
        self.end.map_or_else(|| format!("from {} without an end", self.start), |end| format!("from {} to {end}", self.start))
    }
}

impl Said for Seal {
    fn said(&self) -> String {
        let Seal { denials, first, last, segment, state } = self;
        format!("events {first} to {last} in the file {segment} with the state {state} and the denials {denials}")
    }
}

impl Said for Limits {
    fn said(&self) -> String {
        let Limits { concurrent, rpm, tpm } = self;
        let limits = [(rpm, "requests a minute"), (tpm, "tokens a minute"), (concurrent, "requests at once")];
        let said: Vec<String> = limits.iter().filter_map(|(limit, of)| limit.map(|limit| format!("{limit} {of}"))).collect();
        if said.is_empty() { "none".to_owned() } else { said.join(" and ") }
    }
}

impl Said for Line {
    fn said(&self) -> String {
        let Line(bucket, quantity, unit) = self;
        format!("{quantity} {} at {unit}", named(bucket))
    }
}

impl Said for Change {
    fn said(&self) -> String {
        format!("{} from {} to {}", named(&self.field), self.from.said(), self.to)
    }
}

impl Said for Bound {
    fn said(&self) -> String {
        format!("at most {} for {} tokens of input and {} of output", self.amount, self.input_tokens, self.output_tokens)
    }
}

impl Said for Unbounded {
    fn said(&self) -> String {
        match self {
            Unbounded::CacheUnpriced(lifetime) => format!("no bound (a cache for {lifetime} has no price)"),
            Unbounded::HostedTool(tool) => format!("no bound (the tool {tool} has no price)"),
            Unbounded::HostedUnlimited(tool) => format!("no bound (the tool {tool} has no limit)"),
            Unbounded::Tier(tier) => format!("no bound (the tier {tier} has no price)"),
            other => format!("no bound ({})", named(other)),
        }
    }
}

impl Said for Result<Bound, Unbounded> {
    fn said(&self) -> String {
        self.as_ref().map_or_else(Said::said, Said::said)
    }
}

/// The rule that denied, with what tells it from another denial by the same rule.
impl Said for Denial {
    fn said(&self) -> String {
        let rule = self.rule();
        match self {
            Denial::Policy { also, breach } => {
                let also: Vec<&str> = also.iter().map(|rule| rule.setting()).collect();
                let beside = if also.is_empty() { String::new() } else { format!(", beside {}", also.join(", ")) };
                format!("denied by {rule} ({} asked, {} allowed{beside})", breach.asked, breach.limit)
            }
            Denial::Rule(ruled) => {
                let place = ruled.file.as_ref().map(|file| format!(" at {file}:{}", ruled.line.unwrap_or(0))).unwrap_or_default();
                let why = ruled.error.as_ref().or(ruled.reason.as_ref()).map(|why| format!(", {why}")).unwrap_or_default();
                let near = ruled.near.iter().map(|miss| format!(", nearly {} but for {}", miss.rule, miss.condition)).collect::<String>();
                format!("denied by {rule}{place} ({}{why}{near})", ruled.effect.name())
            }
            _ => format!("denied by {rule}"),
        }
    }
}

/// What an admission rests on.
pub(super) fn permit(max_tokens: u64, changes: &[Change], rule: Option<&String>, bound: &Result<Bound, Unbounded>) -> String {
    let rule = rule.map(|rule| format!(", by the rule {rule}")).unwrap_or_default();
    let changed = if changes.is_empty() { String::new() } else { format!(", {}", changes.to_vec().said()) };
    format!("a limit of {max_tokens} tokens for an answer{rule}{changed}, {}", bound.said())
}

impl Tree {
    /// `balance 8 (agent bot by day)`; the account by its number where no event made it.
    pub(super) fn balance(&self, id: BalanceId, account: AccountId, period: Period) -> String {
        let whose = match self.accounts.get(&account) {
            Some(node) if node.row.kind == AccountKind::Root => "root".to_owned(),
            Some(node) => format!("{} {}", named(&node.row.kind), node.row.name),
            None => format!("account {account}"),
        };
        format!("balance {id} ({whose} by {})", period.name())
    }
}

/// The name by which events hold a value that is nothing but a name.
fn named(value: &impl Serialize) -> String {
    let name = serde_json::to_value(value).ok().and_then(|value| value.as_str().map(|name| name.replace('_', " ")));
    name.unwrap_or_default()
}
