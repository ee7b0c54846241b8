//! The disk below the ledger: one thread flushes the WAL, one checkpoints it.
//!
//! A flush answers only commits that ended before it began. A failed flush is final: after a failed fsync nobody knows what
//! is on disk, and asking again would be told that all is well (LWN, "PostgreSQL's fsync() surprise", 2018). That holds for the
//! next daemon too, which reads from memory what the disk does not have: it writes the log anew before it trusts it.

use super::{LedgerFault, post, schema};
use crate::os::{clock, failpoint};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// Groups between two checkpoints; a checkpoint of what is already flushed costs about a microsecond a page.
const GROUPS_PER_CHECKPOINT: u64 = 512;
/// Bytes before each page in the log (<https://www.sqlite.org/fileformat2.html#walformat>).
const FRAME_HEADER: u64 = 24;
/// Bytes of the log that are written anew at once.
const CHUNK: usize = 1 << 20;

/// The disk's threads. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    shared: Arc<Shared>,
    flushed: watch::Receiver<u64>,
    refused: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Shared {
    work: Mutex<Work>,
    wake_flusher: Condvar,
    wake_checkpointer: Condvar,
    /// Held by the writer for a group, and by the checkpointer while the WAL starts anew.
    writing: Mutex<()>,
    /// Threads with tasks that wait for a flush.
    office: post::Office,
    /// The last group was written.
    writable: AtomicBool,
    /// What was found damaged on it.
    damage: OnceLock<String>,
    /// A flush has failed, the writer has panicked, or something is damaged.
    refused: watch::Sender<bool>,
    flushes: AtomicU64,
    flushing_us: AtomicU64,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Work {
    committed: u64,
    wanted: u64,
    checkpointed: u64,
    stopping: bool,
}

impl Shared {
    fn refuse(&self) {
        self.refused.send_replace(true);
        self.office.flushed();
    }
}

/// The disk refused a flush, or the ledger is closed.
#[derive(Debug)]
pub(super) struct NotFlushed;

impl Disk {
    /// Starts both threads.
    pub(super) fn start(database: &Path, wal_limit: u64) -> Result<Disk, LedgerFault> {
        let (refuse, refused) = watch::channel(false);
        let shared = Arc::new(Shared {
            work: Mutex::new(Work::default()),
            wake_flusher: Condvar::new(),
            wake_checkpointer: Condvar::new(),
            writing: Mutex::new(()),
            office: post::Office::default(),
            writable: AtomicBool::new(true),
            damage: OnceLock::new(),
            refused: refuse,
            flushes: AtomicU64::new(0),
            flushing_us: AtomicU64::new(0),
            threads: Mutex::new(Vec::new()),
        });
        let (done, flushed) = watch::channel(0);
        let wal = Wal::new(database);
        let flusher = Flusher { shared: Arc::clone(&shared), wal, done };
        let conn = schema::open_for_reading(database)?;
        let page_bytes: u32 = conn.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let checkpointer = Checkpointer {
            conn,
            shared: Arc::clone(&shared),
            wal: Wal::new(database),
            // Open for life: closing any descriptor of the database drops the locks that SQLite holds on it (fcntl(2)).
            database: File::options()
                .read(true)
                .write(true)
                .open(database)
                .map_err(|fault| LedgerFault::File { path: database.to_owned(), fault })?,
            frame_bytes: u64::from(page_bytes).saturating_add(FRAME_HEADER),
            limit: wal_limit,
        };
        checkpointer.conn.execute_batch("PRAGMA query_only = 0")?;
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)
                .map_err(|fault| LedgerFault::File { path: database.to_owned(), fault })
        };
        let threads =
            vec![spawn("aex-flush", Box::new(move || flusher.run()))?, spawn("aex-checkpoint", Box::new(move || checkpointer.run()))?];
        if let Ok(mut slot) = shared.threads.lock() {
            *slot = threads;
        }
        Ok(Disk { shared, flushed, refused })
    }

    /// Flushes that succeeded, and how long they took in all.
    pub(super) fn flushes(&self) -> (u64, Duration) {
        let flushing_us = self.shared.flushing_us.load(Ordering::Relaxed);
        (self.shared.flushes.load(Ordering::Relaxed), Duration::from_micros(flushing_us))
    }

    /// The writer's leave to write: kept for a group.
    pub(super) fn writing(&self) -> Option<MutexGuard<'_, ()>> {
        self.shared.writing.lock().ok()
    }

    /// Tells of a commit. Its flush begins at once when somebody will wait for it; otherwise a later one takes it along.
    pub(super) fn committed(&self, commit: u64, is_awaited: bool) {
        self.shared.writable.store(true, Ordering::Release);
        if let Ok(mut work) = self.shared.work.lock() {
            work.committed = commit;
            if is_awaited {
                work.wanted = commit;
                self.shared.wake_flusher.notify_one();
            }
            if commit.saturating_sub(work.checkpointed) >= GROUPS_PER_CHECKPOINT {
                self.shared.wake_checkpointer.notify_one();
            }
        }
    }

    /// The last group could not be written.
    pub(super) fn set_writable(&self, writable: bool) {
        self.shared.writable.store(writable, Ordering::Release);
    }

    /// Whether a flush or the last group has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.has_refused() || !self.shared.writable.load(Ordering::Acquire)
    }

    /// Whether a flush has failed: nothing may be written any more, and nothing is admitted.
    pub(super) fn has_refused(&self) -> bool {
        *self.refused.borrow()
    }

    /// Says that what was promised may not be on disk.
    pub(super) fn refuse(&self) {
        self.shared.refuse();
    }

    /// Says that what is on the disk is not what was written.
    pub(super) fn condemn(&self, what: String) {
        // The first finding is the one that is told.
        if self.shared.damage.set(what).is_ok() {
            self.refuse();
        }
    }

    /// What was found damaged.
    pub(super) fn damage(&self) -> Option<&str> {
        self.shared.damage.get().map(String::as_str)
    }

    /// Resolves when a flush has failed.
    pub(super) async fn failed(&self) {
        let mut refused = self.refused.clone();
        if refused.wait_for(|refused| *refused).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The newest commit that is known to be on disk.
    pub(super) fn newest(&self) -> u64 {
        *self.flushed.borrow()
    }

    /// Whether two are the same.
    pub(super) fn is(&self, other: &Disk) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Where threads are told of flushes.
    pub(super) fn office(&self) -> &post::Office {
        &self.shared.office
    }

    /// Waits until a commit is on disk.
    pub(super) async fn flushed(&self, commit: u64) -> Result<(), NotFlushed> {
        if self.newest() >= commit {
            return Ok(());
        }
        if let Ok(mut work) = self.shared.work.lock()
            && work.wanted < commit
        {
            work.wanted = commit;
            self.shared.wake_flusher.notify_one();
        }
        if let Some(waits) = post::flushed(self, commit) {
            return waits.await.map_err(|_| NotFlushed);
        }
        let (mut flushed, mut refused) = (self.flushed.clone(), self.refused.clone());
        tokio::select! {
            biased;
            done = flushed.wait_for(|done| *done >= commit) => done.map(|_| ()).map_err(|_| NotFlushed),
            _ = refused.wait_for(|refused| *refused) => Err(NotFlushed),
        }
    }

    /// Ends both threads after a last flush and checkpoint.
    pub(super) fn stop(&self) {
        if let Ok(mut work) = self.shared.work.lock() {
            work.stopping = true;
        }
        self.shared.wake_flusher.notify_all();
        self.shared.wake_checkpointer.notify_all();
        let threads = self.shared.threads.lock().map(|mut threads| std::mem::take(&mut *threads)).unwrap_or_default();
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the ledger's disk ended by a panic");
            }
        }
    }
}

