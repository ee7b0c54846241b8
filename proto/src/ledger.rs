//! The ledger as a whole: its head, and itself as a file.

use crate::account::AgentName;
use crate::rpc::ErrorObject;
use crate::value::{Digest, Stamp};
use serde::{Deserialize, Serialize};

/// Reply of `ledger.head`: where the chain ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerHead {
    /// The hash of the last event.
    pub hash: Digest,
    /// The ledger's own name: 32 hex digits.
    pub ledger: String,
    /// The number of the last event.
    pub seq: u64,
}

/// `ledger.export`: the ledger as a file that proves itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    /// Only the events of this agent and its runs, and what limits the accounts above; of others no more than keeps the chain
    /// whole. A name that no living agent has is the last deleted one's.
    #[serde(default)]
    pub agent: Option<AgentName>,
    /// From this event on.
    #[serde(default)]
    pub since_seq: Option<u64>,
    /// From the first event of this instant or later on.
    #[serde(default)]
    pub since_at: Option<Stamp>,
}

/// Reply of `ledger.export`. The file follows as notifications `export`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportBegun {
    /// Names it in its notifications.
    pub export: u64,
    /// What is in segments, and not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
}

/// Old events that were taken out of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// All events up to this one.
    pub last: u64,
    /// The file with the newest of them; older ones lie in segments before it.
    pub segment: String,
}

/// `ledger.compact`: takes old events out of the ledger, into a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compact {
    /// The first event of this instant or later stays, and all behind it.
    pub before: Stamp,
    /// An absolute folder for the segment; `None`: `segments` beside the ledger.
    #[serde(default)]
    pub dir: Option<String>,
}

/// Reply of `ledger.compact`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// How many events were taken out.
    pub events: u64,
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// The file.
    pub segment: String,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// The notification `export`: the next lines of the file, or how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportPart {
    /// The export that it belongs to.
    pub export: u64,
    /// Whole lines; empty with the last notification.
    pub text: String,
    /// It is whole: nothing follows.
    pub is_whole: bool,
    /// Why it ended early: nothing follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<ErrorObject>,
}
