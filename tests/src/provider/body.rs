//! The answer's body and the socket below it: bytes frame by frame, and an end that the script chose.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::book::{Ended, Tab};
use super::script::How;

/// What a producer hands to the body.
pub(super) enum Part {
    /// Bytes, and the tokens that they bill.
    Bytes(Bytes, u64),
    /// An early end.
    Cut(How),
}

/// The body of an answer.
pub(super) enum Reply {
    /// All at once.
    Whole(Option<Bytes>),
    /// As it is produced. The bill ends when the body does; dropped before, the client left.
    Live(Live),
}

pub(super) struct Live {
    pub(super) parts: mpsc::Receiver<Part>,
    pub(super) tab: Option<Tab>,
    pub(super) reset: ResetFlag,
    /// The length promised in the head, and what of it has not been handed over.
    pub(super) length: Option<u64>,
    left: Option<u64>,
    cutting: Option<How>,
}

impl Live {
    pub(super) fn new(parts: mpsc::Receiver<Part>, tab: Tab, reset: ResetFlag, length: Option<u64>) -> Self {
        Self { parts, tab: Some(tab), reset, length, left: length, cutting: None }
    }

    fn end(&mut self, ended: Ended) {
        if let Some(tab) = self.tab.take() {
            tab.end(ended);
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(how) = self.cutting {
            self.end(Ended::CutByProvider);
            self.reset.set(how == How::Reset);
            let cut = io::Error::other("cut by the script");
            return Poll::Ready(if how == How::Finish { None } else { Some(Err(cut)) });
        }
        match self.parts.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Part::Bytes(bytes, tokens))) => {
                if let Some(tab) = &mut self.tab {
                    tab.produce(tokens);
                }
                // Past the promised length hyper asks for nothing more.
                let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                self.left = self.left.map(|left| left.saturating_sub(size));
                if self.left == Some(0) {
                    self.end(Ended::Complete);
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Poll::Ready(Some(Part::Cut(how))) => {
                // hyper flushes when a body is pending: what was produced reaches the client before the cut.
                self.cutting = Some(how);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.end(Ended::Complete);
                Poll::Ready(None)
            }
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Live(live) => live.poll(context),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(0))),
            Self::Live(live) => live.length.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }
}

/// Makes the socket end with RST when it is dropped.
#[derive(Clone, Default)]
pub(super) struct ResetFlag(Arc<AtomicBool>);

impl ResetFlag {
    pub(super) fn set(&self, reset: bool) {
        self.0.store(reset, Ordering::Relaxed);
    }
}

/// A TCP stream that can end with RST.
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    pub(super) reset: ResetFlag,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.reset.0.load(Ordering::Relaxed) {
            // A socket that is already gone needs no reset.
            let _ = self.stream.set_zero_linger().is_ok();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Sends parts to a body until the client is gone.
pub(super) struct Producer {
    pub(super) parts: mpsc::Sender<Part>,
    pub(super) split: Option<usize>,
    pub(super) pause: std::time::Duration,
}

/// The client left: nothing more needs to be produced.
pub(super) struct Gone;

impl Producer {
    pub(super) async fn send(&self, bytes: Vec<u8>, tokens: u64) -> Result<(), Gone> {
        let mut bytes = Bytes::from(bytes);
        let mut tokens = tokens;
        let size = self.split.unwrap_or(bytes.len()).max(1);
        while !bytes.is_empty() {
            let piece = bytes.split_to(size.min(bytes.len()));
            self.part(Part::Bytes(piece, std::mem::take(&mut tokens))).await?;
            if !self.pause.is_zero() {
                self.unless_gone(tokio::time::sleep(self.pause)).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn part(&self, part: Part) -> Result<(), Gone> {
        self.parts.send(part).await.map_err(|_| Gone)
    }

    pub(super) async fn unless_gone(&self, until: impl Future<Output = ()>) -> Result<(), Gone> {
        tokio::select! {
            () = until => Ok(()),
            () = self.parts.closed() => Err(Gone),
        }
    }
}
