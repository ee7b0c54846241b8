//! The governed call: authenticate, admit, dispatch, relay, settle. One function reads like that list.

use super::dispatch::{Dispatched, Message, Source, dispatch};
use super::exempt;
use super::headers;
use super::line::Line;
use super::pages::Pages;
use super::relay::{Relaying, Streamed};
use super::reply::{self, Reply};
use super::stored;
use super::track::Tracked;
use super::upstream::SendFault;
use crate::config::Settings;
use crate::gate::{Active, Asked, CALL_LASTS, Decision, Ended, Entered, Evidence, Gate, Hold, admit, settle};
use crate::ledger::StopFlag;
use crate::os::{clock, failpoint};
use crate::wire::answer::{self, Kept};
use crate::wire::denial::{self, Addressee, Misdirected, UpstreamFault};
use crate::wire::dialect::{Dialect, Shape, StoredPath};
use crate::wire::request::{self, Malformed};
use crate::wire::stream::{StreamEditor, UsageChunk};
use aex_core::books::HoldKey;
use aex_core::decision::Denial;
use aex_core::event::{Outcome, ResponseStored};
use aex_core::policy::Changed;
use aex_proto::value::Digest;
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The longest path with its query, in bytes.
const MAX_TARGET: usize = 8 << 10;
/// The largest plain answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// How long a request's body may take in all.
const BODY_LASTS: Duration = Duration::from_secs(300);
/// What is read of a refused request's body, so that the client gets to read the refusal.
const MAX_UNREAD: usize = 4 << 20;
/// How long that may take in all.
const UNREAD_FOR: Duration = Duration::from_secs(2);

/// Answers one request.
pub(super) async fn handle(pages: Arc<Pages>, line: Arc<Line>, peer: IpAddr, request: Request<Incoming>) -> Response<Reply> {
    let path = request.uri().path();
    let dialect = Dialect::at(path);
    let misdirected = |cause| {
        let to = Addressee::of_page(pages.gate.next_request(), Shape::at(path));
        reply::refusal(&denial::misdirected(cause, to), to)
    };
    let takes = |methods: &str| methods.split(", ").any(|method| method == request.method().as_str());
    let not_taken = |methods| {
        let mut refused = misdirected(Misdirected::WrongMethod);
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
        refused
    };
    if !pages.serves_host(&request) {
        return misdirected(Misdirected::ForeignHost);
    }
    if headers::asks_for_websocket(request.headers()) {
        // Codex tries a WebSocket first, and goes on over HTTP when it reads this.
        let mut refused = misdirected(Misdirected::WebSocket);
        refused.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("HTTP/1.1"));
        refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        return refused;
    }
    if request.uri().path_and_query().is_some_and(|target| target.as_str().len() > MAX_TARGET) {
        return misdirected(Misdirected::LongTarget);
    }
    match dialect {
        Some(dialect) if request.method() == Method::POST => call(&pages.gate, dialect, line, peer, request).await,
        Some(_) => not_taken("POST"),
        None => match StoredPath::at(path) {
            Some(place) if takes(place.rest.methods()) => stored::serve(&pages.gate, place, peer, request).await,
            Some(place) => not_taken(place.rest.methods()),
            None => pages.page(peer, request).await,
        },
    }
}

/// A governed call, from its headers to the head of its answer.
async fn call(gate: &Gate, dialect: Dialect, line: Arc<Line>, peer: IpAddr, request: Request<Incoming>) -> Response<Reply> {
    let id = gate.next_request();
    let active = gate.active();
    let (head, body) = request.into_parts();
    let to = Addressee { request: id, shape: dialect.shape(headers::originator(&head.headers)), dialect: Some(dialect) };
    let entered = match gate.enter(headers::token_of_call(&head.headers, dialect.protocol()), peer, id) {
        Ok(entered) => entered,
        Err(refused) => {
            gate.refused(id, refused.view.as_deref(), &refused.denial, Evidence::default());
            skip_unasked(&head.headers, body).await;
            return refuse(&refused.denial, to);
        }
    };
    let message = match read(&active, Received { line, dialect, to, head }, body).await {
        Ok(message) => message,
        Err(denial) => {
            gate.refused(id, Some(&entered.view), &denial, Evidence::default());
            return refuse(&denial, to);
        }
    };
    let (leaving, left) = oneshot::channel();
    let key = HoldKey { request: id, attempt: 0 };
    Tracked::new(gate, key, leaving, serve(gate.clone(), active, entered, message, left)).await
}

