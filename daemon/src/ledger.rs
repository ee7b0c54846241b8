//! The durable ledger: the only user of rusqlite and r2d2.
//!
//! One writer thread owns the connection that writes, and the books in memory. It takes what is waiting, runs all of it in one
//! transaction, commits once and answers all. Readers have a pool of their own. One thread flushes, one checkpoints. No SQL
//! leaves this module.

mod admin;
mod aex;
mod audit;
mod backup;
mod check;
mod copy;
mod directory;
mod disk;
mod entries;
mod explain;
mod export;
mod fault;
mod jump;
mod keys;
mod kill;
mod load;
mod lock;
mod migrate;
mod options;
mod past;
mod post;
mod queue;
mod read;
mod replay;
mod report;
mod restore;
mod schema;
mod seal;
mod segment;
mod shell;
mod stored;
mod tally;
mod update;
mod writer;

pub use admin::{NewAccount, NewTokenRow, Refused};
pub use aex::{AexAgent, AexDatabase, AexFault, AexToken, Cell, read_aex};
pub use aex_core::hold::{Durability, Ending};
pub use audit::{AuditReport, read_only, read_only_audit};
pub use backup::backup_at_rest;
pub use copy::Copied;
pub use directory::{AccountView, Directory, StopFlag, TokenView};
pub use explain::{Absent, read_only_explain};
pub use export::{ExportWanted, Since, Sink};
pub use fault::LedgerFault;
pub use jump::Jump;
pub use keys::{KEY_LASTS_US, UsedKey};
pub use kill::Killed;
pub use options::Options;
pub use past::Past;
pub use read::{AccountRow, BalanceRow, EventFilter, EventRow, Reader};
pub use report::{OwnedEvent, RunSums, TokenRow};
pub use restore::{Lost, NotRestored, Restored, restore};
pub use seal::SealedPart;
pub use segment::Segment;
pub use tally::{Counts, Denied, Ends, Span, Sums, Tallied};
pub use update::BudgetChange;
pub use writer::{EndCall, Held, HoldCall, Snapshot, Writer};

use crate::os::{clock, failpoint};
use aex_core::books::HoldKey;
use aex_core::chain::Head;
use aex_core::decision::Denial;
use aex_core::event::Event;
use aex_proto::value::AccountId;
use arc_swap::ArcSwap;
use fault::file_fault;
use queue::{Job, Queue};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};

/// A handle on the open ledger. Clones share it.
#[derive(Clone, Debug)]
pub struct Ledger {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    backup: backup::Turn,
    queue: Arc<Queue>,
    directory: Arc<ArcSwap<Directory>>,
    disk: disk::Disk,
    readers: read::Readers,
    kept_reader: read::Readers,
    head: watch::Receiver<Head>,
    jump: watch::Receiver<Option<Jump>>,
    durability: Durability,
    epoch: u32,
    recovered: u64,
    /// The newest event of the daemons before this one.
    inherited: i64,
    /// What they did is in the tally.
    replayed: tokio::sync::OnceCell<()>,
    writer: std::sync::Mutex<Option<JoinHandle<()>>>,
    checker: std::sync::Mutex<Option<JoinHandle<()>>>,
    _lock: nix::fcntl::Flock<std::fs::File>,
}

impl Ledger {
    /// Opens or creates a ledger, ends what a dead daemon left open, and starts the writer.
    ///
    /// # Errors
    /// When the file cannot be used, is newer than this program, or its rows do not fit together.
    pub fn open(options: &Options) -> Result<Ledger, LedgerFault> {
        Ledger::open_at(options, Arc::new(clock::wall))
    }

