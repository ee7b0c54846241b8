//! The processes around a confined program: its init, which is the first of its namespace, and the stage outside, which the daemon knows
//! as the program. Both pass signals on, and end as the program ends.

use super::sys;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::process::ExitCode;

/// What is passed on to the program; SIGKILL needs nobody.
const PASSED: [Signal; 8] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGCONT, Signal::SIGWINCH];

/// Holds all signals back, so that none is lost and none ends this process.
pub(super) fn hold_signals() -> io::Result<SigSet> {
    let all = SigSet::all();
    all.thread_set_mask()?;
    Ok(all)
}

/// Lets go of the program's stdin, stdout and stderr: their ends have to show when the program ends them.
pub(super) fn let_go() -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

/// How the program ended: the exit code, or the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Exited(u8),
    Killed(Signal),
}

impl Ended {
    fn of(status: WaitStatus) -> Option<Ended> {
        match status {
            WaitStatus::Exited(_, code) => Some(Ended::Exited(u8::try_from(code).unwrap_or(u8::MAX))),
            WaitStatus::Signaled(_, signal, _) => Some(Ended::Killed(signal)),
            _ => None,
        }
    }

    fn told(self) -> [u8; 2] {
        match self {
            Ended::Exited(code) => [0, code],
            Ended::Killed(signal) => [1, u8::try_from(signal as i32).unwrap_or_default()],
        }
    }

    fn heard(bytes: [u8; 2]) -> Option<Ended> {
        match bytes {
            [0, code] => Some(Ended::Exited(code)),
            [_, number] => Signal::try_from(i32::from(number)).ok().map(Ended::Killed),
        }
    }
}

/// Until the program ends: reaps whoever lost its parent, passes signals on to the program's group. Then tells how it ended.
pub(super) fn init(program: Pid, held: SigSet, outside: &mut File) -> io::Result<()> {
    loop {
        match held.wait()? {
            Signal::SIGCHLD => {
                while let Some(status) = reaped(None)? {
                    if status.pid() == Some(program)
                        && let Some(ended) = Ended::of(status)
                    {
                        return outside.write_all(&ended.told());
                    }
                }
            }
            signal if PASSED.contains(&signal) => pass_on(program, signal),
            _ => {}
        }
    }
}

/// To the group that the program leads; before it does, it cannot have started anything.
fn pass_on(program: Pid, signal: Signal) {
    let group = Pid::from_raw(program.as_raw().wrapping_neg());
    kill(group, signal).or_else(|_| kill(program, signal)).ok();
}

/// Until the namespaces end: passes signals on to init. Ends this process as the program ended.
pub(super) fn outside(init: Pid, held: SigSet, inside: &mut File) -> io::Result<ExitCode> {
    loop {
        let signal = held.wait()?;
        if signal != Signal::SIGCHLD {
            PASSED.contains(&signal).then(|| kill(init, signal));
        } else if reaped(Some(init))?.is_some_and(|status| Ended::of(status).is_some()) {
            break;
        }
    }
    let mut told = [0; 2];
    // An init that was killed says nothing.
    let ended = inside.read_exact(&mut told).ok().and_then(|()| Ended::heard(told)).unwrap_or(Ended::Killed(Signal::SIGKILL));
    match ended {
        Ended::Exited(code) => Ok(ExitCode::from(code)),
        Ended::Killed(signal) => {
            sys::default_signals();
            raise(signal).ok();
            SigSet::empty().thread_set_mask()?;
            // Signals that end nothing by default cannot have ended the program.
            Ok(ExitCode::from(128_u8.saturating_add(told[1])))
        }
    }
}

/// A child that has ended, if one has.
fn reaped(child: Option<Pid>) -> io::Result<Option<WaitStatus>> {
    match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => Ok(None),
        Ok(status) => Ok(Some(status)),
        Err(fault) => Err(fault.into()),
    }
}
