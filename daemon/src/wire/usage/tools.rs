//! How often tools that the provider runs were called.

use super::{Notes, members};
use crate::wire::json::{Fault, Scanner};
use aex_core::usage::{ToolName, Usage};

/// The most tools that are told apart: more than any provider has.
const MAX_TOOLS: usize = 32;

/// Calls by tool, of all places where one answer tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostedTools {
    calls: Vec<(ToolName, u64)>,
    unknown: Vec<(String, String)>,
}

impl HostedTools {
    /// Reads the `tool_usage` of a response: objects by the name of the tool, with `num_requests`. What else they count, such as tokens of
    /// an image tool's own model, is noted as unknown.
    ///
    /// # Errors
    /// When the text is not JSON here.
    pub fn tool_usage(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        let mut notes = Notes::default();
        members(scanner, |scanner, tool| {
            members(scanner, |scanner, count| match ToolName::new(tool) {
                Some(name) if count == "num_requests" => {
                    let calls = notes.number(scanner)?;
                    calls.into_iter().for_each(|calls| self.told(name, calls));
                    Ok(())
                }
                _ => notes.unknown(scanner, &format!("tool_usage.{tool}.{count}")),
            })
        })?;
        if notes.broken {
            notes.note("tool_usage", "not a count");
        }
        self.unknown.append(&mut notes.unknown);
        Ok(())
    }

    /// Notes an item of a response's `output` by its type. A whole list of items tells of all of these tools, those that made none included.
    pub fn item(&mut self, kind: &str) {
        let tool = match kind {
            "web_search_call" => "web_search",
            "file_search_call" => "file_search",
            "code_interpreter_call" => "code_interpreter",
            "image_generation_call" => "image_generation",
            "mcp_call" => "mcp",
            _ => return,
        };
        if let Some(tool) = ToolName::new(tool) {
            let before = self.calls.iter().find(|(held, _)| *held == tool).map_or(0, |(_, calls)| *calls);
            self.told(tool, before.saturating_add(1));
        }
    }

    /// Notes that all items of a response were seen.
    pub fn all_items_seen(&mut self) {
        for tool in ["web_search", "file_search", "code_interpreter", "image_generation", "mcp"] {
            ToolName::new(tool).into_iter().for_each(|tool| self.told(tool, 0));
        }
    }

    /// Reads an object of counts, whose names are those of tools with a word behind them.
    pub(super) fn each(&mut self, scanner: &mut Scanner<'_>, behind: &str, notes: &mut Notes) -> Result<(), Fault> {
        members(scanner, |scanner, name| match ToolName::new(name.strip_suffix(behind).unwrap_or(name)) {
            Some(tool) => {
                let calls = notes.number(scanner)?;
                calls.into_iter().for_each(|calls| self.told(tool, calls));
                Ok(())
            }
            None => notes.unknown(scanner, name),
        })
    }

    /// A count, which raises one that was told elsewhere.
    pub(super) fn told(&mut self, tool: ToolName, calls: u64) {
        let room = self.calls.len() < MAX_TOOLS;
        match self.calls.iter_mut().find(|(held, _)| *held == tool) {
            Some((_, held)) => *held = calls.max(*held),
            None if room => self.calls.push((tool, calls)),
            None if calls > 0 => self.unknown.push((tool.to_string(), calls.to_string())),
            None => {}
        }
    }

    /// Adds the calls to a usage.
    pub fn add_to(self, usage: &mut Usage) {
        for (tool, calls) in self.calls {
            let known = usage.get(aex_core::usage::Bucket::Tool(tool));
            usage.add_calls(tool, calls.saturating_sub(known));
        }
        let room = aex_core::ask::NAMES_KEPT.saturating_sub(usage.unknown.len());
        usage.unknown.extend(self.unknown.into_iter().take(room));
    }
}