/// The call itself. It runs to its end even when the client leaves.
async fn serve(gate: Gate, active: Arc<Active>, entered: Entered, message: Message, left: oneshot::Receiver<()>) -> Response<Reply> {
    let to = message.to;
    if message.dialect.is_free() {
        return exempt::serve(&gate, &active, entered, asked(&message), &message).await;
    }
    let hold = match admit(&gate, &active, entered, asked(&message)).await {
        Ok(Decision::Permit(hold)) => hold,
        Ok(Decision::Deny(denial)) => return refuse(&denial, to),
        Err(fault) => {
            tracing::error!(%fault, request = %to.request, "no call can be admitted");
            return refuse(&Denial::LedgerUnavailable, to);
        }
    };
    let stop = Arc::clone(&hold.view.stop);
    // A call whose stream the policy took away is finished like any plain one.
    let waits_for_client = message.request.ask.stream && !is_unstreamed(&hold);
    let dispatched = tokio::select! {
        biased;
        dispatched = dispatch(&active, hold.sending(), &message) => dispatched,
        Ok(()) = left, if waits_for_client => {
            settle(&gate, hold, Ended::Relayed { outcome: Outcome::ClientLeft, status: None, bytes: 0, usage: None });
            return refuse(&Denial::Draining, to);
        }
        () = stop.raised() => return stopped(&gate, hold, to, None),
    };
    match dispatched {
        Ok(dispatched) => relay(&gate, &active, hold, &message, dispatched).await,
        Err(SendFault::NeverSent(fault)) => {
            let provider = hold.card.provider.name.clone();
            settle(&gate, hold, Ended::NeverSent);
            reply::refusal(&denial::upstream(fault, &provider, to), to)
        }
        // A provider that makes a plain answer as a whole may be done with it by now.
        Err(SendFault::MaybeSent(fault @ UpstreamFault::FirstByteTimeout)) if !waits_for_client => {
            failed(&gate, hold, to, fault, Ended::Unknown { outcome: Outcome::ProviderFailed, status: None })
        }
        Err(SendFault::MaybeSent(fault)) => failed(&gate, hold, to, fault, Ended::Failed { status: None }),
    }
}

/// What the gate decides on.
fn asked(message: &Message) -> Asked {
    let request::Request { ask, refers, .. } = &message.request;
    Asked {
        ask: ask.clone(),
        protocol: message.dialect.protocol(),
        input: Digest::of(&message.body),
        refers: refers.clone(),
        brings_key: message.provider_key.is_some(),
    }
}

