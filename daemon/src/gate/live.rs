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
    calls: Mutex<BTreeMap<RequestId, Tracks>>,
    idle: Notify,
    draining: watch::Sender<bool>,
}

/// One call: how many handles track it, and when the first began.
#[derive(Debug)]
struct Tracks {
    handles: u32,
    since: Duration,
    /// Which try of it is under way.
    attempt: u8,
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
        self.calls.lock().is_ok_and(|calls| calls.contains_key(&key.request))
    }

    /// A call goes on with this hold.
    pub(super) fn drives(&self, key: HoldKey) {
        if key.attempt > 0
            && let Ok(mut calls) = self.calls.lock()
            && let Some(tracks) = calls.get_mut(&key.request)
        {
            tracks.attempt = key.attempt;
        }
    }

    /// Which try of a request is under way.
    pub(super) fn attempt_of(&self, request: RequestId) -> u8 {
        self.calls.lock().ok().and_then(|calls| Some(calls.get(&request)?.attempt)).unwrap_or(0)
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
    request: RequestId,
    /// Monotonic time at which the call began.
    pub since: Duration,
}

impl Call {
    pub(super) fn begin(gate: &Gate, request: RequestId) -> Call {
        let now = clock::mono();
        let since = gate.inner.live.calls.lock().map_or(now, |mut calls| {
            let tracks = calls.entry(request).or_insert(Tracks { handles: 0, since: now, attempt: 0 });
            tracks.handles += 1;
            tracks.since
        });
        Call { gate: gate.clone(), request, since }
    }

    /// The request.
    #[must_use]
    pub const fn request(&self) -> RequestId {
        self.request
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let live = &self.gate.inner.live;
        let Ok(mut calls) = live.calls.lock() else { return };
        if let Some(tracks) = calls.get_mut(&self.request) {
            tracks.handles -= 1;
            if tracks.handles == 0 {
                calls.remove(&self.request);
            }
        }
        if calls.is_empty() {
            live.idle.notify_waiters();
        }
    }
}
