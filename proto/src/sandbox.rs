//! How strictly a process is confined: what was asked for, what is in force, and what is not.

use serde::{Deserialize, Serialize};

/// How strictly a process is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Environment, limits and process group only.
    None,
    /// Files and signals; the network is open.
    Standard,
    /// Files, signals, and no network but granted hosts.
    Strict,
}

impl Level {
    /// Its name in configuration and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::None => "none",
            Level::Standard => "standard",
            Level::Strict => "strict",
        }
    }
}

/// What the stage put in force before it became the program: each part was tried out, by the process that became the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The level that was asked for.
    pub requested: Level,
    /// The highest level all of whose promises were proven.
    pub active: Level,
    /// What the network is.
    pub network: Network,
    /// Landlock's part.
    pub landlock: Landlock,
    /// A network of its own, with nothing but an own loopback.
    pub netns: bool,
    /// Process ids of its own: all die with the first one.
    pub pidns: bool,
    /// A tree of files of its own, which holds only what was granted.
    pub mountns: bool,
    /// Shared memory, semaphores and queues of its own.
    pub ipcns: bool,
    /// System calls are filtered.
    pub seccomp: bool,
    /// The control group's part.
    pub cgroup: Cgroup,
    /// What is open, though somebody may expect it closed.
    pub gaps: Vec<Gap>,
}

/// What a process has of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// All that its user has.
    Open,
    /// TCP to granted ports of any host, and UDP for names.
    Ports,
    /// None.
    Closed,
}

/// What Landlock does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landlock {
    /// The kernel's version of it; 0: it has none.
    pub abi: u32,
    /// How much of what this program knows is enforced.
    pub status: Enforced,
}

/// How much of a ruleset is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforced {
    /// All of it.
    Fully,
    /// What this kernel knows.
    Partially,
    /// Nothing.
    Not,
}

/// What a control group does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// The memory of all processes together is bounded.
    pub memory: bool,
    /// The number of all processes together is bounded.
    pub pids: bool,
    /// All of them can be killed at once.
    pub kill: bool,
}

/// Something that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// What it concerns.
    pub part: Part,
    /// What is open, and why: one line for a person.
    pub why: String,
}

/// What a gap concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Contents of files that were not granted.
    Files,
    /// Modes, owners and times of files that were not granted.
    Attributes,
    /// The network.
    Network,
    /// Unix sockets of others.
    UnixSockets,
    /// Signals to others, and their priorities and limits.
    Signals,
    /// That others run, and their command lines.
    ProcessList,
    /// System calls that a program does not need.
    Kernel,
    /// The memory of all processes together.
    Memory,
    /// The number of processes.
    ProcessCount,
    /// The disk, beyond the size of one file.
    Disk,
    /// Processes that outlive the daemon.
    Lifetime,
}

impl Report {
    /// Whether something is said of this part.
    #[must_use]
    pub fn has_gap(&self, part: Part) -> bool {
        self.gaps.iter().any(|gap| gap.part == part)
    }
}
