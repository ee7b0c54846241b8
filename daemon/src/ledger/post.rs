//! Letters to the tasks of one thread. To wake a task of another thread is a system call for each; here a group of the ledger, or a flush,
//! wakes a thread once, and that thread wakes its own tasks, which costs none.

use super::disk::Disk;
use super::writer::Held;
use aex_core::decision::Denial;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, oneshot};

thread_local! {
    static HERE: RefCell<Option<Local>> = const { RefCell::new(None) };
}

/// What the ledger answers to a hold.
type Answer = Result<Held, Denial>;

/// Where the answer to a hold goes.
pub(super) struct Reply {
    to: oneshot::Sender<Answer>,
    by: Option<Arc<Mailbox>>,
}

impl Reply {
    /// An answer for a task of this thread.
    pub(super) fn new(disk: &Disk) -> (Reply, oneshot::Receiver<Answer>) {
        let (to, answer) = oneshot::channel();
        (Reply { to, by: with_local(disk, |local| Arc::clone(&local.mailbox)) }, answer)
    }

    /// Answers. The thread of a mailbox is woken by [`Mailbox::ring`]; a receiver that has gone means that its runtime is going down: the
    /// row is ended at the next start.
    pub(super) fn send(self, answer: Answer) -> Option<Arc<Mailbox>> {
        match &self.by {
            Some(mailbox) => mailbox.letters.lock().unwrap_or_else(PoisonError::into_inner).push((self.to, answer)),
            None => drop(self.to.send(answer)),
        }
        self.by
    }
}

/// The letters of a thread.
#[derive(Default)]
pub(super) struct Mailbox {
    letters: Mutex<Vec<(oneshot::Sender<Answer>, Answer)>>,
    /// A task of the thread waits for a flush.
    awaits_flush: AtomicBool,
    bell: Notify,
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailbox")
    }
}

impl Mailbox {
    /// Wakes the thread.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    fn deliver(&self) {
        let letters = std::mem::take(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner));
        for (to, answer) in letters {
            drop(to.send(answer));
        }
    }
}

/// All mailboxes.
#[derive(Debug, Default)]
pub(super) struct Office {
    boxes: Mutex<Vec<Arc<Mailbox>>>,
}

impl Office {
    /// A flush has ended, or none will any more: wakes the threads that have tasks which wait for one.
    pub(super) fn flushed(&self) {
        for mailbox in self.boxes().iter().filter(|mailbox| mailbox.awaits_flush.swap(false, Ordering::SeqCst)) {
            mailbox.ring();
        }
    }

    /// Whether no thread has a mailbox.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.boxes().is_empty()
    }

    fn boxes(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Mailbox>>> {
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread's own part.
struct Local {
    disk: Disk,
    mailbox: Arc<Mailbox>,
    /// Tasks that wait until a commit is on disk.
    waiting: Vec<(u64, oneshot::Sender<()>)>,
}

/// This thread's part, when it has one for this ledger.
fn with_local<T>(disk: &Disk, act: impl FnOnce(&mut Local) -> T) -> Option<T> {
    // A thread that is ending has none any more.
    HERE.try_with(|here| here.borrow_mut().as_mut().filter(|local| local.disk.is(disk)).map(act)).ok().flatten()
}

/// Resolves when a commit is on disk, with an error when it never will be. `None` on a thread without a mailbox.
pub(super) fn flushed(disk: &Disk, commit: u64) -> Option<oneshot::Receiver<()>> {
    with_local(disk, |local| {
        let (done, waits) = oneshot::channel();
        local.waiting.push((commit, done));
        local.look();
        waits
    })
}

impl Local {
    /// Wakes whoever waits for what is on disk by now.
    fn look(&mut self) {
        while !self.waiting.is_empty() {
            // Said before anything is looked at: a flush that ends, or is refused, after this rings; one that was so before is seen.
            self.mailbox.awaits_flush.store(true, Ordering::SeqCst);
            if self.disk.has_refused() {
                return self.waiting.clear();
            }
            let newest = self.disk.newest();
            let mut woken = self.waiting.extract_if(.., |(commit, _)| *commit <= newest).peekable();
            if woken.peek().is_none() {
                return;
            }
            for (_, done) in woken {
                done.send(()).unwrap_or_default();
            }
        }
    }
}

/// Hands out this thread's letters until it is dropped. The thread's runtime must be its own.
pub(super) async fn attend(disk: Disk) {
    let mailbox = Arc::<Mailbox>::default();
    disk.office().boxes().push(Arc::clone(&mailbox));
    HERE.set(Some(Local { disk: disk.clone(), mailbox: Arc::clone(&mailbox), waiting: Vec::new() }));
    let _leave = Leave { disk: &disk, mailbox: &mailbox };
    loop {
        mailbox.bell.notified().await;
        mailbox.deliver();
        with_local(&disk, Local::look);
    }
}

/// Tasks that still wait are told that the ledger is not available; what is asked from here on is answered directly.
struct Leave<'a> {
    disk: &'a Disk,
    mailbox: &'a Arc<Mailbox>,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.disk.office().boxes().retain(|other| !Arc::ptr_eq(other, self.mailbox));
        HERE.take();
        self.mailbox.deliver();
    }
}
