//! A call of a tool as the supervisor is given it, and what it came to.

use super::super::framing::Progress;
use super::super::session::Asked;
use aex_proto::value::AccountId;
use rmcp::model::{CallToolResult, InputRequiredResult, InputResponses, JsonObject};
use tokio::sync::mpsc;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The agent.
    pub agent: AccountId,
    /// Its run, where it has one.
    pub run: Option<AccountId>,
}

/// Whose process it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Everybody's.
    All,
    /// An agent's, without a run.
    Agent(AccountId),
    /// A run's.
    Run(AccountId),
}

/// A call of a tool. Whoever may make it has been asked before.
#[derive(Debug)]
pub struct Call {
    /// The tool, by the server's own name for it.
    pub tool: String,
    /// Its arguments.
    pub arguments: Option<JsonObject>,
    /// Where progress goes. What does not fit into it is dropped.
    pub progress: Option<mpsc::Sender<Progress>>,
    /// Where the server's questions go; without it they are denied.
    pub asks: Option<mpsc::Sender<Asked>>,
    /// What the server asked for in an earlier try, and the state that it gave then.
    pub input: Option<(Option<InputResponses>, Option<String>)>,
}

/// What a call came to.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Its result, cut to what an agent can bear.
    Complete(CallToolResult),
    /// The server wants input first. Only one that may ask gets so far.
    InputRequired(Box<InputRequiredResult>),
}
