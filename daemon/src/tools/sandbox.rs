//! Confinement of one process: a plan goes to the stage (`aexd __stage`), which confines itself, tries out what it did, reports, and
//! becomes the program.
//!
//! Owns the plan, the way to the stage and back, and all that a confined process may reach. Must not: supervise what runs, know MCP.
//! Nothing here runs in the daemon but `stage`, `survey`, `examine` and what reads the report; the rest runs in the stage, which has one thread.

mod canary;
pub mod cgroup;
mod filter;
mod landlock;
mod limits;
mod look;
mod place;
mod program;
mod report;
mod root;
mod stage;
mod sys;
mod tree;
mod wait;

use crate::tools::server::{Confinement, Resources};
pub use aex_proto::sandbox::{Cgroup, Enforced, Gap, Landlock, Level, Network, Part, Report};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};
pub use stage::run;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the kernel keeps this very program, also after its file was replaced.
pub const SELF: &str = "/proc/self/exe";
/// The hidden subcommand that is the stage.
pub const SUBCOMMAND: &str = "__stage";
/// The stage's own failure, and a level below the one that is required: as `env` of coreutils.
pub const FAILED: u8 = 125;
/// The program is there and cannot be run.
pub const CANNOT_RUN: u8 = 126;
/// There is no such program.
pub const NOT_FOUND: u8 = 127;
/// The longest report; a stage that says more is broken.
const REPORT_BYTES: u64 = 1 << 20;

/// All that a stage needs to know. Holds secrets, so it travels in memory and is not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The program: a path, or a name that is looked for in the PATH of `env`. `None`: only try out and report.
    pub program: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment, secrets resolved.
    pub env: Vec<(String, String)>,
    /// Where it starts. It may be read; written only when it lies in `private` or in a grant.
    pub cwd: PathBuf,
    /// Folders of its own that it may read and write: HOME, TMPDIR, a private working folder. They may lie below `deny`.
    pub private: Vec<PathBuf>,
    /// The one of them that it sees as `/tmp`.
    pub tmp: Option<PathBuf>,
    /// The daemon's own files and sockets, which nothing grants; absent ones are no fault.
    pub deny: Vec<PathBuf>,
    /// What other tools may write, or might once: links in there may be their word, and are not followed by a name that was granted.
    pub writable: Vec<PathBuf>,
    /// The user's home: it is never granted because a program lies in it, only what the program needs of it.
    pub user_home: Option<PathBuf>,
    /// The control group that it joins first; `cgroup::Group::make` makes one.
    pub group: Option<PathBuf>,
    /// What was configured.
    pub confinement: Confinement,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("program", &self.program).field("level", &self.confinement.level).finish_non_exhaustive()
    }
}

/// What goes over the report's pipe: one JSON text per line, and its end when the program runs.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    /// What is in force.
    Report(Report),
    /// What is in force is less than what is required.
    Below(Report),
    /// What could not be done.
    Failed { code: u8, what: String },
}

/// Why no program runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Less is in force than `require` demands.
    #[error("{}", below(.0))]
    Below(Box<Report>),
    /// The stage could not do something; the code is the one that it ends with.
    #[error("{what}")]
    Failed {
        /// 125, or 126 and 127 of a program that cannot be run or is not there.
        code: u8,
        /// What it was: one line for a person.
        what: String,
    },
    /// The stage ended, or said something else, before it told how it went.
    #[error("the stage ended without a word")]
    Gone,
}

fn below(report: &Report) -> String {
    let gaps: Vec<&str> = report.gaps.iter().map(|gap| gap.why.as_str()).collect();
    format!("the sandbox is `{}`, which is less than what is required: {}", report.active.name(), gaps.join("; "))
}

/// A stage that is ready to be started.
#[derive(Debug)]
pub struct Stage {
    /// How it is started: set stdin, stdout and stderr, which the program gets, and nothing else. Drop it after the start: it holds the
    /// other end of the report. Its process leads a session and a group of its own, and dies with the thread that starts it.
    pub command: Command,
    /// What comes back.
    pub report: ReportReader,
}

