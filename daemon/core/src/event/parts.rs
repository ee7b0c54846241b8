//! What bodies of several kinds of events are made of.

use crate::chain::Head;
use aex_proto::value::{Digest, Pico, Stamp};
use serde::{Deserialize, Serialize};

/// Who did an admin action: the peer of the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct By {
    /// Its process.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
}

/// What an account brought along from the database of an earlier program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imported {
    /// When that program had made it.
    pub created_at: Stamp,
    /// The SHA-256 of that database.
    pub database: Digest,
    /// What it had spent there: its total begins with it.
    pub spent: Pico,
}

/// Where a chain ended: the event's number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainEnd {
    /// Its hash.
    pub hash: Digest,
    /// Its number.
    pub seq: i64,
}

impl From<Head> for ChainEnd {
    fn from(head: Head) -> ChainEnd {
        ChainEnd { hash: head.hash, seq: head.seq }
    }
}

/// A model that a call did not go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// The model.
    pub model: String,
    /// The rule that kept it from there, as denials name it.
    pub rule: String,
}

/// What was done to the servers of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolsAction {
    /// They were added to mcp.json.
    Added,
    /// They were switched off there.
    Disabled,
    /// They were switched on there.
    Enabled,
    /// They were taken over from the file of another host.
    Imported,
    /// The file was read: at a start all of them, later those that are new, changed or gone.
    Loaded,
    /// They were taken out of it.
    Removed,
    /// Their processes were started anew.
    Restarted,
}

impl ToolsAction {
    /// Its name in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ToolsAction::Added => "added",
            ToolsAction::Disabled => "disabled",
            ToolsAction::Enabled => "enabled",
            ToolsAction::Imported => "imported",
            ToolsAction::Loaded => "loaded",
            ToolsAction::Removed => "removed",
            ToolsAction::Restarted => "restarted",
        }
    }
}
