//! Answers that a provider has stored: looked at, deleted or cancelled by the agent that got them, and by nobody else. It costs
//! nothing and calls no model, so nothing is held for it; tokens, states and rates hold as for a call. What changes something at the
//! provider is recorded before it is sent.

use super::body::{Lent, Uncollected, collect};
use super::dispatch;
use super::headers;
use super::reply::{self, Reply};
use super::serve::refuse;
use super::upstream::{self, Answer, SendFault};
use crate::config::{Provider, ProviderKind};
use crate::gate::{Active, Entered, Evidence, Gate};
use crate::ledger::LedgerFault;
use crate::wire::answer;
use crate::wire::denial::{self, Addressee, UpstreamFault};
use crate::wire::dialect::{Dialect, Shape, StoredPart, StoredPath};
use aex_core::decision::{Denial, Protocol};
use aex_core::event::{Event, ResponseCancelled, ResponseDeleted, ResponseStored};
use bytes::Bytes;
use http::header;
use http::{Method, Request, Response, request};
use std::net::IpAddr;
use std::sync::Arc;

/// Answers a request for a stored response. The caller has found its place in the path, and that the place takes the method.
pub(super) async fn serve(gate: &Gate, place: StoredPath, peer: IpAddr, request: Request<Lent>) -> Response<Reply> {
    let id = gate.next_request();
    let active = gate.active();
    let to = Addressee { request: id, shape: Shape::OpenAi, dialect: Some(Dialect::Responses) };
    let (head, _) = request.into_parts();
    let entered = match gate.enter(headers::token(&head.headers), peer, id) {
        Ok(entered) => entered,
        Err(refused) => {
            gate.refused(id, refused.view.as_deref(), &refused.denial, Evidence::default());
            return refuse(&refused.denial, to);
        }
    };
    let deny = |denial: &Denial| {
        gate.refused(id, Some(&entered.view), denial, Evidence::default());
        refuse(denial, to)
    };
    let stored = match gate.stored(&entered.view, place.id.clone()).await {
        // An item of an answer has no place of its own.
        Ok(found) => found.filter(|stored| stored.response == place.id),
        Err(fault) => {
            tracing::error!(%fault, request = %id, "a stored response cannot be looked up");
            return refuse(&Denial::LedgerUnavailable, to);
        }
    };
    let Some(stored) = stored else {
        return deny(&Denial::NotStored { item: false, name: place.id });
    };
    match pass(gate, &active, &entered, &place, &stored, &head, to).await {
        Ok(answer) => answer,
        Err(Unpassed::Denied(denial)) => deny(&denial),
        Err(Unpassed::Untold(fault)) => {
            tracing::error!(%fault, request = %id, "nothing is asked of a provider that cannot be recorded");
            refuse(&Denial::LedgerUnavailable, to)
        }
        Err(Unpassed::Failed(fault)) => {
            tracing::warn!(request = %id, provider = stored.provider, ?fault, "a provider failed");
            reply::refusal(&denial::upstream(fault, &stored.provider, to), to)
        }
    }
}

/// Why a request was not passed on.
enum Unpassed {
    Denied(Denial),
    Untold(LedgerFault),
    Failed(UpstreamFault),
}

async fn pass(
    gate: &Gate,
    active: &Arc<Active>,
    entered: &Entered,
    place: &StoredPath,
    stored: &ResponseStored,
    head: &request::Parts,
    to: Addressee,
) -> Result<Response<Reply>, Unpassed> {
    let provider = active.config.catalog.providers.get(&stored.provider).filter(|provider| provider.kind != ProviderKind::Echo);
    // A provider that is configured no more has nothing.
    let provider = provider.ok_or_else(|| Unpassed::Denied(Denial::NotStored { item: false, name: place.id.clone() }))?;
    let provider = Arc::new(provider.clone());
    let request = sent(gate, active, entered, &provider, place, head).map_err(Unpassed::Denied)?;
    let request = request.ok_or(Unpassed::Failed(UpstreamFault::Unreachable))?;
    if let Some(event) = change(entered, place, stored, &head.method) {
        gate.will_change_stored(event).await.map_err(Unpassed::Untold)?;
    }
    let sent = tokio::time::timeout(provider.timeouts.first_byte, upstream::send(&provider, active.generation, request)).await;
    let Answer { mut head, body } = match sent {
        Err(_) => return Err(Unpassed::Failed(UpstreamFault::FirstByteTimeout)),
        Ok(Err(SendFault::NeverSent(fault) | SendFault::MaybeSent(fault))) => return Err(Unpassed::Failed(fault)),
        Ok(Ok(answer)) => answer,
    };
    if head.status.is_informational() || head.status.is_redirection() {
        return Err(Unpassed::Failed(UpstreamFault::BadAnswer));
    }
    let body = match collect(dispatch::source(&mut head, body), provider.timeouts.idle, &entered.view.stop).await {
        Ok(body) => body,
        Err(Uncollected::Stopped) => return Err(Unpassed::Failed(UpstreamFault::Cut)),
        Err(Uncollected::Fault(fault)) => return Err(Unpassed::Failed(fault)),
    };
    let read = Dialect::Responses.answer(&body).filter(|_| head.status.is_success() && !headers::is_encoded(&head.headers));
    let body = match read.and_then(|read| read.model_span) {
        Some(span) => answer::splice_model(&body, &span, &stored.model),
        None => body,
    };
    Ok(reply::whole(head.status, headers::to_client(&head.headers), body, to.request))
}

/// What is to be recorded of a request before it is sent; nothing of one that only reads.
fn change(entered: &Entered, place: &StoredPath, stored: &ResponseStored, method: &Method) -> Option<Event> {
    let (account, provider) = (entered.view.named.id, stored.provider.clone());
    let (request, response) = (entered.request, stored.response.clone());
    match place.rest {
        StoredPart::Cancel => Some(ResponseCancelled { account, provider, request, response }.into()),
        StoredPart::Whole if *method == Method::DELETE => Some(ResponseDeleted { account, provider, request, response }.into()),
        StoredPart::Whole | StoredPart::InputItems => None,
    }
}

/// The request for the provider; `None` when it cannot be written.
fn sent(
    gate: &Gate,
    active: &Active,
    entered: &Entered,
    provider: &Provider,
    place: &StoredPath,
    client: &request::Parts,
) -> Result<Option<Request<Bytes>>, Denial> {
    let brought = headers::provider_key(&client.headers, Protocol::OpenAi, |said| gate.knows(said))?;
    let query = headers::query(&client.uri, &client.headers)?;
    if brought.is_some() && !active.policy_of(&entered.view)?.effective.fields.allow_passthrough {
        return Err(Denial::Passthrough);
    }
    let own = active.config.keys.get(&provider.name);
    if provider.needs_key() && brought.is_none() && own.is_none() {
        return Err(Denial::KeyMissing { provider: provider.name.clone(), variable: provider.key_variable.clone() });
    }
    let write = || {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let mut request = Request::new(Bytes::new());
        request.method_mut().clone_from(&client.method);
        *request.uri_mut() = provider.target(&format!("/responses/{}{}{query}", place.id, place.rest.name())).parse().ok()?;
        dispatch::address(&mut request, provider, &client.headers, brought.as_ref(), own)?;
        if client.method != Method::POST {
            request.headers_mut().remove(header::CONTENT_TYPE);
        }
        Some(request)
    };
    Ok(write())
}
