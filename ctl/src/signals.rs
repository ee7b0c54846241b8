//! Signals while a child runs: taken as data from a descriptor, so that none is lost and no handler is needed.

use crate::exit::{Attempt, Failure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Signals that a person or a supervisor sends to a command.
pub(crate) const PASSED_ON: [Signal; 9] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGCONT,
];
/// Signals that ask for an end.
pub(crate) const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
/// `si_code` of a signal that the kernel raised, such as the terminal's on Ctrl-C.
const SI_KERNEL: i32 = 0x80;

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// A child ended, stopped or went on.
    Child,
    /// A process sent it to us: the command does not know.
    SentToUs(Signal),
    /// The terminal sent it to the whole foreground group: the command has it already.
    FromTerminal(Signal),
}

/// The signals of this process, blocked and read from a descriptor.
pub(crate) struct Signals {
    descriptor: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Takes some over, and that of ended children. Threads that are started later inherit the mask.
    pub(crate) fn take(wanted: &[Signal]) -> Result<Signals, Failure> {
        let mut set = SigSet::empty();
        wanted.iter().copied().chain([Signal::SIGCHLD]).for_each(|signal| set.add(signal));
        let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK).attempt(|| "block signals".to_owned())?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&set, flags).attempt(|| "read signals".to_owned())?;
        Ok(Signals { descriptor, before })
    }

    /// The mask that was in force: a child's.
    pub(crate) const fn before(&self) -> SigSet {
        self.before
    }

    /// Waits for a signal, for another descriptor, or for the time to be over.
    pub(crate) fn wait(&self, other: Option<BorrowedFd<'_>>, limit: Option<Duration>) -> Result<(), Failure> {
        let mut descriptors = vec![PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        descriptors.extend(other.map(|other| PollFd::new(other, PollFlags::POLLIN)));
        let limit = limit.map_or(PollTimeout::NONE, |limit| PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX));
        match poll(&mut descriptors, limit) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(fault) => Err(fault).attempt(|| "wait for signals".to_owned()),
        }
    }

    /// What has come.
    pub(crate) fn arrived(&self) -> Result<Vec<Arrived>, Failure> {
        let mut arrived = Vec::new();
        while let Some(signal) = self.descriptor.read_signal().attempt(|| "read signals".to_owned())? {
            arrived.extend(classify(&signal));
        }
        Ok(arrived)
    }
}

fn classify(signal: &siginfo) -> Option<Arrived> {
    let name = i32::try_from(signal.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok())?;
    Some(match (name, signal.ssi_code) {
        (Signal::SIGCHLD, _) => Arrived::Child,
        (other, SI_KERNEL) => Arrived::FromTerminal(other),
        (other, _) => Arrived::SentToUs(other),
    })
}
