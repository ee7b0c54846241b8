//! A client's connection as its streams see it, and the watchdog of each stream.

use crate::ledger::StopFlag;
use crate::os::clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a client may take nothing of a stream that has something for it.
const CLIENT_STALL: Duration = Duration::from_secs(300);
/// How long a stopped account's client has to take the error event.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// A client's connection, as far as a stream has to do with it.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Told when the connection is to be broken.
    pub(super) broken: tokio::sync::Notify,
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
                    () = tokio::time::sleep(CLIENT_STALL) => if seen.load(Ordering::Relaxed) == last { break },
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
