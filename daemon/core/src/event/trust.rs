//! Bodies of the events of trust: which calls and which tools a person lets pass, and who tried to answer in a person's place.

use super::By;
use aex_proto::value::{AccountId, Digest, RequestId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A person answered a call that waited, or took a lasting yes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalGiven {
    /// The agent whose call it is.
    pub account: AccountId,
    /// The answer.
    pub answer: Answered,
    /// Who gave it.
    pub by: By,
    /// Why, when that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The call; absent where a lasting yes is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// The rule that asked, by its name.
    pub rule: String,
    /// The digest of what all rules say that asked ([`crate::tool::Permissions::asked_by`]); absent where not all of them are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated: Option<Digest>,
    /// `SERVER.TOOL`.
    pub tool: String,
    /// The newest request when a lasting yes was taken back: it lets no later one pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<RequestId>,
}

/// What a person answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    /// Yes, and to all later calls of this agent to this tool for which the same rules ask.
    Always,
    /// Yes.
    Approved,
    /// No.
    Denied,
    /// The lasting yes holds no more.
    Revoked,
}

impl Answered {
    /// Its name in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Answered::Always => "always",
            Answered::Approved => "approved",
            Answered::Denied => "denied",
            Answered::Revoked => "revoked",
        }
    }
}

/// A request on the control socket was refused, because it came from inside a run or a tool. At most one is recorded a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminBarred {
    /// Who asked.
    pub by: By,
    /// Where that process comes from.
    pub inside: Inside,
    /// The method.
    pub method: String,
}

/// What a process descends from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inside {
    /// The command of a run, by the run's account.
    Run(AccountId),
    /// A server of tools, by its name.
    Server(String),
    /// The system does not tell.
    Unknown,
}

/// What a server's tools are said to be was seen for the first time, changed, or was approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolPinned {
    /// Who approved; absent for what the daemon saw by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// The digest of each tool's definition, by its name ([`crate::tool::Definition`]).
    pub pins: BTreeMap<String, Digest>,
    /// The server.
    pub server: String,
    /// What became of them.
    pub what: PinChange,
}

/// What became of definitions of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinChange {
    /// A person approved them: they are pinned.
    Approved,
    /// They are not what is pinned: the tools are quarantined.
    Changed,
    /// Seen for the first time, they are pinned.
    FirstUse,
    /// The server has them no more. What is pinned stays.
    Removed,
    /// Seen for the first time, they wait for a person's approval.
    Unapproved,
}

impl PinChange {
    /// Its name in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            PinChange::Approved => "approved",
            PinChange::Changed => "changed",
            PinChange::FirstUse => "first_use",
            PinChange::Removed => "removed",
            PinChange::Unapproved => "unapproved",
        }
    }
}