/// Passes an answer on, as a stream or whole, and settles what it cost.
async fn relay(gate: &Gate, active: &Active, hold: Hold, message: &Message, answer: Dispatched) -> Response<Reply> {
    let Dispatched { head, source } = answer;
    let to = message.to;
    failpoint::reached("answer.head");
    if head.status.is_informational() || head.status.is_redirection() {
        // Followed by the client, a redirect would lead the prompt past the daemon.
        return failed(gate, hold, to, UpstreamFault::BadAnswer, Ended::Failed { status: Some(head.status.as_u16()) });
    }
    if let Err(fault) = gate.ledger().may_relay(&hold.held).await {
        tracing::error!(%fault, request = %to.request, "a reservation may not be on disk: nothing of its answer is shown");
        settle(gate, hold, Ended::Unknown { outcome: Outcome::ProviderFailed, status: Some(head.status.as_u16()) });
        return refuse(&Denial::LedgerUnavailable, to);
    }
    if head.status.is_success() && headers::is_encoded(&head.headers) {
        // It was asked for identity; what can't be read can't be metered, and does not pass.
        let ended = Ended::Unknown { outcome: Outcome::NoUsage, status: Some(head.status.as_u16()) };
        return failed(gate, hold, to, UpstreamFault::BadAnswer, ended);
    }
    if head.status.is_success() && is_stream(&head.headers) {
        let ask = &message.request.ask;
        let is_ours = message.dialect.has_usage_option() && !message.request.asks_for_usage();
        let usage_chunk = if is_ours { UsageChunk::Strip } else { UsageChunk::Pass };
        let editor = StreamEditor::new(message.dialect, client_model(&hold, message), ask.choices, usage_chunk);
        let on_disconnect = active.config.settings.on_disconnect.value;
        let stores = message.request.stores;
        let streamed = Streamed { dialect: message.dialect, to, stores, status: head.status.as_u16(), source, editor, on_disconnect };
        let relaying = Relaying::new(gate, hold, &message.line, streamed);
        return reply::respond(head.status, headers::to_client(&head.headers), Reply::Stream(Box::new(relaying)), to.request);
    }
    let (idle, stop) = (hold.card.provider.timeouts.idle, Arc::clone(&hold.view.stop));
    let body = match collect(source, idle, &stop).await {
        Ok(body) => body,
        Err(Uncollected::Stopped) => return stopped(gate, hold, to, Some(head.status)),
        Err(Uncollected::Fault(fault)) => {
            return failed(gate, hold, to, fault, Ended::unread(head.status.as_u16()));
        }
    };
    if head.status.is_success() { succeed(gate, hold, message, &head, body) } else { decline(gate, hold, message, &head, body) }
}

