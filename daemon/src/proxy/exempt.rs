//! A call that costs nothing: governed like any other but for money. Nothing is held for it, and nothing of it is settled.

use super::body::{Uncollected, collect};
use super::dispatch::{Dispatched, Message, dispatch};
use super::headers;
use super::reply::{self, Reply};
use super::serve::refuse;
use super::upstream::SendFault;
use crate::gate::{Active, Asked, Decision, Entered, Exempt, Gate, exempt};
use crate::wire::denial::{self, UpstreamFault};
use aex_core::decision::Denial;
use http::Response;
use std::sync::Arc;

/// The call, from its admission to its answer, which passes as it is.
pub(super) async fn serve(gate: &Gate, active: &Arc<Active>, entered: Entered, asked: Asked, message: &Message) -> Response<Reply> {
    let to = message.to;
    let exempt = match exempt(gate, active, entered, asked).await {
        Ok(Decision::Permit(exempt)) => exempt,
        Ok(Decision::Deny(turned)) => {
            turned.unmet.record(gate, &turned.entered);
            return refuse(turned.unmet.denial(), to);
        }
        Err(fault) => {
            tracing::error!(%fault, request = %to.request, "no call can be admitted");
            return refuse(&Denial::LedgerUnavailable, to);
        }
    };
    let stop = Arc::clone(&exempt.view.stop);
    let failed = |fault: UpstreamFault| {
        let provider = &exempt.card.provider.name;
        tracing::warn!(request = %to.request, provider, ?fault, "a provider failed");
        reply::refusal(&denial::upstream(fault, provider, to), to)
    };
    let dispatched = tokio::select! {
        biased;
        dispatched = dispatch(active, exempt.sending(), message) => dispatched,
        () = stop.raised() => return stopped(gate, &exempt, message),
    };
    let Dispatched { head, source } = match dispatched {
        Ok(dispatched) => dispatched,
        Err(SendFault::NeverSent(fault) | SendFault::MaybeSent(fault)) => return failed(fault),
    };
    if head.status.is_informational() || head.status.is_redirection() {
        // Followed by the client, a redirect would lead the prompt past the daemon.
        return failed(UpstreamFault::BadAnswer);
    }
    match collect(source, exempt.card.provider.timeouts.idle, &stop).await {
        Ok(body) => reply::whole(head.status, headers::to_client(&head.headers), body, to.request),
        Err(Uncollected::Stopped) => stopped(gate, &exempt, message),
        Err(Uncollected::Fault(fault)) => failed(fault),
    }
}

/// An account on the path was deleted or killed while the call waited.
fn stopped(gate: &Gate, exempt: &Exempt, message: &Message) -> Response<Reply> {
    refuse(&gate.stopped_within(&exempt.view), message.to)
}
