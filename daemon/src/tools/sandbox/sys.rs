//! What neither std nor nix offers safely. The one module of the sandbox with unsafe code.

#![expect(unsafe_code, reason = "fork, and system calls without a wrapper")]

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lets the child of a command, and no other child, keep these descriptors. They are closed here with the command.
pub(super) fn inherit(command: &mut Command, kept: [OwnedFd; 2]) {
    // SAFETY: the closure only calls fcntl on descriptors that it owns: async-signal-safe, no allocation, no lock.
    unsafe {
        command.pre_exec(move || {
            for fd in &kept {
                fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
            }
            Ok(())
        })
    };
}

/// A descriptor that whoever started this process has left to it.
pub(super) fn inherited(fd: RawFd) -> OwnedFd {
    // SAFETY: `stage` gave this process the number of an open descriptor that nothing else here owns; were it another one, reading it
    // fails and the stage ends.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
