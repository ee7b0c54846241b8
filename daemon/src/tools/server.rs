//! A tool server as it is configured: checked values, made by the registry, read by the supervisor and the sandbox.
//!
//! Must not: read files or the environment, start anything.

pub use aex_proto::sandbox::Level;
use aex_proto::value::Pico;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// One server of `mcp.json`, checked. Equal ones need no restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name: 1 to 48 of `A-Z a-z 0-9 - _`, without `__`.
    pub name: String,
    /// The program, as it is written: a path, or a name that is looked for in the PATH of its environment.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What is added to the small environment that each server has. Values may refer to secrets.
    pub env: BTreeMap<String, EnvValue>,
    /// The folder that it starts in; absent: a private one below the daemon's home.
    pub cwd: Option<PathBuf>,
    /// Whether it may be started at all.
    pub enabled: bool,
    /// When it is started.
    pub start: Start,
    /// Who shares a process of it.
    pub shared: Shared,
    /// What it may reach.
    pub confinement: Confinement,
    /// How long things may take.
    pub times: Times,
    /// How much of anything it may have.
    pub bounds: Bounds,
    /// What a call costs; absent: nothing. A rule of permissions.json may say otherwise.
    pub price: Option<Pico>,
    /// The same by tool, before `price`.
    pub tool_prices: BTreeMap<String, Pico>,
    /// What becomes of a tool that is seen for the first time.
    pub trust: Trust,
    /// Whether the server may ask the client's model or its user something.
    pub may_ask: MayAsk,
    /// Whether arguments and results of its calls are recorded whole, not as digests.
    pub log_full: bool,
}

/// The value of a variable: text and references, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvValue(pub Vec<EnvPart>);

/// A part of a variable's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvPart {
    /// As it is written.
    Text(String),
    /// `${env:NAME}`: of the daemon's own environment, `.env` included.
    Env(String),
    /// `${file:PATH}`: what a file holds, without the line end.
    File(PathBuf),
    /// `${credential:NAME}`: a file of systemd's CREDENTIALS_DIRECTORY.
    Credential(String),
}

/// When a server is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first list or call that needs it.
    OnDemand,
    /// With the daemon.
    AtBoot,
}

/// Who shares a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// All callers.
    ByAll,
    /// The calls of one run; those without a run, by agent.
    ByRun,
}

/// What is done about a tool that nobody has approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is pinned as it is first seen.
    FirstUse,
    /// It is quarantined until a person approves it.
    Approve,
}

/// Requests of a server to its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MayAsk {
    /// To sample from a model.
    pub sampling: bool,
    /// To ask the user.
    pub elicitation: bool,
}

/// What a process may reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The level asked for.
    pub level: Level,
    /// The least that must be in force: below it the server does not start.
    pub require: Option<Level>,
    /// Folders and files that it may read, beside the system's.
    pub read: Vec<PathBuf>,
    /// Folders and files that it may write.
    pub write: Vec<PathBuf>,
    /// Hosts that it may connect to with `strict`: `HOST` or `HOST:PORT`.
    pub hosts: Vec<String>,
    /// Limits of its processes.
    pub resources: Resources,
}

/// Limits of the processes of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Private memory that each process may write, in bytes; with a control group the memory of all together.
    pub memory_bytes: Option<u64>,
    /// CPU time of each process, in seconds.
    pub cpu_seconds: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Open files of each process.
    pub open_files: Option<u64>,
    /// The largest file that a process may write, in bytes.
    pub file_bytes: Option<u64>,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// From its start to its list of tools.
    pub start: Duration,
    /// A call, from its last sign of progress.
    pub call: Duration,
    /// A call in all.
    pub call_total: Duration,
    /// Each step of its shutdown: closed input, SIGTERM.
    pub shutdown: Duration,
    /// Without a call before it is stopped; absent: never.
    pub idle: Option<Duration>,
}

/// How much of anything a server may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The longest message, in bytes.
    pub message_bytes: usize,
    /// Calls at once.
    pub concurrency: usize,
    /// Calls that wait for their turn; beyond it they are refused.
    pub queue: usize,
    /// The longest text of a result that an agent gets, in bytes.
    pub result_bytes: usize,
}

impl MayAsk {
    /// Whether it may ask anything.
    #[must_use]
    pub const fn any(self) -> bool {
        self.sampling || self.elicitation
    }
}

impl Times {
    /// Where nothing is configured.
    pub const DEFAULT: Times = Times {
        start: Duration::from_secs(30),
        call: Duration::from_secs(60),
        call_total: Duration::from_secs(600),
        shutdown: Duration::from_secs(3),
        idle: Some(Duration::from_secs(15 * 60)),
    };
}

impl Bounds {
    /// Where nothing is configured.
    pub const DEFAULT: Bounds = Bounds { message_bytes: 4 << 20, concurrency: 8, queue: 64, result_bytes: 1 << 20 };
}

impl Resources {
    /// Where nothing is configured: room for node and python.
    pub const DEFAULT: Resources = Resources {
        memory_bytes: Some(8 << 30),
        cpu_seconds: None,
        processes: Some(256),
        open_files: Some(1_024),
        file_bytes: Some(1 << 30),
    };
}

impl Server {
    /// One of which nothing is configured but its program.
    #[must_use]
    pub fn named(name: &str, command: &str) -> Server {
        Server {
            name: name.to_owned(),
            command: command.to_owned(),
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: None,
            enabled: true,
            start: Start::OnDemand,
            shared: Shared::ByAll,
            confinement: Confinement {
                level: Level::Standard,
                require: None,
                read: Vec::new(),
                write: Vec::new(),
                hosts: Vec::new(),
                resources: Resources::DEFAULT,
            },
            times: Times::DEFAULT,
            bounds: Bounds::DEFAULT,
            price: None,
            tool_prices: BTreeMap::new(),
            trust: Trust::FirstUse,
            may_ask: MayAsk::default(),
            log_full: false,
        }
    }

    /// Whether a process of `other` may go on as one of this: all but what only callers look at is the same.
    #[must_use]
    pub fn runs_like(&self, other: &Server) -> bool {
        let process = |server: &Server| Server {
            price: None,
            tool_prices: BTreeMap::new(),
            trust: Trust::Approve,
            log_full: false,
            start: Start::OnDemand,
            ..server.clone()
        };
        process(self) == process(other)
    }
}
