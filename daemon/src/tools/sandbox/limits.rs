//! Limits of the process that becomes the program, which it cannot raise again.

use crate::tools::server::Resources;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;

/// Whose processes RLIMIT_NPROC counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// Those of a user namespace of its own: since Linux 5.14 each has its own count.
    Own,
    /// All of its user's: a limit would hit or miss by what else runs.
    All,
}

/// Sets them. Address space is not limited: runtimes reserve 10 GiB of it for each WebAssembly memory (node's `fetch` has one) and never
/// touch it. RLIMIT_DATA counts what may be written and is private, since Linux 4.7.
pub(super) fn set(resources: &Resources, counted: Counted) -> io::Result<()> {
    let rows = [
        (Resource::RLIMIT_CORE, Some(0)),
        (Resource::RLIMIT_DATA, resources.memory_bytes),
        (Resource::RLIMIT_CPU, resources.cpu_seconds),
        (Resource::RLIMIT_NPROC, resources.processes.filter(|_| counted == Counted::Own)),
        (Resource::RLIMIT_FSIZE, resources.file_bytes),
        // The last one: what comes before may open files.
        (Resource::RLIMIT_NOFILE, resources.open_files),
    ];
    for (resource, limit) in rows {
        let Some(limit) = limit else { continue };
        let (_, hard) = getrlimit(resource)?;
        let limit = limit.min(hard);
        setrlimit(resource, limit, limit)?;
    }
    Ok(())
}
