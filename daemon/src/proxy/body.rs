//! Bodies, read whole: of requests under their limits, of plain answers under theirs; and what is dropped of those that nobody
//! wants. Must not: look into one.

use super::dispatch::Source;
use super::line::Line;
use crate::config::Settings;
use crate::gate::CALL_LASTS;
use crate::ledger::StopFlag;
use crate::os::clock;
use crate::wire::denial::UpstreamFault;
use aex_core::decision::Denial;
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The largest plain answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// How long a request's body may take in all.
const BODY_LASTS: Duration = Duration::from_secs(300);
/// What is read of a refused request's body, so that the client gets to read the refusal.
const MAX_UNREAD: usize = 4 << 20;
/// How long that may take in all.
const UNREAD_FOR: Duration = Duration::from_secs(2);

/// Reads a request's body, under the limits of the settings.
pub(super) async fn read(mut body: Lent, settings: &Settings) -> Result<Bytes, Denial> {
    let (limit, idle) = (settings.max_body.value, settings.body_idle.value);
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(too_large(limit));
    }
    let broken = |message: &str| Denial::Malformed { message: message.to_owned(), param: None };
    let begun = clock::mono();
    let mut whole = Joined::default();
    loop {
        let Ok(next) = tokio::time::timeout(idle, body.frame()).await else {
            body.give_up();
            return Err(broken("the body did not arrive in time"));
        };
        let Some(frame) = next else { return Ok(whole.freeze()) };
        let frame = frame.map_err(|_| broken("the body broke off"))?;
        if let Ok(bytes) = frame.into_data() {
            whole.push(bytes);
        }
        if whole.len() > limit {
            return Err(too_large(limit));
        }
        if clock::mono().saturating_sub(begun) > BODY_LASTS {
            body.give_up();
            return Err(broken("the body did not arrive in time"));
        }
    }
}

fn too_large(limit: usize) -> Denial {
    Denial::TooLarge { limit: u64::try_from(limit).unwrap_or(u64::MAX) }
}

/// The body of a request, as whoever answers it has it. What is left of it when it is dropped goes back to its connection
/// ([`Left::read_off`]): a client that is still sending would not see the answer before the connection closes.
pub(super) struct Lent {
    body: Option<Incoming>,
    is_coming: bool,
    line: Arc<Line>,
}

impl Lent {
    pub(super) fn new(headers: &HeaderMap, body: Incoming, line: &Arc<Line>) -> Lent {
        // A client that asks first (`expect: 100-continue`) is told no instead, and sends none.
        Lent { body: Some(body), is_coming: !headers.contains_key(header::EXPECT), line: Arc::clone(line) }
    }

    /// Nobody waits for the rest.
    fn give_up(mut self) {
        self.is_coming = false;
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(self.body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx)));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            self.line.leave(if self.is_coming { Left::Coming(body) } else { Left::Unsent });
        }
    }
}

/// What is left of a request's body.
#[derive(Debug, Default)]
pub(super) enum Left {
    /// Nothing.
    #[default]
    Nothing,
    /// This, which is on its way.
    Coming(Incoming),
    /// What the client does not send, or not in time.
    Unsent,
}

impl Left {
    /// Reads and drops it, as far as that does not take too long. `false` when the next request could not be told from it.
    pub(super) async fn read_off(self) -> bool {
        match self {
            Left::Nothing => true,
            Left::Coming(body) => skip(body).await,
            Left::Unsent => false,
        }
    }
}

/// Whether a body was read to its end.
async fn skip(mut body: Incoming) -> bool {
    let reading = async {
        let mut seen = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > MAX_UNREAD {
                return false;
            }
        }
        true
    };
    // A client that takes longer gets its answer and a closed connection.
    tokio::time::timeout(UNREAD_FOR, reading).await.unwrap_or(false)
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
