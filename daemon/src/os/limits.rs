//! Limits that the system sets on the process.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit on open files to what is allowed: each call holds two sockets.
pub fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(fault) = raised {
        tracing::warn!(%fault, "the limit on open files stays as it is");
    }
}
