//! Calls of tools that wait for a person, and what a person lets pass for good.

use crate::run::RunId;
use crate::value::{AccountId, Digest, RequestId, Stamp};
use serde::{Deserialize, Serialize};

/// `approval.list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalQuery {
    /// Calls that begin to wait later follow as notifications `approval.wanted`.
    #[serde(default)]
    pub follow: bool,
}

/// Reply of `approval.list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalList {
    /// Calls that wait, the oldest first.
    pub waiting: Vec<Approval>,
    /// What passes without a question, the oldest first.
    pub always: Vec<Lasting>,
    /// Why nothing passes without a question, and no yes can be lasting: the file of those cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Names the notifications that follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<u64>,
}

/// A call that waits. All of its texts are without control characters and others that a terminal does not show as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// By which it is answered: the request, which its events name.
    pub id: RequestId,
    /// The agent.
    pub agent: String,
    /// The run, when it is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// `SERVER.TOOL`.
    pub tool: String,
    /// Its arguments as JSON, as far as they are shown.
    pub arguments: String,
    /// What it answers to questions of the server, as far as that is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<String>,
    /// Bytes of all that it says.
    pub arguments_bytes: u64,
    /// Not all of it is shown: `approval.show` does that, and `approval.approve` needs to be told that it was.
    #[serde(default)]
    pub is_cut: bool,
    /// The digest of all that it says, which its events name.
    pub input: Digest,
    /// The rule that asks.
    pub rule: String,
    /// Where it stands: `permissions.json:12`.
    pub place: String,
    /// Why it asks, in its author's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began to wait.
    pub asked_at: Stamp,
    /// When it is denied because nobody answered.
    pub expires_at: Stamp,
}

/// What passes without a question, because a person said so once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lasting {
    /// By which it is revoked: the beginning of it is enough.
    pub id: Digest,
    /// The agent.
    pub agent: String,
    /// The agent's account.
    pub account: AccountId,
    /// `SERVER.TOOL`.
    pub tool: String,
    /// The rule that asked. It asks again as soon as it, or another rule that asks as well, says something else.
    pub rule: String,
    /// The process and the user that said so.
    pub by: Person,
    /// When.
    pub at: Stamp,
}

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The process.
    pub pid: i32,
    /// The user.
    pub uid: u32,
}

/// `approval.show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalShow {
    /// The call.
    pub id: RequestId,
    /// Where in its text to begin, as `next` named it; 0: at the beginning.
    #[serde(default)]
    pub from: u64,
}

/// Reply of `approval.show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalShown {
    /// The call.
    pub approval: Approval,
    /// A piece of all that it says: its arguments, and in a line of their own its answers, as a terminal may show them.
    pub text: String,
    /// Where the next piece begins; absent: this is the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// `approval.approve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalApprove {
    /// The call.
    pub id: RequestId,
    /// The same for all later calls of this agent to this tool for which the same rules ask.
    #[serde(default)]
    pub always: bool,
    /// The beginning of its `input`, at least 8 hex digits: whoever approves has seen all of it. Needed where the list does not show all.
    #[serde(default)]
    pub seen: Option<String>,
    /// Why, for the event.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `approval.deny`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalDeny {
    /// The call.
    pub id: RequestId,
    /// Why, for the event.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Reply of `approval.approve` and `approval.deny`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalAnswered {
    /// The call. What becomes of one that was approved is told by its events: it is weighed again.
    pub approval: Approval,
}

/// `approval.revoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRevoke {
    /// The beginning of an id of `always`, at least 4 hex digits.
    pub id: String,
    /// Why, for the event.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Notification `tool.waits`, to the connection that made the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolWaits {
    /// The call.
    pub approval: Approval,
}

/// Notification `approval.wanted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalWanted {
    /// As `approval.list` named it.
    pub subscription: u64,
    /// The call.
    pub approval: Approval,
}