/// A plain answer: metered, under the client's name of the model.
fn succeed(gate: &Gate, hold: Hold, message: &Message, head: &http::response::Parts, body: Bytes) -> Response<Reply> {
    let to = message.to;
    let status = head.status.as_u16();
    let Some(read) = message.dialect.answer(&body) else {
        return failed(gate, hold, to, UpstreamFault::BadAnswer, Ended::Unknown { outcome: Outcome::NoUsage, status: Some(status) });
    };
    let body = match &read.model_span {
        Some(span) => answer::splice_model(&body, span, client_model(&hold, message)),
        None => body,
    };
    let ended = Ended::plain(status, read.usage, read.relayed_output_bytes);
    let mut headers = headers::to_client(&head.headers);
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

/// An error of the provider: passed on as it is, and charged unless it proves that nothing was billed.
fn decline(gate: &Gate, hold: Hold, message: &Message, head: &http::response::Parts, body: Bytes) -> Response<Reply> {
    let ended = Ended::declined(head.status.as_u16(), || message.dialect.answer(&body).is_some_and(|answer| answer.is_error));
    settle(gate, hold, ended);
    reply::whole(head.status, headers::to_client(&head.headers), body, message.to.request)
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

/// The name that the client knows the model by.
fn client_model<'a>(hold: &'a Hold, message: &'a Message) -> &'a str {
    let asked = &message.request.ask.model;
    if asked.is_empty() { &hold.card.card.name } else { asked }
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
async fn read(active: &Active, received: Received, body: Incoming) -> Result<Message, Denial> {
    let Received { line, dialect, to, head: http::request::Parts { uri, headers, .. } } = received;
    if headers::is_encoded(&headers) {
        skip_unasked(&headers, body).await;
        return Err(Denial::Malformed {
            message: "a body with a `content-encoding` is not taken: send it as it is".to_owned(),
            param: None,
        });
    }
    let limit = active.config.settings.max_body.value;
    if hyper::body::Body::size_hint(&body).lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        skip_unasked(&headers, body).await;
        return Err(too_large(limit));
    }
    let body = read_body(body, &active.config.settings).await?;
    let provider_key = headers::provider_key(&headers, dialect.protocol())
        .map_err(|()| Denial::Malformed { message: "the provider key that the call brings is none".to_owned(), param: None })?;
    match dialect.read(&body) {
        Ok(request) => Ok(Message { line, provider_key, uri, headers, body, dialect, to, request }),
        Err(Malformed { message, param }) => Err(Denial::Malformed { message, param }),
    }
}

async fn read_body(mut body: Incoming, settings: &Settings) -> Result<Bytes, Denial> {
    let (limit, idle) = (settings.max_body.value, settings.body_idle.value);
    let broken = |message: &str| Denial::Malformed { message: message.to_owned(), param: None };
    let begun = clock::mono();
    let mut whole = Joined::default();
    loop {
        let next = tokio::time::timeout(idle, body.frame()).await.map_err(|_| broken("the body did not arrive in time"))?;
        let Some(frame) = next else { return Ok(whole.freeze()) };
        let frame = frame.map_err(|_| broken("the body broke off"))?;
        if let Ok(bytes) = frame.into_data() {
            whole.push(bytes);
        }
        if whole.len() > limit {
            skip(body).await;
            return Err(too_large(limit));
        }
        if clock::mono().saturating_sub(begun) > BODY_LASTS {
            return Err(broken("the body did not arrive in time"));
        }
    }
}

fn too_large(limit: usize) -> Denial {
    Denial::TooLarge { limit: u64::try_from(limit).unwrap_or(u64::MAX) }
}

/// Drops a body that is on its way. A client that asked first (`expect: 100-continue`) is told no instead, and sends none.
pub(super) async fn skip_unasked(headers: &HeaderMap, body: Incoming) {
    if !headers.contains_key(header::EXPECT) {
        skip(body).await;
    }
}

/// Reads and drops some of a body that nobody wants: a client that is still sending would not see the answer before the
/// connection closes.
async fn skip(mut body: Incoming) {
    let reading = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > MAX_UNREAD {
                return;
            }
        }
    };
    // A client that takes longer gets its answer and a closed connection.
    let _in_time = tokio::time::timeout(UNREAD_FOR, reading).await;
}

/// Why an answer was not read whole.
pub(super) enum Uncollected {
    Stopped,
    Fault(UpstreamFault),
}

/// Reads a plain answer to its end.
pub(super) async fn collect(mut source: Source, idle: Duration, stop: &StopFlag) -> Result<Bytes, Uncollected> {
    let begun = clock::mono();
    let mut whole = Joined::default();
    loop {
        let next = tokio::select! {
            biased;
            next = tokio::time::timeout(idle, std::future::poll_fn(|cx| source.poll_bytes(cx))) => next,
            () = stop.raised() => return Err(Uncollected::Stopped),
        };
        match next {
            Err(_) => return Err(Uncollected::Fault(UpstreamFault::IdleTimeout)),
            Ok(Some(Err(fault))) => return Err(Uncollected::Fault(fault)),
            Ok(None) => return Ok(whole.freeze()),
            Ok(Some(Ok(bytes))) => whole.push(bytes),
        }
        if whole.len() > MAX_ANSWER {
            return Err(Uncollected::Fault(UpstreamFault::AnswerTooLarge));
        }
        if clock::mono().saturating_sub(begun) > CALL_LASTS {
            return Err(Uncollected::Fault(UpstreamFault::IdleTimeout));
        }
    }
}

/// Bytes in a row. One frame is the common case, and is not copied.
#[derive(Default)]
struct Joined {
    first: Bytes,
    all: BytesMut,
}

impl Joined {
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn push(&mut self, bytes: Bytes) {
        if self.len() == 0 {
            self.first = bytes;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&bytes);
    }

    fn freeze(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}
