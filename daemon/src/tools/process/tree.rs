//! What a process started: found by group, by parent and by the mark in its environment, and killed, never by a number alone.

use super::MARK;
use crate::os::clock;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use std::collections::HashSet;
use std::fs;
use std::time::Duration;

/// How long killed processes are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whose tree it is.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Its first process, which is its group too.
    pub(super) pid: u32,
    /// When that started, in ticks since boot.
    pub(super) start: u64,
    /// Its mark.
    pub(super) mark: String,
}

/// A process of a tool that outlived the daemon which started it, and was killed at the next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The tool's server.
    pub server: String,
    /// Its process.
    pub pid: u32,
}

/// A line of the table of processes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    pid: u32,
    parent: u32,
    group: u32,
    start: u64,
    is_dead: bool,
}

/// When a process started, in ticks since boot; nothing when there is none.
pub(super) fn start_of(pid: u32) -> Option<u64> {
    entry(pid).map(|entry| entry.start)
}

/// Kills the tree and tells how many of it are left. The first process must not be reaped before that, else its group may be another's.
pub(super) fn kill(target: &Target) -> usize {
    let group = Pid::from_raw(i32::try_from(target.pid).unwrap_or(i32::MAX));
    sweep(|table| {
        // All at once: a group that forks meanwhile is hit as a whole.
        let _: nix::Result<()> = killpg(group, Signal::SIGKILL);
        let of_group = |entry: &&Entry| entry.group == target.pid || entry.pid == target.pid;
        let marked = |entry: &&Entry| entry.start >= target.start && is_marked(entry.pid, &target.mark);
        table.iter().filter(|entry| of_group(entry) || marked(entry)).map(|entry| entry.pid).collect()
    })
}

/// Kills what a daemon that died left behind, and tells how many are left: trees whose first process is still the one that was recorded, and
/// whatever has the mark.
pub(super) fn kill_leftovers(mark: &str, recorded: &[(u32, u64)]) -> (Vec<u32>, usize) {
    let mut found = HashSet::new();
    let left = sweep(|table| {
        let is_recorded = |entry: &Entry| recorded.contains(&(entry.pid, entry.start));
        let groups: HashSet<u32> = table.iter().filter(|entry| is_recorded(entry)).map(|entry| entry.pid).collect();
        let of_tree = |entry: &&Entry| groups.contains(&entry.group) || is_recorded(entry) || is_marked(entry.pid, mark);
        let doomed: HashSet<u32> = table.iter().filter(of_tree).map(|entry| entry.pid).collect();
        found.extend(table.iter().filter(|entry| !entry.is_dead && doomed.contains(&entry.pid)).map(|entry| entry.pid));
        doomed
    });
    (found.into_iter().collect(), left)
}

/// Kills what is chosen and its children, again and again until nothing of it lives.
fn sweep(mut choose: impl FnMut(&[Entry]) -> HashSet<u32>) -> usize {
    let own = std::process::id();
    let begun = clock::mono();
    loop {
        let table: Vec<Entry> = table().into_iter().filter(|entry| entry.pid != own).collect();
        let mut doomed = choose(&table);
        while let Some(child) = table.iter().find(|entry| doomed.contains(&entry.parent) && !doomed.contains(&entry.pid)) {
            doomed.insert(child.pid);
        }
        let living: Vec<&Entry> = table.iter().filter(|entry| !entry.is_dead && doomed.contains(&entry.pid)).collect();
        for entry in &living {
            strike(entry);
        }
        if living.is_empty() || clock::mono().saturating_sub(begun) > PATIENCE {
            return living.len();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills that process, and no other that has its number by now.
fn strike(entry: &Entry) {
    let number = i32::try_from(entry.pid).ok().and_then(rustix::process::Pid::from_raw);
    let Some(Ok(pidfd)) = number.map(|number| pidfd_open(number, PidfdFlags::empty())) else { return };
    if start_of(entry.pid) == Some(entry.start) {
        let _: rustix::io::Result<()> = pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    }
}

fn table() -> Vec<Entry> {
    let Ok(folder) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter_map(entry).collect()
}

fn entry(pid: u32) -> Option<Entry> {
    read(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc_pid_stat(5): the name may hold anything, so fields are counted from its last parenthesis.
fn read(pid: u32, stat: &str) -> Option<Entry> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let is_dead = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let start = fields.nth(16)?.parse().ok()?;
    Some(Entry { pid, parent, group, start, is_dead })
}

/// Whether it has this mark, or one that a daemon with this mark gave.
fn is_marked(pid: u32, mark: &str) -> bool {
    let Ok(environ) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let wanted = format!("{MARK}={mark}");
    let is_it = |one: &[u8]| one.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."));
    environ.split(|byte| *byte == 0).any(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_hides_nothing() {
        let stat = "7 (a) S 1 2) R 5 6 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 2";
        assert_eq!(read(7, stat), Some(Entry { pid: 7, parent: 5, group: 6, start: 4242, is_dead: false }));
        assert!(start_of(std::process::id()).is_some());
    }
}
