//! What an agent's own policy says to tools as such: it comes before the permissions, as it does for the tools that a model is offered.

use super::decide::{DecidedBy, Verdict};
use super::name::ToolName;
use super::spec::Effect;
use crate::policy::{Policy, Rule};

/// What stands where a rule of a file has the file.
const PLACE: &str = "the agent's policy";

/// Whether an agent with these fields may use a tool, by any of its names: `SERVER.TOOL`, that for agents, and its own.
#[must_use]
pub fn is_capable(fields: &Policy, tool: &ToolName) -> bool {
    broken(fields, tool).is_none()
}

impl Verdict {
    /// The verdict on a call of an agent with these fields: where they forbid the tool, no rule of the permissions was looked at.
    #[must_use]
    pub fn within(self, fields: &Policy, tool: &ToolName) -> Verdict {
        let Some((rule, reason)) = broken(fields, tool) else { return self };
        let by = DecidedBy { file: PLACE.to_owned(), line: None, reason: Some(reason), rule: rule.setting().to_owned(), unclear: None };
        Verdict { also: Vec::new(), by, effect: Effect::Deny, near: Vec::new(), price: None, rates: Vec::new() }
    }
}

fn broken(fields: &Policy, tool: &ToolName) -> Option<(Rule, String)> {
    if !fields.allow_tools {
        return Some((Rule::AllowTools, "it may use no tools".to_owned()));
    }
    let names = fields.allowed_tool_names.as_ref()?;
    let is_listed = names.contains(&tool.tool) || names.contains(&tool.to_string()) || names.contains(&tool.wire());
    (!is_listed).then(|| (Rule::AllowedToolNames, format!("it may use {}", names.join(", "))))
}
