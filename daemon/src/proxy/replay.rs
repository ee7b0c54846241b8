//! Calls with an `idempotency-key`: the first one runs and has its answer recorded, further ones get that answer again.
//!
//! Which keys are used is the gate's to know; here headers and bodies are taken down and put together again.

use super::dispatch::Message;
use super::headers;
use super::reply::{RETRY_AFTER_MS, Reply, SHOULD_RETRY};
use crate::gate::{Active, Answer, Begun, Entered, Evidence, Gate, KeyLimits, KeyedCall, Ticket};
use aex_core::decision::Denial;
use aex_proto::value::Digest;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use std::sync::Arc;

/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// How a call goes on once its key was looked at.
pub(super) enum Turn {
    /// It runs; with a key its answer is to be recorded.
    Run(Entered, Option<Arc<Ticket>>),
    /// It was made before: this was its answer.
    Answered(Response<Reply>),
    /// It may not run.
    Refused(Denial),
}

/// Looks at a call's key, when it has one.
pub(super) async fn enter(gate: &Gate, active: &Active, mut entered: Entered, message: &Message) -> Turn {
    let key = match headers::idempotency_key(&message.headers) {
        Ok(None) => return Turn::Run(entered, None),
        Ok(Some(key)) => key,
        Err(()) => {
            let message = "`idempotency-key` must be sent once, with 1 to 255 characters".to_owned();
            return refused(gate, &entered, Denial::Malformed { message, param: None });
        }
    };
    let settings = &active.config.settings;
    let limits = KeyLimits {
        answer: settings.idempotency_answer.value,
        memory: settings.idempotency_memory.value,
        keys: settings.idempotency_keys.value,
    };
    let call = KeyedCall { key, endpoint: message.dialect.endpoint(), input: Digest::of(&message.body), limits };
    match gate.begin_keyed(&mut entered, call).await {
        Ok(Begun::First(ticket)) => Turn::Run(entered, Some(ticket)),
        Ok(Begun::Again(answer)) => Turn::Answered(again(&answer)),
        Ok(Begun::Denied(denial)) => refused(gate, &entered, denial),
        Err(fault) => {
            tracing::error!(%fault, request = %entered.request, "nobody can tell whether an idempotency key was used");
            refused(gate, &entered, Denial::LedgerUnavailable)
        }
    }
}

fn refused(gate: &Gate, entered: &Entered, denial: Denial) -> Turn {
    gate.refused(entered.request, Some(&entered.view), &denial, Evidence::default());
    Turn::Refused(denial)
}

/// An answer as it was given first, with the first request's id.
fn again(answer: &Answer) -> Response<Reply> {
    let mut headers = HeaderMap::with_capacity(answer.headers.len() + 1);
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    if is_retried(answer.status) {
        // The key has this answer until it ends: a retry gets it again.
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        headers.remove(header::RETRY_AFTER);
        headers.remove(RETRY_AFTER_MS);
    }
    let mut response = Response::new(Reply::Whole(Some(answer.body.clone())));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    *response.headers_mut() = headers;
    response
}

/// Whether clients try again by themselves after an answer with this status (SDKs of OpenAI, Anthropic and Groq).
const fn is_retried(status: u16) -> bool {
    matches!(status, 408 | 409 | 429 | 500..)
}

/// Records a call's answer, whether its client waits for it or not.
pub(super) fn recorded(ticket: Option<Arc<Ticket>>, mut response: Response<Reply>) -> Response<Reply> {
    let Some(ticket) = ticket else { return response };
    let named = |(name, value): (&HeaderName, &HeaderValue)| (name.as_str().to_owned(), value.as_bytes().to_vec());
    let mut recorder = ticket.record(response.status().as_u16(), response.headers().iter().map(named).collect());
    match response.body_mut() {
        Reply::Whole(bytes) => {
            recorder.push(bytes.as_deref().unwrap_or_default());
            recorder.complete();
        }
        Reply::Stream(relaying) => relaying.record(recorder),
        Reply::Page(_) => {}
    }
    response
}
