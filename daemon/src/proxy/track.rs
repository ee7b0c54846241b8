//! The tracker of a call: hyper drops a handler when its client leaves, but an admitted call has to be settled.
//!
//! A call runs inside its handler, free of any task of its own. Only when the handler is dropped before the call is done does
//! the call become a task, so that it ends in good order.

use crate::gate::{Call, Gate};
use aex_core::event::Outcome;
use aex_proto::value::RequestId;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A call under way.
pub(super) struct Tracked<T: Send + 'static> {
    work: Option<Work<T>>,
    gate: Gate,
    request: RequestId,
    call: Option<Call>,
    /// Told when the client leaves; a call for a stream ends then, a plain one goes on.
    client: Option<oneshot::Sender<()>>,
}

impl<T: Send + 'static> Tracked<T> {
    /// Tracks the work of a call. `client` is told when the client leaves.
    pub(super) fn new(
        gate: &Gate,
        request: RequestId,
        client: oneshot::Sender<()>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Tracked<T> {
        Tracked { work: Some(Box::pin(work)), gate: gate.clone(), request, call: Some(gate.track(request)), client: Some(client) }
    }
}

impl<T: Send + 'static> Future for Tracked<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        let Some(work) = &mut this.work else { return Poll::Pending };
        let done = work.as_mut().poll(cx);
        if done.is_ready() {
            this.work = None;
            this.call = None;
        }
        done
    }
}

impl<T: Send + 'static> Drop for Tracked<T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        if std::thread::panicking() {
            self.gate.end_lost(self.request, Outcome::Panic);
            return;
        }
        let Some(client) = self.client.take() else {
            // The runtime ends before the call did.
            self.gate.end_lost(self.request, Outcome::Stopped);
            return;
        };
        // The work may be past the point where it listens.
        client.send(()).unwrap_or_default();
        let rest = Tracked { work: Some(work), gate: self.gate.clone(), request: self.request, call: self.call.take(), client: None };
        tokio::spawn(async move { drop(rest.await) });
    }
}
