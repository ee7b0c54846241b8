//! The fence round what is for people: a request that lets calls or tools pass is refused when its process comes from inside a run or a
//! server of tools.
//!
//! It is a fence, not a wall. A process that nothing confines may leave its parents by forking twice, and has all other rights of its user.
//! Whatever the system does not tell is refused.

use super::Control;
use crate::os::clock;
use crate::tools::supervisor::Tools;
use aex_core::books::AccountKind;
use aex_core::event::{AdminBarred, By, Inside};
use aex_proto::method::Verb;
use aex_proto::rpc::{ErrorObject, Fault};
use aex_proto::run::RunId;
use aex_proto::value::AccountId;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// What is for people: it lets calls or tools pass that would not.
const FOR_PEOPLE: [Verb; 11] = [
    Verb::ApprovalApprove,
    Verb::ApprovalDeny,
    Verb::ApprovalRevoke,
    Verb::ToolAdd,
    Verb::ToolImport,
    Verb::ToolRemove,
    Verb::ToolEnable,
    Verb::ToolDisable,
    Verb::ToolRestart,
    Verb::ToolApprove,
    // For any agent that it names.
    Verb::ToolCall,
];
/// Parents that are looked at; behind them a process is taken for one that cannot be told.
const MAX_PARENTS: usize = 256;
/// A refusal is recorded at most once in so long.
const RECORD_MS: u64 = 1_000;

/// A process, which its number alone does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pid: i32,
    /// When it started, in ticks since boot.
    start: u64,
}

impl Process {
    /// The process that has a number now.
    pub(super) fn of(pid: i32) -> Option<Process> {
        stat(pid).map(|(_, start)| Process { pid, start })
    }
}

/// The processes that runs are tied to.
#[derive(Default)]
pub(super) struct Fence {
    runs: Mutex<HashMap<Process, AccountId>>,
    /// Runs that this daemon has tied to a process.
    tied: Mutex<HashSet<AccountId>>,
    recorded_ms: Mutex<Option<u64>>,
}

impl Fence {
    /// Has a run's command begin behind the fence. Processes that are no more are forgotten.
    pub(super) fn tie(&self, process: Option<Process>, run: AccountId) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|known, _| Process::of(known.pid) == Some(*known));
        runs.extend(process.map(|process| (process, run)));
        drop(runs);
        self.tied.lock().unwrap_or_else(PoisonError::into_inner).insert(run);
    }

    /// One of these runs that an earlier daemon began, and whose process is not known again yet.
    fn untied(&self, mut open: impl Iterator<Item = AccountId>) -> Option<AccountId> {
        let tied = self.tied.lock().unwrap_or_else(PoisonError::into_inner);
        open.find(|run| !tied.contains(run))
    }

    /// What a process comes from; `None`: from no run and no tool.
    fn inside(&self, process: Option<Process>, tools: &Tools) -> Option<Inside> {
        let Some(parents) = process.and_then(parents) else { return Some(Inside::Unknown) };
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = parents.iter().find_map(|parent| runs.get(parent)) {
            return Some(Inside::Run(*run));
        }
        drop(runs);
        let is_parent = |pid: Option<u32>| pid.is_some_and(|pid| parents.iter().any(|parent| parent.pid.unsigned_abs() == pid));
        let of_tools = tools.status().into_iter().find(|server| server.instances.iter().any(|instance| is_parent(instance.pid)));
        of_tools.map(|server| Inside::Server(server.server))
    }

    fn may_record(&self) -> bool {
        let now = clock::mono_ms();
        let mut recorded = self.recorded_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let may = recorded.is_none_or(|at| at.saturating_add(RECORD_MS) <= now);
        if may {
            *recorded = Some(now);
        }
        may
    }
}

impl Control {
    /// Refuses what is for people to a process that comes from a run or a tool. `process`: the peer, as it was when it connected.
    pub(super) async fn is_a_persons(&self, by: &By, process: Option<Process>, verb: Verb) -> Result<(), ErrorObject> {
        if !FOR_PEOPLE.contains(&verb) {
            return Ok(());
        }
        let now = Process::of(by.pid);
        let process = process.filter(|process| now == Some(*process));
        let Some(inside) = self.fence.inside(process, self.gatekeeper.tools()) else {
            let directory = self.gate.ledger().directory();
            let runs = directory.accounts.values().filter(|view| view.kind == AccountKind::Run).map(|view| view.named.id);
            // Until then anybody may come from it. Its aexctl takes it up within moments; without one it is closed in its time.
            return match self.fence.untied(runs) {
                None => Ok(()),
                Some(run) => {
                    let why = format!("{} began before the daemon started, and is not taken up again yet", RunId::new(run));
                    Err(ErrorObject::fault(Fault::Denied, why).hint("try again in some seconds"))
                }
            };
        };
        let method = verb.name();
        tracing::warn!(pid = by.pid, uid = by.uid, method, ?inside, "a request that is for people was refused");
        if self.fence.may_record() {
            let barred = AdminBarred { by: by.clone(), inside: inside.clone(), method: method.to_owned() };
            // It is refused in any case.
            if let Err(fault) = self.gate.note(barred.into()).await {
                tracing::error!(%fault, "a refusal could not be recorded");
            }
        }
        let whence = match inside {
            Inside::Run(run) => format!("process {} was started in {}", by.pid, RunId::new(run)),
            Inside::Server(server) => format!("process {} was started by the tools of `{server}`", by.pid),
            Inside::Unknown => format!("the system does not tell where process {} comes from", by.pid),
        };
        Err(ErrorObject::fault(Fault::Denied, format!("{method} is for people: {whence}")).hint("use a terminal outside of any run"))
    }
}

/// A process and its parents; `None` when they cannot be told.
fn parents(process: Process) -> Option<Vec<Process>> {
    let mut found = vec![process];
    let mut pid = process.pid;
    while found.len() < MAX_PARENTS {
        let (parent, _) = stat(pid)?;
        // The first process of all, or of the daemon's own world, has none.
        if parent == 0 {
            return Some(found);
        }
        found.push(Process::of(parent)?);
        pid = parent;
    }
    None
}

/// A process's parent and start (proc_pid_stat(5): fields 4 and 22). Its name stands in parentheses and may hold anything.
fn stat(pid: i32) -> Option<(i32, u64)> {
    if pid <= 0 {
        return None;
    }
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let parent = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some((parent, start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let own = i32::try_from(std::process::id()).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let process = Process::of(i32::try_from(child.id()).unwrap()).unwrap();
        let found = parents(process).unwrap();
        assert_eq!((found[0], found[1].pid), (process, own));
        assert_eq!(found.last().map(|first| stat(first.pid).unwrap().0), Some(0));
        let fence = Fence::default();
        fence.tie(Some(found[1]), AccountId::new(5));
        fence.tie(Some(Process { start: process.start + 1, ..process }), AccountId::new(6));
        fence.tie(None, AccountId::new(7));
        let untied = |open: &[i64]| fence.untied(open.iter().copied().map(AccountId::new));
        assert_eq!((untied(&[7, 6, 5]), untied(&[5, 8]), untied(&[])), (None, Some(AccountId::new(8)), None));
        let runs = fence.runs.lock().unwrap().clone();
        // One whose number is another's by now is forgotten.
        assert_eq!(runs, HashMap::from([(found[1], AccountId::new(5))]));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Process::of(process.pid), None);
        assert_eq!((Process::of(0), Process::of(-1)), (None, None));
    }
}
