//! Admissions and refusals, decided again from what their events say.
//!
//! A refusal may be recorded a moment after it was decided, by a later job of the writer: it is held against all that its
//! account was until then, never against one instant.

use super::tree::{Node, governor};
use super::words::{self, Said};
use super::{Audit, Place};
use crate::ask::Ask;
use crate::books::Limits;
use crate::decision::{AccountState, Denial, Named, RateKind};
use crate::event::{CallDenied, CallHeld};
use crate::policy::{self, Facts, Permit};
use crate::price::{self, Bound, Unbounded};
use crate::window::Period;
use aex_proto::value::{AccountId, Digest, Pico};

/// What lets a call pass, and the bound with it.
type Decided = (Permit, Result<Bound, Unbounded>);

impl Audit {
    pub(super) fn admission(&mut self, place: Place, held: &CallHeld) {
        self.referenced(place, held.card);
        self.referenced(place, held.policy);
        self.names_permissions(place, held.tool.as_deref());
        let verdict = self.admitted(place, held);
        self.consents.used(held.request);
        self.found.decisions.verdict(verdict, || format!("{place}: {} was admitted", held.request));
    }

    fn admitted(&self, place: Place, held: &CallHeld) -> Result<(), String> {
        let path = self.tree.path(held.account);
        if path.last().is_none_or(|top| top.row.id != AccountId::ROOT) {
            return Err(format!("on account {}, which is not below the root", held.account));
        }
        if let Some(stopped) = path.iter().find(|node| node.row.state != AccountState::Active) {
            return Err(format!("while account {} was {}", stopped.row.id, stopped.row.state.said()));
        }
        if held.deadline <= place.at {
            return Err(format!("with the deadline {}, which had passed", held.deadline));
        }
        self.is_its_agents(&path, held.policy)?;
        if let Some(call) = &held.tool {
            return self.admitted_tool(&path, held, call);
        }
        if !self.configs.cards.contains(&(held.ask.model.clone(), held.card)) {
            return Err(format!("by card {}, which no configuration of its daemon has for {}", held.card, held.ask.model));
        }
        let (permit, bound) = self
            .decide(&held.ask, held.card, held.policy, held.facts.as_ref())?
            .map_err(|denial| format!("and by its policy it is {}", denial.said()))?;
        let stated = Bound { amount: held.amount, input_tokens: held.input_tokens, output_tokens: held.output_tokens };
        let same = (permit.max_tokens, &permit.changes, &permit.rule) == (held.max_tokens, &held.changes, &held.rule);
        if !same || bound != Ok(stated) {
            let stated = words::permit(held.max_tokens, &held.changes, held.rule.as_ref(), &Ok(stated));
            let again = words::permit(permit.max_tokens, &permit.changes, permit.rule.as_ref(), &bound);
            return Err(format!("with {stated}; by its inputs with {again}"));
        }
        Ok(())
    }

    /// # Errors
    /// When a snapshot that it needs is missing.
    fn decide(&self, ask: &Ask, card: Digest, policy: Digest, facts: Option<&Facts>) -> Result<Result<Decided, Denial>, String> {
        let card = self.snapshots.cards.get(&card).ok_or("and the snapshot of its card is missing")?;
        let policy = self.snapshots.policies.get(&policy).ok_or("and the snapshot of its policy is missing")?;
        Ok(policy::decide(ask, card, policy, facts).map(|permit| {
            let bound = price::bound(ask, card, permit.max_tokens);
            (permit, bound)
        }))
    }

    /// A policy puts together what the agent states and its profile: what the agent stated at some time has to stand in it.
    fn is_its_agents(&self, path: &[&Node], policy: Digest) -> Result<(), String> {
        let agent = governor(path).ok_or("and it has no agent")?;
        let effective = self.snapshots.policies.get(&policy);
        // In the first ledgers a policy is what its agent states. Where what is stored could not be read, the refusal names that text.
        let states = |own: &Digest| effective.zip(self.snapshots.fields.get(own)).is_some_and(|(effective, own)| effective.follows(own));
        let follows = |own: &Digest| *own == policy || states(own);
        if agent.policies_had.iter().any(follows) { Ok(()) } else { Err(format!("by policy {policy}, which is not its agent's")) }
    }

    pub(super) fn denied(&mut self, place: Place, denied: &CallDenied) {
        denied
            .card
            .into_iter()
            .chain((denied.policy != Digest::ZERO).then_some(denied.policy))
            .for_each(|digest| self.referenced(place, digest));
        self.names_permissions(place, denied.tool.as_deref());
        let verdict = self.refused(denied);
        self.found.decisions.verdict(verdict, || format!("{place}: {} was refused by {}", denied.request, denied.rule));
    }

