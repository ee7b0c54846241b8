//! Rules: typed data, without an order. A rule matches when all of its conditions hold; one without conditions always does.

use super::checks::named;
use super::{Effective, Facts, Fallback, Permit, glob};
use crate::ask::Ask;
use crate::decision::Denial;
use crate::price::ModelCard;
use serde::{Deserialize, Serialize};

/// The name of the decision that no rule made.
pub(super) const DEFAULT: &str = "default";
/// Near misses that a denial tells.
const NEAR_KEPT: usize = 8;
/// What a model takes for its temperature when a request states none: OpenAI's and Groq's documented default.
const USUAL_TEMPERATURE: &str = "1";
/// Names of an ask are cut at this length, and marked by `…`.
const CUT_BYTES: usize = 128;

/// What a rule does to the calls that it matches, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Denies.
    Deny,
    /// Would ask a person. Nobody is asked about calls of models: it denies, and says so.
    Ask,
    /// Lets pass what is left of the call within limits.
    Limit,
    /// Lets pass.
    Allow,
}

impl Effect {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Effect::Deny => "deny",
            Effect::Ask => "ask",
            Effect::Limit => "limit",
            Effect::Allow => "allow",
        }
    }
}

/// Bounds of a number; both exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// It must be more than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<u64>,
    /// It must be less than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<u64>,
}

impl Span {
    fn holds(self, number: u64) -> bool {
        self.above.is_none_or(|above| number > above) && self.below.is_none_or(|below| number < below)
    }

    fn text(self) -> String {
        let side = |word: &str, bound: Option<u64>| bound.map(|bound| format!("{word} {bound}"));
        [side("above", self.above), side("below", self.below)].into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }
}

/// Hours of the day: from one on, up to another; over midnight when that is the earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// The first.
    pub from: u8,
    /// The first that is no longer meant.
    pub to: u8,
}

impl Hours {
    fn hold(self, hour: u8) -> bool {
        if self.from <= self.to { self.from <= hour && hour < self.to } else { self.from <= hour || hour < self.to }
    }
}

/// The conditions of a rule; an empty list, or `None`, asks for nothing. Names are patterns (see [`glob`]), one of which must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// The agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agent: Vec<String>,
    /// How full the fullest budget is, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_share: Option<Span>,
    /// A group that the agent is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<String>,
    /// The hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour: Option<Hours>,
    /// Estimated tokens of input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<Span>,
    /// The model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub model: Vec<String>,
    /// The output limit per choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<Span>,
    /// Whether a stream is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// The tools offered: one of them in a rule that denies, asks or limits, all of them in one that allows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool: Vec<String>,
}

/// What a limit holds a call to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSpec {
    /// The largest output per choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// The answer is asked for whole; a client that wants a stream gets the whole as one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_stream: bool,
    /// The highest temperature, as it is written in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<String>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// What it does.
    pub effect: Effect,
    /// The file where it stands.
    pub file: String,
    /// What a limit holds calls to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitSpec>,
    /// Its line.
    pub line: u64,
    /// Its name, of which there is one in a profile.
    pub name: String,
    /// Why, as denials say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it matches.
    pub when: When,
}

/// A field of a request that a limit may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// A tool that the provider runs, taken out by the model's card.
    HostedTools,
    /// The output limit.
    MaxTokens,
    /// Whether a stream is asked for.
    Stream,
    /// The temperature.
    Temperature,
}

/// A change that a limit made, or the model's card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The field.
    pub field: Changed,
    /// What the request states; absent when it states nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What is sent.
    pub to: String,
}

/// A rule of which exactly one condition did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NearMiss {
    /// That condition.
    pub condition: String,
    /// The rule.
    pub rule: String,
}

/// A denial by a rule, or by the default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ruled {
    /// What the rule does.
    pub effect: Effect,
    /// Why it could not be evaluated: then it denies, whatever its effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The file where it stands; absent for a default without a profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The names of all rules that matched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matched: Vec<String>,
    /// Rules that nearly matched, a few at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<NearMiss>,
    /// Why, as the file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its name; `default` when no rule decided.
    pub rule: String,
}

/// What rules look at.
pub(super) struct Call<'a> {
    pub(super) ask: &'a Ask,
    pub(super) card: &'a ModelCard,
    pub(super) facts: Option<&'a Facts>,
    pub(super) max_tokens: u64,
}

/// Whether a condition holds.
enum Holds {
    Yes,
    /// And what stands against it.
    No(String),
    /// And what is missing.
    Unknown(String),
}

