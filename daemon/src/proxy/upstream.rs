//! Connections to providers: HTTP/1.1 over TCP or TLS, kept open and used again, one pool per worker.
//!
//! A connection is driven by whoever waits for its answer, not by a task of its own: no hand-over per frame. No redirects, no
//! decompression, no cookies. `HTTPS_PROXY` and `NO_PROXY` are honoured for https.

mod connect;
mod exchange;

use crate::config::Provider;
use crate::os::clock;
use crate::wire::denial::UpstreamFault;
use crate::wire::http1::{self, Framing, Head};
use bytes::Bytes;
use exchange::{Connection, Unanswered};
use http::Request;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio_rustls::rustls::ClientConfig;

/// Idle connections kept per provider and worker.
const MAX_IDLE: usize = 1_024;
/// A connection idle for longer is closed: many servers close theirs after 60 to 75 seconds.
const IDLE_FOR: Duration = Duration::from_secs(50);
/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// This worker's idle connections, and the TLS settings of its providers.
#[derive(Default)]
struct Pool {
    generation: u64,
    idle: HashMap<String, Vec<(Duration, Connection)>>,
    swept: Duration,
    tls: HashMap<String, Arc<ClientConfig>>,
}

impl Pool {
    /// The pool of a configuration's generation: connections of an older one are closed, and a call that was admitted under an
    /// older one takes none of the newer.
    fn of(&mut self, generation: u64) -> Option<&mut Pool> {
        if generation > self.generation {
            *self = Pool { generation, ..Pool::default() };
        }
        (generation == self.generation).then_some(self)
    }
}

impl Pool {
    /// Closes what has been idle for too long; nobody else looks at it. At most once in a while.
    fn sweep(&mut self, now: Duration) {
        if now.saturating_sub(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        for idle in self.idle.values_mut() {
            idle.retain(|(since, _)| now.saturating_sub(*since) < IDLE_FOR);
        }
    }
}

/// Why a request got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendFault {
    /// Nothing of it left: it can be sent again, and nothing is billed.
    NeverSent(UpstreamFault),
    /// It may have been processed.
    MaybeSent(UpstreamFault),
}

/// An answer whose body is driven by its reader.
pub(super) struct Answer {
    pub(super) head: http::response::Parts,
    pub(super) body: AnswerBody,
}

/// A body and the connection that it comes from.
pub(super) struct AnswerBody {
    framing: Framing,
    /// The connection serves again when the body has been read.
    keeps: bool,
    /// `None` once the body is over.
    connection: Option<Connection>,
    generation: u64,
    provider: Arc<Provider>,
}

impl AnswerBody {
    /// The next bytes; `None` at the end, an error when the provider broke off.
    pub(super) fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ()>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        loop {
            match self.framing.take(connection.unread()) {
                Ok(bytes) if !bytes.is_empty() => return Poll::Ready(Some(Ok(bytes))),
                Ok(_) => {}
                Err(http1::Malformed) => return Poll::Ready(Some(Err(()))),
            }
            if self.framing.is_over() {
                self.put_back();
                return Poll::Ready(None);
            }
            match connection.poll_read(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) if self.framing.ends_with_connection() => {
                    self.connection = None;
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Some(Err(()))),
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    /// The whole answer was read: the connection serves again.
    fn put_back(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if !self.keeps || !connection.rests() {
            return;
        }
        POOL.with_borrow_mut(|pool| {
            let Some(pool) = pool.of(self.generation) else { return };
            let now = clock::mono();
            pool.sweep(now);
            // Looked up by the borrowed name first: nearly always it is there.
            match pool.idle.get_mut(&self.provider.name) {
                Some(idle) if idle.len() < MAX_IDLE => idle.push((now, connection)),
                Some(_) => {}
                None => drop(pool.idle.insert(self.provider.name.clone(), vec![(now, connection)])),
            }
        });
    }
}

/// Sends a request and waits for the head of its answer. Time limits are the caller's, except for connecting.
pub(super) async fn send(provider: &Arc<Provider>, generation: u64, request: Request<Bytes>) -> Result<Answer, SendFault> {
    let head = http1::request_head(request.method(), request.uri(), request.headers(), request.body().len());
    let mut kept = idle(provider, generation);
    loop {
        let is_new = kept.is_none();
        let mut connection = match kept.take() {
            Some(connection) => connection,
            // Boxed: it is rare, and large.
            None => Connection::new(Box::pin(connect::connect(provider, generation)).await.map_err(SendFault::NeverSent)?),
        };
        match connection.exchange(&head, request.body()).await {
            Ok((Head { parts, framing, keeps }, whole)) => {
                let keeps = keeps && whole;
                let body = AnswerBody { framing, keeps, connection: Some(connection), generation, provider: Arc::clone(provider) };
                return Ok(Answer { head: parts, body });
            }
            // A connection that was used before may have been closed just now: then the request takes a new one.
            Err(Unanswered::Unsent) if !is_new => {}
            Err(Unanswered::Unsent) => return Err(SendFault::NeverSent(UpstreamFault::Unreachable)),
            Err(Unanswered::Malformed) => return Err(SendFault::MaybeSent(UpstreamFault::BadAnswer)),
            Err(Unanswered::Cut) => return Err(SendFault::MaybeSent(UpstreamFault::Cut)),
        }
    }
}

fn idle(provider: &Provider, generation: u64) -> Option<Connection> {
    POOL.with_borrow_mut(|pool| {
        let idle = pool.of(generation)?.idle.get_mut(&provider.name)?;
        let now = clock::mono();
        while let Some((since, mut connection)) = idle.pop() {
            if now.saturating_sub(since) < IDLE_FOR && connection.is_usable() {
                return Some(connection);
            }
        }
        None
    })
}
