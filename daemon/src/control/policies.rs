//! Policies as the admin sees them: what holds for an agent, whether a file is sound, whether cases come out as they should.

use super::agents::{find, shown_policy, stated_by};
use super::fault::{Answer, settled, unfit};
use crate::config::{self, Case};
use crate::gate::{Active, Gate};
use crate::ledger::AccountView;
use crate::os::clock;
use aex_core::books::AccountKind;
use aex_core::canon;
use aex_core::decision::Denial;
use aex_core::policy::{self, Effect, Effective, Facts, Fallback, Fields, Profile, RuleSpec};
use aex_core::window;
use aex_proto::account::AgentRef;
use aex_proto::policy::{CaseTested, PolicyCheck, PolicyChecked, PolicyShown, PolicyTest, PolicyTested, ProfileBound, ProfileRef, Rule};
use aex_proto::rpc::{ErrorObject, Fault};
use serde_json::Value;
use std::sync::Arc;

pub(super) async fn show(gate: &Gate, named: AgentRef) -> Answer<PolicyShown> {
    let id = find(gate, &named.name).await?;
    let active = gate.active();
    let view = gate.ledger().directory().accounts.get(&id).cloned();
    let view = view.ok_or_else(|| super::fault::no_agent(named.name.as_str()))?;
    let in_force = active.policy_of(&view).map_err(|denial| unfit(said(&denial)))?;
    let effective = in_force.effective.clone();
    let own = view.policy.as_deref().cloned().unwrap_or_default();
    let profile = active.config.profiles.bound_to(&view.agent.name, &view.groups).ok().flatten();
    Ok(PolicyShown {
        agent: view.agent.name.clone(),
        digest: in_force.snapshot.digest.to_string(),
        profile: effective.profile.map(|origin| ProfileRef { name: origin.name, file: origin.file, line: origin.line }),
        default: fallback(effective.default).to_owned(),
        policy_from: stated_by(&own, profile),
        policy: shown_policy(effective.fields),
        rules: effective.rules.iter().map(rule).collect(),
    })
}

/// In words for the admin; clients read `wire::denial`.
pub(super) fn said(denial: &Denial) -> String {
    match denial {
        Denial::TwoProfiles { profiles: [first, second] } => format!("two profiles are bound to this agent, {first} and {second}"),
        Denial::Malformed { message, .. } => message.clone(),
        other => other.rule().into_owned(),
    }
}

fn rule(rule: &RuleSpec) -> Rule {
    let value = |text: String| serde_json::from_str(&text).unwrap_or(Value::Null);
    Rule {
        name: rule.name.clone(),
        effect: rule.effect.name().to_owned(),
        file: rule.file.clone(),
        line: rule.line,
        when: value(canon::text(&rule.when)),
        limit: value(canon::text(&rule.limit)),
        reason: rule.reason.clone(),
    }
}

const fn fallback(default: Fallback) -> &'static str {
    match default {
        Fallback::Allow => "allow",
        Fallback::Deny => "deny",
    }
}

pub(super) async fn check(gate: &Gate, wanted: PolicyCheck) -> Answer<PolicyChecked> {
    settled(gate).await?;
    let name = wanted.file.unwrap_or_else(|| config::POLICY_FILE.to_owned());
    let text = match wanted.text {
        Some(text) => text,
        None => gate.policy_text().await.map_err(|fault| ErrorObject::fault(Fault::BadConfig, fault))?,
    };
    let active = gate.active();
    let (checked, warnings) = config::check_policy(&name, &text, &active.config.catalog);
    let warnings = warnings.iter().map(ToString::to_string).collect();
    let profiles = match checked {
        Ok(profiles) => profiles,
        Err(errors) => {
            let errors = errors.0.iter().map(ToString::to_string).collect();
            return Ok(PolicyChecked { passed: false, errors, warnings, profiles: Vec::new() });
        }
    };
    let agents = agents(gate);
    let bound = |view: &AccountView| profiles.bound_to(&view.named.name, &view.groups);
    let twice = |view: &Arc<AccountView>| {
        let [first, second] = bound(view).err()?;
        Some(format!("agent '{}' is bound to two profiles, {first} and {second}", view.named.name))
    };
    let errors: Vec<String> = agents.iter().filter_map(twice).collect();
    let shown = |profile: &Profile| ProfileBound {
        name: profile.origin.name.clone(),
        line: profile.origin.line,
        default: fallback(profile.default).to_owned(),
        rules: u32::try_from(profile.rules.len()).unwrap_or(u32::MAX),
        agents: agents.iter().filter(|view| bound(view) == Ok(Some(profile))).map(|view| view.named.name.clone()).collect(),
    };
    Ok(PolicyChecked { passed: errors.is_empty(), errors, warnings, profiles: profiles.0.iter().map(shown).collect() })
}

