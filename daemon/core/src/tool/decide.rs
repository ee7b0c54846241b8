//! One decision: what a call's arguments show, and what follows from that.

use super::arguments::Arguments;
use super::name::ToolName;
use super::path::{Of, Question, Resolved};
use super::permissions::{Permissions, Ready};
use super::spec::{Effect, RuleSpec, Standing};
use crate::policy::NearMiss;
use aex_proto::value::{Digest, Pico};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Near misses that a decision tells.
const NEAR_KEPT: usize = 8;
/// Names of further rules that a decision tells.
const ALSO_KEPT: usize = 32;
/// Paths of a call that are looked up; what lies beyond them cannot be told.
const MAX_PATHS: usize = 256;

/// Who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// The agent's name.
    pub agent: String,
    /// Names of the groups that it is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// What the arguments of a call show, of the rules that mean its caller and its tool. Kept in the decision's event. A rule with conditions
/// that is in none of the lists does not match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Names of the rules all of whose conditions are met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub met: Vec<String>,
    /// A few rules of which one condition is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<NearMiss>,
    /// Rules that have a condition which cannot be told, and none that is not met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unclear: Vec<NearMiss>,
}

/// Who decided: a rule, or what stands for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecidedBy {
    /// The file where it stands.
    pub file: String,
    /// Its line; absent when the file does not state it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Why, as the file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its name; `global_policy`, `no_permissions` or `bad_permissions` when no rule decided.
    pub rule: String,
    /// The condition that could not be told, and counts as met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unclear: Option<String>,
}

/// A rate that holds for a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rated {
    /// Calls of one agent that the rule matches, in any 60 seconds.
    pub per_minute: u32,
    /// The rule.
    pub rule: String,
}

/// A price that holds for a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Priced {
    /// What it costs.
    pub price: Pico,
    /// The rule.
    pub rule: String,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Names of the other rules that matched, a few dozen at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Who decided.
    pub by: DecidedBy,
    /// What.
    pub effect: Effect,
    /// Rules that nearly matched, a few at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<NearMiss>,
    /// The dearest price of the rules that let it pass or ask; absent: that of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Priced>,
    /// The rates of the rules that let it pass or ask: all of them hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<Rated>,
}

impl Permissions {
    /// What has to be asked of the file system before a call can be looked at; mostly nothing.
    #[must_use]
    pub fn questions(&self, caller: &Caller, tool: &ToolName, arguments: &Arguments) -> BTreeSet<Question> {
        let mut asked = BTreeSet::new();
        let mut paths = 0_usize;
        for (_, _, ready) in self.asking(caller, tool) {
            ready.conditions.questions(arguments.map(), &mut |question| {
                let is_new = !asked.contains(&question);
                if question.of == Of::Argument && is_new {
                    paths = paths.saturating_add(1);
                }
                if is_new && (question.of == Of::Folder || paths <= MAX_PATHS) {
                    asked.insert(question);
                }
            });
        }
        asked
    }

    /// What the arguments show.
    #[must_use]
    pub fn observe(&self, caller: &Caller, tool: &ToolName, arguments: &Arguments, resolved: &Resolved) -> Facts {
        let mut all: Vec<(usize, &RuleSpec, &Ready)> = self.conditional(caller, tool).collect();
        all.sort_unstable_by_key(|(at, _, _)| *at);
        let mut facts = Facts::default();
        for (_, rule, ready) in all {
            let standing = ready.conditions.weigh(arguments.map(), resolved);
            let miss = |condition: &str| NearMiss { condition: condition.to_owned(), rule: rule.name.clone() };
            match (standing.failed.as_slice(), standing.unclear.as_slice()) {
                ([], []) => facts.met.push(rule.name.clone()),
                ([], [unclear, ..]) => facts.unclear.push(miss(unclear)),
                ([failed], []) if facts.near.len() < NEAR_KEPT => facts.near.push(miss(failed)),
                _ => {}
            }
        }
        facts
    }

