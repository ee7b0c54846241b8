//! A refusal as an answer: status, headers, and the body in the shape that its reader knows.

use super::{INVALID_REQUEST, MODEL_NOT_ALLOWED, PERMISSION};
use crate::wire::dialect::{Dialect, Shape};
use aex_proto::value::{RequestId, Stamp};
use bytes::Bytes;
use serde::Serialize;

/// The longest wait that a client is told: SDKs ignore longer ones, or do not retry at all.
pub(super) const MAX_RETRY_MS: u64 = 60_000;

/// Who gets an answer of the daemon's own, and to which request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressee {
    /// The request.
    pub request: RequestId,
    /// Whose errors the client reads.
    pub shape: Shape,
    /// What it speaks, where it calls a model.
    pub dialect: Option<Dialect>,
}

impl Addressee {
    /// Of a page that is no call.
    #[must_use]
    pub const fn of_page(request: RequestId, shape: Shape) -> Addressee {
        Addressee { request, shape, dialect: None }
    }
}

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// `error.type`.
    pub kind: &'static str,
    /// `error.code`.
    pub code: &'static str,
    /// `error.param`: the field at fault.
    pub param: Option<String>,
    /// `error.message`.
    pub message: String,
    /// For `retry-after` (in seconds, rounded up) and `retry-after-ms`.
    pub retry_after_ms: Option<u64>,
    /// `x-should-retry: false` is sent: no wait lifts it.
    pub no_retry: bool,
    /// `error.account`: whose budget does not suffice, as commands take it.
    pub account: Option<String>,
    /// `error.period`: the period of that budget.
    pub period: Option<&'static str>,
    /// `error.resets_at`: when it ends.
    pub resets_at: Option<Stamp>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<Stamp>,
}

#[derive(Serialize)]
struct AnthropicEnvelope<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: AnthropicError<'a>,
    request_id: RequestId,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: &'a str,
}

impl Refusal {
    /// The JSON of the answer.
    #[must_use]
    pub fn body(&self, to: Addressee) -> Bytes {
        let Refusal { kind, code, param, message, account, period, resets_at, .. } = self;
        match to.shape {
            Shape::OpenAi | Shape::Codex => {
                let (param, account) = (param.as_deref(), account.as_deref());
                json(&Envelope { error: ErrorObject { message, kind, param, code, account, period: *period, resets_at: *resets_at } })
            }
            Shape::Anthropic => {
                let error = AnthropicError { kind, message };
                json(&AnthropicEnvelope { kind: "error", error, request_id: to.request })
            }
        }
    }

    /// The value of `retry-after`, in whole seconds.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after_ms.map(|wait| wait.div_ceil(1000))
    }

    /// One that no retry lifts.
    pub(super) fn lasting(status: u16, kind: &'static str, code: &'static str, message: String) -> Refusal {
        Refusal {
            status,
            kind,
            code,
            param: None,
            message,
            retry_after_ms: None,
            no_retry: true,
            account: None,
            period: None,
            resets_at: None,
        }
    }

    /// One that a wait lifts.
    pub(super) fn passing(status: u16, kind: &'static str, code: &'static str, wait_ms: u64, message: String) -> Refusal {
        let wait = wait_ms.clamp(1, MAX_RETRY_MS);
        Refusal { retry_after_ms: Some(wait), no_retry: false, ..Refusal::lasting(status, kind, code, message) }
    }

    pub(super) fn about(self, param: impl Into<String>) -> Refusal {
        Refusal { param: Some(param.into()), ..self }
    }

    /// The refusal for its reader: numbered, and with the status and type that the reader's API has for it.
    pub(super) fn told(mut self, to: Addressee) -> Refusal {
        use std::fmt::Write as _;
        // Writing to a string cannot fail.
        let _ = write!(self.message, " (request {})", to.request);
        if let Some(dialect) = to.dialect {
            self.param = self.param.map(|param| dialect.field(&param).to_owned());
        }
        match to.shape {
            Shape::OpenAi => {}
            // The budget: see `Shape::Codex`.
            Shape::Codex if self.status == 402 => self.status = 429,
            // It repeats what is refused with another status, whatever the headers say, and shows the message of this one.
            Shape::Codex if self.no_retry && matches!(self.status, 403..=499) => self.status = 400,
            Shape::Codex => {}
            Shape::Anthropic => (self.status, self.kind) = anthropic(self.status, self.code),
        }
        self
    }
}

/// Status and type at Anthropic (docs.claude.com, "Errors") of what has a status and a code at OpenAI.
fn anthropic(status: u16, code: &str) -> (u16, &'static str) {
    match status {
        401 => (401, "authentication_error"),
        402 => (402, "billing_error"),
        403 if code == MODEL_NOT_ALLOWED => (404, "not_found_error"),
        403 => (403, PERMISSION),
        404 => (404, "not_found_error"),
        413 => (413, "request_too_large"),
        429 => (429, "rate_limit_error"),
        503 => (529, "overloaded_error"),
        500.. => (status, "api_error"),
        _ => (status, INVALID_REQUEST),
    }
}

fn json(body: &impl Serialize) -> Bytes {
    // These are strings alone: serialising them cannot fail.
    serde_json::to_vec(body).map(Bytes::from).unwrap_or_default()
}
