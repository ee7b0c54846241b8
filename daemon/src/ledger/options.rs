//! What a ledger is opened with.

use super::Durability;
use std::path::PathBuf;

/// How a ledger is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The database file.
    pub path: PathBuf,
    /// When a reservation has to be on disk.
    pub durability: Durability,
    /// The zone in which windows are counted.
    pub zone: jiff::tz::TimeZone,
    /// Past this size, in bytes, the WAL is started anew.
    pub wal_limit: u64,
}
