//! Tools whose definitions nobody trusts yet: what their servers say of them, and a person's word for it.

use crate::value::{Digest, Stamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `tool.review`: starts a server that does not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolReview {
    /// `SERVER`, or `SERVER.TOOL`.
    pub name: String,
}

/// Reply of `tool.review`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolsReviewed {
    /// The server.
    pub server: String,
    /// Its tools in quarantine for their definitions.
    pub tools: Vec<Reviewed>,
    /// Names of its tools that are trusted.
    pub trusted: Vec<String>,
}

/// A tool in quarantine. All of its texts are without control characters and others that a terminal does not show as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reviewed {
    /// Its name.
    pub tool: String,
    /// The digest of its definition, by which that is approved.
    pub digest: Digest,
    /// Bytes of it.
    pub bytes: u64,
    /// Why it is in quarantine.
    pub reason: String,
    /// When another definition was pinned; absent for a new tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_at: Option<Stamp>,
    /// Where the two differ; for a new tool all that is said of it.
    pub differences: Vec<Difference>,
    /// One of the two is too long to be kept, so that the differences are not known.
    #[serde(default)]
    pub is_unknown: bool,
}

/// A place at which two definitions differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Where: `description`, `inputSchema/properties/path/type`.
    pub what: String,
    /// What stood there; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What stands there; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

/// `tool.approve`: trusts definitions that a person has looked at, all or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolApprove {
    /// The server.
    pub server: String,
    /// The digest of what was looked at, by tool.
    pub pins: BTreeMap<String, Digest>,
}

/// Reply of `tool.approve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolsApproved {
    /// The server.
    pub server: String,
    /// The tools.
    pub tools: Vec<String>,
}
