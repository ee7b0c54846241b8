//! Servers of tools: what mcp.json says of them, how they are, what they say.

mod entry;
mod review;

pub use entry::{Entry, Grants, Sandbox, Scope, Start, Trust};
pub use review::{Difference, Reviewed, ToolApprove, ToolReview, ToolsApproved, ToolsReviewed};

use crate::account::AgentName;
use crate::sandbox::{Gap, Level};
use crate::value::{Pico, Stamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A method that is about one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerRef {
    /// Its name.
    pub name: String,
}

/// `tool.add`: writes a server into mcp.json.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolAdd {
    /// Its name: 1 to 48 of `A-Z a-z 0-9 - _` without two `_` in a row.
    pub name: String,
    /// What is written.
    pub server: Entry,
}

/// Reply of `tool.add`, `tool.enable`, `tool.disable` and `tool.restart`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerChanged {
    /// How it is now.
    pub server: Server,
    /// What a user should know of it.
    pub warnings: Vec<String>,
}

/// Reply of `tool.remove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRemoved {
    /// What it was called.
    pub name: String,
}

/// `tool.import`: writes servers of another host into mcp.json, those whose names are free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolImport {
    /// The servers. Of two with one name the first is taken.
    pub servers: Vec<ToolAdd>,
    /// Says what would be done, and does nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Reply of `tool.import`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolsImported {
    /// Names of the servers that were written, or would be.
    pub taken: Vec<String>,
    /// The others.
    pub skipped: Vec<SkippedServer>,
    /// What a user should know of those that were taken.
    pub warnings: Vec<String>,
}

/// A server that was not taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedServer {
    /// Its name.
    pub name: String,
    /// Why not.
    pub why: String,
}

/// Reply of `tool.list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerList {
    /// The servers, in the order of mcp.json.
    pub servers: Vec<Server>,
    /// What is wrong with mcp.json, when the daemon started without it: there are no servers then.
    pub problems: Vec<String>,
    /// Processes of tools that an earlier daemon left, and that were killed at this one's start.
    pub leftovers: u32,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// How it is. Of several processes: that of the one that is worst off.
    pub state: ServerState,
    /// Why it is not ready, or not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The level of confinement that is asked for; absent for a server elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Level>,
    /// The one that is in force, of several processes the lowest; absent while nothing runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_in_force: Option<Level>,
    /// What is open though somebody may expect it closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// Its tools, as far as they have been listed.
    pub tools: u32,
    /// Tools that cannot be offered.
    pub quarantined: u32,
    /// Calls and other requests of agents.
    pub calls: u64,
    /// Calls that run or wait now.
    pub in_flight: u32,
    /// Ends of processes that nobody asked for.
    pub restarts: u64,
    /// Its processes.
    pub pids: Vec<u32>,
}

/// How a server is, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It takes calls.
    Ready,
    /// Nothing runs; the next call starts it.
    Stopped,
    /// It starts.
    Starting,
    /// It ends because that was asked for.
    Stopping,
    /// It takes calls, but says much that is no MCP.
    Degraded,
    /// It ended, and is started again in a while.
    Backoff,
    /// It ended too often; `tool.restart` starts it.
    Failed,
    /// It is switched off.
    Disabled,
    /// It is a server elsewhere.
    NotSupported,
}

impl ServerState {
    /// Its name in JSON and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ServerState::Ready => "ready",
            ServerState::Stopped => "stopped",
            ServerState::Starting => "starting",
            ServerState::Stopping => "stopping",
            ServerState::Degraded => "degraded",
            ServerState::Backoff => "backoff",
            ServerState::Failed => "failed",
            ServerState::Disabled => "disabled",
            ServerState::NotSupported => "not_supported",
        }
    }
}

/// Reply of `tool.show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerShown {
    /// How it is.
    pub server: Server,
    /// What mcp.json says of it; absent for a server elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured: Option<Configured>,
    /// Its processes.
    pub processes: Vec<Process>,
    /// Its tools, as far as they have been listed.
    pub tools: Vec<Tool>,
    /// The last lines of its standard error.
    pub stderr: Vec<String>,
}