    /// Decides. The result depends on nothing but these.
    #[must_use]
    pub fn decide(&self, caller: &Caller, tool: &ToolName, facts: &Facts) -> Verdict {
        let mut matched: Vec<(usize, &RuleSpec)> = Vec::new();
        let mut near: Vec<(usize, &RuleSpec, Lacks<'_>)> = Vec::new();
        let met: HashSet<&str> = facts.met.iter().map(String::as_str).collect();
        let (unclear, nearly) = (conditions(&facts.unclear), conditions(&facts.near));
        for (at, rule, ready) in self.fitting(caller, tool) {
            let name = rule.name.as_str();
            if ready.conditions.is_empty() || met.contains(name) {
                matched.push((at, rule));
                continue;
            }
            match unclear.get(name) {
                Some(_) if rule.effect != Effect::Allow => matched.push((at, rule)),
                Some(condition) => near.push((at, rule, Lacks::Clearness(condition))),
                None => near.extend(nearly.get(name).map(|condition| (at, rule, Lacks::Condition(condition)))),
            }
        }
        // Those of one effect by their lines.
        matched.sort_unstable_by_key(|(at, rule)| (rule.effect, *at));
        let first = matched.first().map(|(_, rule)| *rule);
        let effect = first.map_or(self.spec().global_policy.effect, |rule| rule.effect);
        let by = first.map_or_else(|| self.default_by(), |rule| self.rule_by(rule, facts));
        let lets_pass = || matched.iter().map(|(_, rule)| *rule).filter(|rule| effect != Effect::Deny && rule.effect != Effect::Deny);
        let price = lets_pass().filter_map(|rule| Some(Priced { price: rule.price?, rule: rule.name.clone() }));
        let rates = lets_pass().filter_map(|rule| Some(Rated { per_minute: rule.rate?, rule: rule.name.clone() }));
        // Where nothing let it pass, what would have is of interest; whoever passes does not ask what others may.
        let is_told = |rule: &RuleSpec| first.is_some() || rule.effect != effect;
        if effect != Effect::Allow {
            near.extend(self.of_others(caller, tool, NEAR_KEPT, is_told).map(|(at, rule, part)| (at, rule, Lacks::Caller(part))));
        }
        near.sort_unstable_by_key(|(at, _, _)| *at);
        Verdict {
            also: matched.iter().skip(1).map(|(_, rule)| rule.name.clone()).take(ALSO_KEPT).collect(),
            by,
            effect,
            near: near.iter().filter(|(_, rule, _)| is_told(rule)).take(NEAR_KEPT).map(|(_, rule, lacks)| lacks.told(rule)).collect(),
            price: price.reduce(|dearest, other| if other.price > dearest.price { other } else { dearest }),
            rates: rates.collect(),
        }
    }

    /// The digest of what all rules say that ask a person for a call, wherever they stand: one yes may last for as long as it is the same.
    /// `None` when nobody is asked, or a verdict does not name all of them.
    #[must_use]
    pub fn asked_by(&self, verdict: &Verdict) -> Option<Digest> {
        if verdict.effect != Effect::Ask || verdict.also.len() >= ALSO_KEPT {
            return None;
        }
        let names: HashSet<&str> = verdict.also.iter().chain([&verdict.by.rule]).map(String::as_str).collect();
        let asking = self.spec().rules.iter().filter(|rule| rule.effect == Effect::Ask && names.contains(rule.name.as_str()));
        let mut asking: Vec<RuleSpec> = asking.map(|rule| RuleSpec { line: 0, ..rule.clone() }).collect();
        asking.sort_by(|one, other| one.name.cmp(&other.name));
        (!asking.is_empty()).then(|| crate::canon::snapshot(&asking).1)
    }

    fn rule_by(&self, rule: &RuleSpec, facts: &Facts) -> DecidedBy {
        let unclear = facts.unclear.iter().find(|miss| miss.rule == rule.name).map(|miss| miss.condition.clone());
        DecidedBy { file: self.spec().file.clone(), line: Some(rule.line), reason: rule.reason.clone(), rule: rule.name.clone(), unclear }
    }

    fn default_by(&self) -> DecidedBy {
        let rule = match self.spec().standing {
            Standing::Loaded => "global_policy",
            Standing::Absent => "no_permissions",
            Standing::Refused => "bad_permissions",
        };
        let line = self.spec().global_policy.line;
        DecidedBy { file: self.spec().file.clone(), line, reason: None, rule: rule.to_owned(), unclear: None }
    }
}

/// What a rule lacks that nearly matched.
enum Lacks<'f> {
    /// It means other agents, or other groups.
    Caller(&'static str),
    /// This condition is not met.
    Condition(&'f str),
    /// This condition cannot be told.
    Clearness(&'f str),
}

impl Lacks<'_> {
    fn told(&self, rule: &RuleSpec) -> NearMiss {
        let condition = match self {
            Lacks::Caller("agent") => format!("agent {}", rule.agent.join(" or ")),
            Lacks::Caller(part) => format!("{part} {}", rule.group.join(" or ")),
            Lacks::Condition(condition) => (*condition).to_owned(),
            Lacks::Clearness(condition) => format!("{condition}: cannot be told"),
        };
        NearMiss { condition, rule: rule.name.clone() }
    }
}

fn conditions(misses: &[NearMiss]) -> HashMap<&str, &str> {
    misses.iter().map(|miss| (miss.rule.as_str(), miss.condition.as_str())).collect()
}