    fn refused(&self, denied: &CallDenied) -> Result<(), String> {
        let path = self.tree.path(denied.account);
        let unknown_caller = denied.policy == Digest::ZERO && denied.account == AccountId::ROOT;
        if !unknown_caller {
            self.is_its_agents(&path, denied.policy)?;
        }
        if denied.rule != denied.denial.rule() {
            return Err(format!("and the refusal is one by {}", denied.denial.rule()));
        }
        match &denied.denial {
            Denial::Policy { .. } | Denial::Rule(_) => match self.again(denied)? {
                Err(denial) if denial == denied.denial => Ok(()),
                other => Err(format!("as {}; by its inputs it is {}", denied.denial.said(), decision(&other))),
            },
            Denial::Unbounded { why, .. } => match self.again(denied)? {
                Ok((_, Err(reason))) if reason == *why => Ok(()),
                other => Err(format!("for {}; by its inputs it is {}", why.said(), decision(&other))),
            },
            Denial::Tool(refusal) => self.refused_tool(&path, denied, refusal),
            Denial::Budget { .. } => self.refused_money(denied, &path),
            Denial::Account { account, reason, state } => refused_account(on(&path, account)?, *state, reason),
            Denial::Rate { account, kind, limit, .. } => {
                let of = |limits: &Limits| match kind {
                    RateKind::RequestsPerMinute => limits.rpm,
                    RateKind::Concurrent => limits.concurrent,
                };
                had_rate(on(&path, account)?, of, *limit)
            }
            Denial::TokenRate { account: Some(account), limit, .. } => had_rate(on(&path, account)?, |limits| limits.tpm, *limit),
            _ => Ok(()),
        }
    }

    fn again(&self, denied: &CallDenied) -> Result<Result<Decided, Denial>, String> {
        let (Some(ask), Some(card)) = (&denied.ask, denied.card) else { return Err("and its inputs are not told".to_owned()) };
        self.decide(ask, card, denied.policy, denied.facts.as_ref())
    }

    fn refused_money(&self, denied: &CallDenied, path: &[&Node]) -> Result<(), String> {
        let Denial::Budget { account, asked, left, limit, period, resets_at } = &denied.denial else { return Ok(()) };
        match &denied.tool {
            Some(call) => {
                let again = self.asked_tool(path, denied, call)?.amount;
                if again != *asked {
                    return Err(format!("for {asked}; by its inputs it is {again}"));
                }
            }
            None => match self.again(denied)? {
                Ok((_, Ok(bound))) if bound.amount == *asked => {}
                other => return Err(format!("for {asked}; by its inputs it is {}", decision(&other))),
            },
        }
        let node = on(path, account)?;
        // Without a budget, what is beyond the range of money is refused.
        let unlimited = *period == Period::Total && *limit == Pico::MAX && *left == Pico::ZERO;
        if !node.limits_had.contains(&(*period, *limit)) && !unlimited {
            return Err(format!("with the limit {limit}, which account {} never had by {}", account.id, period.name()));
        }
        if left >= asked || left > limit || (*period == Period::Total) != resets_at.is_none() {
            return Err(format!("with {left} of {limit} left, {asked} asked and a reset at {}", resets_at.said()));
        }
        Ok(())
    }
}

fn decision(again: &Result<Decided, Denial>) -> String {
    match again {
        Ok((permit, bound)) => format!("admitted with {}", words::permit(permit.max_tokens, &permit.changes, permit.rule.as_ref(), bound)),
        Err(denial) => denial.said(),
    }
}

fn had_rate(node: &Node, of: impl Fn(&Limits) -> Option<u32>, limit: u32) -> Result<(), String> {
    if node.rates_had.iter().any(|limits| of(limits) == Some(limit)) {
        return Ok(());
    }
    Err(format!("with the limit {limit}, which account {} never had", node.row.id))
}

/// The account that a refusal names: one of the caller's path.
fn on<'t>(path: &[&'t Node], named: &Named) -> Result<&'t Node, String> {
    let node =
        path.iter().find(|node| node.row.id == named.id).ok_or_else(|| format!("for account {}, which is not above it", named.id))?;
    if named.kind.is_some_and(|kind| kind != node.row.kind) {
        return Err(format!("for account {} as {}, it is {}", named.id, named.kind.said(), node.row.kind.said()));
    }
    // An account that is gone is named by its number.
    if node.row.name == named.name || named.id.to_string() == named.name {
        return Ok(node);
    }
    Err(format!("for account {} as `{}`, its name is `{}`", named.id, named.name, node.row.name))
}

fn refused_account(node: &Node, state: AccountState, reason: &str) -> Result<(), String> {
    let was = node.stops_had.iter().any(|(had, why)| *had == state && why == reason);
    let gone = state == AccountState::Closed && node.row.state == AccountState::Closed;
    if was || gone { Ok(()) } else { Err(format!("as account {} is {} (`{reason}`), which it never was", node.row.id, state.said())) }
}