/// What holds for a server, defaults included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configured {
    /// The program.
    pub command: String,
    /// Where that is found now; absent when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its variables: references as they are written, `***` in place of text.
    pub env: BTreeMap<String, String>,
    /// Of its variables, what is missing now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// The folder that it starts in; absent: a private one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// When it is started.
    pub start: Start,
    /// Who shares a process of it.
    pub scope: Scope,
    /// Below it the server does not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<Level>,
    /// Paths that it may read.
    pub read: Vec<String>,
    /// Paths that it may write.
    pub write: Vec<String>,
    /// Hosts that it may connect to with `strict`.
    pub hosts: Vec<String>,
    /// Limits, by their keys in mcp.json; null: none.
    pub limits: BTreeMap<String, Option<u64>>,
    /// What a call costs, in pico-USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_pico: Option<Pico>,
    /// The same by tool.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tool_prices_pico: BTreeMap<String, Pico>,
    /// What becomes of a tool that is seen for the first time.
    pub trust: Trust,
    /// What the server may ask its client for: `sampling`, `elicitation`.
    pub allow: Vec<String>,
    /// Arguments and results are recorded whole.
    pub log_full: bool,
}

/// A process of a server, or the place of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Whose it is: `all`, `agent 5`, `run_17`.
    pub of: String,
    /// How it is.
    pub state: ServerState,
    /// Why it is not ready, or not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The revision of MCP that is spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The name and version that it gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub implementation: Option<String>,
    /// How long it has been ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<u64>,
    /// The confinement that is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Level>,
    /// Times that a process was started.
    pub starts: u64,
    /// Calls that got no answer.
    pub faults: u64,
    /// Those of them that took too long.
    pub timeouts: u64,
}

/// A tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Its server's name for it.
    pub name: String,
    /// Its name for agents.
    pub wire: String,
    /// What its server says of it, on one line, without control characters.
    pub description: String,
    /// What a call costs, in pico-USD, unless a rule of permissions.json says otherwise.
    pub price_pico: Pico,
    /// Why it cannot be offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
}

/// `tool.logs`: what the processes of a server say beside MCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolLogs {
    /// The server.
    pub name: String,
    /// The newest so many lines, at most [`ToolLogs::MAX_LIMIT`].
    pub limit: u32,
    /// Further lines follow as notifications `tool.line`.
    #[serde(default)]
    pub follow: bool,
}

impl ToolLogs {
    /// Lines at most.
    pub const MAX_LIMIT: u32 = 10_000;
}

/// Reply of `tool.logs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLines {
    /// The lines, the oldest first.
    pub lines: Vec<LogLine>,
    /// Names the notifications that follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<u64>,
}

/// A line of a server's log, without control characters and without the secrets of its environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it came.
    pub at: Stamp,
    /// The process.
    pub pid: u32,
    /// Where it came from.
    pub stream: LogStream,
    /// What it says.
    pub text: String,
}

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// The daemon, about the process.
    Daemon,
    /// Standard error.
    Stderr,
    /// Standard output, where it was no message.
    Stdout,
}

/// Notification `tool.line`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPushed {
    /// As `tool.logs` named it.
    pub subscription: u64,
    /// The line; absent when some were missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<LogLine>,
    /// Lines that were missed before it, because the reader was too slow.
    #[serde(default)]
    pub missed: u64,
}

/// `tool.call`: calls a tool for an agent, as that agent's own call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolInvoke {
    /// The agent that pays and whose permissions hold; `None`: the agent `default`.
    #[serde(default)]
    pub agent: Option<AgentName>,
    /// The tool: `SERVER.TOOL`, its name for agents, or its bare name where one server alone has such a tool.
    pub tool: String,
    /// Its arguments: a JSON object as text, read as it is written; empty: none.
    #[serde(default)]
    pub arguments: String,
}

/// Reply of `tool.call`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolInvoked {
    /// The request, which `explain` and events name.
    pub request: crate::value::RequestId,
    /// What the server answered, as MCP has it.
    pub result: Value,
    /// The server says that the tool failed.
    pub is_error: bool,
}
