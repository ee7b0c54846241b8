//! A client's socket. It fails when its client takes nothing of an answer for too long, or does not come to the end of a head
//! that it has begun, and it refuses HTTP/2. What hyper says by itself of a head that it cannot read becomes an answer that clients can
//! show. Must not: know what the rest of its bytes mean.

use super::line::Line;
use super::pages::Pages;
use super::reply;
use crate::wire::denial::{self, Addressee, Misdirected};
use crate::wire::dialect::Shape;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// How a client begins that takes it for known that HTTP/2 is spoken (RFC 9113 §3.4).
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n";
/// The refusal that such a client understands: empty SETTINGS, then GOAWAY with HTTP_1_1_REQUIRED (RFC 9113 §6.8, §7).
const GO_AWAY: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x1c\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0daexd speaks HTTP/1.1";

/// The socket, and how long its client may keep it waiting.
pub(super) struct Socket {
    tcp: TcpStream,
    line: Arc<Line>,
    pages: Arc<Pages>,
    head_timeout: Duration,
    /// Nothing has come yet.
    is_fresh: bool,
    /// The head that has begun to come: how many requests had begun before it.
    head: Option<u64>,
    head_timer: Option<Pin<Box<Sleep>>>,
    /// Runs while bytes wait to be taken.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) const fn new(tcp: TcpStream, line: Arc<Line>, pages: Arc<Pages>, head_timeout: Duration) -> Socket {
        Socket { tcp, line, pages, head_timeout, is_fresh: true, head: None, head_timer: None, stalled: None }
    }

    /// Bytes have come. `false`: they begin HTTP/2, and the client has been told.
    fn heard(&mut self, came: &[u8]) -> bool {
        if std::mem::take(&mut self.is_fresh) && came.starts_with(HTTP2) {
            // A socket on which nothing was written has room for it, or its client has gone.
            self.tcp.try_write(GO_AWAY).ok();
            return false;
        }
        let begun = self.line.begun();
        if self.line.is_free() && self.head != Some(begun) {
            self.head = Some(begun);
            self.head_timer = None;
        }
        true
    }

    /// Nothing more has come for now: for too long within a head?
    fn waited(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.head != Some(self.line.begun()) {
            self.head_timer = None;
            return Poll::Pending;
        }
        let limit = self.head_timeout;
        let timer = self.head_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if self.stalled.is_none() {
            // Best effort: nothing else is on its way out, and the connection ends.
            self.tcp.try_write(&self.last_words(Misdirected::SlowHead)).ok();
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head of a request did not come to its end in time")))
    }

    /// What a client is told of a request that is none.
    fn last_words(&self, cause: Misdirected) -> Vec<u8> {
        let to = Addressee::of_page(self.pages.gate.next_request(), Shape::OpenAi);
        reply::last_words(&denial::misdirected(cause, to), to)
    }

    /// Says in full what hyper says in a status. It has room: nothing else is on its way out.
    fn say_for_hyper(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Option<Poll<io::Result<usize>>> {
        let words = self.last_words(of_hyper(bytes)?);
        Some(Pin::new(&mut self.tcp).poll_write(cx, &words).map_ok(|_| bytes.len()))
    }

    /// Passes on what a write came to; one that waits, waits so long only.
    fn judge<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.line.stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut))),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// What hyper answers to a head that it cannot read: a status, and no header but these. Each answer of ours has others.
fn of_hyper(bytes: &[u8]) -> Option<Misdirected> {
    let cause = match bytes.strip_prefix(b"HTTP/1.1 ")?.get(..4)? {
        b"400 " => Misdirected::BadHead,
        b"431 " => Misdirected::LongHead,
        _ => return None,
    };
    let head = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
    let is_bare = |line: &str| line == "connection: close" || line == "content-length: 0" || line.starts_with("date: ");
    head.split("\r\n").skip(1).all(is_bare).then_some(cause)
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let had = buf.filled().len();
        match Pin::new(&mut this.tcp).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let came = buf.filled().get(had..).unwrap_or_default();
                if !came.is_empty() && !this.heard(came) {
                    buf.set_filled(had);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(fault)) => Poll::Ready(Err(fault)),
            Poll::Pending => this.waited(cx),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match this.say_for_hyper(buf, cx) {
            Some(written) => written,
            None => Pin::new(&mut this.tcp).poll_write(cx, buf),
        };
        this.judge(written, cx)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let of_hyper = match bufs {
            [head] => this.say_for_hyper(head, cx),
            _ => None,
        };
        let written = match of_hyper {
            Some(written) => written,
            None => Pin::new(&mut this.tcp).poll_write_vectored(cx, bufs),
        };
        this.judge(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_hyper_says_by_itself_is_said_in_full() {
        let bare = "connection: close\r\ncontent-length: 0\r\ndate: Sun, 22 Nov 2026 02:00:00 GMT\r\n\r\n";
        let rows = [
            (format!("HTTP/1.1 400 Bad Request\r\n{bare}"), Some(Misdirected::BadHead)),
            (format!("HTTP/1.1 431 Request Header Fields Too Large\r\n{bare}"), Some(Misdirected::LongHead)),
            (format!("HTTP/1.1 404 Not Found\r\n{bare}"), None),
            (format!("HTTP/1.1 400 Bad Request\r\nx-request-id: req_1\r\n{bare}"), None),
            (format!("HTTP/1.1 400 Bad Request\r\n{bare}{{}}"), None),
            ("HTTP/1.1 400".to_owned(), None),
            (String::new(), None),
        ];
        for (bytes, wanted) in rows {
            assert_eq!(of_hyper(bytes.as_bytes()), wanted, "{bytes}");
        }
    }
}
