//! The ledger as a file: backups, and what a restore did.

use crate::value::{Digest, Pico, Stamp};
use serde::{Deserialize, Serialize};

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