/// Makes a stage of a plan. `aexd` is the daemon's own program: `SELF` within it.
///
/// # Errors
/// When the plan is no UTF-8, or the system gives no descriptor.
pub fn stage(aexd: &Path, plan: &Plan) -> io::Result<Stage> {
    let mut file = File::from(memfd_create(c"aexd-plan", MFdFlags::MFD_CLOEXEC)?);
    serde_json::to_writer(&mut file, &Order { parent: std::process::id(), plan: plan.clone() })?;
    file.flush()?;
    file.rewind()?;
    let (reader, writer) = io::pipe()?;
    let (plan, writer) = (OwnedFd::from(file), OwnedFd::from(writer));
    let mut command = Command::new(aexd);
    command.env_clear().arg(SUBCOMMAND).arg(plan.as_raw_fd().to_string()).arg(writer.as_raw_fd().to_string());
    sys::inherit(&mut command, [plan, writer]);
    Ok(Stage { command, report: ReportReader(reader.into()) })
}

/// What the stage reads: the plan, and whose child it has to be.
#[derive(Serialize, Deserialize)]
struct Order {
    parent: u32,
    plan: Plan,
}

/// The end of the pipe where the stage tells how it went. The program cannot write to it: the pipe is closed before it begins.
#[derive(Debug)]
pub struct ReportReader(OwnedFd);

impl ReportReader {
    /// Waits until the program runs, or does not. Blocks for some milliseconds; for as long as the stage lives when something is wrong
    /// with it, so the caller kills it at a deadline.
    ///
    /// # Errors
    /// Why no program runs.
    pub fn read(self) -> Result<Report, Failure> {
        let mut text = Vec::new();
        File::from(self.0).take(REPORT_BYTES).read_to_end(&mut text).map_err(|_| Failure::Gone)?;
        understood(&text)
    }

    /// The pipe, for who reads it in another way: up to its end, then `understood`.
    #[must_use]
    pub fn into_pipe(self) -> OwnedFd {
        self.0
    }
}

/// What the bytes of a report say.
///
/// # Errors
/// Why no program runs.
pub fn understood(text: &[u8]) -> Result<Report, Failure> {
    let mut report = None;
    for told in serde_json::Deserializer::from_slice(text).into_iter::<Told>() {
        match told.map_err(|_| Failure::Gone)? {
            Told::Report(told) => report = Some(told),
            Told::Below(told) => return Err(Failure::Below(Box::new(told))),
            Told::Failed { code, what } => return Err(Failure::Failed { code, what }),
        }
    }
    report.ok_or(Failure::Gone)
}

/// What the process of a plan would have of the disk.
#[derive(Debug)]
pub struct Given(tree::Tree);

impl Given {
    /// Whether it could read what is at a path now.
    #[must_use]
    pub fn has(&self, path: &Path) -> bool {
        path.canonicalize().is_ok_and(|real| self.0.gives(&real))
    }
}

/// Judges a plan as its stage would, as far as that depends on the disk; starts nothing. Blocks.
///
/// # Errors
/// Why its program would not start.
pub fn examine(plan: Plan) -> Result<Given, Failure> {
    let plan = look::resolved(plan)?;
    if plan.confinement.level == Level::None {
        return Ok(Given(tree::Tree::default()));
    }
    let (_, tree) = stage::given(look::Look::of(&plan)?, plan.program.as_deref())?;
    Ok(Given(tree))
}

/// The script that a program of this name would be given, where it is the first of these arguments.
#[must_use]
pub fn script<'a>(program: &Path, args: &'a [String]) -> Option<&'a str> {
    let first = args.first().filter(|first| !first.starts_with('-') && first.contains(['.', '/']))?;
    program::is_interpreter(program).then_some(first)
}

/// What this machine can do at most: a stage without a program tries it. Takes some milliseconds, and blocks.
///
/// # Errors
/// Why it cannot be told.
pub fn survey(aexd: &Path, user_home: Option<&Path>) -> Result<Report, Failure> {
    let confinement = Confinement {
        level: Level::Strict,
        require: None,
        read: Vec::new(),
        write: Vec::new(),
        hosts: Vec::new(),
        resources: Resources::DEFAULT,
    };
    let plan = Plan {
        program: None,
        args: Vec::new(),
        env: Vec::new(),
        cwd: PathBuf::from("/usr"),
        private: Vec::new(),
        tmp: None,
        deny: Vec::new(),
        writable: Vec::new(),
        user_home: user_home.map(Path::to_owned),
        group: None,
        confinement,
    };
    let failed = |fault: io::Error| Failure::Failed { code: FAILED, what: fault.to_string() };
    let mut stage = stage(aexd, &plan).map_err(failed)?;
    let mut child = stage.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(failed)?;
    drop(stage.command);
    let told = stage.report.read();
    child.wait().map_err(failed)?;
    told
}