/// A descriptor of the `-wal` file of our own: SQLite's may not be used from another thread. A flush that fails in one thread while
/// another begins one fails for that, too: Linux tells it to each descriptor that was open then, and to no later one (fsync(2)).
#[derive(Debug)]
struct Wal {
    path: PathBuf,
    open: Option<(u64, File)>,
}

impl Wal {
    fn new(database: &Path) -> Wal {
        let mut wal = Wal { path: wal_of(database), open: None };
        if let Err(fault) = wal.file() {
            // The first flush says the same, if it is still so.
            tracing::debug!(%fault, "the log cannot be opened yet");
        }
        wal
    }

    /// Flushes the file that is now at the path, whichever it is.
    fn flush(&mut self) -> std::io::Result<()> {
        self.file()?.sync_data()
    }

    fn file(&mut self) -> std::io::Result<&File> {
        let inode = std::fs::metadata(&self.path)?.ino();
        let open = match self.open.take().filter(|(held, _)| *held == inode) {
            Some(open) => open,
            None => {
                let file = File::options().read(true).write(true).open(&self.path)?;
                (file.metadata()?.ino(), file)
            }
        };
        Ok(&self.open.insert(open).1)
    }
}

/// Writes the log that a dead daemon left over itself, byte for byte, and flushes it. After a flush that failed its pages look
/// clean in memory and are not on the disk: every later flush would succeed and leave them out, and with them all that follows.
pub(super) fn renew(database: &Path) -> Result<(), LedgerFault> {
    let path = wal_of(database);
    let renewed = File::options().read(true).write(true).open(&path).and_then(|file| {
        let (mut chunk, mut at) = (vec![0; CHUNK], 0);
        loop {
            let read = file.read_at(&mut chunk, at)?;
            let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { return file.sync_data() };
            file.write_all_at(bytes, at)?;
            at = at.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        }
    });
    match renewed {
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(()),
        renewed => renewed.map_err(|fault| LedgerFault::File { path, fault }),
    }
}

