//! What the kernel knows about a process: its CPU time and its memory.

use std::fs;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// User and system time of all its threads, the ended ones too. `/proc/PID/stat` has the same in steps of 10 ms.
pub(super) fn cpu(pid: i32) -> Duration {
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).and_then(nix::time::ClockId::now);
    clock.map(Duration::from).unwrap_or_default()
}

/// Lets the peak begin anew.
pub(super) fn reset_peak(pid: i32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").ok();
}

/// Peak resident memory since the reset, in KiB.
pub(super) fn peak_kib(pid: i32) -> u64 {
    status_kib(pid, "VmHWM:")
}

/// Resident memory, in KiB.
pub(super) fn resident_kib(pid: i32) -> u64 {
    status_kib(pid, "VmRSS:")
}

fn status_kib(pid: i32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// The children of a process that are there now.
pub(super) fn children(pid: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}
