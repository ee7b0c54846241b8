//! The ledger as a whole: its head, itself as a file that proves itself, backups, and what a restore did.

use crate::account::AgentName;
use crate::rpc::ErrorObject;
use crate::value::{Digest, Pico, Stamp};
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

/// What `aexctl export --out` says of the file that it wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// The file.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Its lines.
    pub lines: u64,
    /// Its SHA-256.
    pub sha256: Digest,
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

/// Parameters of `ledger.backup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupWanted {
    /// The whole path of a file that is not there yet, in a folder that is; the daemon writes it.
    pub file: String,
}

/// Reply of `ledger.backup`: a file that was read back before it was called good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// When it was made.
    pub at: Stamp,
    /// The file.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    /// The last event in it.
    pub head_seq: u64,
    /// The hash of that event.
    pub head_hash: Digest,
}

/// What `aexctl restore` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The backup's file.
    pub file: String,
    /// Its SHA-256.
    pub sha256: Digest,
    /// The last event in the backup.
    pub backup_seq: u64,
    /// The hash of that event.
    pub backup_hash: Digest,
    /// The last event now: the restore is recorded behind the backup's.
    pub head_seq: u64,
    /// The hash of that event.
    pub head_hash: Digest,
    /// The start that the restore counts as.
    pub epoch: u32,
    /// The ledger that was there; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// What it held beyond the backup; absent when there was none, or none that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
    /// Tokens that were revoked after the backup was made, and are revoked now.
    pub revoked: u64,
    /// Accounts that were closed, paused or killed after it, and are so now.
    pub stopped: u64,
    /// What is to be looked after by hand.
    pub warnings: Vec<String>,
}

/// What a ledger held beyond a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Events.
    pub events: u64,
    /// Calls that had ended.
    pub calls: u64,
    /// What they were charged.
    pub charged_pico: Pico,
    /// The same in US dollars.
    pub charged_usd: String,
}
