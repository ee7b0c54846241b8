//! Calls of tools, decided again from what their events say: by the permissions that held, and by the price of the tool.

use super::tree::{Node, governor};
use super::{Audit, Place};
use crate::books::AccountKind;
use crate::event::{CallDenied, CallHeld};
use crate::price::{self, Bound};
use crate::tool::{self, ToolCall, ToolDenied, Verdict};
use aex_proto::value::Digest;

impl Audit {
    /// What its agent's policy and the permissions say to a call of a tool; and that its caller has the names that they looked at.
    fn permitted(&self, path: &[&Node], call: &ToolCall, policy: Digest) -> Result<Verdict, String> {
        let agent = governor(path).ok_or("and it has no agent")?;
        let groups: Vec<&str> = path.iter().filter(|node| node.row.kind == AccountKind::Group).map(|node| node.row.name.as_str()).collect();
        if agent.row.name != call.caller.agent || groups != call.caller.groups {
            return Err(format!("as the agent {} in {:?}; it is {} in {groups:?}", call.caller.agent, call.caller.groups, agent.row.name));
        }
        let permissions = self.snapshots.permissions.get(&call.permissions).ok_or("and the snapshot of its permissions is missing")?;
        let policy = self.snapshots.policies.get(&policy).ok_or("and the snapshot of its policy is missing")?;
        let name = call.name();
        Ok(permissions.decide(&call.caller, &name, &call.facts).within(&policy.fields, &name))
    }

    pub(super) fn admitted_tool(&self, path: &[&Node], held: &CallHeld, call: &ToolCall) -> Result<(), String> {
        let verdict = self.permitted(path, call, held.policy)?;
        call.passes(&verdict)?;
        if let Some(consent) = &call.consent {
            let agent = governor(path).ok_or("and it has no agent")?.row.id;
            let stated = self.snapshots.permissions.get(&call.permissions).and_then(|permissions| permissions.asked_by(&verdict));
            self.consents.gave(held.request, agent, call, consent, stated)?;
        }
        if held.rule.as_ref() != Some(&verdict.by.rule) {
            return Err(format!("by {}; by its permissions by {}", held.rule.as_deref().unwrap_or("no rule"), verdict.by.rule));
        }
        said(call, Some(held.input))?;
        let name = call.name();
        let card = self.snapshots.cards.get(&held.card).ok_or("and the snapshot of its card is missing")?;
        let price = card.price.as_ref().and_then(|price| price.call);
        // A rule's price holds before the server's.
        let by_rule = verdict.price.as_ref().is_none_or(|priced| Some(priced.price) == price);
        if !by_rule || *card != tool::card(&name, price) || held.ask.model != card.name {
            return Err(format!("by the card of {}, which is not that of {name} at its price", card.name));
        }
        let stated = Bound { amount: held.amount, input_tokens: held.input_tokens, output_tokens: held.output_tokens };
        match price::bound(&held.ask, card, 0) {
            Ok(bound) if bound == stated && held.max_tokens == 0 && held.changes.is_empty() => Ok(()),
            other => Err(format!("for {}; by its inputs it is {:?}", held.amount, other.map(|bound| bound.amount))),
        }
    }

    pub(super) fn refused_tool(&self, path: &[&Node], denied: &CallDenied, refusal: &ToolDenied) -> Result<(), String> {
        let call = denied.tool.as_ref().ok_or("and its inputs are not told")?;
        said(call, denied.input)?;
        let verdict = self.permitted(path, call, denied.policy)?;
        if call.name().to_string() == refusal.tool && refusal.follows(&verdict) {
            return Ok(());
        }
        Err(format!("as {} by {}; by its inputs it is {} by {}", refusal.tool, refusal.by.rule, verdict.effect.name(), verdict.by.rule))
    }

    /// The money that a call of a tool asked for.
    pub(super) fn asked_tool(&self, path: &[&Node], denied: &CallDenied, call: &ToolCall) -> Result<Bound, String> {
        call.passes(&self.permitted(path, call, denied.policy)?)?;
        let (Some(ask), Some(card)) = (&denied.ask, denied.card) else { return Err("and its inputs are not told".to_owned()) };
        let card = self.snapshots.cards.get(&card).ok_or("and the snapshot of its card is missing")?;
        price::bound(ask, card, 0).map_err(|why| format!("and it has no bound: {why:?}"))
    }

    pub(super) fn names_permissions(&mut self, place: Place, call: Option<&ToolCall>) {
        if let Some(call) = call {
            self.referenced(place, call.permissions);
        }
    }
}

/// That a call which is recorded whole says what its digest is of. Refusals of the first versions have none.
fn said(call: &ToolCall, input: Option<Digest>) -> Result<(), String> {
    let (Some(whole), Some(input)) = (call.whole(), input) else { return Ok(()) };
    if Digest::of(whole.as_bytes()) == input { Ok(()) } else { Err("with other arguments than its input".to_owned()) }
}
