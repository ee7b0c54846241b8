//! The story of a run: who opened it, what its calls came to, how it ended.

use super::{actor, caller, seen};
use crate::books::{AccountKind, HoldKey};
use crate::decision::AccountState;
use crate::event::{AccountCreated, Event};
use crate::price::Line;
use crate::verify::{Record, Standing};
use crate::window::Period;
use aex_proto::explain::{EventSeen, RunCall, RunDenials, RunStory};
use aex_proto::run::RunId;
use aex_proto::value::{Pico, RequestId, Stamp};
use std::collections::{BTreeMap, VecDeque};

/// A run's story under way. It needs the events of the run's account and the ends of its calls, in their order; others do no
/// harm. It keeps calls in flight and the newest ones, not all.
#[derive(Debug)]
pub struct RunTold {
    run: RunId,
    opened: Option<(Record, AccountCreated)>,
    budget: Option<Pico>,
    open: BTreeMap<HoldKey, RunCall>,
    newest: VecDeque<RunCall>,
    admitted: u64,
    ended: BTreeMap<String, u64>,
    tokens: (u64, u64),
    charged: Pico,
    denials: BTreeMap<String, (u64, RequestId)>,
    closed: Option<(Stamp, String)>,
    events: Vec<EventSeen>,
}

impl RunTold {
    /// Of a run.
    #[must_use]
    pub const fn new(run: RunId) -> RunTold {
        RunTold {
            run,
            opened: None,
            budget: None,
            open: BTreeMap::new(),
            newest: VecDeque::new(),
            admitted: 0,
            ended: BTreeMap::new(),
            tokens: (0, 0),
            charged: Pico::ZERO,
            denials: BTreeMap::new(),
            closed: None,
            events: Vec::new(),
        }
    }

    /// Takes in an event. One that does not parse tells nothing: the audit says so.
    pub fn take(&mut self, record: &Record) {
        let Ok(event) = Event::parse(&record.kind, &record.body) else { return };
        let own = self.run.account();
        match event {
            Event::AccountCreated(created) if created.account == own && created.kind == AccountKind::Run => {
                self.events.push(seen(record));
                self.opened = Some((record.clone(), *created));
            }
            Event::BudgetSet(set) if set.account == own => {
                self.events.push(seen(record));
                if set.period == Period::Total {
                    self.budget = set.limit;
                }
            }
            Event::AccountStateChanged(changed) if changed.account == own => {
                self.events.push(seen(record));
                self.closed = (changed.to == AccountState::Closed).then_some((record.at, changed.reason));
            }
            Event::TokenCreated(token) if token.account == own => self.events.push(seen(record)),
            Event::TokenRevoked(token) if token.account == own => self.events.push(seen(record)),
            Event::CallHeld(held) if held.account == own => {
                self.admitted = self.admitted.saturating_add(1);
                let key = HoldKey { request: held.request, attempt: held.attempt };
                let call = RunCall {
                    at: record.at,
                    charge_pico: None,
                    charge_usd: None,
                    model: held.ask.model,
                    request: held.request,
                    state: "in_flight".to_owned(),
                };
                self.open.insert(key, call);
            }
            Event::CallSettled(settled) => {
                let Some(call) = self.open.remove(&HoldKey { request: settled.request, attempt: settled.attempt }) else { return };
                for Line(bucket, quantity, _) in &settled.lines {
                    let sum = if bucket.is_input() { &mut self.tokens.0 } else { &mut self.tokens.1 };
                    *sum = sum.saturating_add(if bucket.is_tokens() { *quantity } else { 0 });
                }
                self.end(call, settled.state.name(), settled.charge);
            }
            Event::CallReleased(released) => {
                let Some(call) = self.open.remove(&HoldKey { request: released.request, attempt: released.attempt }) else { return };
                self.end(call, "released", Pico::ZERO);
            }
            Event::CallDenied(denied) if denied.account == own => self.deny(denied.rule, 1, denied.request),
            Event::CallDeniedAgain(again) if again.account == own => self.deny(again.rule, again.count, again.first),
            _ => {}
        }
    }

    fn end(&mut self, call: RunCall, state: &str, charge: Pico) {
        self.charged = self.charged.plus(charge).unwrap_or(Pico::MAX);
        let count = self.ended.entry(state.to_owned()).or_default();
        *count = count.saturating_add(1);
        if self.newest.len() >= RunStory::MAX_CALLS {
            self.newest.pop_front();
        }
        self.newest.push_back(RunCall { charge_pico: Some(charge), charge_usd: Some(charge.usd()), state: state.to_owned(), ..call });
    }

    fn deny(&mut self, rule: String, count: u64, first: RequestId) {
        let denials = self.denials.entry(rule).or_insert((0, first));
        denials.0 = denials.0.saturating_add(count);
    }

    /// The event that opened it; `None`: there is no such run.
    #[must_use]
    pub fn opened(&self) -> Option<&Record> {
        self.opened.as_ref().map(|(record, _)| record)
    }

    /// Tells it, with its accounts as they stood just after it was opened. `None`: there is no such run.
    #[must_use]
    pub fn story(self, standing: &Standing) -> Option<RunStory> {
        let (record, created) = self.opened?;
        let in_flight = u64::try_from(self.open.len()).unwrap_or(u64::MAX);
        let mut calls: Vec<RunCall> = self.newest.into_iter().chain(self.open.into_values()).collect();
        calls.sort_by_key(|call| call.request);
        let surplus = calls.len().saturating_sub(RunStory::MAX_CALLS);
        let mut ended: Vec<(String, u64)> = self.ended.into_iter().collect();
        if in_flight > 0 {
            ended.push(("in_flight".to_owned(), in_flight));
        }
        Some(RunStory {
            run: self.run,
            opened_at: record.at,
            by: actor(created.by.as_ref()),
            caller: caller(standing),
            budget_pico: self.budget,
            budget_usd: self.budget.map(Pico::usd),
            admitted: self.admitted,
            ended,
            input_tokens: self.tokens.0,
            output_tokens: self.tokens.1,
            charged_pico: self.charged,
            charged_usd: self.charged.usd(),
            calls: calls.split_off(surplus),
            denials: self.denials.into_iter().map(|(rule, (count, first))| RunDenials { count, first, rule }).collect(),
            closed_at: self.closed.as_ref().map(|(at, _)| *at),
            closed_because: self.closed.map(|(_, why)| why),
            events: self.events,
        })
    }
}
