//! More than was given: processes, memory, disk, descriptors, time. Bounded here as well, and freed at once.

use std::fs::{self, File};
use std::io::{self, Write};

use aex_proto::sandbox::Part::{Files, Kernel, Memory, ProcessCount};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::Free::{Never, Reaches};
use super::call::{child, numbers};
use super::{Attempt, blocked};

/// What the plan of the test gives.
pub const PROCESSES: u64 = 64;
/// Private memory, in bytes.
pub const MEMORY: u64 = 256 << 20;
/// The size of a file, in bytes.
pub const FILE: u64 = 1 << 20;
/// Open files.
pub const OPEN: u64 = 128;
/// CPU time, in seconds.
pub const CPU: u64 = 2;

/// Beyond all bounds, and harmless.
const FORKS: usize = 512;
const MEGABYTE: usize = 1 << 20;
const PAGE: usize = 4_096;

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("a fork bomb", ProcessCount, Reaches, |_| {
        let mut children: Vec<Pid> = Vec::new();
        let refused = loop {
            match child(waiting) {
                Ok(pid) => children.push(pid),
                Err(fault) => break Some(fault),
            }
            if children.len() == FORKS {
                break None;
            }
        };
        let count = children.len();
        for pid in children {
            kill(pid, Signal::SIGKILL)?;
            waitpid(pid, None)?;
        }
        refused.map_or_else(|| Ok(format!("{count} processes")), |fault| Err(blocked(&format!("{fault} after {count}"))))
    }),
    Attempt::new("a memory bomb", Memory, Never, |_| filled(libc::MAP_PRIVATE)),
    Attempt::new("a bomb of shared memory", Memory, Reaches, |_| filled(libc::MAP_SHARED)),
    Attempt::new("a file without end", Files, Never, |t| {
        let path = t.own.join("large");
        let written = fill_file(&path);
        fs::remove_file(&path)?;
        written
    }),
    Attempt::new("a hole without end", Files, Never, |t| {
        survive(Signal::SIGXFSZ)?;
        let path = t.own.join("hole");
        let made = File::create(&path)?.set_len(16 * FILE);
        fs::remove_file(&path)?;
        made.map(|()| "a hole".to_owned())
    }),
    Attempt::new("descriptors without end", Kernel, Never, |_| {
        let mut open = Vec::new();
        for _ in 0..8 * OPEN {
            match File::open("/dev/null") {
                Ok(file) => open.push(file),
                Err(fault) => return Err(blocked(&format!("{fault} after {}", open.len()))),
            }
        }
        Ok(format!("{} files", open.len()))
    }),
    Attempt::new("a loop without end", Kernel, Never, |_| {
        // Ends by itself after ten times of what it has.
        let pid = child(|| {
            while cpu_seconds() < 10 * CPU {
                std::hint::black_box((0..MEGABYTE).fold(0, |sum: usize, number| sum.wrapping_add(number)));
            }
            0
        })?;
        match waitpid(pid, None)? {
            nix::sys::wait::WaitStatus::Exited(..) => Ok("it ran on".to_owned()),
            other => Err(blocked(&format!("{other:?}"))),
        }
    }),
    Attempt::new("memory of a dead process (core)", Files, Never, |t| {
        let pid = child(|| kill(nix::unistd::getpid(), Signal::SIGABRT).map_or(1, |()| 2))?;
        let ended = waitpid(pid, None)?;
        let dumped = matches!(ended, nix::sys::wait::WaitStatus::Signaled(_, _, true));
        let left = fs::read_dir(&t.own)?.filter_map(Result::ok).any(|entry| entry.file_name().to_string_lossy().starts_with("core"));
        if dumped || left { Ok("a core".to_owned()) } else { Err(blocked("none was written")) }
    }),
];

fn waiting() -> i32 {
    loop {
        nix::unistd::pause();
    }
}

fn cpu_seconds() -> u64 {
    let used = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).map(|used| used.user_time().tv_sec());
    used.ok().and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(u64::MAX)
}

/// Maps and touches a quarter more than what it has: on a loaded machine more would take it all the processor time that it has.
fn filled(kind: i32) -> io::Result<String> {
    let size = usize::try_from(MEMORY / 4 * 5).map_err(io::Error::other)?;
    let pid = child(|| {
        let length = i64::try_from(size).unwrap_or_default();
        let flags = i64::from(kind | libc::MAP_ANONYMOUS);
        let rights = i64::from(libc::PROT_READ | libc::PROT_WRITE);
        let Ok(at) = numbers(libc::SYS_mmap, [0, length, rights, flags, -1, 0]) else { return 1 };
        // The kernel touches each page: it reads nothing into it.
        let Ok(zero) = File::open("/dev/zero") else { return 2 };
        for page in (0..size).step_by(MEGABYTE) {
            let place = at.saturating_add(i64::try_from(page).unwrap_or_default());
            let fd = i64::from(std::os::fd::AsRawFd::as_raw_fd(&zero));
            if numbers(libc::SYS_read, [fd, place, i64::try_from(MEGABYTE).unwrap_or_default()]).is_err() {
                return 3;
            }
        }
        0
    })?;
    match waitpid(pid, None)? {
        nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(format!("{} MiB", size / MEGABYTE)),
        other => Err(blocked(&format!("{other:?}"))),
    }
}

/// Writes until it is refused, without dying of it.
fn fill_file(path: &std::path::Path) -> io::Result<String> {
    survive(Signal::SIGXFSZ)?;
    let mut file = File::create(path)?;
    for _ in 0..16 * FILE / u64::try_from(PAGE).map_err(io::Error::other)? {
        file.write_all(&[1; PAGE])?;
    }
    Ok("16 times what it has".to_owned())
}

#[expect(unsafe_code, reason = "ignores a signal")]
fn survive(signal: Signal) -> io::Result<()> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed.
    unsafe { nix::sys::signal::sigaction(signal, &ignore) }?;
    Ok(())
}
