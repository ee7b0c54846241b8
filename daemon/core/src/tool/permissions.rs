//! Permissions made ready: rules in a fixed order, patterns compiled, and found by the names that they state.

use super::condition::Conditions;
use super::decide::Caller;
use super::index::Index;
use super::name::ToolName;
use super::pattern::{self, Pattern};
use super::sieve::{Probe, Sieve};
use super::spec::{Effect, GlobalPolicy, PermissionsSpec, RuleSpec, Standing};
use aex_proto::value::{Digest, Pico};
use std::collections::BTreeSet;

/// Rules that a file may have: those that state no name are all looked at for each call.
pub const MAX_RULES: usize = 4_096;

/// What holds for the calls of tools. Never changed; a reload makes another.
#[derive(Clone, Debug)]
pub struct Permissions {
    spec: PermissionsSpec,
    rules: Vec<Ready>,
    /// At the same places.
    sieves: Vec<Sieve>,
    all: Index,
    /// Rules with conditions.
    conditional: Index,
    /// Rules with conditions on paths.
    asking: Index,
}

/// Two are the same when they say the same: what is made ready follows from that.
impl PartialEq for Permissions {
    fn eq(&self, other: &Permissions) -> bool {
        self.spec == other.spec
    }
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {text}")]
pub struct Flaw {
    /// Its line.
    pub line: u64,
    /// Its name.
    pub rule: String,
    /// What is wrong.
    pub text: String,
}

/// A rule made ready; at the same place as its text.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) agent: Vec<Pattern>,
    group: Vec<Pattern>,
    pub(super) targets: Vec<Target>,
    pub(super) conditions: Conditions,
}

/// Tools that a rule means: of servers of which one fits.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) server: Vec<Pattern>,
    pub(super) tool: Pattern,
}

impl Permissions {
    /// Makes a checked file ready. The order of its rules is forgotten.
    ///
    /// # Errors
    /// All that is wrong with its rules.
    pub fn new(mut spec: PermissionsSpec) -> Result<Permissions, Vec<Flaw>> {
        spec.rules.sort_by(|a, b| (a.line, &a.name).cmp(&(b.line, &b.name)));
        let mut flaws = Vec::new();
        let (mut names, mut rules) = (BTreeSet::new(), Vec::with_capacity(spec.rules.len()));
        for rule in &spec.rules {
            if !names.insert(rule.name.as_str()) {
                flaws.push(rule.flaw("another rule has this name"));
            }
            if rule.effect == Effect::Deny && (rule.price.is_some() || rule.rate.is_some()) {
                flaws.push(rule.flaw("a rule that denies has no price and no rate"));
            }
            if rule.price.is_some_and(Pico::is_negative) {
                flaws.push(rule.flaw("a price is not below zero"));
            }
            match Conditions::new(rule.effect, &rule.when) {
                Ok(conditions) => rules.push(Ready::new(rule, conditions)),
                Err(wrong) => flaws.extend(wrong.into_iter().map(|(pointer, text)| rule.flaw(&format!("when: {pointer}: {text}")))),
            }
        }
        if !flaws.is_empty() {
            return Err(flaws);
        }
        Ok(Permissions::indexed(spec, rules))
    }

    fn indexed(spec: PermissionsSpec, rules: Vec<Ready>) -> Permissions {
        let (mut all, mut conditional, mut asking) = (Index::default(), Index::default(), Index::default());
        for (at, ready) in rules.iter().enumerate() {
            all.add(at, ready);
            if !ready.conditions.is_empty() {
                conditional.add(at, ready);
            }
            if ready.conditions.ask_for_paths() {
                asking.add(at, ready);
            }
        }
        let sieves = rules.iter().map(|ready| Sieve::new(&ready.agent, &ready.targets)).collect();
        Permissions { spec, rules, sieves, all, conditional, asking }
    }

    /// What holds without a file: everything is denied.
    #[must_use]
    pub fn absent(file: &str) -> Permissions {
        Permissions::deny_all(file, Standing::Absent)
    }

    /// What holds when the file was wrong at the start: everything is denied.
    #[must_use]
    pub fn refused(file: &str) -> Permissions {
        Permissions::deny_all(file, Standing::Refused)
    }

    fn deny_all(file: &str, standing: Standing) -> Permissions {
        let global_policy = GlobalPolicy { effect: Effect::Deny, line: None };
        let spec = PermissionsSpec { file: file.to_owned(), global_policy, rules: Vec::new(), standing };
        Permissions::indexed(spec, Vec::new())
    }

