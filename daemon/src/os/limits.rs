//! Limits that the system sets on the process.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};

/// Raises the limit on open files to what is allowed: each call holds two sockets.
pub fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(fault) = raised {
        tracing::warn!(%fault, "the limit on open files stays as it is");
    }
}

/// Has a write beyond the limit on the size of files refused, as one on a full disk is: by default the process dies of it. All
/// threads that are started later do as the one that calls this.
pub fn survive_full_files() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    if let Err(fault) = signals.thread_block() {
        tracing::warn!(%fault, "a limit on the size of files ends the process");
    }
}