fn wal_of(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    PathBuf::from(path)
}

struct Flusher {
    shared: Arc<Shared>,
    wal: Wal,
    done: watch::Sender<u64>,
}

/// A flusher that panics never flushes again, and nobody waits for it.
impl Drop for Flusher {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.refuse();
        }
    }
}

impl Flusher {
    fn run(mut self) {
        while let Some(target) = self.next() {
            failpoint::reached("flush.before");
            let begun = clock::mono();
            if let Err(fault) = self.wal.flush() {
                tracing::error!(%fault, "the disk refused a flush of the ledger; no call is admitted any more");
                self.shared.refuse();
                return;
            }
            failpoint::reached("flush.after");
            let took = clock::mono().saturating_sub(begun).as_micros();
            self.shared.flushing_us.fetch_add(u64::try_from(took).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.shared.flushes.fetch_add(1, Ordering::Relaxed);
            self.done.send_replace(target);
            self.shared.office.flushed();
        }
    }

    /// The newest commit once there is one to flush; `None` when all is flushed and the ledger closes.
    fn next(&self) -> Option<u64> {
        let mut work = self.shared.work.lock().ok()?;
        loop {
            if *self.shared.refused.borrow() {
                return None;
            }
            if work.wanted > *self.done.borrow() {
                return Some(work.committed);
            }
            if work.stopping {
                return None;
            }
            work = self.shared.wake_flusher.wait(work).ok()?;
        }
    }
}

struct Checkpointer {
    conn: rusqlite::Connection,
    shared: Arc<Shared>,
    wal: Wal,
    database: File,
    /// What a page takes in the log.
    frame_bytes: u64,
    limit: u64,
}

impl Checkpointer {
    fn run(mut self) {
        while let Some(stopping) = self.wait() {
            if *self.shared.refused.borrow() {
                break;
            }
            match self.checkpoint(stopping) {
                Err(fault) if fault.is_failed_flush() => {
                    tracing::error!(%fault, "the disk refused a flush of the ledger; no call is admitted any more");
                    self.shared.refuse();
                }
                Err(fault) => tracing::warn!(%fault, "a checkpoint of the ledger failed; it is tried again later"),
                Ok(()) => {}
            }
            if stopping {
                break;
            }
        }
        if *self.shared.refused.borrow() {
            // Closing checkpoints, and what is in the WAL may not be what was written.
            std::mem::forget(self.conn);
        }
    }

    fn wait(&self) -> Option<bool> {
        let mut work = self.shared.work.lock().ok()?;
        while !work.stopping && work.committed.saturating_sub(work.checkpointed) < GROUPS_PER_CHECKPOINT {
            work = self.shared.wake_checkpointer.wait(work).ok()?;
        }
        work.checkpointed = work.committed;
        Some(work.stopping)
    }

    /// PASSIVE checkpoints alone never restart the WAL under load. Past the limit the writer makes way for a last one; what
    /// it would have to flush has been flushed before, so that it makes way for a few milliseconds only.
    fn checkpoint(&mut self, stopping: bool) -> Result<(), LedgerFault> {
        let frames = self.passive()?;
        if !stopping && frames.saturating_mul(self.frame_bytes) < self.limit {
            return Ok(());
        }
        for _ in 0..2 {
            self.sync()?;
            self.passive()?;
        }
        let _guard = self.shared.writing.lock();
        failpoint::reached("checkpoint.restart");
        self.passive().map(|_| ())
    }

    /// Frames in the WAL.
    fn passive(&self) -> Result<u64, LedgerFault> {
        failpoint::reached("checkpoint.before");
        let frames: i64 = self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?;
        failpoint::reached("checkpoint.after");
        Ok(u64::try_from(frames).unwrap_or(0))
    }

    fn sync(&mut self) -> Result<(), LedgerFault> {
        self.wal.flush().and_then(|()| self.database.sync_data()).map_err(LedgerFault::Flush)
    }
}
