//! Policies: what holds for an agent, whether a file of profiles is sound, whether cases come out as they should.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What an agent may ask for. In a request `None` states nothing: the agent's profile decides, else the built-in default. In a
/// reply all fields have the value that holds; `None` is no list and no limit there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentPolicy {
    /// Names of models as in models.yaml.
    #[serde(default)]
    pub allowed_models: Option<Vec<String>>,
    /// Largest input, in estimated tokens.
    #[serde(default)]
    pub max_input_tokens: Option<u64>,
    /// Largest output, in tokens.
    #[serde(default)]
    pub max_output_tokens: Option<u64>,
    /// Streams may be asked for.
    #[serde(default)]
    pub allow_streaming: Option<bool>,
    /// Tools may be offered.
    #[serde(default)]
    pub allow_tools: Option<bool>,
    /// Names of functions that may be offered.
    #[serde(default)]
    pub allowed_tool_names: Option<Vec<String>>,
    /// `tool_choice` and `function_call` may be stated.
    #[serde(default)]
    pub allow_function_calling: Option<bool>,
    /// Images may be sent.
    #[serde(default)]
    pub allow_vision: Option<bool>,
    /// Unknown top-level fields and tools that the provider runs are refused.
    #[serde(default)]
    pub strict: Option<bool>,
    /// The agent may bring its own provider key.
    #[serde(default)]
    pub allow_passthrough: Option<bool>,
}

impl AgentPolicy {
    /// States nothing.
    #[must_use]
    pub const fn silent() -> AgentPolicy {
        AgentPolicy {
            allowed_models: None,
            max_input_tokens: None,
            max_output_tokens: None,
            allow_streaming: None,
            allow_tools: None,
            allowed_tool_names: None,
            allow_function_calling: None,
            allow_vision: None,
            strict: None,
            allow_passthrough: None,
        }
    }

    /// What holds where nobody states anything: all is allowed but images and passthrough.
    #[must_use]
    pub fn seed() -> AgentPolicy {
        AgentPolicy {
            allow_streaming: Some(true),
            allow_tools: Some(true),
            allow_function_calling: Some(true),
            allow_vision: Some(false),
            strict: Some(false),
            allow_passthrough: Some(false),
            ..AgentPolicy::silent()
        }
    }
}

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
