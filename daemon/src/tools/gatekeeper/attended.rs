//! Whoever waits for a call: each wait ends when nobody wants the call any more, and after one the caller is looked at again.

use super::{Gatekeeper, Unmade};
use crate::gate::{Entered, Evidence, Gate};
use crate::ledger::AccountView;
use crate::tools::fault::ToolFault;
use aex_core::decision::Denial;
use aex_proto::value::RequestId;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::oneshot::{self, error::TryRecvError};

/// A caller, until its call is sent.
pub(super) struct Attended {
    keeper: Gatekeeper,
    /// Its place in the rates.
    pub(super) entered: Entered,
    /// Who calls, as it is now.
    pub(super) view: Arc<AccountView>,
    /// The request.
    pub(super) request: RequestId,
    /// Closed when nobody waits for the call any more.
    pub(super) left: oneshot::Receiver<()>,
}

/// Why nobody waits for a call any more.
pub(super) enum Over {
    /// Its caller has left.
    Left,
    /// Its caller may not call any more; nothing is recorded of that yet.
    Refused(Denial),
}

impl Attended {
    pub(super) fn new(keeper: &Gatekeeper, entered: Entered, left: oneshot::Receiver<()>) -> Attended {
        let (view, request) = (Arc::clone(&entered.view), entered.request);
        Attended { keeper: keeper.clone(), entered, view, request, left }
    }

    /// Waits for something, and says whether that took any waiting: then whatever was asked before has to be asked again.
    ///
    /// # Errors
    /// When the caller leaves meanwhile, is stopped, or may call no more.
    pub(super) async fn wait<T>(&mut self, waiting: impl Future<Output = T>) -> Result<(T, bool), Over> {
        let mut waiting = pin!(waiting);
        let mut looks = 0_u32;
        let looking = poll_fn(|context| {
            looks = looks.saturating_add(1);
            waiting.as_mut().poll(context)
        });
        let done = tokio::select! {
            biased;
            _ = &mut self.left => return Err(Over::Left),
            () = self.view.stop.raised() => return Err(Over::Refused(self.keeper.gate.stopped_within(&self.view))),
            done = looking => done,
        };
        let has_waited = looks > 1;
        if has_waited {
            self.view = self.keeper.gate.again(&self.entered).map_err(Over::Refused)?;
        }
        Ok((done, has_waited))
    }

    /// The same where a refusal is the whole answer.
    ///
    /// # Errors
    /// As above; a refusal is recorded.
    pub(super) async fn wait_on<T>(&mut self, waiting: impl Future<Output = T>) -> Result<(T, bool), Unmade> {
        self.wait(waiting).await.map_err(|over| match over {
            Over::Left => over.unmade(),
            Over::Refused(denial) => self.refused(&denial),
        })
    }

    /// Records that the call is refused.
    pub(super) fn refused(&self, denial: &Denial) -> Unmade {
        self.keeper.gate.refused(self.request, Some(&self.view), denial, Evidence::default());
        Unmade::Denied(denial.clone())
    }
}

impl Over {
    /// Why a call is not to be sent after all.
    pub(super) fn of(gate: &Gate, view: &AccountView, left: &mut oneshot::Receiver<()>) -> Option<Over> {
        match left.try_recv() {
            Err(TryRecvError::Empty) => view.stop.state().map(|_| Over::Refused(gate.stopped_within(view))),
            Ok(()) | Err(TryRecvError::Closed) => Some(Over::Left),
        }
    }

    /// As the end of a call. Who has left hears nothing.
    pub(super) fn unmade(self) -> Unmade {
        match self {
            Over::Left => Unmade::Failed(ToolFault::Unavailable { why: "the caller has left".to_owned() }),
            Over::Refused(denial) => Unmade::Denied(denial),
        }
    }
}
