//! The governed call: authenticate, admit, dispatch, relay, settle. One function reads like that list.

use super::attempts::{Attempts, Cause, Next, Tried, Unserved};
use super::body::{self, Lent};
use super::dispatch::{Dispatched, Message, dispatch};
use super::estimate;
use super::exempt;
use super::headers;
use super::line::Line;
use super::pages::Pages;
use super::relay::{Relaying, Streamed};
use super::replay::{self, Turn};
use super::reply::{self, Reply};
use super::stored;
use super::track::Tracked;
use super::upstream::SendFault;
use crate::gate::{Active, Decision, Ended, Entered, Evidence, Gate, Hold, admit, settle, settle_and_go_on};
use crate::os::failpoint;
use crate::wire::answer::{self, Kept};
use crate::wire::denial::{self, Addressee, Misdirected, UpstreamFault};
use crate::wire::dialect::{Dialect, Shape, StoredPath};
use crate::wire::request::Malformed;
use crate::wire::stream::{StreamEditor, UsageChunk};
use aex_core::decision::{Denial, Protocol};
use aex_core::event::{Outcome, ResponseStored};
use aex_core::policy::Changed;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The longest path with its query, in bytes.
const MAX_TARGET: usize = 8 << 10;

/// Answers one request.
pub(super) async fn handle(pages: Arc<Pages>, line: Arc<Line>, peer: IpAddr, request: Request<Lent>) -> Response<Reply> {
    let path = request.uri().path();
    let dialect = Dialect::at(path);
    let place = if dialect.is_none() { StoredPath::at(path) } else { None };
    if let Some(refused) = misdirected(&pages, dialect, place.as_ref(), &request) {
        return refused;
    }
    match (dialect, place) {
        (Some(dialect), _) => call(&pages.gate, dialect, line, peer, request).await,
        // Boxed: what is rare is not to make the future of each call larger.
        (None, Some(place)) => Box::pin(stored::serve(&pages.gate, place, peer, request)).await,
        (None, None) => Box::pin(pages.page(peer, request)).await,
    }
}

/// What is said to a request that is not meant for this daemon, or not for what is at its path.
fn misdirected(pages: &Pages, dialect: Option<Dialect>, place: Option<&StoredPath>, request: &Request<Lent>) -> Option<Response<Reply>> {
    let refused = |cause| {
        let to = Addressee::of_page(pages.gate.next_request(), Shape::at(request.uri().path()));
        reply::refusal(&denial::misdirected(cause, to), to)
    };
    if !pages.serves_host(request) {
        return Some(refused(Misdirected::ForeignHost));
    }
    if headers::asks_for_websocket(request.headers()) {
        // Codex tries a WebSocket first, and goes on over HTTP when it reads this.
        let mut refused = refused(Misdirected::WebSocket);
        refused.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("HTTP/1.1"));
        refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        return Some(refused);
    }
    if request.uri().path_and_query().is_some_and(|target| target.as_str().len() > MAX_TARGET) {
        return Some(refused(Misdirected::LongTarget));
    }
    let methods = if dialect.is_some() { "POST" } else { place?.rest.methods() };
    if methods.split(", ").any(|method| method == request.method().as_str()) {
        return None;
    }
    let mut refused = refused(Misdirected::WrongMethod);
    refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    Some(refused)
}

/// A governed call, from its headers to the head of its answer.
async fn call(gate: &Gate, dialect: Dialect, line: Arc<Line>, peer: IpAddr, request: Request<Lent>) -> Response<Reply> {
    let id = gate.next_request();
    let active = gate.active();
    let (head, body) = request.into_parts();
    let to = Addressee { request: id, shape: dialect.shape(headers::originator(&head.headers)), dialect: Some(dialect) };
    let entered = match gate.enter(headers::token_of_call(&head.headers, dialect.protocol()), peer, id) {
        Ok(entered) => entered,
        Err(refused) => {
            gate.refused(id, refused.view.as_deref(), &refused.denial, Evidence::default());
            return refuse(&refused.denial, to);
        }
    };
    let message = match read(gate, &active, Received { line, dialect, to, head }, body).await {
        Ok(message) => message,
        Err(denial) => {
            gate.refused(id, Some(&entered.view), &denial, Evidence::default());
            return refuse(&denial, to);
        }
    };
    let (entered, ticket) = match replay::enter(gate, &active, entered, &message).await {
        Turn::Run(entered, ticket) => (entered, ticket),
        Turn::Answered(answer) => return answer,
        Turn::Refused(denial) => return refuse(&denial, to),
    };
    let (leaving, left) = oneshot::channel();
    let serving = {
        let gate = gate.clone();
        async move { replay::recorded(ticket, serve(&gate, &active, entered, &message, left).await) }
    };
    Tracked::new(gate, id, leaving, serving).await
}

