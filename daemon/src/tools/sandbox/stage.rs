//! The life of the stage: read the plan, confine, try out, report, become the program.
//!
//! With namespaces there are three processes: the stage itself stays outside and stands for the program to whoever started it; its child is
//! the first process of the namespaces, and reaps; the child of that becomes the program. Without them the stage becomes the program.

use super::canary::Before;
use super::landlock::Ground;
use super::limits::Counted;
use super::look::{Look, resolved};
use super::report::{Found, judge};
use super::root::Proc;
use super::tree::Tree;
use super::{
    CANNOT_RUN, Cgroup, FAILED, Failure, Level, NOT_FOUND, Network, Order, Plan, Told, canary, cgroup, filter, landlock, limits, program,
    root, sys, tree, wait,
};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::{set_dumpable, set_no_new_privs, set_pdeathsig};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{fchdir, getegid, geteuid, getppid, setgroups, setsid};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What the init writes when the namespaces stand.
const READY: &[u8; 1] = b"+";
/// What it writes before the reason why nothing may run at all.
const NEVER: &[u8; 1] = b"!";
/// What it writes before the reason why there are no namespaces.
const REFUSED: &[u8; 1] = b"-";

/// Runs the stage: `plan` and `report` are the descriptors that `stage` left to this process. Comes back only when no program runs, or when it
/// has ended.
#[must_use]
pub fn run(plan: RawFd, report: RawFd) -> ExitCode {
    let (Ok(plan), Ok(report)) = (sys::inherited(plan), sys::inherited(report)) else { return ExitCode::from(FAILED) };
    let closed = sys::close_others([&plan, &report]);
    let mut report = Reporter(Some(File::from(report)));
    let failure = match closed.map_err(|fault| cannot("closing what was left open", fault)).and_then(|()| staged(plan, &mut report)) {
        Ok(code) => return code,
        Err(failure) => failure,
    };
    let (told, code) = match failure {
        Failure::Below(report) => (Told::Below(*report), FAILED),
        Failure::Failed { code, what } => (Told::Failed { code, what }, code),
        Failure::Gone => (Told::Failed { code: FAILED, what: Failure::Gone.to_string() }, FAILED),
    };
    // Who started the stage may be gone; the exit code says the same.
    drop(report.tell(&told));
    ExitCode::from(code)
}

/// The end of the pipe on which one process tells how it went.
struct Reporter(Option<File>);

impl Reporter {
    fn tell(&mut self, told: &Told) -> io::Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        let mut line = serde_json::to_vec(told)?;
        line.push(b'\n');
        file.write_all(&line)
    }

    /// Another process tells.
    fn leave(&mut self) {
        self.0 = None;
    }
}

fn cannot(what: impl Display, fault: impl Display) -> Failure {
    Failure::Failed { code: FAILED, what: format!("the sandbox: {what}: {fault}") }
}

fn staged(plan: OwnedFd, report: &mut Reporter) -> Result<ExitCode, Failure> {
    setsid().map_err(|fault| cannot("a session of its own", fault))?;
    let order: Order = serde_json::from_reader(File::from(plan)).map_err(|fault| cannot("the plan", fault))?;
    set_pdeathsig(Signal::SIGKILL).map_err(|fault| cannot("the bond to the daemon", fault))?;
    // It may have died before.
    if u32::try_from(getppid().as_raw()) != Ok(order.parent) {
        return Err(Failure::Gone);
    }
    let threads = fs::read_dir("/proc/self/task").map_err(|fault| cannot("/proc", fault))?.count();
    if threads != 1 {
        return Err(cannot("a fresh process", format!("it has {threads} threads")));
    }
    let plan = resolved(order.plan)?;
    let cgroup = match plan.group.as_deref().map(cgroup::join).transpose() {
        Ok(joined) => joined.unwrap_or_default(),
        Err(fault) => return Err(cannot("the control group", fault)),
    };
    let scene = Scene::of(plan, cgroup)?;
    if scene.plan.confinement.level == Level::None {
        return scene.become_open(report);
    }
    if geteuid().is_root() {
        // Others than root, and root of a user namespace, keep theirs: the files that they open are not granted.
        setgroups(&[]).ok();
    }
    scene.contain(report)
}

