//! The tools of a server: bounded, in one order, a bad one apart from the good ones.

use super::super::fault::ToolFault;
use super::super::process::Hidden;
use super::{Along, Limits, Session};
use rmcp::model::{ClientRequest, ListToolsRequest, PaginatedRequestParams, ServerResult, Tool};
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

/// Tools of a server at most; more are left out and told.
const MAX_TOOLS: usize = 1_000;
/// Pages of its list at most.
const MAX_PAGES: usize = 50;
/// The longest name of a tool, in bytes (revision 2025-11-25: 1 to 128 characters).
const MAX_NAME: usize = 128;
/// Levels of a schema at most.
const MAX_DEPTH: usize = 64;
/// How long a server that says it has no tools may leave the list unanswered.
const UNPROMISED: Duration = Duration::from_secs(5);

/// What a server offers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// Its tools, by name.
    pub tools: Vec<Tool>,
    /// Tools that cannot be offered, by name.
    pub quarantined: Vec<Quarantined>,
    /// What it says about its use.
    pub instructions: Option<String>,
    /// Whether it says that it has resources.
    pub has_resources: bool,
    /// Whether it says that it has prompts.
    pub has_prompts: bool,
}

/// A tool that cannot be offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its name, as far as it has one.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The request for a page.
pub(super) fn page(cursor: Option<String>) -> ClientRequest {
    let params = PaginatedRequestParams::default().with_cursor(cursor);
    ClientRequest::ListToolsRequest(ListToolsRequest { method: Default::default(), params: Some(params), extensions: Default::default() })
}

impl Session {
    /// All tools of the server.
    ///
    /// # Errors
    /// When it does not tell them. A server that has no such method has no tools.
    pub(in crate::tools) async fn list(&self, limit: Duration) -> Result<Listing, ToolFault> {
        let is_promised = self.capabilities.tools.is_some();
        let limits = Limits::flat(if is_promised { limit } else { limit.min(UNPROMISED) });
        let mut gathered = Gathered::default();
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let answer = match self.request(page(cursor.clone()), Along::default(), limits).await {
                Ok(ServerResult::CustomResult(answer)) => answer.0,
                Ok(_) => return Err(self.broken("its list of tools is something else")),
                Err(ToolFault::Refused { code: -32601, .. }) => return Ok(self.listing(Gathered::default())),
                Err(ToolFault::TimedOut { .. }) if !is_promised => return Ok(self.listing(Gathered::default())),
                Err(fault) => return Err(fault),
            };
            let Value::Object(mut answer) = answer else { return Err(self.broken("its list of tools is no object")) };
            let Some(Value::Array(tools)) = answer.remove("tools") else { return Err(self.broken("its list of tools has no `tools`")) };
            tools.into_iter().for_each(|tool| gathered.add(tool));
            match answer.remove("nextCursor") {
                Some(Value::String(next)) if cursor.as_ref() != Some(&next) => cursor = Some(next),
                Some(Value::String(_)) => return Err(self.broken("its list of tools turns in a circle")),
                _ => return Ok(self.listing(gathered)),
            }
        }
        gathered.refuse("", format!("the list has more than {MAX_PAGES} pages; the rest is left out"));
        Ok(self.listing(gathered))
    }

    fn listing(&self, gathered: Gathered) -> Listing {
        Listing {
            instructions: self.instructions.clone(),
            has_resources: self.capabilities.resources.is_some(),
            has_prompts: self.capabilities.prompts.is_some(),
            ..gathered.listing(&self.hidden)
        }
    }

    fn broken(&self, detail: &str) -> ToolFault {
        ToolFault::Protocol { server: self.server.name.clone(), detail: detail.to_owned() }
    }
}

#[derive(Default)]
struct Gathered {
    tools: BTreeMap<String, Tool>,
    quarantined: Vec<Quarantined>,
    left_out: usize,
}

impl Gathered {
    fn add(&mut self, tool: Value) {
        let name = tool.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if self.tools.len() >= MAX_TOOLS {
            self.left_out = self.left_out.saturating_add(1);
        } else if let Err(reason) = check(&tool, &name) {
            self.refuse(&name, reason);
        } else {
            match (self.tools.entry(name.clone()), serde_json::from_value::<Tool>(tool)) {
                (Entry::Vacant(place), Ok(tool)) => {
                    place.insert(tool);
                }
                (Entry::Occupied(_), _) => self.refuse(&name, "another tool of this server has the same name".to_owned()),
                (Entry::Vacant(_), Err(fault)) => self.refuse(&name, fault.to_string()),
            }
        }
    }

    fn refuse(&mut self, name: &str, reason: String) {
        let name = name.chars().take(MAX_NAME).collect();
        if self.quarantined.len() < MAX_TOOLS {
            self.quarantined.push(Quarantined { name, reason });
        }
    }

    fn listing(mut self, hidden: &Hidden) -> Listing {
        if self.left_out > 0 {
            self.refuse("", format!("the server has more than {MAX_TOOLS} tools; {} are left out", self.left_out));
        }
        for bad in &mut self.quarantined {
            (bad.name, bad.reason) = (hidden.said(&bad.name), hidden.said(&bad.reason));
        }
        self.quarantined.sort_by(|one, other| one.name.cmp(&other.name));
        Listing { tools: self.tools.into_values().collect(), quarantined: self.quarantined, ..Listing::default() }
    }
}

fn check(tool: &Value, name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!("its name has to have 1 to {MAX_NAME} bytes"));
    }
    if name.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
        return Err("its name has control characters or spaces".to_owned());
    }
    let schema = tool.get("inputSchema").ok_or("it has no `inputSchema`")?;
    let kind = schema.as_object().ok_or("its `inputSchema` is no object")?.get("type");
    if kind.is_some_and(|kind| kind != "object") {
        return Err("its `inputSchema` describes something else than an object".to_owned());
    }
    let schemas = [Some(schema), tool.get("outputSchema")];
    if schemas.into_iter().flatten().any(|schema| depth(schema) > MAX_DEPTH) {
        return Err(format!("its schema is more than {MAX_DEPTH} levels deep"));
    }
    Ok(())
}

/// Levels of a value. serde_json reads 127 at most, so this ends.
fn depth(value: &Value) -> usize {
    let below = match value {
        Value::Array(values) => values.iter().map(depth).max(),
        Value::Object(values) => values.values().map(depth).max(),
        _ => return 0,
    };
    below.unwrap_or_default().saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_bad_tool_takes_none_of_the_others_away() {
        let good = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
        let mut deep = json!({"type": "object"});
        for _ in 0..MAX_DEPTH {
            deep = json!({"type": "object", "properties": {"a": deep}});
        }
        let mut gathered = Gathered::default();
        for tool in [
            good("b"),
            json!({"name": "no_schema"}),
            json!({"name": "list", "inputSchema": []}),
            json!({"name": "text", "inputSchema": {"type": "string"}}),
            json!({"name": "deep", "inputSchema": deep}),
            json!({"name": "title", "title": 7, "inputSchema": {}}),
            json!({"name": 7, "inputSchema": {}}),
            good("b"),
            good("x\u{1b}[2J"),
            good("a"),
        ] {
            gathered.add(tool);
        }
        let listing = gathered.listing(&Hidden::default());
        let names: Vec<&str> = listing.tools.iter().map(|tool| &*tool.name).collect();
        assert_eq!(names, ["a", "b"]);
        let apart: Vec<&str> = listing.quarantined.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(apart, ["", "b", "deep", "list", "no_schema", "text", "title", "x"]);
    }
}