/// The call itself, with as many attempts as it takes. It runs to its end even when the client leaves.
async fn serve(
    gate: &Gate,
    active: &Arc<Active>,
    mut entered: Entered,
    message: &Message,
    mut left: oneshot::Receiver<()>,
) -> Response<Reply> {
    let mut attempts = Attempts::default();
    if message.dialect.is_free() {
        return Box::pin(exempt::serve(gate, active, entered, attempts.asked(message), message)).await;
    }
    loop {
        let next = match admit(gate, active, entered, attempts.asked(message)).await {
            Ok(Decision::Permit(hold)) => {
                let again = attempts.admitted(&hold);
                match attempt(gate, active, hold, message, &mut left, again).await {
                    Tried::Over(answer) => return answer,
                    Tried::Unserved(unserved) => Box::pin(attempts.unserved(gate, active, message, *unserved, &mut left)).await,
                }
            }
            Ok(Decision::Deny(mut turned)) => match Box::pin(attempts.tightened(message, &mut turned)).await {
                true => Next::Try(turned.entered),
                false => attempts.turned(gate, active, message, turned),
            },
            Err(fault) => {
                tracing::error!(%fault, request = %message.to.request, "no call can be admitted");
                return refuse(&Denial::LedgerUnavailable, message.to);
            }
        };
        entered = match next {
            Next::Try(entered) => entered,
            Next::Answer(answer) => return answer,
        };
    }
}

/// One attempt of an admitted call. `again`: another one may follow.
async fn attempt(
    gate: &Gate,
    active: &Arc<Active>,
    mut hold: Hold,
    message: &Message,
    left: &mut oneshot::Receiver<()>,
    again: bool,
) -> Tried {
    let to = message.to;
    let stop = Arc::clone(&hold.view.stop);
    // A call whose stream the policy took away is finished like any plain one.
    let waits_for_client = message.request.ask.stream && !is_unstreamed(&hold);
    let dispatched = tokio::select! {
        biased;
        dispatched = dispatch(active, hold.sending(), message) => dispatched,
        Ok(()) = left, if waits_for_client => {
            settle(gate, hold, Ended::relayed(Outcome::ClientLeft, None, 0, None));
            return Tried::Over(refuse(&Denial::Draining, to));
        }
        () = stop.raised() => return Tried::Over(stopped(gate, hold, to, None)),
    };
    Tried::Over(match dispatched {
        Ok(dispatched) => {
            hold.heard(dispatched.head.status.as_u16());
            return relay(gate, active, hold, message, dispatched, again).await;
        }
        Err(fault) => {
            hold.unheard();
            match fault {
                SendFault::NeverSent(fault) => {
                    let (provider, card) = (hold.card.provider.name.clone(), Arc::clone(&hold.card));
                    let entered = settle_and_go_on(gate, hold, Ended::NeverSent);
                    let answer = reply::refusal(&denial::upstream(fault, &provider, to), to);
                    if again {
                        return Tried::Unserved(Box::new(Unserved { answer, entered, card, cause: Cause::NeverSent }));
                    }
                    answer
                }
                // A provider that makes a plain answer as a whole may be done with it by now.
                SendFault::MaybeSent(fault @ UpstreamFault::FirstByteTimeout) if !waits_for_client => {
                    failed(gate, hold, to, fault, Ended::Unknown { outcome: Outcome::ProviderFailed, status: None })
                }
                SendFault::MaybeSent(fault) => failed(gate, hold, to, fault, Ended::Failed { status: None }),
            }
        }
    })
}

