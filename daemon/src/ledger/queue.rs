//! The queue before the writer: a vector that the writer swaps out whole, and a parked thread. Bounded.

use super::LedgerFault;
use super::post::Reply;
use super::writer::{EndCall, HoldCall, Snapshot, Writer};
use aex_core::event::Event;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;
use std::time::Duration;

/// Jobs that may wait before new holds are refused.
const MAX_WAITING: usize = 16_384;

/// What runs after the commit of an admin action; it is told the commit's number.
pub(super) type AfterCommit = Box<dyn FnOnce(u64) + Send>;
/// An admin action inside the writer's transaction.
pub(super) type AdminJob = Box<dyn FnOnce(&mut Writer<'_>) -> Result<AfterCommit, LedgerFault> + Send>;
/// A look at the counts and the open holds between two groups; it writes nothing.
pub(super) type Look = Box<dyn FnOnce(&mut Writer<'_>) + Send>;

/// One thing for the writer to do.
pub(super) enum Job {
    /// Hold money for a call.
    Hold(Box<HoldCall>, Reply),
    /// End a hold.
    End(Box<EndCall>),
    /// Append an event, and keep the texts that it names.
    Record(Event, [Option<Arc<Snapshot>>; 2]),
    /// Run an admin action.
    Admin(AdminJob),
    /// Look at the counts or the holds.
    Look(Look),
}

/// The waiting jobs.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    writer: OnceLock<Thread>,
}

#[derive(Default)]
struct Waiting {
    jobs: Vec<Job>,
    closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}

impl Queue {
    /// Adds a job; refuses when too many wait.
    pub(super) fn push(&self, job: Job) -> Result<(), LedgerFault> {
        self.add(job, MAX_WAITING)
    }

    /// Adds a job that must not be lost: an end of a hold, an admin action. Their number is bounded by the holds and connections.
    pub(super) fn push_always(&self, job: Job) -> Result<(), LedgerFault> {
        self.add(job, usize::MAX)
    }

    fn add(&self, job: Job, cap: usize) -> Result<(), LedgerFault> {
        let mut waiting = self.waiting.lock().map_err(|_| LedgerFault::Unavailable)?;
        if waiting.closed || waiting.jobs.len() >= cap {
            return Err(LedgerFault::Unavailable);
        }
        let was_empty = waiting.jobs.is_empty();
        waiting.jobs.push(job);
        drop(waiting);
        if was_empty && let Some(writer) = self.writer.get() {
            writer.unpark();
        }
        Ok(())
    }

    /// The writer's thread says that it is the one to wake.
    pub(super) fn attach(&self) {
        self.writer.get_or_init(std::thread::current);
    }

    /// Swaps the waiting jobs into `batch`, sleeping until there are some, or for `at_most`. `false` when closed and empty.
    pub(super) fn take(&self, batch: &mut Vec<Job>, at_most: Option<Duration>) -> bool {
        let mut slept = false;
        loop {
            let Ok(mut waiting) = self.waiting.lock() else { return false };
            std::mem::swap(&mut waiting.jobs, batch);
            if !batch.is_empty() || (slept && at_most.is_some()) {
                return true;
            }
            if waiting.closed {
                return false;
            }
            drop(waiting);
            match at_most {
                Some(limit) => std::thread::park_timeout(limit),
                None => std::thread::park(),
            }
            slept = true;
        }
    }

    /// Refuses new jobs; the writer ends when it has done the waiting ones.
    pub(super) fn close(&self) {
        if let Ok(mut waiting) = self.waiting.lock() {
            waiting.closed = true;
        }
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Refuses new jobs and drops the waiting ones: whoever waits for them is told that the ledger is not available.
    pub(super) fn abandon(&self) {
        let mut waiting = match self.waiting.lock() {
            Ok(waiting) => waiting,
            Err(poisoned) => poisoned.into_inner(),
        };
        waiting.closed = true;
        waiting.jobs.clear();
    }

    /// Whether new jobs are refused.
    pub(super) fn is_closed(&self) -> bool {
        self.waiting.lock().map_or(true, |waiting| waiting.closed)
    }
}
