//! permissions.json as checked data. A frozen format: its canonical JSON is the snapshot that events name by its digest.

use aex_proto::value::Pico;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a rule does to the calls that it matches, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Denies.
    Deny,
    /// Asks a person.
    Ask,
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
            Effect::Allow => "allow",
        }
    }
}

/// Where permissions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// There is no file: all is denied.
    Absent,
    /// The file.
    Loaded,
    /// The file is wrong, and no good one was in force before: all is denied.
    Refused,
}

/// What becomes of a call that no rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalPolicy {
    /// `allow` or `deny`.
    pub effect: Effect,
    /// Its line; absent when the file does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

/// A checked file. [`super::Permissions::new`] checks what types do not show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermissionsSpec {
    /// The file, as its users call it.
    pub file: String,
    /// What becomes of a call that no rule matches.
    pub global_policy: GlobalPolicy,
    /// The rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleSpec>,
    /// Where it comes from.
    pub standing: Standing,
}

/// One rule. It matches a call when all that it states holds; an empty list asks for nothing. Names are patterns (see
/// [`crate::policy::glob`]), one of which must fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// The agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agent: Vec<String>,
    /// What it does.
    pub effect: Effect,
    /// A group that the agent is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<String>,
    /// Its line.
    pub line: u64,
    /// Its name, of which there is one in a file: its own, or its place: `rules[3]`, `rules.calculate_sum`.
    pub name: String,
    /// What a call costs that it lets pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Pico>,
    /// Calls a minute that it lets pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// Why, as denials say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server: Vec<String>,
    /// The tool. Without `server`, one with a dot is `SERVER.TOOL`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool: Vec<String>,
    /// The tool, to the letter, as keys of the map of rules have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_name: Option<String>,
    /// Conditions on arguments, by JSON pointer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, ConditionSpec>,
}

/// What is asked of one argument; all of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionSpec {
    /// A number above this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<Scalar>,
    /// A number below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<Scalar>,
    /// This value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<Scalar>,
    /// A text that fits this regular expression: whole in a rule that allows, a part of it in any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// At most this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Scalar>,
    /// At least this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Scalar>,
    /// One of these values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<Scalar>,
    /// Whether it is there at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// A path in one of these folders, or one of them itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub under: Vec<String>,
    /// A URL of one of these hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub url_host: Vec<String>,
}

/// A JSON value that is no list and no object, as its text: canonical JSON has no fractions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scalar(pub String);

impl Scalar {
    /// Reads the text.
    ///
    /// # Errors
    /// What is wrong with it. Numbers have to be less than 2⁵³: two whole ones above it may be the same to a program that reads them as doubles.
    pub fn value(&self) -> Result<serde_json::Value, String> {
        /// The first whole number that has a neighbour which no double can hold.
        const INEXACT: f64 = 9_007_199_254_740_992.0;
        let value: serde_json::Value = serde_json::from_str(&self.0).map_err(|_| format!("{} is no JSON value", self.0))?;
        match &value {
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => Err("lists and objects cannot be compared".to_owned()),
            serde_json::Value::Number(number) if number.as_f64().is_none_or(|number| number.abs() >= INEXACT) => {
                Err(format!("{} is not between -2^53 and 2^53", self.0))
            }
            _ => Ok(value),
        }
    }

    /// Reads a number.
    ///
    /// # Errors
    /// When it is none.
    pub fn number(&self) -> Result<f64, String> {
        self.value()?.as_f64().ok_or_else(|| format!("{} is no number", self.0))
    }
}
