//! The story of one request: decided, bound and priced again from what its events name.

use super::attempts::{Attempt, attempts};
use super::checks::{Seen, checks};
use super::{caller, json, money, name, seen, tool};
use crate::ask::Ask;
use crate::decision::Denial;
use crate::event::{ApprovalGiven, CallDenied, CallHeld, CallReleased, CallSettled, ConfigLoaded, Event, Relayed, Settled};
use crate::policy::{self, Changed, Effective, Facts, Fallback, Permit};
use crate::price::{self, Bound, HostedCalls, Line, ModelCard, Reckoning, Unbounded};
use crate::verify::{Audit, Record, Standing, repriced};
use aex_proto::explain::{
    BoundPart, BoundTold, CallStory, ChargeLine, Edit, Ended, PersonTold, PolicyUsed, Recomputed, RelayedTold, RuleSeen, SentTo, ToolTold,
};
use aex_proto::value::{Digest, Pico};

/// All that is known of one request.
#[derive(Debug)]
pub struct CallDossier<'a> {
    /// `call.held` or `call.denied`.
    pub decided: &'a Record,
    /// `call.settled` or `call.released`.
    pub end: Option<&'a Record>,
    /// All its attempts, this one last.
    pub attempts: &'a [Attempt],
    /// The denial of a further one.
    pub unmet: Option<&'a Record>,
    /// A person's answer, where the call waited for one.
    pub answer: Option<&'a Record>,
    /// The agent's suspension for its bill.
    pub suspended: Option<&'a Record>,
    /// The configurations that came into force last before it, newest first: in the moment of a reload it was decided by the one
    /// before the newest.
    pub configs: &'a [Record],
    /// The caller's accounts just before it.
    pub before: &'a Standing,
    /// And just after its end, in the windows of its admission.
    pub after: &'a Standing,
    /// Knows the snapshots.
    pub audit: &'a Audit,
}

/// Tells it.
///
/// # Errors
/// When an event is none of a request, or its body is not of its kind.
pub fn call(dossier: &CallDossier<'_>) -> Result<CallStory, String> {
    let told = match Event::parse(&dossier.decided.kind, &dossier.decided.body)? {
        Event::CallHeld(held) => admitted(dossier, &held)?,
        Event::CallDenied(denied) => refused(dossier, &denied),
        other => return Err(format!("event {} is {}, which decides no request", dossier.decided.seq, other.kind())),
    };
    Ok(told)
}

/// The decision, made again.
struct Again {
    permit: Result<Permit, Denial>,
    reckoned: Option<Result<Reckoning, Unbounded>>,
}

impl Again {
    fn new(ask: &Ask, card: &ModelCard, policy: &Effective, facts: Option<&Facts>) -> Again {
        let permit = policy::decide(ask, card, policy, facts);
        let reckoned = permit.as_ref().ok().map(|permit| price::reckon(ask, card, permit.max_tokens));
        Again { permit, reckoned }
    }

    fn bound(&self) -> Option<Bound> {
        self.reckoned.as_ref()?.as_ref().ok()?.bound()
    }

    /// Why there is no bound.
    fn unbounded(&self) -> Option<Unbounded> {
        match self.reckoned.as_ref()? {
            Ok(reckoning) => reckoning.bound().is_none().then_some(Unbounded::TooLarge),
            Err(why) => Some(why.clone()),
        }
    }