/// Passes an answer on, as a stream or whole, and settles what it cost.
async fn relay(gate: &Gate, active: &Active, hold: Hold, message: &Message, answer: Dispatched, again: bool) -> Tried {
    let Dispatched { head, source } = answer;
    let to = message.to;
    failpoint::reached("answer.head");
    if head.status.is_informational() || head.status.is_redirection() {
        // Followed by the client, a redirect would lead the prompt past the daemon.
        return Tried::Over(failed(gate, hold, to, UpstreamFault::BadAnswer, Ended::Failed { status: Some(head.status.as_u16()) }));
    }
    if let Err(fault) = gate.ledger().may_relay(&hold.held).await {
        tracing::error!(%fault, request = %to.request, "a reservation may not be on disk: nothing of its answer is shown");
        settle(gate, hold, Ended::Unknown { outcome: Outcome::ProviderFailed, status: Some(head.status.as_u16()) });
        return Tried::Over(refuse(&Denial::LedgerUnavailable, to));
    }
    if head.status.is_success() && headers::is_encoded(&head.headers) {
        // It was asked for identity; what can't be read can't be metered, and does not pass.
        let ended = Ended::Unknown { outcome: Outcome::NoUsage, status: Some(head.status.as_u16()) };
        return Tried::Over(failed(gate, hold, to, UpstreamFault::BadAnswer, ended));
    }
    if head.status.is_success() && is_stream(&head.headers) {
        let ask = &message.request.ask;
        let is_ours = message.dialect.has_usage_option() && !message.request.asks_for_usage();
        let usage_chunk = if is_ours { UsageChunk::Strip } else { UsageChunk::Pass };
        let editor = StreamEditor::new(message.dialect, client_model(active, message), ask.choices, usage_chunk);
        let editor = if estimate::may_count(active, &hold) { editor.keeping_texts() } else { editor };
        let on_disconnect = active.config.settings.on_disconnect.value;
        let stores = message.request.stores;
        let streamed = Streamed { dialect: message.dialect, to, stores, status: head.status.as_u16(), source, editor, on_disconnect };
        let headers = answered(&head, &hold, to);
        let relaying = Relaying::new(gate, hold, &message.line, streamed);
        return Tried::Over(reply::respond(head.status, headers, Reply::Stream(Box::new(relaying)), to.request));
    }
    let (idle, stop) = (hold.card.provider.timeouts.idle, Arc::clone(&hold.view.stop));
    let body = match body::collect(source, idle, &stop).await {
        Ok(body) => body,
        Err(body::Uncollected::Stopped) => return Tried::Over(stopped(gate, hold, to, Some(head.status))),
        Err(body::Uncollected::Fault(fault)) => {
            return Tried::Over(failed(gate, hold, to, fault, Ended::unread(head.status.as_u16())));
        }
    };
    match head.status.is_success() {
        true => Tried::Over(succeed(gate, active, hold, message, &head, body)),
        false => decline(gate, hold, message, &head, body, again),
    }
}

/// A plain answer: metered, under the client's name of the model.
fn succeed(gate: &Gate, active: &Active, hold: Hold, message: &Message, head: &http::response::Parts, body: Bytes) -> Response<Reply> {
    let to = message.to;
    let status = head.status.as_u16();
    let Some(read) = message.dialect.answer(&body) else {
        return failed(gate, hold, to, UpstreamFault::BadAnswer, Ended::Unknown { outcome: Outcome::NoUsage, status: Some(status) });
    };
    let body = match &read.model_span {
        Some(span) => answer::splice_model(&body, span, client_model(active, message)),
        None => body,
    };
    let ended = match read.has_unread_usage && read.usage.is_none() {
        true => Ended::Unknown { outcome: Outcome::NoUsage, status: Some(status) },
        false => Ended::plain(status, read.usage, read.relayed_output_bytes),
    };
    let mut headers = answered(head, &hold, to);
    let streamed = is_unstreamed(&hold).then(|| message.dialect.as_stream(&body, message.request.asks_for_usage())).flatten();
    let body = streamed.map_or(body, |events| {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        events
    });
    let stored = read.kept.filter(|_| message.request.stores).and_then(|kept| to_note(&hold, *kept));
    settle(gate, hold, ended);
    if let Some(stored) = stored {
        gate.note_stored(stored);
    }
    reply::whole(head.status, headers, body, to.request)
}

