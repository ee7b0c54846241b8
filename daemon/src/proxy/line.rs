//! A client's connection: what is under way on it, and the watchdog of each stream.

use super::body::Left;
use crate::ledger::StopFlag;
use crate::os::clock;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// How long a stopped account's client has to take the error event.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// A client's connection, as far as a stream has to do with it.
#[derive(Debug)]
pub(super) struct Line {
    /// Told when the connection is to be broken.
    pub(super) broken: tokio::sync::Notify,
    /// How long the client may take nothing of an answer that has something for it.
    pub(super) stall: Duration,
    begun: AtomicU64,
    busy: AtomicU64,
    idle: tokio::sync::Notify,
    /// What the last request left of its body.
    left: Mutex<Left>,
}

impl Line {
    /// A connection on which nothing was asked yet.
    pub(super) fn new(stall: Duration) -> Line {
        let (broken, idle) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
        Line { broken, stall, begun: AtomicU64::new(0), busy: AtomicU64::new(0), idle, left: Mutex::default() }
    }

    /// Counts a request until the last byte of its answer is taken.
    pub(super) fn begin(self: &Arc<Line>) -> Busy {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.busy.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(self))
    }

    /// Something is left of a request's body.
    pub(super) fn leave(&self, left: Left) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = left;
    }

    /// What is left of it.
    pub(super) fn take_left(&self) -> Left {
        std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Requests whose head has come.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether no request is under way.
    pub(super) fn is_free(&self) -> bool {
        self.busy.load(Ordering::Acquire) == 0
    }

    /// Resolves when no request is under way: half a head is none.
    pub(super) async fn is_idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.is_free() {
                return;
            }
            idle.await;
        }
    }
}

/// A request under way on a connection.
#[derive(Debug)]
pub(super) struct Busy(Arc<Line>);

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

/// The body of an answer, and the request that it belongs to.
#[derive(Debug)]
pub(super) struct Answering<B> {
    pub(super) body: B,
    pub(super) _busy: Busy,
}

impl<B: Body + Unpin> Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Breaks the connection of a client that does not read: a body that nobody polls sees neither a stop nor the time.
pub(super) struct Watchdog {
    polled_ms: Arc<AtomicU64>,
    task: tokio::task::AbortHandle,
}

impl Watchdog {
    /// Watches a stream on a connection until this is dropped.
    pub(super) fn watch(line: &Arc<Line>, stop: &Arc<StopFlag>) -> Watchdog {
        let polled_ms = Arc::new(AtomicU64::new(millis(clock::mono())));
        let (line, stop, seen) = (Arc::clone(line), Arc::clone(stop), Arc::clone(&polled_ms));
        let watching = tokio::spawn(async move {
            loop {
                let last = seen.load(Ordering::Relaxed);
                tokio::select! {
                    () = stop.raised() => {
                        // A client that reads gets its error event first.
                        tokio::time::sleep(STOP_GRACE).await;
                        break;
                    }
                    () = tokio::time::sleep(line.stall) => if seen.load(Ordering::Relaxed) == last { break },
                }
            }
            line.broken.notify_one();
        });
        Watchdog { polled_ms, task: watching.abort_handle() }
    }

    /// The client has taken what there was.
    pub(super) fn polled(&self, now: Duration) {
        self.polled_ms.store(millis(now), Ordering::Relaxed);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
