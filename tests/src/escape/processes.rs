//! Other processes: what they hold, what they do, whether they live.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use aex_proto::sandbox::Part::{Files, Kernel, ProcessList, Signals};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Free::{Depends, Never, Reaches};
use super::call::{Arg, call, numbers};
use super::{Attempt, SECRET, blocked, found};

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("read the environment of another process", Files, Reaches, |t| found(fs::read(format!("/proc/{}/environ", t.victim))?)),
    Attempt::new("read the environment of the daemon", Files, Reaches, |t| {
        let read = fs::read(format!("/proc/{}/environ", t.daemon))?;
        if read.is_empty() { Err(blocked("it is empty")) } else { Ok(format!("{} bytes", read.len())) }
    }),
    Attempt::new("read the memory of another process", Files, Reaches, |t| {
        let mut memory = [0; SECRET.len()];
        File::open(format!("/proc/{}/mem", t.victim))?.read_exact_at(&mut memory, u64::try_from(t.address).map_err(io::Error::other)?)?;
        found(memory)
    }),
    Attempt::new("open a file that another process has open", Files, Reaches, |t| {
        File::open(format!("/proc/{}/fd/{}", t.victim, t.descriptor))?;
        Ok("open".to_owned())
    }),
    Attempt::new("see the working folder of another process", Files, Reaches, |t| {
        Ok(fs::read_link(format!("/proc/{}/cwd", t.victim))?.display().to_string())
    }),
    Attempt::new("read the command line of another process", ProcessList, Reaches, |t| {
        found(fs::read(format!("/proc/{}/cmdline", t.victim))?)
    }),
    Attempt::new("see other processes", ProcessList, Reaches, |t| {
        let seen = fs::read_dir("/proc")?.filter_map(Result::ok).any(|entry| entry.file_name().to_string_lossy() == t.victim.to_string());
        if seen { Ok("the victim".to_owned()) } else { Err(blocked("it does not show")) }
    }),
    Attempt::new("read the memory of the own first process", Files, Depends, |_| {
        File::open("/proc/1/mem").map(|_| "open".to_owned()).or_else(|_| Ok(format!("{} bytes", fs::read("/proc/1/environ")?.len())))
    }),
    Attempt::new("ptrace another process", Kernel, Reaches, |t| {
        numbers(libc::SYS_ptrace, [i64::from(libc::PTRACE_SEIZE), t.victim.into(), 0, 0])?;
        Ok("seized".to_owned())
    }),
    Attempt::new("process_vm_readv", Kernel, Reaches, |t| {
        let mut memory = [0; SECRET.len()];
        let local = vector(memory.as_mut_ptr().expose_provenance(), memory.len());
        let (mut local, mut remote) = (local, vector(t.address, SECRET.len()));
        let pid = Arg::Number(t.victim.into());
        call(
            libc::SYS_process_vm_readv,
            [pid, Arg::Memory(&mut local), Arg::Number(1), Arg::Memory(&mut remote), Arg::Number(1), Arg::Number(0)],
        )?;
        found(memory)
    }),
    Attempt::new("process_vm_writev", Kernel, Reaches, |t| {
        let mut memory = [b'x'; 1];
        let local = vector(memory.as_mut_ptr().expose_provenance(), 1);
        let (mut local, mut remote) = (local, vector(t.address, 1));
        let pid = Arg::Number(t.victim.into());
        call(
            libc::SYS_process_vm_writev,
            [pid, Arg::Memory(&mut local), Arg::Number(1), Arg::Memory(&mut remote), Arg::Number(1), Arg::Number(0)],
        )?;
        Ok("written".to_owned())
    }),
    Attempt::new("pidfd_getfd", Kernel, Reaches, |t| {
        let process = numbers(libc::SYS_pidfd_open, [t.victim.into(), 0])?;
        numbers(libc::SYS_pidfd_getfd, [process, t.descriptor.into(), 0])?;
        Ok("taken".to_owned())
    }),
    Attempt::new("look for another process by a signal", Signals, Reaches, |t| {
        kill(Pid::from_raw(t.victim), None)?;
        Ok("it lives".to_owned())
    }),
    Attempt::new("kill another process", Signals, Reaches, |t| {
        kill(Pid::from_raw(t.victim), Signal::SIGKILL)?;
        Ok("killed".to_owned())
    }),
    Attempt::new("kill another process by its thread", Signals, Reaches, |t| {
        numbers(libc::SYS_tgkill, [t.victim.into(), t.victim.into(), libc::SIGKILL.into()])?;
        Ok("killed".to_owned())
    }),
    Attempt::new("kill another process by its descriptor", Signals, Reaches, |t| {
        let process = numbers(libc::SYS_pidfd_open, [t.victim.into(), 0])?;
        numbers(libc::SYS_pidfd_send_signal, [process, libc::SIGKILL.into(), 0, 0])?;
        Ok("killed".to_owned())
    }),
    Attempt::new("signal the daemon", Signals, Reaches, |t| {
        kill(Pid::from_raw(t.daemon), Signal::SIGCONT)?;
        Ok("signalled".to_owned())
    }),
    Attempt::new("slow another process down", Signals, Reaches, |t| {
        numbers(libc::SYS_setpriority, [0, t.victim.into(), 19])?;
        Ok("slowed".to_owned())
    }),
    Attempt::new("limit another process", Signals, Reaches, |t| {
        // An old and a new limit, soft and hard: none of them changes.
        let mut old = [0; 16];
        let asked = [Arg::Number(t.victim.into()), Arg::Number(i64::from(libc::RLIMIT_CORE)), Arg::Number(0), Arg::Memory(&mut old)];
        call(libc::SYS_prlimit64, asked)?;
        Ok("its limits can be read, and set".to_owned())
    }),
    Attempt::new("bind another process to a core", Signals, Reaches, |t| {
        let mut cores = u64::MAX.to_ne_bytes();
        call(libc::SYS_sched_setaffinity, [Arg::Number(t.victim.into()), Arg::Number(8), Arg::Memory(&mut cores)])?;
        Ok("bound".to_owned())
    }),
    Attempt::new("attach shared memory of another process", Files, Reaches, |t| {
        // 0o10000 is SHM_RDONLY. Attached is enough; it is not read here.
        numbers(libc::SYS_shmat, [t.shared.into(), 0, 0o10000])?;
        Ok("attached".to_owned())
    }),
    Attempt::new("use a descriptor that was left open", Files, Never, |_| {
        let open = (3..1_024).find(|fd| OpenOptions::new().read(true).open(format!("/proc/self/fd/{fd}")).is_ok());
        open.map(|fd| format!("descriptor {fd}")).ok_or_else(|| blocked("none is open"))
    }),
    Attempt::new("write into the report", Files, Never, |_| {
        let written = (3..1_024).find(|fd| numbers(libc::SYS_fcntl, [*fd, libc::F_GETFD.into()]).is_ok());
        written.map(|fd| format!("descriptor {fd}")).ok_or_else(|| blocked("no descriptor but its own three"))
    }),
    Attempt::new("find a variable of the daemon in the own environment", Files, Never, |_| {
        let more = std::env::vars().map(|(name, _)| name).find(|name| !GIVEN.contains(&name.as_str()));
        more.ok_or_else(|| blocked("none is there"))
    }),
];

/// What the test gives, and shows that nothing else comes along.
const GIVEN: [&str; 5] = ["HOME", "LANG", "PATH", "RES_OPTIONS", "TMPDIR"];

/// struct iovec.
fn vector(address: usize, length: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&address.to_ne_bytes());
    bytes[8..].copy_from_slice(&length.to_ne_bytes());
    bytes
}
