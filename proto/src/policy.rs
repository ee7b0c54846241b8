//! Policies: what holds for an agent, whether a file of profiles is sound, whether cases come out as they should.

use crate::account::AgentPolicy;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A profile by its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileRef {
    /// Its name.
    pub name: String,
    /// The file.
    pub file: String,
    /// The line.
    pub line: u64,
}

/// One rule, its conditions as the snapshot in the ledger has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// `deny`, `ask`, `limit` or `allow`.
    pub effect: String,
    /// The file.
    pub file: String,
    /// The line.
    pub line: u64,
    /// Its conditions.
    pub when: Value,
    /// What a limit holds calls to; null in other rules.
    pub limit: Value,
    /// Why.
    pub reason: Option<String>,
}

/// Reply of `policy.show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyShown {
    /// The agent.
    pub agent: String,
    /// The digest by which events name this policy.
    pub digest: String,
    /// The profile that is bound to it.
    pub profile: Option<ProfileRef>,
    /// What happens to a call that no rule matches: `allow` or `deny`.
    pub default: String,
    /// The fields that hold.
    pub policy: AgentPolicy,
    /// Who states them, by field: `agent` or `profile`; the rest are built-in defaults.
    pub policy_from: BTreeMap<String, String>,
    /// The rules.
    pub rules: Vec<Rule>,
}

/// `policy.check`: a text, or without one the daemon's own policy.yaml as it lies on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyCheck {
    /// What messages call the file.
    #[serde(default)]
    pub file: Option<String>,
    /// Its text.
    #[serde(default)]
    pub text: Option<String>,
}

/// A profile and whom it binds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileBound {
    /// Its name.
    pub name: String,
    /// Its line.
    pub line: u64,
    /// What happens to a call that no rule matches: `allow` or `deny`.
    pub default: String,
    /// How many rules it has.
    pub rules: u32,
    /// Living agents that it is bound to.
    pub agents: Vec<String>,
}

/// Reply of `policy.check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChecked {
    /// Whether it could be put in force.
    pub passed: bool,
    /// What is wrong, with file and line.
    pub errors: Vec<String>,
    /// What a user should know.
    pub warnings: Vec<String>,
    /// Its profiles, in the order of the file.
    pub profiles: Vec<ProfileBound>,
}

/// `policy.test`: cases against the policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyTest {
    /// What messages call the file.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// One case that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseTested {
    /// Its line.
    pub line: u64,
    /// Whose call it is.
    pub agent: String,
    /// The model.
    pub model: String,
    /// What was expected.
    pub expected: String,
    /// What came: `deny`, `ask`, `limit` or `allow`.
    pub got: String,
    /// The rule that decided; `default` when none did; the field or setting when one of those denied.
    pub rule: String,
    /// Whether that was expected.
    pub passed: bool,
}

/// Reply of `policy.test`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTested {
    /// Whether all cases came out as expected.
    pub passed: bool,
    /// The cases, in the order of the file.
    pub cases: Vec<CaseTested>,
}
