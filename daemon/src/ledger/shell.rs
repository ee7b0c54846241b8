//! The writer's thread: takes what waits, runs it in one transaction, and tells all whom it concerns.

use super::directory::Directory;
use super::disk::Disk;
use super::jump::Jump;
use super::load::State;
use super::post::Mailbox;
use super::queue::{Job, Queue};
use super::writer::{Answer, Held, Writer};
use super::{Durability, LedgerFault};
use crate::os::{clock, failpoint};
use aex_core::chain::Head;
use arc_swap::ArcSwap;
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use tokio::sync::watch;

/// How long after a failed write the ends of calls are tried again.
const RETRY: Duration = Duration::from_millis(200);
/// Records of refusals that are kept while the disk is full; ends of calls are all kept, their number is that of the holds.
const MAX_RECORDS: usize = 10_000;

/// What the writer's thread is started with.
pub(super) struct Start {
    pub(super) conn: Connection,
    pub(super) wall: clock::Wall,
    pub(super) state: State,
    pub(super) zone_name: String,
    pub(super) queue: Arc<Queue>,
    pub(super) directory: Arc<ArcSwap<Directory>>,
    pub(super) disk: Disk,
    pub(super) durability: Durability,
    pub(super) head: watch::Sender<Head>,
    pub(super) jump: watch::Sender<Option<Jump>>,
}

/// What opening the ledger did.
pub(super) struct Opened {
    pub(super) epoch: u32,
    pub(super) recovered: u64,
}

/// Runs until the queue is closed and empty.
pub(super) fn run(start: Start, ready: &SyncSender<Result<Opened, LedgerFault>>) {
    let Start { conn, wall, state, zone_name, queue, directory, disk, durability, head, jump } = start;
    queue.attach();
    let _guard = Guard { queue: Arc::clone(&queue), disk: disk.clone() };
    let writer = match Writer::new(&conn, state, wall) {
        Ok(writer) => writer,
        Err(fault) => return drop(ready.send(Err(fault))),
    };
    let mut shell =
        Shell { writer, directory, disk: disk.clone(), durability, head, jump, commits: 0, unwritten: Vec::new(), stale: false };
    let opened = shell.open_epoch(zone_name);
    let failed = opened.is_err();
    if ready.send(opened).is_err() || failed {
        return;
    }
    let mut batch = Vec::new();
    while queue.take(&mut batch, shell.retries()) {
        shell.turn(&mut batch);
    }
    drop(shell);
    if disk.has_refused() {
        // Closing checkpoints, and what is in the WAL may not be what was written.
        std::mem::forget(conn);
    }
}

/// However the writer's thread ends, nobody waits for it any more.
struct Guard {
    queue: Arc<Queue>,
    disk: Disk,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.queue.abandon();
        if std::thread::panicking() {
            self.disk.refuse();
        }
    }
}

/// The writer and those whom it tells.
struct Shell<'c> {
    writer: Writer<'c>,
    directory: Arc<ArcSwap<Directory>>,
    disk: Disk,
    durability: Durability,
    head: watch::Sender<Head>,
    jump: watch::Sender<Option<Jump>>,
    commits: u64,
    /// Ends and records that could not be written yet.
    unwritten: Vec<Job>,
    /// The books in memory are not those of the tables: they are read anew before anything else.
    stale: bool,
}

