//! The process tree below this process. We are its subreaper: whatever loses its parent becomes our child, so that nothing leaves it.

use crate::clock::Deadline;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long processes may take to end after TERM.
const GRACE: Duration = Duration::from_secs(5);
/// How long they may take to be gone after KILL.
const GIVE_UP: Duration = Duration::from_secs(5);
/// How often the tree is looked at while it falls.
const LOOK: Duration = Duration::from_millis(50);

/// Collects children that have ended. The command's exit status when it is among them. When the command was stopped, we
/// stop, too, so that the shell sees its job stopped.
pub(crate) fn reap(command: Pid) -> Option<u8> {
    let mut status = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == command => status = u8::try_from(code & 0xff).ok(),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => status = u8::try_from(128 + signal as i32).ok(),
            Ok(WaitStatus::Stopped(pid, _)) if pid == command => drop(raise(Signal::SIGSTOP)),
            Ok(WaitStatus::StillAlive) | Err(_) => return status,
            Ok(_) => {}
        }
    }
}

/// The fall of the whole tree: TERM, and KILL after a grace.
pub(crate) struct Fall {
    kill_after: Deadline,
    give_up_after: Deadline,
}

impl Fall {
    pub(crate) fn begin() -> Fall {
        // A stopped process gets TERM when it goes on.
        signal_all(&descendants(Pid::this()), &[Signal::SIGTERM, Signal::SIGCONT]);
        Fall { kill_after: Deadline::after(GRACE), give_up_after: Deadline::after(GRACE.saturating_add(GIVE_UP)) }
    }

    /// When to look again.
    pub(crate) const fn next_look(&self) -> Duration {
        LOOK
    }

    /// Whether nothing is left. Past the grace, what is left is killed.
    pub(crate) fn look(&mut self) -> bool {
        let left = descendants(Pid::this());
        if self.kill_after.is_over() {
            signal_all(&left, &[Signal::SIGKILL]);
        }
        left.is_empty()
    }

    /// What KILL has not ended, once it is no use to wait longer: another user's processes, or such as hang in the kernel.
    pub(crate) fn outlived_by(&self) -> Vec<Pid> {
        if self.give_up_after.is_over() { descendants(Pid::this()) } else { Vec::new() }
    }
}

fn signal_all(processes: &[Pid], signals: &[Signal]) {
    for process in processes {
        for signal in signals {
            // It may have ended in the meantime, which is what is wanted.
            kill(*process, *signal).ok();
        }
    }
}

/// All processes below one, as /proc has them now; zombies are left out.
pub(crate) fn descendants(root: Pid) -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let process = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        let parent = process.and_then(parent);
        if let (Some(process), Some(parent)) = (process, parent) {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut below = Vec::new();
    let mut open = vec![root.as_raw()];
    while let Some(next) = open.pop() {
        for child in children.remove(&next).unwrap_or_default() {
            below.push(Pid::from_raw(child));
            open.push(child);
        }
    }
    below
}

/// The parent of a process that has not ended. A command's name may hold spaces and parentheses: the last `)` ends it.
fn parent(process: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.next()?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn the_tree_holds_children_of_children() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 30 & echo; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|fault| unreachable!("{fault}"));
        let mut started = String::new();
        if let Some(out) = shell.stdout.take() {
            std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut started).ok();
        }
        let shell_pid = Pid::from_raw(i32::try_from(shell.id()).unwrap_or_default());
        let below = descendants(shell_pid);
        assert_eq!(below.len(), 1, "{below:?}");
        assert!(descendants(Pid::this()).contains(&shell_pid));
        let falling =
            |give_up_ms| Fall { kill_after: Deadline::after(GRACE), give_up_after: Deadline::after(Duration::from_millis(give_up_ms)) };
        assert!(falling(0).outlived_by().contains(&shell_pid) && falling(60_000).outlived_by().is_empty());
        signal_all(&below, &[Signal::SIGKILL]);
        shell.wait().ok();
        assert!(descendants(shell_pid).is_empty());
    }
}