    fn told(&self) -> Option<BoundTold> {
        let reckoning = self.reckoned.as_ref()?.as_ref().ok()?;
        let bound = reckoning.bound()?;
        let part = |(what, count, each): &(&str, u64, u64)| BoundPart { what: (*what).to_owned(), count: *count, each: *each };
        let parts = |parts: &[(&'static str, u64, u64)]| parts.iter().filter(|(_, count, _)| *count > 0).map(part).collect::<Vec<_>>();
        let mut input = parts(&reckoning.shown);
        input.extend(reckoning.context.map(|(times, tokens)| part(&("context", times, tokens))));
        let tool = |told: &HostedCalls| ToolTold {
            calls: told.calls,
            tool: told.tool.to_string(),
            unit_pico: told.unit,
            unit_usd: told.unit.usd(),
        };
        Some(BoundTold {
            amount_pico: bound.amount,
            amount_usd: bound.amount.usd(),
            call_pico: reckoning.call,
            call_usd: reckoning.call.usd(),
            input,
            input_tokens: bound.input_tokens,
            input_unit_pico: reckoning.input_unit,
            input_unit_usd: reckoning.input_unit.usd(),
            output: parts(&reckoning.output),
            output_tokens: bound.output_tokens,
            output_unit_pico: reckoning.output_unit,
            output_unit_usd: reckoning.output_unit.usd(),
            tools: reckoning.tools.iter().map(tool).collect(),
        })
    }

    fn verdict(&self) -> String {
        match &self.permit {
            Ok(permit) => passed(permit.max_tokens, permit.rule.as_deref()),
            Err(denial) => format!("denied by {}", denial.rule()),
        }
    }
}

fn passed(max_tokens: u64, rule: Option<&str>) -> String {
    let by = rule.map(|rule| format!(" by {rule}")).unwrap_or_default();
    format!("passes{by} with at most {max_tokens} tokens of output")
}

fn amount(bound: Option<Bound>) -> String {
    bound.map_or_else(|| "none".to_owned(), |bound| format!("{} for {} + {} tokens", bound.amount, bound.input_tokens, bound.output_tokens))
}

fn admitted(dossier: &CallDossier<'_>, held: &CallHeld) -> Result<CallStory, String> {
    let (card, policy) = (dossier.audit.card(&held.card), dossier.audit.policy(&held.policy));
    // The rules for models do not look at calls of tools.
    let of_model = card.zip(policy).filter(|_| held.tool.is_none());
    let again = of_model.map(|(card, policy)| Again::new(&held.ask, card, policy, held.facts.as_ref()));
    let stated = Bound { amount: held.amount, input_tokens: held.input_tokens, output_tokens: held.output_tokens };
    let mut recomputed = Vec::new();
    if let Some(again) = &again {
        let same = again
            .permit
            .as_ref()
            .is_ok_and(|permit| (permit.max_tokens, &permit.changes, &permit.rule) == (held.max_tokens, &held.changes, &held.rule));
        let recorded = passed(held.max_tokens, held.rule.as_deref());
        recomputed.push(Recomputed { again: again.verdict(), recorded, same, what: "decision".to_owned() });
        let bound = again.bound();
        let what = "bound".to_owned();
        recomputed.push(Recomputed { again: amount(bound), recorded: amount(Some(stated)), same: bound == Some(stated), what });
    }
    if let Some(call) = &held.tool {
        recomputed.extend(tool::admitted(dossier.audit, held, call));
    }
    let end = dossier.end.map(|end| ended(dossier, held, end, card, &mut recomputed)).transpose()?;
    let seen_by = Seen {
        standing: dossier.before,
        denial: None,
        ask: Some(&held.ask).filter(|_| held.tool.is_none()),
        card: of_model.map(|(card, _)| card),
        policy: of_model.map(|(_, policy)| policy),
        permit: again.as_ref().and_then(|again| again.permit.as_ref().ok()),
        bound: Some(stated),
    };
    Ok(CallStory {
        request: held.request,
        at: dossier.decided.at,
        admitted: true,
        answered: answered(dossier),
        caller: caller(dossier.before),
        policy: used(held.policy, policy),
        asked: Some(held.tool.as_ref().map_or_else(|| json(&held.ask), |call| json(call.as_ref()))),
        denied_by: None,
        denial: None,
        checks: checks(&seen_by),
        rules: match &held.tool {
            Some(call) => tool::rules(dossier.audit, call, &held.policy),
            None => {
                of_model.map(|(card, policy)| rules(&held.ask, card, policy, held.facts.as_ref(), held.rule.as_deref())).unwrap_or_default()
            }
        },
        bound: again.as_ref().and_then(Again::told),
        money: money(dossier.before),
        sent: match &held.tool {
            Some(call) => Some(tool::sent(held, call)),
            None => card.map(|card| sent(dossier, held, card)),
        },
        deadline: end.is_none().then_some(held.deadline),
        end,
        attempts: attempts(dossier.attempts, dossier.unmet, dossier.audit),
        recomputed,
        events: events(dossier),
    })
}

fn refused(dossier: &CallDossier<'_>, denied: &CallDenied) -> CallStory {
    let card = denied.card.and_then(|digest| dossier.audit.card(&digest));
    // Where what is stored could not be read, the refusal names that text.
    let policy = dossier.audit.policy(&denied.policy);
    let inputs = denied.ask.as_ref().zip(card).zip(policy).filter(|_| denied.tool.is_none());
    let again = inputs.map(|((ask, card), policy)| Again::new(ask, card, policy, denied.facts.as_ref()));
    let recorded = format!("denied by {}", denied.denial.rule());
    let recomputed = again.as_ref().and_then(|again| match &denied.denial {
        Denial::Policy { .. } | Denial::Rule(_) => {
            let same = again.permit.as_ref().err() == Some(&denied.denial);
            Some(Recomputed { again: again.verdict(), recorded, same, what: "decision".to_owned() })
        }
        Denial::Unbounded { why, .. } => {
            let found = again.unbounded();
            let same = found.as_ref() == Some(why);
            let told = |why: Option<&Unbounded>| why.map_or_else(|| "a bound".to_owned(), |why| format!("no bound: {}", json(why)));
            Some(Recomputed { again: told(found.as_ref()), recorded: told(Some(why)), same, what: "bound".to_owned() })
        }
        Denial::Budget { asked, .. } => {
            let bound = again.bound().map(|bound| bound.amount);
            let told = bound.map_or_else(|| "none".to_owned(), |bound| bound.to_string());
            Some(Recomputed { again: told, recorded: asked.to_string(), same: bound == Some(*asked), what: "bound".to_owned() })
        }
        _ => None,
    });
    let decider = match &denied.denial {
        Denial::Rule(ruled) => Some(ruled.rule.as_str()),
        _ => again.as_ref().and_then(|again| again.permit.as_ref().ok()?.rule.as_deref()),
    };
    let weighed = inputs.map(|((ask, card), policy)| rules(ask, card, policy, denied.facts.as_ref(), decider));
    let was_asked = matches!(denied.denial, Denial::Budget { .. });
    let seen_by = Seen {
        standing: dossier.before,
        denial: Some(&denied.denial),
        ask: denied.ask.as_ref().filter(|_| denied.tool.is_none()),
        card: card.filter(|_| denied.tool.is_none()),
        policy: policy.filter(|_| denied.tool.is_none()),
        permit: again.as_ref().and_then(|again| again.permit.as_ref().ok()),
        bound: again.as_ref().and_then(Again::bound),
    };
    CallStory {
        request: denied.request,
        at: dossier.decided.at,
        admitted: false,
        answered: answered(dossier),
        caller: caller(dossier.before),
        policy: used(denied.policy, policy),
        asked: denied.tool.as_ref().map_or_else(|| denied.ask.as_ref().map(json), |call| Some(json(call.as_ref()))),
        denied_by: Some(denied.rule.clone()),
        denial: Some(json(&denied.denial)),
        checks: checks(&seen_by),
        // Fields come before rules: where one of them decided, no rule was looked at.
        rules: match &denied.tool {
            Some(call) => tool::rules(dossier.audit, call, &denied.policy),
            None => weighed.filter(|_| !matches!(denied.denial, Denial::Policy { .. })).unwrap_or_default(),
        },
        bound: again.as_ref().and_then(Again::told),
        money: if was_asked { money(dossier.before) } else { Vec::new() },
        sent: None,
        end: None,
        deadline: None,
        attempts: Vec::new(),
        recomputed: recomputed
            .or_else(|| unknown_again(dossier, &denied.denial))
            .or_else(|| match (&denied.denial, &denied.tool) {
                (Denial::Tool(refusal), Some(call)) => tool::refused(dossier.audit, call, &denied.policy, refusal),
                _ => None,
            })
            .into_iter()
            .collect(),
        events: events(dossier),
    }
}

/// Whether the configuration that held had the model.
fn unknown_again(dossier: &CallDossier<'_>, denial: &Denial) -> Option<Recomputed> {
    let Denial::UnknownModel { model } = denial else { return None };
    if dossier.configs.is_empty() {
        return None;
    }
    let is_known = configs(dossier).all(|config| config.cards.contains_key(model));
    let told = |known: bool| if known { "in models.yaml" } else { "not in models.yaml" }.to_owned();
    Some(Recomputed { again: told(is_known), recorded: told(false), same: !is_known, what: "known_model".to_owned() })
}

fn used(digest: Digest, policy: Option<&Effective>) -> Option<PolicyUsed> {
    let policy = policy?;
    let default = if policy.default == Fallback::Allow { "allow" } else { "deny" };
    Some(PolicyUsed {
        default: default.to_owned(),
        digest,
        place: policy.profile.as_ref().map(|profile| format!("{}:{}", profile.file, profile.line)),
        profile: policy.profile.as_ref().map(|profile| profile.name.clone()),
    })
}

fn rules(ask: &Ask, card: &ModelCard, policy: &Effective, facts: Option<&Facts>, decider: Option<&str>) -> Vec<RuleSeen> {
    let weighed = policy::weigh(ask, card, policy, facts).into_iter();
    let told = weighed.map(|weighed| RuleSeen {
        decided: decider == Some(weighed.rule.name.as_str()),
        effect: weighed.rule.effect.name().to_owned(),
        error: weighed.error,
        failed: weighed.failed,
        name: weighed.rule.name.clone(),
        place: format!("{}:{}", weighed.rule.file, weighed.rule.line),
        reason: weighed.rule.reason.clone(),
    });
    told.collect()
}

/// What goes into the client's bytes, as `proxy/dispatch.rs` splices it.
fn sent(dossier: &CallDossier<'_>, held: &CallHeld, card: &ModelCard) -> SentTo {
    let edit = |field: &str, from: Option<&str>, to: &str, why: &str| Edit {
        field: field.to_owned(),
        from: from.map(str::to_owned),
        to: to.to_owned(),
        why: why.to_owned(),
    };
    let mut edits = Vec::new();
    if card.provider_model != card.name {
        edits.push(edit("model", Some(&card.name), &card.provider_model, "model_name"));
    }
    let changed = |field: Changed| held.changes.iter().any(|change| change.field == field);
    if held.ask.max_tokens.is_none() && !changed(Changed::MaxTokens) {
        edits.push(edit(card.max_tokens_field.name(), None, &held.max_tokens.to_string(), "output_limit"));
    }
    for change in &held.changes {
        let why = if change.field == Changed::HostedTools { "dropped_tool" } else { "policy_limit" };
        edits.push(edit(&name(&change.field), change.from.as_deref(), &change.to, why));
    }
    if held.ask.stream && !changed(Changed::Stream) {
        edits.push(edit("stream_options.include_usage", None, "true", "usage"));
    }
    let config = configs(dossier).find(|config| config.cards.get(&held.ask.model) == Some(&held.card));
    let base = config.and_then(|config| config.providers.get(&card.provider).cloned());
    let tier = held.ask.service_tier.as_deref();
    if matches!(tier, None | Some("auto")) && base.as_deref().is_some_and(|base| price::is_tier_by_project(host(base))) {
        edits.push(edit("service_tier", tier, "default", "standard_price"));
    }
    SentTo {
        edits,
        input: held.input,
        provider: card.provider.clone(),
        provider_model: card.provider_model.clone(),
        url: base.map(|base| format!("{base}/chat/completions")),
    }
}

fn configs(dossier: &CallDossier<'_>) -> impl Iterator<Item = ConfigLoaded> {
    dossier.configs.iter().filter_map(|config| serde_json::from_str(&config.body).ok())
}

/// The host of a provider's base URL.
fn host(base: &str) -> &str {
    let authority = base.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    authority.split(':').next().unwrap_or_default()
}

fn ended(
    dossier: &CallDossier<'_>,
    held: &CallHeld,
    end: &Record,
    card: Option<&ModelCard>,
    recomputed: &mut Vec<Recomputed>,
) -> Result<Ended, String> {
    let told = Ended {
        after: money(dossier.after),
        at: end.at,
        charge_pico: Pico::ZERO,
        charge_usd: Pico::ZERO.usd(),
        held_pico: held.amount,
        held_usd: held.amount.usd(),
        lines: Vec::new(),
        outcome: String::new(),
        relayed: None,
        state: "released".to_owned(),
        status: None,
        suspended_by: dossier.suspended.map(|record| record.seq.unsigned_abs()),
        tier: None,
        unknown_usage: Vec::new(),
    };
    match Event::parse(&end.kind, &end.body)? {
        Event::CallReleased(released) => {
            let CallReleased { reason, status, .. } = *released;
            Ok(Ended { outcome: name(&reason), status, ..told })
        }
        Event::CallSettled(settled) => {
            recomputed.extend(charged_again(&settled, held, card));
            let CallSettled { charge, lines, outcome, relayed, state, status, tier, unknown_usage, .. } = *settled;
            let line = |Line(bucket, quantity, unit): &Line| {
                let sum = unit.times(*quantity).unwrap_or(Pico::MAX);
                let (bucket, quantity, unit_pico) = (name(bucket), *quantity, *unit);
                ChargeLine { bucket, quantity, sum_pico: sum, sum_usd: sum.usd(), unit_pico, unit_usd: unit.usd() }
            };
            let lines = lines.iter().map(line).collect();
            let (outcome, state) = (name(&outcome), state.name().to_owned());
            let relayed = relayed.map(|Relayed { bytes, tokens }| RelayedTold { bytes, tokens });
            let told = Ended { charge_pico: charge, charge_usd: charge.usd(), lines, relayed, ..told };
            Ok(Ended { outcome, state, status, tier, unknown_usage, ..told })
        }
        other => Err(format!("event {} is {}, which ends no request", end.seq, other.kind())),
    }
}

/// The charge from the quantities and the card's prices; a worst case is what was held.
fn charged_again(settled: &CallSettled, held: &CallHeld, card: Option<&ModelCard>) -> Option<Recomputed> {
    let (again, same) = if settled.state == Settled::WorstCase {
        (held.amount, settled.charge == held.amount && settled.lines.is_empty())
    } else {
        let again = repriced(settled, card?.price.as_ref()?)?;
        (again.total, again.total == settled.charge && again.lines == settled.lines)
    };
    Some(Recomputed { again: again.to_string(), recorded: settled.charge.to_string(), same, what: "charge".to_owned() })
}

fn events(dossier: &CallDossier<'_>) -> Vec<aex_proto::explain::EventSeen> {
    let mut all: Vec<&Record> = [Some(dossier.decided), dossier.answer, dossier.end, dossier.suspended].into_iter().flatten().collect();
    all.sort_by_key(|record| record.seq);
    all.into_iter().map(seen).collect()
}

/// What a person said to it.
fn answered(dossier: &CallDossier<'_>) -> Option<PersonTold> {
    let record = dossier.answer?;
    let Ok(Event::ApprovalGiven(given)) = Event::parse(&record.kind, &record.body) else { return None };
    let ApprovalGiven { answer, by, reason, .. } = *given;
    Some(PersonTold { answer: answer.name().to_owned(), at: record.at, pid: by.pid, reason, uid: by.uid })
}
