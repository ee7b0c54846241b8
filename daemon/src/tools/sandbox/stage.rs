//! The life of the stage: read the plan, confine, try out, report, become the program.

use super::{
    CANNOT_RUN, Cgroup, Enforced, FAILED, Failure, Gap, Landlock, Level, NOT_FOUND, Network, Order, Part, Plan, Report, Told, sys,
};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getppid, setsid};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Runs the stage: `plan` and `report` are the descriptors that `stage` left to this process. Comes back only when no program runs.
pub fn run(plan: RawFd, report: RawFd) -> ExitCode {
    let (plan, mut report) = (sys::inherited(plan), File::from(sys::inherited(report)));
    let failure = match staged(plan, &mut report) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    let (told, code) = match failure {
        Failure::Below(report) => (Told::Below(*report), FAILED),
        Failure::Failed { code, what } => (Told::Failed { code, what }, code),
        Failure::Gone => (Told::Failed { code: FAILED, what: Failure::Gone.to_string() }, FAILED),
    };
    // Who started the stage may be gone; the exit code says the same.
    drop(tell(&mut report, &told));
    ExitCode::from(code)
}

fn tell(report: &mut File, told: &Told) -> io::Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    report.write_all(&line)
}

fn staged(plan: OwnedFd, report: &mut File) -> Result<(), Failure> {
    let failed = |what: &str, fault: &dyn std::fmt::Display| Failure::Failed { code: FAILED, what: format!("{what}: {fault}") };
    setsid().map_err(|fault| failed("a session", &fault))?;
    let order: Order = serde_json::from_reader(File::from(plan)).map_err(|fault| failed("the plan", &fault))?;
    set_pdeathsig(Signal::SIGKILL).map_err(|fault| failed("the bond to the parent", &fault))?;
    if u32::try_from(getppid().as_raw()) != Ok(order.parent) {
        return Err(Failure::Gone);
    }
    let plan = order.plan;
    let told = open(&plan);
    if plan.confinement.require.is_some_and(|least| told.active < least) {
        return Err(Failure::Below(Box::new(told)));
    }
    tell(report, &Told::Report(told)).map_err(|fault| failed("the report", &fault))?;
    let Some(program) = &plan.program else { return Ok(()) };
    SigSet::empty().thread_set_mask().map_err(|fault| failed("the signal mask", &fault))?;
    let fault = Command::new(program).args(&plan.args).env_clear().envs(plan.env.iter().cloned()).current_dir(&plan.cwd).exec();
    let code = if fault.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
    Err(Failure::Failed { code, what: format!("{program}: {fault}") })
}

/// What is said of a process that nothing holds.
fn open(plan: &Plan) -> Report {
    let requested = plan.confinement.level;
    let mut gaps = Vec::new();
    if requested > Level::None {
        gaps.push(Gap { part: Part::Files, why: "this version confines nothing yet".to_owned() });
    }
    Report {
        requested,
        active: Level::None,
        network: Network::Open,
        landlock: Landlock { abi: 0, status: Enforced::Not },
        netns: false,
        pidns: false,
        mountns: false,
        ipcns: false,
        seccomp: false,
        cgroup: Cgroup::default(),
        gaps,
    }
}