/// A program, and all files that it has.
pub(super) fn given(look: Look<'_>, command: Option<&str>) -> Result<(Option<PathBuf>, Tree), Failure> {
    let found = command.map(|command| program::needs(&look, command)).transpose()?;
    let (program, reads) = found.map_or((None, Vec::new()), |found| (Some(found.path), found.reads));
    Ok((program, tree::of(look, reads)?))
}

/// Why there is no root of its own.
struct Unsettled {
    why: String,
    /// Whether nothing may run without one, either.
    is_final: bool,
}

/// All that is known before anything is confined.
struct Scene {
    plan: Plan,
    program: Option<PathBuf>,
    tree: Tree,
    /// The folder that it starts in, held; where it is confined.
    cwd: Option<OwnedFd>,
    network: Network,
    cgroup: Cgroup,
}

/// Where a process is that is about to be confined.
struct Place {
    /// In namespaces of its own, with a root of its own.
    apart: bool,
    /// In a network of its own.
    netns: bool,
    proc: Proc,
    /// Its process ids are bounded.
    bounded: bool,
    /// Why it is in none.
    why: Option<String>,
}

impl Scene {
    fn of(plan: Plan, cgroup: Cgroup) -> Result<Scene, Failure> {
        let command = plan.program.as_deref();
        let (program, tree, cwd) = if plan.confinement.level == Level::None {
            (command.map(|command| program::find(&plan, command)).transpose()?, Tree::default(), None)
        } else {
            let look = Look::of(&plan)?;
            let cwd = look.cwd.as_fd().try_clone_to_owned().map_err(|fault| cannot("the working folder", fault))?;
            let (program, tree) = given(look, command)?;
            (program, tree, Some(cwd))
        };
        let ports = sys::landlock_abi() >= landlock::PORTS;
        let network = match plan.confinement.level {
            Level::Strict if plan.confinement.hosts.is_empty() => Network::Closed,
            Level::Strict if ports => Network::Ports,
            _ => Network::Open,
        };
        Ok(Scene { plan, program, tree, cwd, network, cgroup })
    }

    /// Without confinement: limits, environment, session.
    fn become_open(&self, report: &mut Reporter) -> Result<ExitCode, Failure> {
        std::env::set_current_dir(&self.plan.cwd).map_err(|fault| cannot(self.plan.cwd.display(), fault))?;
        self.become_program(report, judge(&self.plan, &Found::nothing(self.cgroup)), Counted::All)
    }

    /// In namespaces where they can be had, else without.
    fn contain(&self, report: &mut Reporter) -> Result<ExitCode, Failure> {
        let before = Before::look(&self.plan, &self.tree).map_err(|fault| cannot("what is to be tried", fault))?;
        let netns = self.network == Network::Closed;
        let shared = |why: String| Place { apart: false, netns: false, proc: Proc::Shared, bounded: false, why: Some(why) };
        let place = match self.enter(netns) {
            Ok(Side::Inside(place, mut up, life)) => return self.inside(place, &before, report, &mut up, &life),
            Ok(Side::Outside { init, mut inside, life }) => {
                report.leave();
                drop(before);
                let held = SigSet::all();
                let code = wait::let_go().and_then(|()| wait::outside(init, held, &mut inside));
                drop(life);
                return code.map_err(|fault| cannot("waiting for the program", fault));
            }
            Ok(Side::Refused(why)) => shared(why),
            Ok(Side::Never(why)) => return Err(cannot("files", why)),
            Err(fault) => shared(format!("no namespaces: {fault}")),
        };
        SigSet::empty().thread_set_mask().map_err(|fault| cannot("the signal mask", fault))?;
        self.become_confined(report, &before, &place)
    }

