//! The part of a request's story that is a tool's: what its permissions say again, and where it went.

use crate::event::CallHeld;
use crate::price;
use crate::tool::{ToolCall, ToolDenied, Verdict};
use crate::verify::Audit;
use aex_proto::explain::{Recomputed, RuleSeen, SentTo};
use aex_proto::value::Digest;

/// What the agent's policy and the permissions say again; `None` when they are not at hand.
pub(super) fn verdict(audit: &Audit, call: &ToolCall, policy: &Digest) -> Option<Verdict> {
    let (permissions, policy, name) = (audit.permissions(&call.permissions)?, audit.policy(policy)?, call.name());
    Some(permissions.decide(&call.caller, &name, &call.facts).within(&policy.fields, &name))
}

/// Decision and bound of an admitted call, made again.
pub(super) fn admitted(audit: &Audit, held: &CallHeld, call: &ToolCall) -> Vec<Recomputed> {
    let mut told = Vec::new();
    if let Some(verdict) = verdict(audit, call, &held.policy) {
        let said = |rule: Option<&str>, asked: bool| {
            let consent = if asked { ", with the consent of a person" } else { "" };
            format!("passes by {}{consent}", rule.unwrap_or("no rule"))
        };
        let passes = call.passes(&verdict);
        let same = passes.is_ok() && held.rule.as_ref() == Some(&verdict.by.rule);
        let again = passes.map_or_else(|why| why, |()| said(Some(&verdict.by.rule), call.consent.is_some()));
        let recorded = said(held.rule.as_deref(), call.consent.is_some());
        told.push(Recomputed { again, recorded, same, what: "decision".to_owned() });
    }
    if let Some(Ok(bound)) = audit.card(&held.card).map(|card| price::bound(&held.ask, card, 0)) {
        let (again, recorded) = (bound.amount.to_string(), held.amount.to_string());
        told.push(Recomputed { again, recorded, same: bound.amount == held.amount, what: "bound".to_owned() });
    }
    told
}

/// A refusal, made again.
pub(super) fn refused(audit: &Audit, call: &ToolCall, policy: &Digest, refusal: &ToolDenied) -> Option<Recomputed> {
    let verdict = verdict(audit, call, policy)?;
    let said = |effect: &str, rule: &str| format!("{effect} by {rule}");
    let recorded = said(if refusal.unasked.is_some() { "ask" } else { "deny" }, &refusal.by.rule);
    let again = said(verdict.effect.name(), &verdict.by.rule);
    Some(Recomputed { again, recorded, same: refusal.follows(&verdict), what: "decision".to_owned() })
}

/// The rules that matched, and those that nearly did.
pub(super) fn rules(audit: &Audit, call: &ToolCall, policy: &Digest) -> Vec<RuleSeen> {
    let Some(verdict) = verdict(audit, call, policy) else { return Vec::new() };
    let stated = |name: &str| audit.permissions(&call.permissions)?.spec().rules.iter().find(|rule| rule.name == name);
    let seen = |name: &str, failed: Option<&str>, decided: bool| RuleSeen {
        decided,
        effect: stated(name).map_or(verdict.effect, |rule| rule.effect).name().to_owned(),
        error: None,
        failed: failed.map(str::to_owned).into_iter().collect(),
        name: name.to_owned(),
        place: match stated(name) {
            Some(rule) => format!("{}:{}", verdict.by.file, rule.line),
            None => verdict.by.line.map_or_else(|| verdict.by.file.clone(), |line| format!("{}:{line}", verdict.by.file)),
        },
        reason: stated(name).and_then(|rule| rule.reason.clone()),
    };
    let mut told = vec![seen(&verdict.by.rule, None, true)];
    told.extend(verdict.also.iter().map(|name| seen(name, None, false)));
    told.extend(verdict.near.iter().map(|miss| seen(&miss.rule, Some(&miss.condition), false)));
    told
}

/// Where a call went: nothing of it is changed on the way.
pub(super) fn sent(held: &CallHeld, call: &ToolCall) -> SentTo {
    SentTo { edits: Vec::new(), input: held.input, provider: call.server.clone(), provider_model: call.tool.clone(), url: None }
}
