//! What a child must be given between fork and exec. The one module with unsafe code.

#![expect(unsafe_code, reason = "std has no safe way to set a child's signal mask or session")]

use nix::sys::signal::SigSet;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Gives the child a signal mask: a child inherits the mask of the thread that starts it.
pub(crate) fn with_mask(command: &mut Command, mask: SigSet) -> &mut Command {
    // SAFETY: the closure only calls pthread_sigmask on a set that it owns: async-signal-safe, no allocation, no lock.
    unsafe { command.pre_exec(move || Ok(mask.thread_set_mask()?)) }
}

/// Makes the child the leader of a session of its own: it outlives the terminal and gets none of its signals.
pub(crate) fn with_new_session(command: &mut Command) -> &mut Command {
    // SAFETY: the closure only calls setsid: async-signal-safe, no allocation, no lock.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            Ok(())
        })
    }
}
