//! Processes of tool servers: how they are born, watched and ended with everything they started.
//!
//! Owns the thread that starts them, the record of those that run, and what they say on standard error. Must not: know MCP, decide when a
//! server is started.

mod hidden;
mod journal;
mod pidfd;
mod running;
mod text;
mod tree;

pub(super) use hidden::Hidden;
pub(super) use journal::{Feeder, Journal, drain};
pub use journal::{LogLine, Stream};
pub(super) use running::Running;
pub use text::one_line;
pub use tree::Leftover;

use super::sandbox::{self, cgroup};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use pidfd::Pidfd;
use rustix::process::{PidfdFlags, pidfd_open};
use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

/// The variable that marks each process of a tool, so that one which left its group is found all the same.
const MARK: &str = "AEX_TOOL";
/// The longest report of a stage.
const REPORT_BYTES: u64 = 1 << 20;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    fn of(status: ExitStatus) -> Exit {
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exited (code {code})"),
            Exit::Signal(signal) => match Signal::try_from(*signal) {
                Ok(name) => write!(f, "was killed by {name}"),
                Err(_) => write!(f, "was killed by signal {signal}"),
            },
        }
    }
}

/// What is started.
#[derive(Debug)]
pub(super) struct Birth {
    /// The server's name.
    pub(super) server: Arc<str>,
    /// What the stage is given. The mark is added to its environment.
    pub(super) plan: sandbox::Plan,
    /// The daemon's own program, which is the stage.
    pub(super) aexd: PathBuf,
    /// Where control groups can be made.
    pub(super) groups: Option<Arc<cgroup::Home>>,
}

/// A process as it comes from the thread that started it. Dropped, it dies.
#[derive(Debug)]
pub(super) struct Born {
    child: Child,
    pidfd: OwnedFd,
    /// When it started, in ticks since boot.
    started: u64,
    mark: String,
    is_ended: bool,
    running: Arc<Running>,
    report: Option<sandbox::ReportReader>,
    /// Removed when all its processes are dead.
    control: Option<cgroup::Group>,
}

/// The thread that starts processes. The kernel's death signal fires when the thread that started a process ends, not when its process does:
/// this one ends with the daemon.
#[derive(Clone, Debug)]
pub(super) struct Spawner {
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
struct Order {
    birth: Birth,
    reply: oneshot::Sender<io::Result<Born>>,
}

impl Spawner {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no room for one more.
    pub(super) fn start(running: Arc<Running>) -> io::Result<Spawner> {
        let (orders, received) = mpsc::channel::<Order>();
        std::thread::Builder::new().name("aex-spawn".to_owned()).spawn(move || {
            for Order { birth, reply } in received {
                // Nobody waits any more: what was born is dropped, and dies.
                drop(reply.send(Born::of(birth, &running)));
            }
        })?;
        Ok(Spawner { orders })
    }

    /// Starts a process.
    ///
    /// # Errors
    /// When it cannot be started; the text says why.
    pub(super) async fn spawn(&self, birth: Birth) -> io::Result<Born> {
        let (reply, born) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts processes is gone");
        self.orders.send(Order { birth, reply }).map_err(|_| gone())?;
        born.await.map_err(|_| gone())?
    }
}

impl Born {
    fn of(mut birth: Birth, running: &Arc<Running>) -> io::Result<Born> {
        for folder in &birth.plan.private {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mark = running.mark()?;
        birth.plan.env.push((MARK.to_owned(), mark.clone()));
        let make = |home: &Arc<cgroup::Home>| home.make(&format!("tool-{}-{mark}", birth.server), &birth.plan.confinement.resources);
        let control = birth.groups.as_ref().map(make).transpose()?;
        birth.plan.group = control.as_ref().map(|control| control.folder().to_owned());
        let mut stage = sandbox::stage(&birth.aexd, &birth.plan)?;
        stage.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = stage.command.spawn()?;
        // Until it is reaped its number is nobody else's.
        let started = tree::start_of(child.id()).unwrap_or_default();
        let pidfd = match pidfd_open(rustix::process::Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(fault) => {
                child.kill()?;
                child.wait()?;
                return Err(fault.into());
            }
        };
        let report = Some(stage.report);
        let born = Born { child, pidfd, started, mark, is_ended: false, running: Arc::clone(running), report, control };
        running.add(&birth.server, born.pid(), started)?;
        Ok(born)
    }

    /// Its number, which is that of its group too.
    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills its control group, where it has one: also what has left group and session.
    fn kill_control(&self) {
        if let Some(Err(fault)) = self.control.as_ref().map(cgroup::Group::kill) {
            tracing::debug!(%fault, "a control group cannot be killed as a whole");
        }
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.pid()).unwrap_or(i32::MAX))
    }
}

impl Drop for Born {
    fn drop(&mut self) {
        if !self.is_ended {
            self.kill_control();
            // It is not reaped yet, so number and group are its own.
            drop(self.child.kill());
            let _: nix::Result<()> = killpg(self.group(), Signal::SIGKILL);
            drop(self.child.wait());
            self.running.remove(self.pid());
        }
    }
}

/// A process that runs, watched.
#[derive(Debug)]
pub(super) struct Process {
    born: Born,
    watch: Pidfd,
}

impl Process {
    /// Watches a process; within a runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch it. It is dead then.
    pub(super) fn watch(born: Born) -> io::Result<Process> {
        let watch = Pidfd::watch(born.pidfd.try_clone()?)?;
        Ok(Process { born, watch })
    }

    pub(super) fn pid(&self) -> u32 {
        self.born.pid()
    }

    /// Its standard input, output and error, once.
    pub(super) fn pipes(&mut self) -> Option<(OwnedFd, OwnedFd, OwnedFd)> {
        let child = &mut self.born.child;
        Some((child.stdin.take()?.into(), child.stdout.take()?.into(), child.stderr.take()?.into()))
    }

    /// Waits until its program runs, confined as it is told here; once.
    ///
    /// # Errors
    /// Why no program runs.
    pub(super) async fn confined(&mut self) -> Result<sandbox::Report, sandbox::Failure> {
        let gone = |_| sandbox::Failure::Gone;
        let pipe = self.born.report.take().ok_or(sandbox::Failure::Gone)?.into_pipe();
        let mut pipe = Receiver::from_owned_fd(pipe).map_err(gone)?.take(REPORT_BYTES);
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).await.map_err(gone)?;
        sandbox::understood(&text)
    }

    /// Waits until it has ended. It stays a zombie, so that its number and group are nobody else's.
    pub(super) async fn exited(&self) {
        self.watch.ended().await;
    }

    /// Asks the whole group to end.
    pub(super) fn terminate(&self) {
        let _: nix::Result<()> = killpg(self.born.group(), Signal::SIGTERM);
    }

    /// Kills it with everything it started, and says how it ended.
    pub(super) async fn end(mut self) -> Option<Exit> {
        // What is here and in its group dies at once; who left the group is looked for.
        self.born.kill_control();
        let _: nix::Result<()> = killpg(self.born.group(), Signal::SIGKILL);
        let target = tree::Target { pid: self.born.pid(), start: self.born.started, mark: self.born.mark.clone() };
        let left = tokio::task::spawn_blocking(move || tree::kill(&target)).await.unwrap_or_default();
        if left > 0 {
            tracing::warn!(pid = self.pid(), left, "processes of a tool could not be killed");
        }
        self.exited().await;
        self.born.is_ended = true;
        let exit = self.born.child.wait().ok().map(Exit::of);
        self.born.running.remove(self.born.pid());
        exit
    }
}
