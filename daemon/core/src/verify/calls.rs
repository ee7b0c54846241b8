//! Calls as the events tell them: placed on the right balances, ended once, charged by what was reported.

use super::money::used;
use super::rows::{Call, Hold};
use super::words::Said;
use super::{Audit, Place};
use crate::books::{AccountKind, HoldKey};
use crate::decision::AccountState;
use crate::event::{CallHeld, CallReleased, CallSent, CallSettled, Outcome, Relayed, Released, Settled};
use crate::price::{Charge, Line, Price};
use crate::usage::{Bucket, Usage};
use aex_proto::value::Pico;
use serde::{Deserialize, Serialize};

/// A call in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// A configuration that it may have begun with does not charge gateway errors.
    pub(super) free_gateway_errors: bool,
    /// How far the wall clock was set since, in microseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) moved_us: i64,
    /// What its row has to say.
    pub(super) row: Hold,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl Audit {
    pub(super) fn held(&mut self, place: Place, held: CallHeld) {
        let key = HoldKey { request: held.request, attempt: held.attempt };
        self.admission(place, &held);
        self.placed(place, &held);
        self.found.integrity.check(held.epoch == self.epoch, || {
            format!("{place}: {} is held by epoch {}, in epoch {}", held.request, held.epoch, self.epoch)
        });
        let row = Hold {
            key,
            account: held.account,
            model: held.ask.model,
            card: held.card,
            amount: held.amount,
            tokens: i64::try_from(held.input_tokens.saturating_add(held.output_tokens)).unwrap_or(i64::MAX),
            balances: held.balances,
            held_at: place.at,
            deadline: held.deadline,
            epoch: held.epoch,
            sent: held.sent,
            held_seq: place.seq,
        };
        let fresh = self.open.insert(key, Held { free_gateway_errors: self.configs.free_gateway_errors, moved_us: 0, row }).is_none();
        self.found.integrity.check(fresh, || format!("{place}: {} is held again", key.request));
        let before = key.attempt.checked_sub(1).map(|attempt| HoldKey { attempt, ..key });
        self.found.integrity.check(before.is_none_or(|before| !self.open.contains_key(&before)), || {
            format!("{place}: {} is tried again while an attempt of it is held", key.request)
        });
    }

    /// A hold counts on every balance of its path, and fits all of them.
    fn placed(&mut self, place: Place, held: &CallHeld) {
        let zone = self.zone_at(place);
        let mut on = held.balances.clone();
        on.sort_unstable();
        let needed = self.money.needed(&self.tree.path(held.account), place.at, &zone);
        self.found.budget.check(needed.as_ref() == Ok(&on), || match &needed {
            Ok(needed) => format!("{place}: {} is held on balances {}, and has to be on {}", held.request, on.said(), needed.said()),
            Err(missing) => format!("{place}: {} is held on balances {}: {missing}", held.request, on.said()),
        });
        for id in &held.balances {
            let Some(balance) = self.money.hold(*id, held.amount) else {
                self.found.integrity.fail(format!("{place}: {} is held on balance {id}, which was never opened", held.request));
                continue;
            };
            let (used, limit) = (used(balance), balance.limit);
            self.found.budget.check(limit.is_none_or(|limit| used <= limit), || {
                let limit = limit.unwrap_or(Pico::ZERO);
                let name = self.tree.balance(*id, balance.account, balance.period);
                format!("{place}: {} was admitted with {used} of {limit} used on {name}", held.request)
            });
        }
    }

    pub(super) fn sent(&mut self, place: Place, sent: &CallSent) {
        let held = self.open.get_mut(&HoldKey { request: sent.request, attempt: sent.attempt });
        self.found.integrity.check(held.as_ref().is_some_and(|held| !held.row.sent), || {
            format!("{place}: {} is sent, and does not wait to be", sent.request)
        });
        if let Some(held) = held {
            held.row.sent = true;
        }
    }

    /// The row that has to stand for the end of the call.
    pub(super) fn settled(&mut self, place: Place, settled: &CallSettled) -> Option<Call> {
        let held = self.close(place, HoldKey { request: settled.request, attempt: settled.attempt }, settled.charge)?;
        self.count(settled);
        let verdict = self.charge(&held, settled);
        self.found.charges.verdict(verdict, || format!("{place}: the charge of {}", settled.request));
        let tokens = match settled.state {
            Settled::WorstCase => held.row.tokens,
            Settled::Exact | Settled::Estimated => {
                let tokens = quantities(settled).filter(|(bucket, _)| bucket.is_tokens());
                i64::try_from(tokens.fold(0, |sum, (_, quantity)| u64::saturating_add(sum, quantity))).unwrap_or(i64::MAX)
            }
        };
        Some(self.ended_as(held, place, Some(settled.state), settled.charge, tokens))
    }

    /// The row that has to stand for the end of the call.
    pub(super) fn released(&mut self, place: Place, released: &CallReleased) -> Option<Call> {
        let held = self.close(place, HoldKey { request: released.request, attempt: released.attempt }, Pico::ZERO)?;
        self.counts.released = self.counts.released.saturating_add(1);
        let proven = match (released.reason, released.status) {
            (Released::NeverSent, status) => status.is_none(),
            (Released::Refused, status) => status.is_some_and(is_refusal),
            (Released::GatewayError, _) => held.free_gateway_errors,
            (Released::Crash, status) => status.is_none() && !held.row.sent && held.row.epoch < self.epoch,
        };
        self.found.charges.check(proven, || {
            format!(
                "{place}: {} is released as {} with the status {}, which proves nothing",
                released.request,
                released.reason.said(),
                released.status.said()
            )
        });
        Some(self.ended_as(held, place, None, Pico::ZERO, 0))
    }

    /// Moves the money of a hold that ends; a hold ends once.
    fn close(&mut self, place: Place, key: HoldKey, charge: Pico) -> Option<Held> {
        let held = self.open.remove(&key);
        self.found.integrity.check(held.is_some(), || format!("{place}: ends {}, which is not held", key.request));
        let held = held?;
        let mut overdrawn = false;
        for id in &held.row.balances {
            overdrawn |= self.money.end(*id, held.row.amount, charge);
        }
        if overdrawn {
            let path = self.tree.path(held.row.account);
            let agent = path.iter().find(|node| node.row.kind == AccountKind::Agent);
            let living = agent.filter(|agent| agent.row.state == AccountState::Active);
            self.suspends = living.map(|agent| (place.seq, agent.row.id));
        }
        Some(held)
    }

    fn ended_as(&mut self, held: Held, place: Place, state: Option<Settled>, charge: Pico, tokens: i64) -> Call {
        let Hold { key, account, model, amount, held_at, held_seq, .. } = held.row;
        let row = Call { key, account, model, state, amount, charge, tokens, held_at, ended_at: place.at, held_seq, ended_seq: place.seq };
        self.ended = self.ended.and(row.digest());
        row
    }

    fn count(&mut self, settled: &CallSettled) {
        let counts = &mut self.counts;
        match settled.state {
            Settled::Exact => counts.exact = counts.exact.saturating_add(1),
            Settled::Estimated => counts.estimated = counts.estimated.saturating_add(1),
            Settled::WorstCase => counts.worst_case = counts.worst_case.saturating_add(1),
        }
        counts.charged = counts.charged.plus(settled.charge).unwrap_or(Pico::MAX);
        if settled.state != Settled::Exact {
            counts.uncertain = counts.uncertain.plus(settled.charge).unwrap_or(Pico::MAX);
        }
    }

    fn charge(&self, held: &Held, settled: &CallSettled) -> Result<(), String> {
        if settled.outcome == Outcome::Crash && (held.row.epoch >= self.epoch || settled.state != Settled::WorstCase) {
            return Err("is ended by a crash, and its daemon lives or it is not charged in full".to_owned());
        }
        if let Some(Relayed { bytes, tokens }) = settled.relayed {
            if settled.state != Settled::Estimated {
                return Err(format!("rests on relayed output, and is called {}", settled.state.name()));
            }
            if tokens.is_some_and(|tokens| tokens > bytes) {
                return Err(format!("counts more tokens than there are in {bytes} bytes"));
            }
        }
        if settled.state == Settled::WorstCase {
            let whole = settled.charge == held.row.amount && settled.lines.is_empty();
            return whole.then_some(()).ok_or_else(|| format!("is {} in the worst case, and {} is held", settled.charge, held.row.amount));
        }
        let price = self.snapshots.cards.get(&held.row.card).and_then(|card| card.price.as_ref()).ok_or("has no price in its card")?;
        let again = repriced(settled, price).ok_or("has lines whose sum is out of range")?;
        if again.lines != settled.lines {
            return Err(format!("has the lines {}, by its card they are {}", settled.lines.said(), again.lines.said()));
        }
        if again.total != settled.charge {
            return Err(format!("is {}, its lines come to {}", settled.charge, again.total));
        }
        if settled.state == Settled::Exact && !(again.priced && settled.outcome == Outcome::Answered) {
            return Err("is called exact, and rests on what the provider did not report or the card does not price".to_owned());
        }
        Ok(())
    }
}

/// The charge for the quantities of a settled call, by the card: one line a bucket, the price of the call beside them. `None`
/// when their sum is out of range.
#[must_use]
pub fn repriced(settled: &CallSettled, price: &Price) -> Option<Charge> {
    let mut usage = Usage { tier: settled.tier.clone(), unknown: settled.unknown_usage.clone(), ..Usage::default() };
    for (bucket, quantity) in quantities(settled) {
        usage.add(bucket, quantity);
    }
    Charge::of(&usage, price)
}

/// What was used, without the line of the call itself.
fn quantities(settled: &CallSettled) -> impl Iterator<Item = (Bucket, u64)> {
    settled.lines.iter().map(|Line(bucket, quantity, _)| (*bucket, *quantity)).filter(|(bucket, _)| *bucket != Bucket::Call)
}

/// A status with which a provider says that it did nothing: 408, 502, 504 and others may come after the work.
const fn is_refusal(status: u16) -> bool {
    matches!(status, 400..=407 | 409..=499 | 500 | 503 | 529)
}
