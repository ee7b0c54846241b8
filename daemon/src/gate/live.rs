//! Calls in flight: which, since when, and the wait for the last one.

use super::Gate;
use crate::os::clock;
use aex_core::books::HoldKey;
use aex_proto::value::RequestId;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::{Notify, watch};

#[derive(Debug)]
pub(super) struct Live {
    calls: Mutex<BTreeMap<HoldKey, Tracks>>,
    idle: Notify,
    draining: watch::Sender<bool>,
}

/// One call: how many handles track it, and when the first began.
#[derive(Debug)]
struct Tracks {
    handles: u32,
    since: Duration,
}

impl Default for Live {
    fn default() -> Live {
        Live { calls: Mutex::default(), idle: Notify::new(), draining: watch::channel(false).0 }
    }
}

impl Live {
    pub(super) fn count(&self) -> usize {
        self.calls.lock().map_or(0, |calls| calls.len())
    }

    /// Whether somebody drives a call.
    pub(super) fn is_live(&self, key: HoldKey) -> bool {
        self.calls.lock().is_ok_and(|calls| calls.contains_key(&key))
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
    key: HoldKey,
    /// Monotonic time at which the call began.
    pub since: Duration,
}

impl Call {
    pub(super) fn begin(gate: &Gate, key: HoldKey) -> Call {
        let now = clock::mono();
        let since = gate.inner.live.calls.lock().map_or(now, |mut calls| {
            let tracks = calls.entry(key).or_insert(Tracks { handles: 0, since: now });
            tracks.handles += 1;
            tracks.since
        });
        Call { gate: gate.clone(), key, since }
    }

    /// The request.
    #[must_use]
    pub const fn request(&self) -> RequestId {
        self.key.request
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let live = &self.gate.inner.live;
        let Ok(mut calls) = live.calls.lock() else { return };
        if let Some(tracks) = calls.get_mut(&self.key) {
            tracks.handles -= 1;
            if tracks.handles == 0 {
                calls.remove(&self.key);
            }
        }
        if calls.is_empty() {
            live.idle.notify_waiters();
        }
    }
}
