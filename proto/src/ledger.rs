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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportBegun {
    /// Names it in its notifications.
    pub export: u64,
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
