//! Calls in flight: how many, and the wait for the last one.

use super::Gate;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, watch};

/// The wait for the last call is over.
#[derive(Clone, Copy, Debug)]
pub struct Drained;

#[derive(Debug)]
pub(super) struct Live {
    count: AtomicUsize,
    idle: Notify,
    draining: watch::Sender<bool>,
}

impl Default for Live {
    fn default() -> Live {
        Live { count: AtomicUsize::new(0), idle: Notify::new(), draining: watch::channel(false).0 }
    }
}

impl Live {
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn drain(&self) {
        self.draining.send_replace(true);
    }

    pub(super) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    pub(super) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    pub(super) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            if self.count() == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// A call in flight, until this is dropped.
#[derive(Debug)]
pub struct Call {
    gate: Gate,
}

impl Call {
    pub(super) fn begin(gate: &Gate) -> Call {
        gate.inner.live.count.fetch_add(1, Ordering::AcqRel);
        Call { gate: gate.clone() }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let live = &self.gate.inner.live;
        if live.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            live.idle.notify_waiters();
        }
    }
}
