//! One connection: lines in, lines out, and what lives no longer than it does.
//!
//! Requests are served one after the other. Every line that goes out passes one short queue with a deadline per line: a client
//! that does not read cannot make the daemon hold its replies.

use super::events::Tail;
use super::keeper::{Link, Order};
use super::{Control, Peer, approvals, events, export, is_over, methods, tools};
use aex_proto::frame::{self, Frame, MAX_LINE, Splitter};
use aex_proto::rpc::{ErrorObject, Fault, Incoming, Response};
use aex_proto::value::AccountId;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;
/// Lines that may wait to be written.
const QUEUE: usize = 8;
/// How long the client may take for one line.
const WRITE: Duration = Duration::from_secs(30);
/// Subscriptions of one connection.
const MAX_TAILS: usize = 8;

/// Lines to a client, each with its line feed.
pub(super) type Lines = mpsc::Sender<Vec<u8>>;

/// What is done once the reply is in line, so that nothing can come before it.
pub(super) enum After {
    /// A run is tied to the connection.
    Tie {
        /// Its account.
        run: AccountId,
        /// The first denial for want of money behind this event ends it.
        stop_on_budget: Option<i64>,
    },
    /// A subscription begins.
    Tail(Tail),
    /// Lines of a tool's log follow.
    Follow(tools::Following),
    /// Calls that begin to wait for a person follow.
    Approvals(approvals::Following),
    /// The ledger follows as a file.
    Export(export::Wanted),
    /// The daemon begins to stop.
    Drain,
}

/// Serves a connection to its end.
pub(super) async fn serve(control: Arc<Control>, stream: UnixStream, peer: Peer, shutdown: watch::Receiver<bool>) {
    let (input, output) = stream.into_split();
    let (lines, queue) = mpsc::channel(QUEUE);
    let writing = tokio::spawn(write(output, queue));
    let mut connection = Connection { control: Arc::clone(&control), peer, lines, tails: JoinSet::new(), is_tied: false };
    connection.read(input, shutdown).await;
    // The place is kept until the last line is out.
    let Peer { number, slot: _slot, .. } = connection.end();
    // Fails only when the keeper has gone, and that is when the daemon ends: runs get their grace at its next start.
    control.runs.send(Order::Dropped { connection: number }).await.ok();
    if let Err(fault) = writing.await {
        tracing::error!(%fault, "the writer of a control connection ended by a panic");
    }
}

async fn write(mut output: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = queue.recv().await {
        match timeout(WRITE, output.write_all(&line)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => return tracing::debug!(%fault, "a client of the control socket has gone"),
            Err(_) => return tracing::warn!("a client of the control socket did not read for {WRITE:?} and is dropped"),
        }
    }
}

struct Connection {
    control: Arc<Control>,
    peer: Peer,
    lines: Lines,
    tails: JoinSet<()>,
    is_tied: bool,
}

impl Connection {
    fn end(self) -> Peer {
        self.peer
    }

    /// Moves to a place of its own among the connections with a run. Where none is left, it keeps the one that it has.
    fn leave_admin_slots(&mut self) {
        if !self.is_tied
            && let Ok(slot) = Arc::clone(&self.control.tied).try_acquire_owned()
        {
            self.peer.slot = slot;
            self.is_tied = true;
        }
    }

    async fn read(&mut self, mut input: OwnedReadHalf, mut shutdown: watch::Receiver<bool>) {
        let mut splitter = Splitter::new(MAX_LINE);
        let mut chunk = vec![0; CHUNK];
        let lines = self.lines.clone();
        loop {
            let read = tokio::select! {
                read = input.read(&mut chunk) => read,
                () = lines.closed() => return,
                () = is_over(&mut shutdown) => return,
            };
            let Some(bytes) = read.ok().filter(|count| *count > 0).and_then(|count| chunk.get(..count)) else { return };
            for frame in splitter.feed(bytes) {
                if self.frame(frame).await.is_none() {
                    return;
                }
            }
        }
    }

    /// Answers a line; `None` when nobody takes the answer.
    async fn frame(&mut self, frame: Frame) -> Option<()> {
        let mut after = Vec::new();
        match frame {
            Frame::TooLong => self.send(&Incoming::too_long()).await?,
            Frame::Line(line) => match Incoming::parse(&line) {
                Incoming::One(request) => {
                    if let Some(response) = self.response(request, &mut after).await {
                        self.send(&response).await?;
                    }
                }
                Incoming::Batch(batch) => {
                    let mut responses = Vec::with_capacity(batch.len());
                    for request in batch {
                        responses.extend(self.response(request, &mut after).await);
                    }
                    if !responses.is_empty() {
                        self.send(&responses).await?;
                    }
                }
            },
        }
        for step in after {
            self.follow(step).await;
        }
        Some(())
    }

    async fn response(&self, request: Result<aex_proto::rpc::Request, Box<Response>>, after: &mut Vec<After>) -> Option<Response> {
        let before = after.len();
        let response = match request {
            // Boxed: the largest of all methods would otherwise be part of every connection.
            Ok(request) => Box::pin(methods::serve(&self.control, &self.peer, request, after)).await,
            Err(refusal) => Some(*refusal),
        };
        // Before the client hears of its run, and can start anything in it.
        for step in after.iter().skip(before) {
            if let After::Tie { run, .. } = step {
                self.control.fence.tie(self.peer.process, *run);
            }
        }
        response
    }

    async fn send<T: Serialize>(&self, message: &T) -> Option<()> {
        match frame::line(message) {
            Ok(line) => self.lines.send(line).await.ok(),
            Err(fault) => {
                tracing::error!(%fault, "a reply has no JSON");
                None
            }
        }
    }

    async fn follow(&mut self, step: After) {
        match step {
            After::Tie { run, stop_on_budget } => {
                self.leave_admin_slots();
                let link = Link { connection: self.peer.number, lines: self.lines.clone() };
                self.control.runs.send(Order::Tie { run, link, stop_on_budget }).await.ok();
            }
            After::Tail(tail) => {
                if self.may_subscribe(tail.subscription).await {
                    self.tails.spawn(events::follow(self.control.gate.clone(), tail, self.lines.clone()));
                }
            }
            After::Follow(following) => {
                if self.may_subscribe(following.subscription).await {
                    self.tails.spawn(tools::follow(following, self.lines.clone()));
                }
            }
            After::Approvals(following) => {
                if self.may_subscribe(following.subscription).await {
                    self.tails.spawn(approvals::follow(following, self.lines.clone()));
                }
            }
            After::Export(wanted) => {
                while self.tails.try_join_next().is_some() {}
                self.tails.spawn(export::send(Arc::clone(&self.control), wanted, self.lines.clone()));
            }
            After::Drain => self.control.gate.drain(),
        }
    }

    /// Whether one more subscription finds a place; one that does not is told so.
    async fn may_subscribe(&mut self, subscription: u64) -> bool {
        while self.tails.try_join_next().is_some() {}
        if self.tails.len() < MAX_TAILS {
            return true;
        }
        let error = ErrorObject::fault(Fault::Throttled, format!("subscription {subscription}: {MAX_TAILS} are open on this connection"));
        self.send(&Response::error(aex_proto::rpc::Id::Null, error)).await;
        false
    }
}
