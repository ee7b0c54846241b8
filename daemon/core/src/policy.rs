//! What an agent may ask for: the fields and rules that hold for it, and the pure decision over them.
//!
//! Rules have no order among themselves: all are evaluated; deny > ask > limit > allow > the default. An error in a rule is a
//! deny. A decision names the rule that decided, where it stands, the others that matched, and those that nearly did.

mod checks;
mod fields;
pub mod glob;
mod profile;
mod rules;

pub use checks::{Breach, Rule, breaches, checked};
pub use fields::{Fields, Policy, Stated, sources};
pub use profile::{Profile, Profiles};
pub use rules::{Change, Changed, Effect, Hours, LimitSpec, NearMiss, RuleSpec, Ruled, Span, Weighed, When};

use crate::ask::Ask;
use crate::decision::Denial;
use crate::price::{self, ModelCard};
use aex_proto::value::Digest;
use serde::{Deserialize, Serialize};

/// What a decision needs beside the request, the model and the policy. Kept in the decision's event where rules exist, so that
/// it can be made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The agent's name.
    pub agent: String,
    /// What is spent or held of the fullest budget on the path, in percent, rounded up. Absent when no rule asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_share_percent: Option<u64>,
    /// Names of the groups that the agent is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The hour of the day in the configured zone, 0 to 23.
    pub hour: u8,
}

/// What happens to a call that no rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// It passes.
    Allow,
    /// It is denied.
    Deny,
}

/// The profile that is bound to an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The file.
    pub file: String,
    /// The line where it begins.
    pub line: u64,
    /// Its name.
    pub name: String,
}

/// All that holds for an agent's calls. Its canonical JSON is the snapshot that events name by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effective {
    /// What happens to a call that no rule matches.
    pub default: Fallback,
    /// What holds, whoever states it.
    pub fields: Policy,
    /// The profile, when one is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Origin>,
    /// The profile's rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleSpec>,
    /// The digest of what the agent itself states, by which an audit knows whose policy it is; absent in the first ledgers, whose
    /// snapshots are that itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated: Option<Digest>,
}

impl Effective {
    /// Fields alone: no profile is bound.
    #[must_use]
    pub const fn plain(fields: Policy) -> Effective {
        Effective { default: Fallback::Allow, fields, profile: None, rules: Vec::new(), stated: None }
    }

    /// Whether what an agent states stands in it: alone when no profile is bound, and before the profile's otherwise.
    #[must_use]
    pub fn follows(&self, own: &Fields) -> bool {
        match self.profile {
            None => *self == Effective::of(own.clone(), None),
            Some(_) => self.stated == Some(own.snapshot().1) && own.clone().over(self.fields.clone().into()).resolve() == self.fields,
        }
    }

    /// Its canonical JSON and the digest of that.
    #[must_use]
    pub fn snapshot(&self) -> (String, Digest) {
        crate::canon::snapshot(self)
    }

    /// Reads a snapshot. The first ledgers hold fields alone.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn parse(text: &str) -> Result<Effective, serde_json::Error> {
        serde_json::from_str(text).or_else(|fault| serde_json::from_str(text).map(Effective::plain).map_err(|_| fault))
    }

    /// Whether facts are needed, and are to be kept.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty() || self.default == Fallback::Deny
    }

    /// Whether a rule asks how full the budgets are.
    #[must_use]
    pub fn asks_for_budgets(&self) -> bool {
        self.rules.iter().any(|rule| rule.when.budget_share.is_some())
    }
}

/// A call that may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// What the model's card took out of it and what limits changed in it.
    pub changes: Vec<Change>,
    /// The names of all rules that matched.
    pub matched: Vec<String>,
    /// The output limit per choice that holds for it.
    pub max_tokens: u64,
    /// The rule that decided; `None`: none did.
    pub rule: Option<String>,
}

impl Permit {
    /// What stood in a field before each of its changes.
    #[must_use]
    pub fn all_changed(&self, field: Changed) -> Vec<&str> {
        self.changes.iter().filter(|change| change.field == field).filter_map(|change| change.from.as_deref()).collect()
    }

    /// What a field was changed to.
    #[must_use]
    pub fn changed(&self, field: Changed) -> Option<&str> {
        self.changes.iter().find(|change| change.field == field).map(|change| change.to.as_str())
    }
}

/// What a tool that was taken out is changed to.
const DROPPED: &str = "none";

/// Decides a call by policy: of what is left when the model's card has taken out the tools that it drops.
///
/// # Errors
/// The denial: of the first field that it breaks, with the others that it breaks; or of the rule that decides.
pub fn decide(ask: &Ask, card: &ModelCard, policy: &Effective, facts: Option<&Facts>) -> Result<Permit, Denial> {
    let left = &*price::without_dropped(ask, card);
    let mut broken = breaches(left, card, &policy.fields).into_iter();
    if let Some(first) = broken.next() {
        return Err(Denial::Policy { breach: first, also: broken.map(|breach| breach.rule).collect() });
    }
    let mut permit = rules::decide(&call(left, card, policy, facts), policy)?;
    let gone = |tool: &str| Change { field: Changed::HostedTools, from: Some(tool.to_owned()), to: DROPPED.to_owned() };
    permit.changes.splice(..0, price::dropped(ask, card).into_iter().map(gone));
    Ok(permit)
}

fn call<'a>(ask: &'a Ask, card: &'a ModelCard, policy: &Effective, facts: Option<&'a Facts>) -> rules::Call<'a> {
    let max_tokens = ask.max_tokens.unwrap_or_else(|| policy.fields.output_limit(card));
    rules::Call { ask, card, facts, max_tokens }
}

/// How each rule of a policy stands to a call, in the order of the file: what a decision is made of.
#[must_use]
pub fn weigh<'p>(ask: &Ask, card: &ModelCard, policy: &'p Effective, facts: Option<&Facts>) -> Vec<Weighed<'p>> {
    rules::weigh(&call(&price::without_dropped(ask, card), card, policy, facts), policy)
}

#[cfg(test)]
mod tests;
