//! One request and the head of its answer on a connection.
//!
//! Knows what was written: only a request of which no byte left was never sent. Must not: choose connections, look into bodies.

use super::connect::Stream;
use crate::os::failpoint;
use crate::wire::http1::{self, Head};
use bytes::BytesMut;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncReadExt, AsyncWrite};

/// What one read asks for, at first and at most, in bytes: it doubles while reads fill it. Bounds the memory of a stream whose
/// client reads slowly.
const FIRST_READ: usize = 8 << 10;
const LARGEST_READ: usize = 64 << 10;
/// Less room than this is not read into.
const LEAST_ROOM: usize = 1 << 10;

/// A connection, and what was read of it and not taken yet.
pub(super) struct Connection {
    stream: Stream,
    unread: BytesMut,
    next_read: usize,
}

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// The connection ended before a byte of the request left.
    Unsent,
    /// It ended later.
    Cut,
    /// What came is no answer.
    Malformed,
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Connection {
        Connection { stream, unread: BytesMut::new(), next_read: FIRST_READ }
    }

    /// What was read and not taken yet.
    pub(super) fn unread(&mut self) -> &mut BytesMut {
        &mut self.unread
    }

    /// Reads more; 0 at the end of the connection.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.unread.capacity() - self.unread.len() < LEAST_ROOM {
            self.unread.reserve(self.next_read);
        }
        let room = self.unread.capacity() - self.unread.len();
        let polled = pin!(self.stream.read_buf(&mut self.unread)).poll(cx);
        if matches!(polled, Poll::Ready(Ok(read)) if read == room) {
            self.next_read = (self.next_read * 2).min(LARGEST_READ);
        }
        polled
    }

    /// Whether it can take a request now. Nobody watches an idle connection, so its end shows only here.
    pub(super) fn is_usable(&mut self) -> bool {
        self.unread.is_empty() && self.poll_read(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Whether it can wait for its next request. A large buffer is given back.
    pub(super) fn rests(&mut self) -> bool {
        if !self.is_usable() {
            return false;
        }
        if self.next_read > FIRST_READ {
            (self.unread, self.next_read) = (BytesMut::new(), FIRST_READ);
        }
        true
    }

    /// Writes a request and reads the head of its answer, which may come before all is written. Inner: whether all was.
    pub(super) async fn exchange(&mut self, head: &[u8], body: &[u8]) -> Result<(Head, bool), Unanswered> {
        let mut request = Written { head, body, bytes: 0, is_flushed: false };
        std::future::poll_fn(|cx| self.poll_exchange(&mut request, cx)).await
    }

    fn poll_exchange(&mut self, request: &mut Written<'_>, cx: &mut Context<'_>) -> Poll<Result<(Head, bool), Unanswered>> {
        // An end shows when reading, too, behind an answer that came before it.
        let is_broken = matches!(request.poll(&mut self.stream, cx), Poll::Ready(Err(_)));
        let ended = if request.bytes == 0 { Unanswered::Unsent } else { Unanswered::Cut };
        loop {
            match self.poll_read(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(ended)),
                Poll::Ready(Ok(_)) => match http1::take_head(&mut self.unread) {
                    Ok(Some(head)) => return Poll::Ready(Ok((head, request.is_flushed))),
                    Ok(None) => {}
                    Err(http1::Malformed) => return Poll::Ready(Err(Unanswered::Malformed)),
                },
                Poll::Pending if is_broken => return Poll::Ready(Err(ended)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// A request on its way out.
struct Written<'a> {
    head: &'a [u8],
    body: &'a [u8],
    /// How much of both has left.
    bytes: usize,
    is_flushed: bool,
}

impl Written<'_> {
    fn poll(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.bytes < self.head.len() + self.body.len() {
            let head = self.head.get(self.bytes..).unwrap_or_default();
            let body = self.body.get(self.bytes.saturating_sub(self.head.len())..).unwrap_or_default();
            // Head and body leave together.
            let written = Pin::new(&mut *stream).poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(body)]);
            match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(bytes)) => self.bytes += bytes,
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                Poll::Pending => return Poll::Pending,
            }
        }
        if !self.is_flushed {
            match Pin::new(&mut *stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.is_flushed = true,
                other => return other,
            }
            failpoint::reached("send.after");
        }
        Poll::Ready(Ok(()))
    }
}