    /// Forks into new namespaces and makes the new root there.
    fn enter(&self, netns: bool) -> io::Result<Side> {
        wait::hold_signals()?;
        let (mut from_inside, to_outside) = io::pipe()?;
        let (life_inside, life) = io::pipe()?;
        let user = (geteuid(), getegid());
        let net = if netns { libc::CLONE_NEWNET } else { 0 };
        let namespaces = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | net;
        if let Some(init) = sys::fork_into(namespaces)? {
            drop((to_outside, life_inside));
            let mut first = [0; READY.len()];
            if from_inside.read_exact(&mut first).is_ok() && first == *READY {
                return Ok(Side::Outside { init, inside: File::from(OwnedFd::from(from_inside)), life: life.into() });
            }
            let mut why = Vec::new();
            from_inside.read_to_end(&mut why)?;
            nix::sys::wait::waitpid(init, None)?;
            let why = String::from_utf8_lossy(&why).into_owned();
            return Ok(if first == *NEVER { Side::Never(why) } else { Side::Refused(why) });
        }
        drop((from_inside, life));
        let mut outside = File::from(OwnedFd::from(to_outside));
        match self.settle_in(user, netns) {
            Ok((proc, bounded)) => {
                let place = Place { apart: true, netns, proc, bounded, why: None };
                Ok(Side::Inside(place, outside, life_inside.into()))
            }
            Err(Unsettled { why, is_final }) => {
                outside.write_all(if is_final { NEVER } else { REFUSED })?;
                outside.write_all(why.as_bytes())?;
                Ok(Side::Inside(
                    Place { apart: false, netns, proc: Proc::Shared, bounded: false, why: Some(why) },
                    outside,
                    life_inside.into(),
                ))
            }
        }
    }

    /// The first steps of the first process: who it is, its network, its root.
    fn settle_in(&self, user: (nix::unistd::Uid, nix::unistd::Gid), netns: bool) -> Result<(Proc, bool), Unsettled> {
        let refused = |why: String| Unsettled { why, is_final: false };
        // Linux refuses a map of groups to who could still change them.
        let maps = [("setgroups", "deny".to_owned()), ("uid_map", format!("{0} {0} 1", user.0)), ("gid_map", format!("{0} {0} 1", user.1))];
        for (file, text) in maps {
            fs::write(Path::new("/proc/self").join(file), text).map_err(|fault| refused(format!("no namespaces: {file}: {fault}")))?;
        }
        if netns {
            sys::loopback_up().map_err(|fault| refused(format!("no network namespace: {fault}")))?;
        }
        let base = self.plan.tmp.as_deref().or(self.plan.private.first().map(PathBuf::as_path)).unwrap_or(Path::new("/tmp"));
        root::enter(&self.tree, base, self.plan.confinement.resources.processes).map_err(|fault| match fault {
            root::Fault::Moved { what, fault } => Unsettled { why: format!("{what}: {fault}"), is_final: true },
            root::Fault::Refused { what, fault } => refused(format!("no namespaces: {what}: {fault}")),
        })
    }

    /// The first process: starts the one that becomes the program, and waits for it.
    fn inside(&self, place: Place, before: &Before, report: &mut Reporter, up: &mut File, life: &OwnedFd) -> Result<ExitCode, Failure> {
        if !place.apart {
            // The stage goes on without namespaces.
            report.leave();
            return Ok(ExitCode::from(FAILED));
        }
        let bound = |fault: &dyn Display| cannot("the bond to the stage", fault);
        set_pdeathsig(Signal::SIGKILL).map_err(|fault| bound(&fault))?;
        let mut ends = [PollFd::new(life.as_fd(), PollFlags::empty())];
        if poll(&mut ends, PollTimeout::ZERO).map_err(|fault| bound(&fault))? != 0 {
            return Err(Failure::Gone);
        }
        up.write_all(READY).map_err(|fault| bound(&fault))?;
        let Some(program) = sys::fork().map_err(|fault| cannot("a process", fault))? else {
            SigSet::empty().thread_set_mask().map_err(|fault| cannot("the signal mask", fault))?;
            setsid().map_err(|fault| cannot("a session", fault))?;
            return self.become_confined(report, before, &place);
        };
        report.leave();
        let quiet = wait::let_go().and_then(|()| sys::drop_capabilities()).and_then(|()| Ok(set_dumpable(false)?));
        quiet.and_then(|()| wait::init(program, SigSet::all(), up)).map_err(|fault| cannot("waiting for the program", fault))?;
        Ok(ExitCode::SUCCESS)
    }

