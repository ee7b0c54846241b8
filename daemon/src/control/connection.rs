//! One connection: lines in, lines out, and what lives no longer than it does.
//!
//! Requests are served one after the other; one that waits on the client's behalf ends when the client leaves. Every line that goes out passes one short queue with a deadline per line: a client
//! that does not read cannot make the daemon hold its replies.

use super::events::Tail;
use super::keeper::{Link, Order};
use super::{Control, Peer, approvals, events, export, is_over, methods, tools};
use aex_proto::frame::{self, Frame, MAX_LINE, Splitter};
use aex_proto::rpc::{ErrorObject, Fault, Incoming, Response};
use aex_proto::value::AccountId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use std::collections::VecDeque;
use std::os::fd::AsFd;
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
/// Lines that may have come while a method is served, before no more are read.
const AHEAD: usize = 2;
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
    connection.read(Intake::new(input), shutdown).await;
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

    async fn read(&mut self, mut intake: Intake, mut shutdown: watch::Receiver<bool>) {
        let lines = self.lines.clone();
        loop {
            let frame = tokio::select! {
                biased;
                frame = intake.next() => frame,
                () = lines.closed() => return,
                () = is_over(&mut shutdown) => return,
            };
            let Some(frame) = frame else { return };
            if self.frame(frame, &mut intake).await.is_none() {
                return;
            }
        }
    }

    /// Answers a line; `None` when nobody takes the answer.
    async fn frame(&mut self, frame: Frame, intake: &mut Intake) -> Option<()> {
        let mut after = Vec::new();
        match frame {
            Frame::TooLong => self.send(&Incoming::too_long()).await?,
            Frame::Line(line) => match Incoming::parse(&line) {
                Incoming::One(request) => {
                    if let Some(response) = self.response(request, &mut after, intake).await? {
                        self.send(&response).await?;
                    }
                }
                Incoming::Batch(batch) => {
                    let mut responses = Vec::with_capacity(batch.len());
                    for request in batch {
                        responses.extend(self.response(request, &mut after, intake).await?);
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

    /// The response to a request; a notification has none. Outer `None`: the client has left, and with it what waited on its behalf.
    async fn response(
        &self,
        request: Result<aex_proto::rpc::Request, Box<Response>>,
        after: &mut Vec<After>,
        intake: &mut Intake,
    ) -> Option<Option<Response>> {
        let before = after.len();
        let response = match request {
            Ok(request) => {
                let ends_with_client = methods::ends_with_client(&request.method);
                // Boxed: the largest of all methods would otherwise be part of every connection.
                let serving = Box::pin(methods::serve(&self.control, &self.peer, &self.lines, request, after));
                tokio::select! {
                    biased;
                    response = serving => response,
                    () = intake.left(), if ends_with_client => return None,
                }
            }
            Err(refusal) => Some(*refusal),
        };
        // Before the client hears of its run, and can start anything in it.
        for step in after.iter().skip(before) {
            if let After::Tie { run, .. } = step {
                self.control.fence.tie(self.peer.process, *run);
            }
        }
        Some(response)
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

/// What a client sends. It is read on while a method waits on the client's behalf, so that its leaving is seen.
struct Intake {
    input: OwnedReadHalf,
    splitter: Splitter,
    chunk: Vec<u8>,
    frames: VecDeque<Frame>,
    is_over: bool,
}

impl Intake {
    fn new(input: OwnedReadHalf) -> Intake {
        Intake { input, splitter: Splitter::new(MAX_LINE), chunk: vec![0; CHUNK], frames: VecDeque::new(), is_over: false }
    }

    /// The next line; `None` when no more come.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.frames.pop_front() {
                None if self.is_over => return None,
                None => self.read().await,
                frame => return frame,
            }
        }
    }

    async fn read(&mut self) {
        let read = self.input.read(&mut self.chunk).await;
        match read.ok().filter(|count| *count > 0).and_then(|count| self.chunk.get(..count)) {
            Some(bytes) => self.frames.extend(self.splitter.feed(bytes)),
            None => self.is_over = true,
        }
    }

    /// Waits until the client has left. One that only says no more still hears its answers. Whether one has left that sent many requests ahead
    /// is not known before those are served.
    async fn left(&mut self) {
        while !self.is_over && self.frames.len() < AHEAD {
            self.read().await;
        }
        // poll(2): hung up are both ways, shut down by one side may be one.
        let mut asked = [PollFd::new(self.input.as_ref().as_fd(), PollFlags::empty())];
        let has_left = self.is_over
            && poll(&mut asked, PollTimeout::ZERO).is_ok()
            && asked[0].revents().is_some_and(|told| told.intersects(PollFlags::POLLHUP | PollFlags::POLLERR));
        if !has_left {
            std::future::pending::<()>().await;
        }
    }
}
