//! Why a tool's server could not answer, in words that an agent can act on.
//!
//! Must not: decide what becomes of the call's money; [`ToolFault::is_unsent`] says what that needs.

use super::process::Exit;
use std::time::Duration;
use thiserror::Error;

/// A call, or a list, that got no answer from its server. Its text names what happened and what can be done, and is for any agent: what the
/// server wrote on standard error, which may be about the calls of others, is for administrators ([`ToolFault::in_full`]).
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ToolFault {
    /// No such server is configured.
    #[error("there is no tool server `{server}`")]
    Unknown {
        /// Its name.
        server: String,
    },
    /// It is switched off in mcp.json.
    #[error("the tool server `{server}` is disabled; `aexctl tools enable {server}` enables it")]
    Disabled {
        /// Its name.
        server: String,
    },
    /// It could not be started.
    #[error("the tool server `{server}` could not be started: {reason}{}", logged(.server, .stderr))]
    NotStarted {
        /// Its name.
        server: String,
        /// What went wrong.
        reason: String,
        /// The last lines of its standard error.
        stderr: Vec<String>,
    },
    /// It ended, and is not started again yet.
    #[error("the tool server `{server}` is down ({reason}) and is started again in {}; try again then", seconds(.retry_in))]
    Resting {
        /// Its name.
        server: String,
        /// How it ended.
        reason: String,
        /// When it is started again.
        retry_in: Duration,
    },
    /// It ended too often.
    #[error("the tool server `{server}` has failed ({reason}) and is not started again until `aexctl tools restart {server}`{}", logged(.server, .stderr))]
    Failed {
        /// Its name.
        server: String,
        /// How it ended the last time.
        reason: String,
        /// The last lines of its standard error.
        stderr: Vec<String>,
    },
    /// Too many calls run and wait.
    #[error("the tool server `{server}` is busy: {running} calls run and {waiting} wait; try again later")]
    Busy {
        /// Its name.
        server: String,
        /// Calls at once.
        running: usize,
        /// Calls that may wait.
        waiting: usize,
    },
    /// Its program, or what it says of the tool, is another one than when the call was judged.
    #[error("the tool server `{server}` was changed while the call waited, and nothing was sent to it; try again")]
    Changed {
        /// Its name.
        server: String,
    },
    /// The arguments are longer than a message may be.
    #[error("the call is too large for the tool server `{server}`: a message may have {limit} bytes")]
    RequestTooLarge {
        /// Its name.
        server: String,
        /// The longest message, in bytes.
        limit: usize,
    },
    /// The server ended in mid-call.
    #[error("the tool server `{server}` {exit} during the call; it is not known whether the call took effect{}", logged(.server, .stderr))]
    Exited {
        /// Its name.
        server: String,
        /// How.
        exit: Exit,
        /// The last lines of its standard error.
        stderr: Vec<String>,
    },
    /// The server was ended in mid-call.
    #[error("the tool server `{server}` was stopped during the call: {why}")]
    Stopped {
        /// Its name.
        server: String,
        /// Why.
        why: String,
    },
    /// No answer in time.
    #[error("the tool server `{server}` did not answer within {}{}; the call was cancelled", seconds(.limit), if *.in_all { " in all" } else { "" })]
    TimedOut {
        /// Its name.
        server: String,
        /// The time that it had.
        limit: Duration,
        /// Whether it showed progress until then, and the limit is that of the whole call.
        in_all: bool,
    },
    /// The answer was longer than a message may be.
    #[error("result too large: the tool server `{server}` answered with more than {limit} bytes; ask for less at once")]
    ResultTooLarge {
        /// Its name.
        server: String,
        /// The longest message, in bytes.
        limit: usize,
    },
    /// The server answered with an error of its own.
    #[error("the tool server `{server}` refused the request: {message} ({code})")]
    Refused {
        /// Its name.
        server: String,
        /// The JSON-RPC error code.
        code: i32,
        /// Its words.
        message: String,
        /// What it added.
        detail: Option<serde_json::Value>,
    },
    /// The server wants input that its configuration does not let it ask for.
    #[error("the tool server `{server}` asked for {what}, which its configuration does not allow")]
    Asked {
        /// Its name.
        server: String,
        /// For what.
        what: &'static str,
    },
    /// What it said is no MCP.
    #[error("the tool server `{server}` broke the protocol: {detail}")]
    Protocol {
        /// Its name.
        server: String,
        /// In what way.
        detail: String,
    },
    /// The daemon itself ends, or cannot run tools at all.
    #[error("tools cannot be called: {why}")]
    Unavailable {
        /// Why.
        why: String,
    },
}

impl ToolFault {
    /// The same with the last lines of the server's standard error. They may tell of the calls of other agents.
    #[must_use]
    pub fn in_full(&self) -> String {
        match self {
            ToolFault::NotStarted { stderr, .. } | ToolFault::Failed { stderr, .. } | ToolFault::Exited { stderr, .. }
                if !stderr.is_empty() =>
            {
                format!("{self}; it said last:\n{}", stderr.join("\n"))
            }
            _ => self.to_string(),
        }
    }

    /// A word for events, metrics and programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            ToolFault::Unknown { .. } => "unknown_server",
            ToolFault::Disabled { .. } => "disabled",
            ToolFault::NotStarted { .. } => "not_started",
            ToolFault::Resting { .. } => "backoff",
            ToolFault::Failed { .. } => "failed",
            ToolFault::Busy { .. } => "busy",
            ToolFault::Changed { .. } => "changed",
            ToolFault::RequestTooLarge { .. } => "request_too_large",
            ToolFault::Exited { .. } => "exited",
            ToolFault::Stopped { .. } => "stopped",
            ToolFault::TimedOut { .. } => "timeout",
            ToolFault::ResultTooLarge { .. } => "result_too_large",
            ToolFault::Refused { .. } => "refused",
            ToolFault::Asked { .. } => "input_not_allowed",
            ToolFault::Protocol { .. } => "protocol",
            ToolFault::Unavailable { .. } => "unavailable",
        }
    }

    /// Whether the server certainly saw nothing of the call.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        match self {
            ToolFault::Unknown { .. }
            | ToolFault::Disabled { .. }
            | ToolFault::NotStarted { .. }
            | ToolFault::Resting { .. }
            | ToolFault::Failed { .. }
            | ToolFault::Busy { .. }
            | ToolFault::Changed { .. }
            | ToolFault::RequestTooLarge { .. }
            | ToolFault::Unavailable { .. } => true,
            ToolFault::Exited { .. }
            | ToolFault::Stopped { .. }
            | ToolFault::TimedOut { .. }
            | ToolFault::ResultTooLarge { .. }
            | ToolFault::Refused { .. }
            | ToolFault::Asked { .. }
            | ToolFault::Protocol { .. } => false,
        }
    }
}

fn logged(server: &str, stderr: &[String]) -> String {
    if stderr.is_empty() { String::new() } else { format!("; `aexctl tools logs {server}` shows what it said last") }
}

fn seconds(time: &Duration) -> String {
    if time.subsec_millis() == 0 { format!("{} s", time.as_secs()) } else { format!("{:.1} s", time.as_secs_f64()) }
}
