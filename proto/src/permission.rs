//! Permissions of tools: what an agent may call, and what would come of a call.

use crate::account::AgentName;
use crate::value::Pico;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `permission.show`: the rules that may match calls of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermissionQuery {
    /// The agent.
    pub agent: AgentName,
}

/// One rule, with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionRule {
    /// Its name, or its place in the file.
    pub name: String,
    /// `deny`, `ask` or `allow`.
    pub effect: String,
    /// The file.
    pub file: String,
    /// The line.
    pub line: u64,
    /// The tools: patterns of names, or of `SERVER.TOOL`; none: all.
    pub tools: Vec<String>,
    /// The servers, as patterns; none: those of `tools`, or all.
    pub servers: Vec<String>,
    /// The agents, as patterns; none: all.
    pub agents: Vec<String>,
    /// The groups, as patterns; none: all.
    pub groups: Vec<String>,
    /// Its conditions on arguments by JSON pointer, as the snapshot in the ledger has them.
    pub when: Value,
    /// Calls of one agent in any 60 seconds.
    pub rate: Option<u32>,
    /// What a call costs.
    pub price_pico: Option<Pico>,
    /// The same in dollars.
    pub price_usd: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// Reply of `permission.show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionsShown {
    /// The agent.
    pub agent: String,
    /// The groups that it is in.
    pub groups: Vec<String>,
    /// The file.
    pub file: String,
    /// `loaded`; `absent` without a file, `refused` when it was wrong at the daemon's start: then every tool is denied.
    pub standing: String,
    /// The digest by which events name these permissions.
    pub digest: String,
    /// What becomes of a call that no rule matches: `allow` or `deny`.
    pub global_policy: String,
    /// Its line; `None` when the file does not state it.
    pub global_policy_line: Option<u64>,
    /// The rules that mean this agent, by their lines.
    pub rules: Vec<PermissionRule>,
    /// What was wrong with the file at the daemon's start, with its lines.
    pub problems: Vec<String>,
}

/// `permission.check`: what would come of a call, which is not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermissionCheck {
    /// The agent.
    pub agent: AgentName,
    /// The tool: `SERVER.TOOL`.
    pub tool: String,
    /// The arguments as the agent would send them: the text of a JSON object; none: an empty one.
    #[serde(default)]
    pub arguments: Option<String>,
    /// The folder that relative paths are below; none: that of the server's process, and without such a server nobody knows where they lead.
    #[serde(default)]
    pub cwd: Option<String>,
}

/// A rule that nearly matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearlyMatched {
    /// The rule.
    pub rule: String,
    /// What it lacked.
    pub condition: String,
}

/// A rate that would hold for the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateOfRule {
    /// The rule.
    pub rule: String,
    /// Calls of one agent that it matches, in any 60 seconds.
    pub per_minute: u32,
}

/// Reply of `permission.check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionChecked {
    /// The agent.
    pub agent: String,
    /// The tool.
    pub tool: String,
    /// `allow`, `deny` or `ask`.
    pub effect: String,
    /// The rule that decides; `global_policy`, `no_permissions` or `bad_permissions` when none does, `arguments` when they cannot be taken.
    pub rule: String,
    /// The file where it stands; `None` for `arguments`.
    pub file: Option<String>,
    /// Its line, where the file states it.
    pub line: Option<u64>,
    /// Why, as the rule says; or what is wrong with the arguments.
    pub reason: Option<String>,
    /// The condition of the rule that cannot be told, and counts as met.
    pub unclear: Option<String>,
    /// The other rules that match.
    pub also: Vec<String>,
    /// Rules that nearly match.
    pub near: Vec<NearlyMatched>,
    /// The rates that would hold.
    pub rates: Vec<RateOfRule>,
    /// What the call would cost by a rule; `None`: what its server says.
    pub price_pico: Option<Pico>,
    /// The same in dollars.
    pub price_usd: Option<String>,
    /// The digest by which events name these permissions.
    pub digest: String,
}