fn agents(gate: &Gate) -> Vec<Arc<AccountView>> {
    let directory = gate.ledger().directory();
    directory.accounts.values().filter(|view| view.kind == AccountKind::Agent).cloned().collect()
}

pub(super) async fn test(gate: &Gate, wanted: PolicyTest) -> Answer<PolicyTested> {
    settled(gate).await?;
    let cases =
        config::read_cases(&wanted.file, &wanted.text).map_err(|errors| ErrorObject::fault(Fault::BadConfig, errors.to_string()))?;
    let (active, agents) = (gate.active(), agents(gate));
    let cases: Vec<CaseTested> = cases.iter().map(|case| tried(&active, &agents, case)).collect();
    Ok(PolicyTested { passed: cases.iter().all(|case| case.passed), cases })
}

fn tried(active: &Active, agents: &[Arc<AccountView>], case: &Case) -> CaseTested {
    let (got, rule) = decided(active, agents, case);
    CaseTested {
        line: case.line,
        agent: case.agent.clone(),
        model: case.ask.model.clone(),
        expected: case.expect.name().to_owned(),
        got: got.name().to_owned(),
        passed: got == case.expect && case.rule.as_ref().is_none_or(|wanted| *wanted == rule),
        rule,
    }
}

/// What would come of a call, and by which rule. An agent that does not exist states nothing.
fn decided(active: &Active, agents: &[Arc<AccountView>], case: &Case) -> (Effect, String) {
    let view = agents.iter().find(|view| view.named.name == case.agent);
    let own = view.map_or_else(|| Some(Fields::default()), |view| view.policy.as_deref().cloned());
    let groups = view.map(|view| view.groups.clone()).unwrap_or_default();
    let deny = |denial: &Denial| (Effect::Deny, denial.rule().into_owned());
    let profile = match active.config.profiles.bound_to(&case.agent, &groups) {
        Ok(profile) => profile,
        Err(profiles) => return deny(&Denial::TwoProfiles { profiles }),
    };
    let Some(own) = own else { return (Effect::Deny, "request_form".to_owned()) };
    let Some(card) = active.card(&case.ask.model) else { return deny(&Denial::UnknownModel { model: case.ask.model.clone() }) };
    let hour = case.hour.unwrap_or_else(|| window::hour(clock::wall(), &active.config.settings.zone.value));
    let facts = Facts { agent: case.agent.clone(), budget_share_percent: Some(case.budget_share), groups, hour };
    let effective = Effective::of(own, profile);
    match policy::decide(&case.ask, &card.card, &effective, Some(&facts)) {
        Ok(permit) => {
            let decider = permit.rule.as_ref().and_then(|name| effective.rules.iter().find(|rule| rule.name == *name));
            (decider.map_or(Effect::Allow, |rule| rule.effect), permit.rule.unwrap_or_else(|| "default".to_owned()))
        }
        Err(Denial::Rule(ruled)) if ruled.error.is_none() => (ruled.effect, ruled.rule),
        Err(Denial::Rule(ruled)) => (Effect::Deny, ruled.rule),
        Err(denial) => deny(&denial),
    }
}
