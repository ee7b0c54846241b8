//! The daemon itself.

use crate::value::{Digest, Stamp};
use serde::{Deserialize, Serialize};

/// The version of this protocol. A client refuses a daemon of another one.
pub const PROTOCOL: u32 = 1;

/// Reply of `daemon.hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the daemon.
    pub version: String,
    /// [`PROTOCOL`] of the daemon.
    pub protocol: u32,
    /// Its process.
    pub pid: u32,
    /// The port that it listens on.
    pub port: u16,
    /// Counts the starts of this ledger.
    pub epoch: u32,
    /// Its home directory.
    pub home: String,
}

/// What the daemon is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DaemonState {
    /// Calls are admitted.
    Ready,
    /// It cannot admit calls: a check has failed.
    Unhealthy,
    /// It is stopping; calls in flight finish.
    Draining,
}

impl DaemonState {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DaemonState::Ready => "ready",
            DaemonState::Unhealthy => "unhealthy",
            DaemonState::Draining => "draining",
        }
    }
}

/// One check of the daemon's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is checked: `ledger`, `config`, `clock` …
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// What was found.
    pub detail: String,
}

/// Reply of `daemon.status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// What it is doing.
    pub state: DaemonState,
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The port that it listens on.
    pub port: u16,
    /// The address that it listens on, with the port.
    pub listen: String,
    /// Where clients of this machine reach it: `http://127.0.0.1:9000`.
    pub origin: String,
    /// Its home directory.
    pub home: String,
    /// Counts the starts of this ledger.
    pub epoch: u32,
    /// When it started.
    pub started_at: Stamp,
    /// How long it has been running, by a clock that is never set.
    pub uptime_ms: u64,
    /// How commits reach the disk: `overlap`, `full` or `normal`.
    pub durability: String,
    /// Calls in flight.
    pub in_flight: u32,
    /// Number of the newest event.
    pub head_seq: u64,
    /// Hash of the newest event.
    pub head_hash: Digest,
    /// Its health.
    pub checks: Vec<Check>,
}

/// Reply of `daemon.stop`: it drains and then exits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// The process whose end is the end of the daemon.
    pub pid: u32,
    /// Calls that it lets finish.
    pub in_flight: u32,
    /// How long it waits for them at most.
    pub drain_ms: u64,
}