/// How one rule stands to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighed<'p> {
    /// The rule.
    pub rule: &'p RuleSpec,
    /// Conditions that do not hold; none of them: it matches.
    pub failed: Vec<String>,
    /// Why it could not be evaluated.
    pub error: Option<String>,
}

/// How each rule stands to the call, in the order of the file.
pub(super) fn weigh<'p>(call: &Call<'_>, policy: &'p Effective) -> Vec<Weighed<'p>> {
    let mut rules: Vec<&RuleSpec> = policy.rules.iter().collect();
    rules.sort_by(|a, b| (a.line, &a.name).cmp(&(b.line, &b.name)));
    rules.into_iter().map(|rule| rule.weigh(call)).collect()
}

/// Decides by rules alone. The result does not depend on their order.
pub(super) fn decide(call: &Call<'_>, policy: &Effective) -> Result<Permit, Denial> {
    let mut matched: Vec<&RuleSpec> = Vec::new();
    let mut broken: Option<(&RuleSpec, String)> = None;
    let mut near = Vec::new();
    for Weighed { rule, failed, error } in weigh(call, policy) {
        match (error, failed.as_slice()) {
            (Some(why), _) => broken = broken.or(Some((rule, why))),
            (None, []) => matched.push(rule),
            (None, [condition]) => near.push((rule.effect, NearMiss { condition: condition.clone(), rule: rule.name.clone() })),
            (None, _) => {}
        }
    }
    let names: Vec<String> = matched.iter().map(|rule| rule.name.clone()).collect();
    let first = |effect| matched.iter().find(|rule| rule.effect == effect).copied();
    let denied = |rule: &RuleSpec, error: Option<String>| {
        Denial::Rule(Box::new(Ruled {
            effect: rule.effect,
            error,
            file: Some(rule.file.clone()),
            line: Some(rule.line),
            matched: names.clone(),
            near: near.iter().map(|(_, miss)| miss.clone()).take(NEAR_KEPT).collect(),
            reason: rule.reason.clone(),
            rule: rule.name.clone(),
        }))
    };
    if let Some(rule) = first(Effect::Deny) {
        return Err(denied(rule, None));
    }
    if let Some((rule, why)) = broken {
        return Err(denied(rule, Some(why)));
    }
    if let Some(rule) = first(Effect::Ask) {
        return Err(denied(rule, None));
    }
    if let Some(rule) = first(Effect::Limit) {
        let (max_tokens, changes) = limited(call, &matched);
        return Ok(Permit { changes, matched: names, max_tokens, rule: Some(rule.name.clone()) });
    }
    let rule = first(Effect::Allow).map(|rule| rule.name.clone());
    if rule.is_some() || policy.default == Fallback::Allow {
        return Ok(Permit { changes: Vec::new(), matched: names, max_tokens: call.max_tokens, rule });
    }
    Err(Denial::Rule(Box::new(Ruled {
        effect: Effect::Deny,
        error: None,
        file: policy.profile.as_ref().map(|profile| profile.file.clone()),
        line: policy.profile.as_ref().map(|profile| profile.line),
        matched: names,
        // What would have let it pass.
        near: near
            .into_iter()
            .filter(|(effect, _)| matches!(effect, Effect::Limit | Effect::Allow))
            .map(|(_, miss)| miss)
            .take(NEAR_KEPT)
            .collect(),
        reason: None,
        rule: DEFAULT.to_owned(),
    })))
}

/// The strictest of all limits that matched.
fn limited(call: &Call<'_>, matched: &[&RuleSpec]) -> (u64, Vec<Change>) {
    let limits = || matched.iter().filter(|rule| rule.effect == Effect::Limit).filter_map(|rule| rule.limit.as_ref());
    let mut changes = Vec::new();
    let max_tokens = limits().filter_map(|limit| limit.max_tokens).fold(call.max_tokens, u64::min);
    if max_tokens < call.max_tokens {
        let from = call.ask.max_tokens.map(|tokens| tokens.to_string());
        changes.push(Change { field: Changed::MaxTokens, from, to: max_tokens.to_string() });
    }
    if call.ask.stream && limits().any(|limit| limit.no_stream) {
        changes.push(Change { field: Changed::Stream, from: Some("true".to_owned()), to: "false".to_owned() });
    }
    let number = |text: &str| text.parse::<f64>().unwrap_or(f64::INFINITY);
    let lowest = limits().filter_map(|limit| limit.temperature.as_deref()).min_by(|a, b| number(a).total_cmp(&number(b)));
    if let Some(lowest) = lowest {
        let stated = call.ask.temperature.as_deref();
        // Reasoning models refuse the field: it is not put where the client left it out.
        let is_above = number(stated.unwrap_or(USUAL_TEMPERATURE)) > number(lowest);
        // Nor has it a meaning where there is no output.
        if is_above && (stated.is_some() || !call.card.reasoning && call.ask.max_tokens != Some(0)) {
            changes.push(Change { field: Changed::Temperature, from: stated.map(str::to_owned), to: lowest.to_owned() });
        }
    }
    (max_tokens, changes)
}

