//! The writer's thread: takes what waits, runs it in one transaction, and tells all whom it concerns.

use super::LedgerFault;
use super::directory::Directory;
use super::disk::Disk;
use super::load::State;
use super::queue::{Job, Queue};
use super::writer::{Answer, Held, Writer};
use arc_swap::ArcSwap;
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use tokio::sync::watch;

/// How long after a failed write the ends of calls are tried again.
const RETRY: Duration = Duration::from_millis(200);

/// What the writer's thread is started with.
pub(super) struct Start {
    pub(super) conn: Connection,
    pub(super) state: State,
    pub(super) zone_name: String,
    pub(super) queue: Arc<Queue>,
    pub(super) directory: Arc<ArcSwap<Directory>>,
    pub(super) disk: Disk,
    pub(super) head: watch::Sender<i64>,
}

/// What opening the ledger did.
pub(super) struct Opened {
    pub(super) epoch: u32,
    pub(super) recovered: u64,
}

/// Runs until the queue is closed and empty.
pub(super) fn run(start: Start, ready: &SyncSender<Result<Opened, LedgerFault>>) {
    let Start { conn, state, zone_name, queue, directory, disk, head } = start;
    queue.attach();
    let writer = match Writer::new(&conn, state) {
        Ok(writer) => writer,
        Err(fault) => return drop(ready.send(Err(fault))),
    };
    let mut shell = Shell { writer, directory, disk, head, commits: 0, unwritten: Vec::new() };
    let opened = shell.open_epoch(zone_name);
    let failed = opened.is_err();
    if ready.send(opened).is_err() || failed {
        return queue.close();
    }
    let mut batch = Vec::new();
    while queue.take(&mut batch, shell.retries()) {
        shell.group(&mut batch);
    }
    // Statements go before their connection; it closes last, and with it the WAL.
    drop(shell);
}

/// The writer and those whom it tells.
struct Shell<'c> {
    writer: Writer<'c>,
    directory: Arc<ArcSwap<Directory>>,
    disk: Disk,
    head: watch::Sender<i64>,
    commits: u64,
    unwritten: Vec<Job>,
}

impl Shell<'_> {
    /// Opens the daemon's epoch and ends what dead ones left, in one transaction.
    fn open_epoch(&mut self, zone: String) -> Result<Opened, LedgerFault> {
        let writer = &mut self.writer;
        writer.begin()?;
        let recovered = writer.open_epoch(zone)?;
        writer.finish()?;
        self.committed();
        Ok(Opened { epoch: self.writer.state.epoch, recovered })
    }

    /// How long to wait for jobs when ends are still to be written.
    fn retries(&self) -> Option<Duration> {
        (!self.unwritten.is_empty()).then_some(RETRY)
    }

    fn group(&mut self, batch: &mut Vec<Job>) {
        // Ends that an earlier group could not write come first: their money is held until they are written.
        let mut jobs = std::mem::take(&mut self.unwritten);
        jobs.append(batch);
        let disk = self.disk.clone();
        let _guard = disk.writing();
        match self.writer.transaction(&mut jobs) {
            Ok(answers) => {
                self.committed();
                for answer in answers {
                    self.tell(answer);
                }
            }
            Err(fault) => {
                tracing::error!(%fault, jobs = jobs.len(), "a group of the ledger failed; its calls are refused");
                self.recover_from(jobs);
            }
        }
    }

    /// After a failed transaction: the books are read anew, and each end and record is tried alone, so that one that can't be
    /// written doesn't take others with it.
    fn recover_from(&mut self, jobs: Vec<Job>) {
        if let Err(fault) = self.writer.reload() {
            tracing::error!(%fault, "the ledger cannot be read");
            self.disk.set_writable(false);
            self.unwritten = jobs.into_iter().filter(|job| matches!(job, Job::End(_) | Job::Record(_))).collect();
            return;
        }
        for job in jobs.into_iter().filter(|job| matches!(job, Job::End(_) | Job::Record(_))) {
            let mut one = vec![job];
            match self.writer.transaction(&mut one) {
                Ok(_) => self.committed(),
                Err(fault) => {
                    self.disk.set_writable(false);
                    let is_constraint = matches!(&fault, LedgerFault::Sql(rusqlite::Error::SqliteFailure(code, _)) if code.code == rusqlite::ErrorCode::ConstraintViolation);
                    tracing::error!(%fault, dropped = is_constraint, "an end of a call could not be written");
                    if let Err(fault) = self.writer.reload() {
                        tracing::error!(%fault, "the ledger cannot be read");
                    }
                    if !is_constraint {
                        self.unwritten.append(&mut one);
                    }
                }
            }
        }
    }

    fn committed(&mut self) {
        self.commits += 1;
        self.writer.forget_closed();
        self.disk.committed(self.commits);
        if std::mem::take(&mut self.writer.directory_changed) {
            self.directory.store(Arc::new(self.writer.directory()));
        }
        self.head.send_replace(self.writer.state.head.seq);
    }

    fn tell(&self, answer: Answer) {
        match answer {
            Answer::Held(reply, placed) => {
                // A receiver that has gone means that the runtime is going down: the row is ended at the next start.
                drop(reply.send(placed.map(|deadline| Held { commit: self.commits, deadline })));
            }
            Answer::Admin(after) => after(self.commits),
        }
    }
}
