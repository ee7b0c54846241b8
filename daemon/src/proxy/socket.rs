//! A client's socket. It fails when its client takes nothing of an answer for too long, or does not come to the end of a head
//! that it has begun, and it refuses HTTP/2. Must not: know what the rest of its bytes mean.

use super::line::Line;
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
/// What a client is told whose head took too long.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The socket, and how long its client may keep it waiting.
pub(super) struct Socket {
    tcp: TcpStream,
    line: Arc<Line>,
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
    pub(super) const fn new(tcp: TcpStream, line: Arc<Line>, head_timeout: Duration) -> Socket {
        Socket { tcp, line, head_timeout, is_fresh: true, head: None, head_timer: None, stalled: None }
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
            self.tcp.try_write(TOO_SLOW).ok();
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head of a request did not come to its end in time")))
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
        let written = Pin::new(&mut this.tcp).poll_write(cx, buf);
        this.judge(written, cx)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.tcp).poll_write_vectored(cx, bufs);
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
