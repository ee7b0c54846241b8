//! Answers of the daemon's own, and the one type of all bodies.

use super::relay::Relaying;
use crate::wire::denial::{Addressee, Refusal};
use crate::wire::dialect::Shape;
use aex_proto::value::RequestId;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// The header that names a request in every answer.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-aex-request-id");
/// The header that names the model which served a call.
pub(super) const MODEL: HeaderName = HeaderName::from_static("x-aex-model");
/// The header that tells SDKs whether to try again.
pub(super) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// When to try again, in milliseconds.
pub(super) const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// The body of any answer.
pub(super) enum Reply {
    /// Bytes that are there.
    Whole(Option<Bytes>),
    /// A stream on its way through.
    Stream(Box<Relaying>),
    /// A page of the router.
    Page(axum::body::Body),
}

/// The body cannot go on: the connection is broken, so that the client does not take it for whole.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub(super) struct Broken;

impl Body for Reply {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Reply::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Reply::Stream(relaying) => relaying.poll_frame(cx),
            Reply::Page(body) => Pin::new(body).poll_frame(cx).map_err(|_| Broken),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Whole(bytes) => bytes.is_none(),
            Reply::Stream(_) => false,
            Reply::Page(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX))),
            Reply::Stream(_) => SizeHint::default(),
            Reply::Page(body) => body.size_hint(),
        }
    }
}

/// A refusal or fault as an answer.
pub(super) fn refusal(refusal: &Refusal, to: Addressee) -> Response<Reply> {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let (Some(seconds), Some(millis)) = (refusal.retry_after_seconds(), refusal.retry_after_ms) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
    }
    tell_request(&mut headers, to);
    if refusal.no_retry {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    whole(StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), headers, refusal.body(to), to.request)
}

/// Anthropic's SDKs show this header as the request's id; where no provider set one, it is ours.
pub(super) fn tell_request(headers: &mut HeaderMap, to: Addressee) {
    if to.shape == Shape::Anthropic
        && !headers.contains_key("request-id")
        && let Ok(id) = HeaderValue::from_str(&to.request.to_string())
    {
        headers.insert("request-id", id);
    }
}

/// A refusal as it goes over the wire of a connection that ends with it.
pub(super) fn last_words(refusal: &Refusal, to: Addressee) -> Vec<u8> {
    let answer = self::refusal(refusal, to);
    let reason = answer.status().canonical_reason().unwrap_or_default();
    let mut words = format!("HTTP/1.1 {} {reason}\r\n", answer.status().as_str()).into_bytes();
    let body = refusal.body(to);
    let length = HeaderValue::from(body.len());
    let ours = [(&header::CONTENT_LENGTH, &length), (&header::CONNECTION, &HeaderValue::from_static("close"))];
    for (name, value) in answer.headers().iter().chain(ours) {
        words.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    words.extend_from_slice(b"\r\n");
    words.extend_from_slice(&body);
    words
}

/// An answer whose body is there.
pub(super) fn whole(status: StatusCode, headers: HeaderMap, body: Bytes, request: RequestId) -> Response<Reply> {
    respond(status, headers, Reply::Whole(Some(body)), request)
}

/// An answer with its request's id. Clients show `x-request-id` as the request's: where no provider set one, it is ours.
pub(super) fn respond(status: StatusCode, mut headers: HeaderMap, body: Reply, request: RequestId) -> Response<Reply> {
    if let Ok(id) = HeaderValue::from_str(&request.to_string()) {
        if !headers.contains_key("x-request-id") {
            headers.insert("x-request-id", id.clone());
        }
        headers.insert(REQUEST_ID, id);
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