    /// Its canonical JSON (fields are declared in alphabetical order) and the digest of that.
    #[must_use]
    pub fn snapshot(&self) -> (String, Digest) {
        crate::canon::snapshot(&self.spec)
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// When the text is none, as words.
    pub fn parse(text: &str) -> Result<Permissions, String> {
        let spec: PermissionsSpec = serde_json::from_str(text).map_err(|fault| fault.to_string())?;
        Permissions::new(spec).map_err(|flaws| flaws.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    /// What they say; rules by their lines.
    #[must_use]
    pub const fn spec(&self) -> &PermissionsSpec {
        &self.spec
    }

    /// The rules that may match calls of an agent.
    pub fn of<'p>(&'p self, caller: &'p Caller) -> impl Iterator<Item = &'p RuleSpec> {
        self.spec.rules.iter().zip(&self.rules).filter(|(_, ready)| ready.unmet(caller).next().is_none()).map(|(rule, _)| rule)
    }

    /// Whether there may be arguments with which an agent's call of a tool passes, or a person is asked.
    #[must_use]
    pub fn may_pass(&self, caller: &Caller, tool: &ToolName) -> bool {
        let mut lets_pass = self.spec.global_policy.effect == Effect::Allow;
        for (_, rule, ready) in self.fitting(caller, tool) {
            match rule.effect {
                Effect::Deny if ready.conditions.is_empty() => return false,
                Effect::Deny => {}
                Effect::Ask | Effect::Allow => lets_pass = true,
            }
        }
        lets_pass
    }

    /// Whether there may be a tool of a server that an agent may call. Where not, its server need not be started to list them.
    #[must_use]
    pub fn may_use(&self, caller: &Caller, server: &str) -> bool {
        let lets_pass = |(rule, ready): (&RuleSpec, &Ready)| {
            let means = ready.targets.iter().any(|target| pattern::one_fits(&target.server, server));
            rule.effect != Effect::Deny && means && ready.unmet(caller).next().is_none()
        };
        self.spec.global_policy.effect == Effect::Allow || self.spec.rules.iter().zip(&self.rules).any(lets_pass)
    }

    /// The rules that mean a caller and a tool: with their places, in no order.
    pub(super) fn fitting<'p>(&'p self, caller: &'p Caller, tool: &'p ToolName) -> impl Iterator<Item = (usize, &'p RuleSpec, &'p Ready)> {
        self.fitting_in(&self.all, caller, tool)
    }

    /// Those of them that have conditions.
    pub(super) fn conditional<'p>(
        &'p self,
        caller: &'p Caller,
        tool: &'p ToolName,
    ) -> impl Iterator<Item = (usize, &'p RuleSpec, &'p Ready)> {
        self.fitting_in(&self.conditional, caller, tool)
    }

    /// Those of them that have conditions on paths.
    pub(super) fn asking<'p>(&'p self, caller: &'p Caller, tool: &'p ToolName) -> impl Iterator<Item = (usize, &'p RuleSpec, &'p Ready)> {
        self.fitting_in(&self.asking, caller, tool)
    }

    fn fitting_in<'p>(
        &'p self,
        index: &'p Index,
        caller: &'p Caller,
        tool: &'p ToolName,
    ) -> impl Iterator<Item = (usize, &'p RuleSpec, &'p Ready)> {
        let probe = Probe::new(&caller.agent, tool);
        let candidates = index.candidates(Some(&caller.agent), tool).into_iter().flatten();
        candidates
            .filter(move |at| self.sieves.get(**at).is_some_and(|sieve| sieve.may_mean(&probe) && sieve.may_mean_agent(&probe)))
            .filter_map(|at| Some((*at, self.spec.rules.get(*at)?, self.rules.get(*at)?)))
            .filter(|(_, _, ready)| ready.mean(tool) && ready.unmet(caller).next().is_none())
    }

    /// A few rules without conditions that mean a tool, and by one part, which is named, another caller: the first ones of those that count.
    pub(super) fn of_others<'p>(
        &'p self,
        caller: &'p Caller,
        tool: &'p ToolName,
        few: usize,
        counts: impl Fn(&RuleSpec) -> bool + Copy + 'p,
    ) -> impl Iterator<Item = (usize, &'p RuleSpec, &'static str)> {
        let probe = Probe::new(&caller.agent, tool);
        // The places of each list ascend.
        self.all.candidates(None, tool).into_iter().flat_map(move |list| {
            let other = move |at: &usize| {
                if !self.sieves.get(*at)?.may_mean(&probe) {
                    return None;
                }
                let (rule, ready) = (self.spec.rules.get(*at)?, self.rules.get(*at)?);
                if !ready.conditions.is_empty() || !counts(rule) || !ready.mean(tool) {
                    return None;
                }
                let mut unmet = ready.unmet(caller);
                let part = unmet.next()?;
                unmet.next().is_none().then_some((*at, rule, part))
            };
            list.iter().filter_map(other).take(few)
        })
    }
}

impl RuleSpec {
    fn flaw(&self, text: &str) -> Flaw {
        Flaw { line: self.line, rule: self.name.clone(), text: text.to_owned() }
    }
}

impl Ready {
    fn new(rule: &RuleSpec, conditions: Conditions) -> Ready {
        let target = |text: &str| match text.split_once('.') {
            Some((server, tool)) if rule.server.is_empty() => Target { server: vec![Pattern::new(server)], tool: Pattern::new(tool) },
            _ => Target { server: pattern::all(&rule.server), tool: Pattern::new(text) },
        };
        let mut targets: Vec<Target> = rule.tool.iter().map(|text| target(text)).collect();
        if let Some(name) = &rule.tool_name {
            targets.push(Target { server: pattern::all(&rule.server), tool: Pattern::Exact(name.clone()) });
        }
        if targets.is_empty() {
            targets.push(Target { server: pattern::all(&rule.server), tool: Pattern::Any });
        }
        Ready { agent: pattern::all(&rule.agent), group: pattern::all(&rule.group), targets, conditions }
    }

    fn mean(&self, tool: &ToolName) -> bool {
        self.targets.iter().any(|target| target.fits(tool))
    }

    /// What of its caller a rule does not mean: `agent`, `group`.
    pub(super) fn unmet<'r>(&'r self, caller: &'r Caller) -> impl Iterator<Item = &'static str> + 'r {
        let agent = (!pattern::one_fits(&self.agent, &caller.agent)).then_some("agent");
        let in_group = self.group.is_empty() || caller.groups.iter().any(|group| pattern::one_fits(&self.group, group));
        agent.into_iter().chain((!in_group).then_some("group"))
    }
}

impl Target {
    fn fits(&self, tool: &ToolName) -> bool {
        self.tool.fits(&tool.tool) && pattern::one_fits(&self.server, &tool.server)
    }
}