/// What is to be noted of an answer that its provider has stored; nothing of one without a name.
pub(super) fn to_note(hold: &Hold, kept: Kept) -> Option<ResponseStored> {
    let Kept { id: response, items, .. } = kept;
    (!response.is_empty()).then(|| ResponseStored {
        account: hold.view.agent.id,
        items,
        model: hold.card.card.name.clone(),
        provider: hold.card.provider.name.clone(),
        request: hold.key.request,
        response,
    })
}

/// Whether the client wants a stream, and the policy lets the provider be asked for a whole answer only.
fn is_unstreamed(hold: &Hold) -> bool {
    hold.permit.changed(Changed::Stream).is_some()
}

/// An error of the provider: passed on as it is, and charged unless it proves that nothing was billed. Then another attempt may
/// follow, where that can help.
fn decline(gate: &Gate, hold: Hold, message: &Message, head: &http::response::Parts, body: Bytes, again: bool) -> Tried {
    let status = head.status.as_u16();
    let ended = Ended::declined(status, || message.dialect.answer(&body).is_some_and(|answer| answer.is_error));
    let cause = matches!(ended, Ended::Refused { .. }).then(|| Cause::of_refusal(status, &head.headers)).flatten().filter(|_| again);
    let (answer, card) = (reply::whole(head.status, answered(head, &hold, message.to), body, message.to.request), Arc::clone(&hold.card));
    let entered = settle_and_go_on(gate, hold, ended);
    match cause {
        Some(cause) => Tried::Unserved(Box::new(Unserved { answer, entered, card, cause })),
        None => Tried::Over(answer),
    }
}

/// An answer's headers for the client, with the model that served it.
fn answered(head: &http::response::Parts, hold: &Hold, to: Addressee) -> HeaderMap {
    let mut headers = headers::to_client(&head.headers);
    reply::tell_request(&mut headers, to);
    if let Some(model) = &hold.card.shown {
        headers.insert(reply::MODEL, model.clone());
    }
    headers
}

pub(super) fn refuse(denial: &Denial, to: Addressee) -> Response<Reply> {
    reply::refusal(&denial::worded(denial, to), to)
}

fn failed(gate: &Gate, hold: Hold, to: Addressee, fault: UpstreamFault, ended: Ended) -> Response<Reply> {
    let provider = hold.card.provider.name.clone();
    tracing::warn!(request = %to.request, provider, ?fault, "a provider failed");
    settle(gate, hold, ended);
    reply::refusal(&denial::upstream(fault, &provider, to), to)
}

/// An account on the path was deleted or killed while the call waited. What the provider has done by now is not known.
fn stopped(gate: &Gate, hold: Hold, to: Addressee, status: Option<StatusCode>) -> Response<Reply> {
    let denial = gate.stopped_within(&hold.view);
    settle(gate, hold, Ended::Unknown { outcome: Outcome::Stopped, status: status.map(|status| status.as_u16()) });
    refuse(&denial, to)
}

/// The name that the client knows the model by, whichever serves it.
fn client_model<'a>(active: &'a Active, message: &'a Message) -> &'a str {
    let asked = &message.request.ask.model;
    if asked.is_empty() { &active.config.catalog.default_model } else { asked }
}

fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream")
}

/// A call without its body.
struct Received {
    line: Arc<Line>,
    dialect: Dialect,
    to: Addressee,
    head: http::request::Parts,
}

/// Reads and parses a request's body.
async fn read(gate: &Gate, active: &Active, received: Received, body: Lent) -> Result<Box<Message>, Denial> {
    let Received { line, dialect, to, head: http::request::Parts { uri, headers, .. } } = received;
    if headers::is_encoded(&headers) {
        return Err(Denial::Malformed {
            message: "a body with a `content-encoding` is not taken: send it as it is".to_owned(),
            param: None,
        });
    }
    let body = body::read(body, &active.config.settings).await?;
    let provider_key = headers::provider_key(&headers, dialect.protocol(), |said| gate.knows(said))?;
    if dialect.protocol() == Protocol::Anthropic {
        headers::query(&uri, &headers)?;
    }
    match dialect.read(&body) {
        Ok(request) => Ok(Box::new(Message { line, provider_key, uri, headers, body, dialect, to, request })),
        Err(Malformed { message, param }) => Err(Denial::Malformed { message, param }),
    }
}
