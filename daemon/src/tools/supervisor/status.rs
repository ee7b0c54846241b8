//! How the servers are, for people and programs.

use super::super::sandbox::Report;
use super::super::session::Quarantined;
use super::Scope;
use std::time::Duration;

/// A configured server.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Its name.
    pub server: String,
    /// Whether it may be started.
    pub enabled: bool,
    /// Its instances: none before the first use of one that is started on demand.
    pub instances: Vec<Instance>,
}

/// A process of a server, or the place of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Whose it is.
    pub scope: Scope,
    /// What it does.
    pub state: State,
    /// Why it is not ready, or not well.
    pub reason: Option<String>,
    /// Its process.
    pub pid: Option<u32>,
    /// The revision of MCP that is spoken.
    pub protocol: Option<String>,
    /// The name and version that it gave.
    pub implementation: Option<String>,
    /// How long it has been ready.
    pub ready_for: Option<Duration>,
    /// The confinement that is in force.
    pub confinement: Option<Report>,
    /// Its tools.
    pub tools: usize,
    /// Tools that it has and that cannot be offered.
    pub quarantined: Vec<Quarantined>,
    /// The last lines of its standard error.
    pub stderr: Vec<String>,
    /// What was counted since the configuration named it.
    pub counters: Counters,
}

/// What an instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing; the next call starts it.
    Stopped,
    /// It starts.
    Starting,
    /// It takes calls.
    Ready,
    /// It takes calls, but says much that is no MCP.
    Degraded,
    /// It ends because that was asked for.
    Stopping,
    /// It ended, and is started again in a while.
    Backoff,
    /// It ended too often; `restart` starts it.
    Failed,
}

impl State {
    /// Its name in JSON and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Stopped => "stopped",
            State::Starting => "starting",
            State::Ready => "ready",
            State::Degraded => "degraded",
            State::Stopping => "stopping",
            State::Backoff => "backoff",
            State::Failed => "failed",
        }
    }
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Times that a process was started.
    pub starts: u64,
    /// Ends that were not asked for.
    pub ends: u64,
    /// Calls and other requests of agents.
    pub calls: u64,
    /// Those that got no answer.
    pub faults: u64,
    /// Those of them that took too long.
    pub timeouts: u64,
    /// Calls that run or wait now.
    pub in_use: usize,
    /// Messages that were too long.
    pub oversize: u64,
    /// Answers that nobody waited for any more.
    pub late: u64,
    /// Lines on standard output that are no message.
    pub junk: u64,
}