impl Shell<'_> {
    /// Opens the daemon's epoch and ends what dead ones left, in one transaction.
    fn open_epoch(&mut self, zone: String) -> Result<Opened, LedgerFault> {
        let writer = &mut self.writer;
        writer.begin()?;
        let recovered = writer.open_epoch(zone)?;
        failpoint::reached("recovery.before_commit");
        writer.finish()?;
        failpoint::reached("recovery.after_commit");
        self.committed(true);
        Ok(Opened { epoch: self.writer.state.epoch, recovered })
    }

    /// How long to wait for jobs when ends are still to be written.
    fn retries(&self) -> Option<Duration> {
        (!self.unwritten.is_empty()).then_some(RETRY)
    }

    /// One group, and a look at the counts for all who asked for one while it waited. Somebody looks each minute, so that a
    /// wall clock which was set is noticed by a daemon without calls, too.
    fn turn(&mut self, batch: &mut Vec<Job>) {
        let looks: Vec<Job> = batch.extract_if(.., |job| matches!(job, Job::Look(_))).collect();
        if looks.is_empty() || !batch.is_empty() || self.writer.is_clock_off() {
            self.group(batch);
        }
        for look in looks {
            if let Job::Look(look) = look {
                look(&mut self.writer);
            }
        }
    }

    fn group(&mut self, batch: &mut Vec<Job>) {
        let disk = self.disk.clone();
        let _guard = disk.writing();
        if disk.has_refused() {
            // Nothing is written any more: a log that starts anew is flushed by SQLite, which would be told that all is well. The
            // next start ends what is held.
            return batch.clear();
        }
        // Ends that could not be written come first, in transactions of their own: their money is held until they are
        // written, and they take no other call with them.
        if !self.is_fresh() || !self.write_unwritten() {
            return self.keep(std::mem::take(batch));
        }
        match self.writer.transaction(batch) {
            Ok(answers) => {
                failpoint::reached("ledger.after_commit");
                // An admin action waits for the disk whatever the durability.
                let is_awaited = |answer: &Answer| match answer {
                    Answer::Held { placed, is_free, .. } => placed.is_ok() && self.durability.awaits_flush(*is_free),
                    Answer::Admin(_) => true,
                };
                self.committed(answers.iter().any(is_awaited));
                self.tell(answers);
            }
            Err(fault) => {
                tracing::error!(%fault, jobs = batch.len(), "a group of the ledger failed; its calls are refused");
                self.failed(&fault);
                self.keep(std::mem::take(batch));
                if !fault.is_failed_flush() {
                    self.write_unwritten();
                }
            }
        }
        batch.clear();
    }

    /// Keeps what must not be lost; those who wait for the rest are told that the ledger is not available.
    fn keep(&mut self, jobs: Vec<Job>) {
        let records = self.unwritten.iter().filter(|job| matches!(job, Job::Record(..))).count();
        let mut room = MAX_RECORDS.saturating_sub(records);
        self.unwritten.extend(jobs.into_iter().filter(|job| match job {
            Job::End(_) => true,
            Job::Record(..) if room > 0 => {
                room -= 1;
                true
            }
            Job::Record(..) | Job::Hold(..) | Job::Admin(_) | Job::Look(_) => false,
        }));
    }

    /// After a failed transaction.
    fn failed(&mut self, fault: &LedgerFault) {
        self.disk.set_writable(false);
        self.stale = true;
        if fault.is_failed_flush() {
            self.disk.refuse();
        }
    }

    /// Reads the books anew when they are not those of the tables. `false` when that is not possible now.
    fn is_fresh(&mut self) -> bool {
        if !self.stale {
            return true;
        }
        match self.writer.reload() {
            Ok(()) => self.stale = false,
            Err(fault) => tracing::error!(%fault, "the ledger cannot be read"),
        }
        !self.stale
    }

    /// Writes each waiting end and record alone. `false` when the disk still refuses.
    fn write_unwritten(&mut self) -> bool {
        let mut waiting = std::mem::take(&mut self.unwritten).into_iter();
        for job in waiting.by_ref() {
            let mut one = vec![job];
            if !self.is_fresh() {
                self.unwritten = one;
                break;
            }
            match self.writer.transaction(&mut one) {
                Ok(_) => self.committed(false),
                Err(fault) => {
                    let is_final = is_final(&fault);
                    tracing::error!(%fault, is_final, "an end of a call could not be written");
                    self.failed(&fault);
                    if !is_final {
                        self.unwritten = one;
                        break;
                    }
                }
            }
        }
        let stuck = !self.unwritten.is_empty();
        self.unwritten.extend(waiting);
        !stuck
    }

    fn committed(&mut self, is_awaited: bool) {
        self.commits += 1;
        self.writer.count();
        if let Some(jump) = self.writer.take_jump() {
            tracing::warn!(from = %jump.from, to = %jump.to, "the wall clock was set");
            self.jump.send_replace(Some(jump));
        }
        self.disk.committed(self.commits, is_awaited);
        if std::mem::take(&mut self.writer.directory_changed) {
            self.directory.store(Arc::new(self.writer.directory()));
        }
        // A kill does not wait for the tidying behind it.
        self.writer.raise_flags();
        self.head.send_replace(self.writer.state.head);
        self.writer.forget_closed();
    }

    /// Tells all whom the group concerns, and wakes each of their threads once.
    fn tell(&self, answers: Vec<Answer>) {
        let mut rung: Vec<Arc<Mailbox>> = Vec::new();
        for answer in answers {
            match answer {
                Answer::Held { reply, placed, .. } => {
                    let held = placed.map(|deadline| Held { commit: self.commits, deadline });
                    if let Some(mailbox) = reply.send(held)
                        && !rung.iter().any(|known| Arc::ptr_eq(known, &mailbox))
                    {
                        rung.push(mailbox);
                    }
                }
                Answer::Admin(after) => after(self.commits),
            }
        }
        rung.iter().for_each(|mailbox| mailbox.ring());
    }
}

/// Whether trying again cannot help: the rows or the books refuse it, not the disk.
fn is_final(fault: &LedgerFault) -> bool {
    match fault {
        LedgerFault::Sql(rusqlite::Error::SqliteFailure(code, _)) => code.code == rusqlite::ErrorCode::ConstraintViolation,
        LedgerFault::Books(_) => true,
        _ => false,
    }
}