impl RuleSpec {
    fn weigh(&self, call: &Call<'_>) -> Weighed<'_> {
        let (mut failed, mut unknown) = (Vec::new(), None);
        for (name, holds) in self.conditions(call) {
            match holds {
                Holds::Yes => {}
                Holds::No(why) => failed.push(format!("{name}: {why}")),
                Holds::Unknown(what) => unknown = unknown.or(Some(format!("{name}: {what}"))),
            }
        }
        // A condition that surely fails decides, whatever is not known of the others.
        let error = unknown.filter(|_| failed.is_empty());
        Weighed { rule: self, failed, error }
    }

    fn conditions(&self, call: &Call<'_>) -> Vec<(&'static str, Holds)> {
        let when = &self.when;
        let missing = || Holds::Unknown("the fact is missing".to_owned());
        let fact = |test: &dyn Fn(&Facts) -> Holds| call.facts.map_or_else(missing, test);
        let mut all = Vec::new();
        if !when.agent.is_empty() {
            all.push(("agent", fact(&|facts| named_so(&when.agent, std::slice::from_ref(&facts.agent)))));
        }
        if let Some(span) = when.budget_share {
            all.push(("budget_share", fact(&|facts| facts.budget_share_percent.map_or_else(missing, |share| within(span, share)))));
        }
        if !when.group.is_empty() {
            all.push(("group", fact(&|facts| named_so(&when.group, &facts.groups))));
        }
        if let Some(hours) = when.hour {
            let test = |facts: &Facts| {
                let why = || format!("{} is not within {}-{}", facts.hour, hours.from, hours.to);
                if hours.hold(facts.hour) { Holds::Yes } else { Holds::No(why()) }
            };
            all.push(("hour", fact(&test)));
        }
        if let Some(span) = when.input_tokens {
            all.push(("input_tokens", within(span, call.ask.estimated_input_tokens())));
        }
        if !when.model.is_empty() {
            all.push(("model", named_so(&when.model, std::slice::from_ref(&call.card.name))));
        }
        if let Some(span) = when.output_tokens {
            all.push(("output_tokens", within(span, call.max_tokens)));
        }
        if let Some(stream) = when.stream {
            let holds = if call.ask.stream == stream { Holds::Yes } else { Holds::No(format!("{} is asked for", call.ask.stream)) };
            all.push(("stream", holds));
        }
        if !when.tool.is_empty() {
            all.push(("tool", offered(&when.tool, call.ask, self.effect)));
        }
        all
    }
}

fn within(span: Span, number: u64) -> Holds {
    if span.holds(number) { Holds::Yes } else { Holds::No(format!("{number} is not {}", span.text())) }
}

fn fits_one(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| glob::fits(pattern, name))
}

fn named_so(patterns: &[String], names: &[String]) -> Holds {
    if names.iter().any(|name| fits_one(patterns, name)) {
        return Holds::Yes;
    }
    let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Holds::No(format!("{found} is not {}", patterns.join(" or ")))
}

/// Tools without a name, or with one that was cut, fit `*` alone; what else they are is not known.
fn offered(patterns: &[String], ask: &Ask, effect: Effect) -> Holds {
    if ask.tools == 0 && ask.tool_names.is_empty() && ask.hosted_tools.is_empty() {
        return Holds::No("no tools are offered".to_owned());
    }
    if patterns.iter().any(|pattern| pattern == "*") {
        return Holds::Yes;
    }
    let names = || ask.tool_names.iter().chain(&ask.hosted_tools);
    let is_cut = |name: &String| name.len() > CUT_BYTES && name.ends_with('…');
    let unclear = ask.tools > named(ask) || names().any(is_cut);
    let mut foreign = names().filter(|name| !is_cut(name) && !fits_one(patterns, name));
    let unknown = || Holds::Unknown("a tool has no name that is known in full".to_owned());
    if effect == Effect::Allow {
        return match foreign.next() {
            Some(name) => Holds::No(format!("{name} is not {}", patterns.join(" or "))),
            None if unclear => unknown(),
            None => Holds::Yes,
        };
    }
    if names().any(|name| fits_one(patterns, name)) {
        return Holds::Yes;
    }
    if unclear { unknown() } else { Holds::No(format!("none of {} is offered", patterns.join(", "))) }
}