    /// Opens a ledger whose rows are stamped by a clock of the caller's.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn open_at(options: &Options, wall: clock::Wall) -> Result<Ledger, LedgerFault> {
        schema::assert_sqlite_version()?;
        let lock = lock::take(&options.path)?;
        restore::tidy(&options.path)?;
        let path = options.path.as_path();
        disk::renew(path)?;
        let conn = schema::open_for_writing(path).map_err(|fault| check::damaged(path, fault))?;
        let looked = check::at_start(&conn, path)?;
        let state = load::load(&conn, options.zone.clone(), wall()).map_err(|fault| check::damaged(path, fault))?;
        let inherited = state.head.seq;
        let directory = Arc::new(ArcSwap::from_pointee(Directory::default()));
        let queue = Arc::new(Queue::default());
        let disk = disk::Disk::start(&options.path, options.wal_limit)?;
        let (head_sender, head) = watch::channel(state.head);
        let (jump_sender, jump) = watch::channel(None);
        let start = shell::Start {
            conn,
            wall,
            state,
            zone_name: options.zone.iana_name().unwrap_or("UTC").to_owned(),
            queue: Arc::clone(&queue),
            directory: Arc::clone(&directory),
            disk: disk.clone(),
            durability: options.durability,
            head: head_sender,
            jump: jump_sender,
        };
        let (ready_sender, ready) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("aex-ledger".to_owned()).spawn(move || shell::run(start, &ready_sender));
        let thread = thread.map_err(|fault| LedgerFault::File { path: options.path.clone(), fault })?;
        let opened = ready.recv().map_err(|_| LedgerFault::Unavailable)?.map_err(|fault| check::damaged(path, fault))?;
        let readers = read::Readers::open(path, read::READERS)?;
        let kept_reader = read::Readers::open(path, read::KEPT)?;
        let checker = match looked {
            check::Looked::Whole => None,
            check::Looked::Part => Some(check::beside(path, &queue, &disk)?),
        };
        let inner = Inner {
            path: options.path.clone(),
            backup: backup::Turn::default(),
            queue,
            directory,
            disk,
            readers,
            kept_reader,
            head,
            jump,
            durability: options.durability,
            epoch: opened.epoch,
            recovered: opened.recovered,
            inherited,
            replayed: tokio::sync::OnceCell::new(),
            writer: std::sync::Mutex::new(Some(thread)),
            checker: std::sync::Mutex::new(checker),
            _lock: lock,
        };
        Ok(Ledger { inner: Arc::new(inner) })
    }

    /// The daemon's start, counted from 1.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.inner.epoch
    }

    /// Holds of dead daemons that were ended when this one opened the ledger.
    #[must_use]
    pub fn recovered(&self) -> u64 {
        self.inner.recovered
    }

    /// When a reservation has to be on disk: as the ledger was opened, whatever the configuration says by now.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.inner.durability
    }

    /// Hands out what the ledger answers to the tasks of this thread, with one wake-up for many; for a runtime that has one thread. Never
    /// ends by itself; until it runs, and behind it, each task is woken by itself.
    pub fn attend(&self) -> impl Future<Output = ()> + Send + use<> {
        post::attend(self.inner.disk.clone())
    }

    /// Accounts and tokens as of the last commit.
    #[must_use]
    pub fn directory(&self) -> arc_swap::Guard<Arc<Directory>> {
        self.inner.directory.load()
    }

    /// Follows the newest event.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<Head> {
        self.inner.head.clone()
    }

    /// The last time that the wall clock was set while the daemon ran, for as long as that is recent.
    #[must_use]
    pub fn recent_jump(&self) -> Option<Jump> {
        let jump = *self.inner.jump.borrow();
        jump.filter(|jump| jump.is_recent(clock::boot_us()))
    }

    /// Whether calls can be admitted: the writer runs and no flush has failed.
    #[must_use]
    pub fn is_available(&self) -> bool {
        !self.inner.queue.is_closed() && !self.inner.disk.has_failed()
    }

    /// What was found damaged since the start: the ledger admits nothing any more.
    #[must_use]
    pub fn damage(&self) -> Option<&str> {
        self.inner.disk.damage()
    }

    /// Resolves when the disk has refused a flush. The daemon has to end then: what it promised may not be on disk.
    pub async fn failed(&self) {
        self.inner.disk.failed().await;
    }

    /// Whether the disk has refused a flush: what was promised may not be on it.
    #[must_use]
    pub fn has_refused(&self) -> bool {
        self.inner.disk.has_refused()
    }

    /// Holds the bound of a call. With durability `full` it is on disk when this returns.
    ///
    /// # Errors
    /// Outer: the ledger cannot commit. Inner: the denial.
    pub async fn hold(&self, call: Box<HoldCall>) -> Result<Result<Held, Denial>, LedgerFault> {
        if self.inner.disk.has_refused() {
            return Err(LedgerFault::Unavailable);
        }
        let (reply, answer) = post::Reply::new(&self.inner.disk);
        self.inner.queue.push(Job::Hold(call, reply))?;
        let held = answer.await.map_err(|_| LedgerFault::Unavailable)?;
        if let Ok(held) = &held
            && !self.inner.durability.may_send(held.commit, self.inner.disk.newest())
        {
            self.flushed(held.commit).await?;
        }
        Ok(held)
    }

    /// Waits until a hold may show in an answer: at once with `normal`, when it is on disk otherwise.
    ///
    /// # Errors
    /// When the disk refuses to flush.
    pub async fn may_relay(&self, held: &Held) -> Result<(), LedgerFault> {
        if self.inner.durability.may_relay(held.commit, self.inner.disk.newest()) {
            return Ok(());
        }
        self.flushed(held.commit).await
    }

    async fn flushed(&self, commit: u64) -> Result<(), LedgerFault> {
        self.inner.disk.flushed(commit).await.map_err(|_| LedgerFault::Unavailable)
    }

    /// Ends a hold. It is in line before every later hold; nobody has to wait for it.
    ///
    /// # Errors
    /// When the writer has stopped; the next start ends the hold then.
    pub fn end(&self, key: HoldKey, ending: Ending) -> Result<(), LedgerFault> {
        self.end_call(EndCall { key, ending, tool: None })
    }

    /// Ends a hold, and says what came of it.
    ///
    /// # Errors
    /// When the writer has stopped.
    pub fn end_call(&self, call: EndCall) -> Result<(), LedgerFault> {
        self.inner.queue.push_always(Job::End(Box::new(call)))
    }

    /// Records an event that changes nothing, and the texts that it names.
    ///
    /// # Errors
    /// When the writer has stopped or its queue is full.
    pub fn record(&self, event: Event, named: [Option<Arc<Snapshot>>; 2]) -> Result<(), LedgerFault> {
        self.inner.queue.push(Job::Record(event, named))
    }

    /// How full the fullest budget on an account's path is, in percent.
    ///
    /// # Errors
    /// When the writer has stopped, its queue is full, or the books do not fit together.
    pub async fn budget_share(&self, account: AccountId) -> Result<u64, LedgerFault> {
        let (reply, answer) = oneshot::channel();
        let job: queue::AdminJob = Box::new(move |writer| {
            let share = writer.budget_share(account)?;
            Ok(Box::new(move |_| reply.send(share).unwrap_or_default()))
        });
        self.inner.queue.push(Job::Admin(job))?;
        answer.await.map_err(|_| LedgerFault::Unavailable)
    }

    /// Runs an admin action inside the next transaction and waits until it is on disk.
    ///
    /// # Errors
    /// Outer: the ledger cannot commit. Inner: the action is not possible.
    pub async fn admin<T, F>(&self, act: F) -> Result<Result<T, Refused>, LedgerFault>
    where
        T: Send + 'static,
        F: FnOnce(&mut Writer<'_>) -> Result<Result<T, Refused>, LedgerFault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: queue::AdminJob = Box::new(move |writer| {
            let done = act(writer)?;
            Ok(Box::new(move |commit| drop(reply.send((done, commit)))))
        });
        self.inner.queue.push_always(Job::Admin(job))?;
        let (done, commit) = answer.await.map_err(|_| LedgerFault::Unavailable)?;
        self.flushed(commit).await?;
        Ok(done)
    }

    /// Waits until all that was asked before is committed, so that a reader sees it.
    ///
    /// # Errors
    /// When the writer has stopped.
    pub async fn settled(&self) -> Result<(), LedgerFault> {
        let (reply, answer) = oneshot::channel();
        let job: queue::AdminJob = Box::new(move |_| Ok(Box::new(move |_| reply.send(()).unwrap_or_default())));
        self.inner.queue.push_always(Job::Admin(job))?;
        answer.await.map_err(|_| LedgerFault::Unavailable)
    }

    /// Calls and denials of every account, as of the last commit. The first to ask waits until the tables have been counted.
    ///
    /// # Errors
    /// When the tables cannot be read, or the writer has stopped.
    pub async fn tally(&self) -> Result<Tallied, LedgerFault> {
        self.inner.replayed.get_or_try_init(|| self.replay()).await?;
        Ok(self.look(|writer| writer.tally.snapshot(&writer.state.books)).await?.sum())
    }

    async fn replay(&self) -> Result<(), LedgerFault> {
        let (until, queue) = (self.inner.inherited, Arc::clone(&self.inner.queue));
        let now = self.look(|writer| writer.wall_now()).await?;
        let past = self.read(move |reader| reader.past(until, now, || queue.is_closed())).await?;
        self.look(move |writer| writer.tally.take_in(past, &writer.state.books)).await
    }

    /// Holds that have lasted for as long as they may, by the clock that nobody sets.
    ///
    /// # Errors
    /// When the writer has stopped or its queue is full.
    pub async fn overdue(&self) -> Result<Vec<HoldKey>, LedgerFault> {
        self.look(|writer| writer.overdue(clock::mono())).await
    }

    async fn look<T: Send + 'static>(&self, look: impl FnOnce(&mut Writer<'_>) -> T + Send + 'static) -> Result<T, LedgerFault> {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may be gone.
        let look: queue::Look = Box::new(move |writer| drop(reply.send(look(writer))));
        self.inner.queue.push(Job::Look(look))?;
        answer.await.map_err(|_| LedgerFault::Unavailable)
    }

    /// Flushes since the start, and how long they took in all.
    #[must_use]
    pub fn flushes(&self) -> (u64, std::time::Duration) {
        self.inner.disk.flushes()
    }

    /// Runs a query on a reader's connection, off the async threads.
    ///
    /// # Errors
    /// When no reader is free in time or the query fails.
    pub async fn read<T, F>(&self, query: F) -> Result<T, LedgerFault>
    where
        T: Send + 'static,
        F: FnOnce(&read::Reader<'_>) -> Result<T, LedgerFault> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || inner.readers.with(query)).await.map_err(|_| LedgerFault::Unavailable)?
    }

    /// The same on a connection that no report takes: for short queries that end something.
    ///
    /// # Errors
    /// As [`Ledger::read`].
    pub async fn read_at_once<T, F>(&self, query: F) -> Result<T, LedgerFault>
    where
        T: Send + 'static,
        F: FnOnce(&read::Reader<'_>) -> Result<T, LedgerFault> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || inner.kept_reader.with(query)).await.map_err(|_| LedgerFault::Unavailable)?
    }

    /// Writes what is waiting, records the good end, flushes and checkpoints. The ledger is closed afterwards.
    pub fn close(&self) {
        let epoch = self.inner.epoch;
        let ended = self.inner.queue.push_always(Job::Record(aex_core::event::EpochClosed { epoch }.into(), [None, None]));
        if ended.is_err() {
            tracing::error!("the ledger's writer had stopped before the daemon did");
        }
        self.inner.queue.close();
        for (slot, name) in [(&self.inner.writer, "writer"), (&self.inner.checker, "checker")] {
            let thread = slot.lock().ok().and_then(|mut slot| slot.take());
            if thread.is_some_and(|thread| thread.join().is_err()) {
                tracing::error!("the ledger's {name} ended by a panic");
            }
        }
        failpoint::reached("close.written");
        self.inner.disk.stop();
        if self.inner.disk.has_refused() {
            // The readers' connections would checkpoint as they close.
            std::mem::forget(Arc::clone(&self.inner));
        }
    }
}

#[cfg(test)]
mod tests;