    /// The process that becomes the program: gives up what it can, tries what it gave up, and tells.
    fn become_confined(&self, report: &mut Reporter, before: &Before, place: &Place) -> Result<ExitCode, Failure> {
        if !place.apart {
            self.can_be_held(place.why.as_deref().unwrap_or_default())?;
        }
        let entered = match &self.cwd {
            // By its name it may be another one by now.
            Some(cwd) if !place.apart => fchdir(cwd).map_err(io::Error::from),
            _ => std::env::set_current_dir(&self.plan.cwd),
        };
        entered.map_err(|fault| cannot(self.plan.cwd.display(), fault))?;
        sys::drop_capabilities().map_err(|fault| cannot("capabilities", fault))?;
        set_no_new_privs().map_err(|fault| cannot("no_new_privs", fault))?;
        let ground = if place.apart { Ground::Own(&self.tree) } else { Ground::Shared(&self.tree) };
        let ports = (self.network == Network::Ports).then(|| landlock::ports(&self.plan.confinement.hosts));
        let landlock = landlock::restrict(&ground, ports.as_deref()).map_err(|fault| cannot("Landlock", fault))?;
        let held = filter::Held {
            network: self.network,
            own_network: place.netns,
            // By path they reach what was granted, by name only what Landlock lets through.
            unix: self.network == Network::Open && place.apart && landlock.abi >= landlock::SCOPES,
            own_processes: place.apart,
            own_memory: place.apart,
        };
        let seccomp = filter::apply(held).map_err(|fault| fault.to_string());
        let closed: canary::Closed = before.closed(place.apart);
        let counted = if place.apart { Counted::Own } else { Counted::All };
        let found = Found {
            closed,
            network: self.network,
            landlock,
            netns: place.netns,
            apart: place.apart,
            own_proc: place.proc == Proc::Own,
            // root's processes are never counted.
            count_bounded: place.bounded || place.apart && !geteuid().is_root(),
            seccomp,
            cgroup: self.cgroup,
            why: place.why.clone(),
        };
        self.become_program(report, judge(&self.plan, &found), counted)
    }

    /// Whether Landlock alone, whose rules add up, gives no more than was granted.
    fn can_be_held(&self, why: &str) -> Result<(), Failure> {
        let names = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        if !self.tree.exposed.is_empty() {
            let text = format!("the daemon's own files lie in a granted folder, and cannot be hidden ({why}): name narrower folders");
            return Err(cannot(names(&self.tree.exposed), text));
        }
        if !self.tree.narrowed.is_empty() {
            let text = format!(
                "granted for reading within what is granted for writing, which cannot be held apart ({why}): name narrower folders"
            );
            return Err(cannot(names(&self.tree.narrowed), text));
        }
        Ok(())
    }

    fn become_program(&self, report: &mut Reporter, told: super::Report, counted: Counted) -> Result<ExitCode, Failure> {
        let plan = &self.plan;
        if plan.confinement.require.is_some_and(|least| told.active < least) {
            return Err(Failure::Below(Box::new(told)));
        }
        sys::close_at_exec().map_err(|fault| cannot("closing descriptors", fault))?;
        limits::set(&plan.confinement.resources, counted).map_err(|fault| cannot("limits", fault))?;
        report.tell(&Told::Report(told)).map_err(|fault| cannot("the report", fault))?;
        sys::default_signals();
        SigSet::empty().thread_set_mask().map_err(|fault| cannot("the signal mask", fault))?;
        let Some(path) = &self.program else { return Ok(ExitCode::SUCCESS) };
        let fault = Command::new(path).args(&plan.args).env_clear().envs(plan.env.iter().cloned()).exec();
        let code = if fault.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
        Err(Failure::Failed { code, what: format!("{}: {fault}", path.display()) })
    }
}

/// Which of the two processes this is after the fork.
enum Side {
    /// The stage; `life` tells the other one that it lives.
    Outside { init: nix::unistd::Pid, inside: File, life: OwnedFd },
    /// The stage, and there is no other one.
    Refused(String),
    /// The same, and nothing may run.
    Never(String),
    /// The first process of the namespaces, or one that could not get so far.
    Inside(Place, File, OwnedFd),
}
