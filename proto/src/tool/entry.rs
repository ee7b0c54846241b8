//! A server as it is written into mcp.json: the keys that every host of MCP knows, and those of ours that a command line can state.

use crate::sandbox::Level;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One server. Its fields stand in the order in which a person would write them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The program: an absolute path, `~/…`, or a name that is looked for in PATH.
    pub command: String,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Variables; values may be `${env:NAME}`, `${file:PATH}` and `${credential:NAME}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The folder that it starts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// It is not started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// When it is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Who shares a process of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// What it may reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Sandbox>,
    /// What a call costs, in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_usd: Option<String>,
    /// What becomes of a tool that is seen for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
}

impl Entry {
    /// Of which nothing is stated but the program.
    #[must_use]
    pub fn new(command: String, args: Vec<String>) -> Entry {
        let env = BTreeMap::new();
        Entry { command, args, env, cwd: None, disabled: false, start: None, scope: None, sandbox: None, price_usd: None, trust: None }
    }
}

// Values of variables may be secrets.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.env.keys().collect();
        f.debug_struct("Entry").field("command", &self.command).field("env", &names).finish_non_exhaustive()
    }
}

/// When a server is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the daemon.
    Boot,
    /// With the first list or call that needs it.
    Demand,
}

/// Who shares a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The calls of one run; those without a run, by agent.
    Run,
    /// All callers.
    Shared,
}

/// What is done about a tool that nobody has approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// It is quarantined until a person approves it.
    Approve,
    /// It is pinned as it is first seen.
    FirstUse,
}

/// What a server may reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Sandbox {
    /// A level alone.
    Level(Level),
    /// A level with what is granted.
    Grants(Grants),
}

/// What is granted beside a level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// The level.
    pub level: Level,
    /// Below it the server does not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<Level>,
    /// Paths that it may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<String>,
    /// Paths that it may write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub write: Vec<String>,
    /// Hosts that it may connect to with `strict`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_written_as_a_person_would_and_shows_no_value() {
        let mut entry = Entry::new("npx".to_owned(), vec!["-y".to_owned()]);
        assert_eq!(serde_json::to_string(&entry).unwrap_or_default(), r#"{"command":"npx","args":["-y"]}"#);
        entry.env.insert("K".to_owned(), "hunter2".to_owned());
        entry.sandbox = Some(Sandbox::Level(Level::Strict));
        entry.trust = Some(Trust::FirstUse);
        entry.start = Some(Start::Boot);
        entry.disabled = true;
        let text = r#"{"command":"npx","args":["-y"],"env":{"K":"hunter2"},"disabled":true,"start":"boot","sandbox":"strict","trust":"first-use"}"#;
        assert_eq!(serde_json::to_string(&entry).unwrap_or_default(), text);
        assert_eq!(serde_json::from_str::<Entry>(text).ok().as_ref(), Some(&entry));
        let shown = format!("{entry:?}");
        assert!(shown.contains('K') && !shown.contains("hunter2"), "{shown}");
    }
}
