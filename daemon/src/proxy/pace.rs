//! A timer that is soon due while there are calls. tokio wakes a runtime by a system call, also from its own thread, whenever a timer is set that
//! is due before all others; each call of a quiet daemon set two such. With this one they never are the first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Shorter than the timeouts of calls and connections; the worker wakes once in it for as long as there are calls.
const SOON: Duration = Duration::from_secs(1);

/// The pace of one worker.
#[derive(Debug, Default)]
pub(super) struct Pace {
    is_called: AtomicBool,
    bell: Notify,
}

impl Pace {
    /// A request has begun.
    pub(super) fn called(&self) {
        if !self.is_called.swap(true, Ordering::Relaxed) {
            self.bell.notify_one();
        }
    }

    /// Keeps the timer, and none when there are no calls. Never ends by itself.
    pub(super) async fn keep(self: Arc<Pace>) {
        loop {
            self.bell.notified().await;
            while self.is_called.swap(false, Ordering::Relaxed) {
                tokio::time::sleep(SOON).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::atomic::AtomicU32;
    use std::task::{Context, Wake, Waker};
    use tokio::time::advance;

    #[derive(Default)]
    struct Counter(AtomicU32);

    impl Wake for Counter {
        fn wake(self: Arc<Counter>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_runs_for_as_long_as_there_are_calls_and_no_longer() {
        let (pace, counter) = (Arc::<Pace>::default(), Arc::<Counter>::default());
        let waker = Waker::from(Arc::clone(&counter));
        let mut keeping = pin!(Arc::clone(&pace).keep());
        let mut polled = || {
            assert!(keeping.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            counter.0.swap(0, Ordering::SeqCst)
        };
        assert_eq!(polled(), 0);
        for _ in 0..3 {
            pace.called();
            pace.called();
            assert_eq!(polled(), 1, "the first call starts it");
            pace.called();
            advance(SOON * 2).await;
            assert_eq!(polled(), 1, "it ran out, and there was a call");
            advance(SOON * 2).await;
            assert_eq!(polled(), 1, "it ran out, and there was none");
            assert_eq!(polled(), 0);
            advance(SOON * 3_600).await;
            assert_eq!(polled(), 0, "nothing runs while there are no calls");
        }
    }
}
