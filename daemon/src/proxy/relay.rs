//! A stream on its way to the client, driven by the client's connection: nothing is read from the provider faster than the
//! client takes it. Ends in exactly one settlement, whoever leaves first.

use super::dispatch::Source;
use super::reply::Broken;
use crate::config::OnDisconnect;
use crate::gate::{Call, Ended, Gate, Hold, settle};
use crate::os::clock;
use crate::wire::denial::{self, UpstreamFault};
use crate::wire::stream::{Meter, StreamEditor};
use aex_core::event::Outcome;
use aex_core::usage::Bucket;
use bytes::Bytes;
use http_body::Frame;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// Frames that are read in one turn without one for the client: then others get theirs.
const FRAMES_PER_TURN: usize = 64;

type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;
type Polled = Poll<Option<Result<Frame<Bytes>, Broken>>>;

/// A stream that is being relayed.
pub(super) struct Relaying {
    state: State,
}

enum State {
    /// The provider is still sending.
    Open(Box<Open>),
    /// An error event is on its way; the connection is broken after the client's side has been flushed.
    Breaking { flushed: bool },
    /// All is done.
    Over,
}

struct Open {
    gate: Gate,
    status: u16,
    source: Source,
    /// `None` once the stream has been read to its end.
    editor: Option<StreamEditor>,
    /// `None` once it is settled.
    hold: Option<Hold>,
    _call: Call,
    idle: Duration,
    heard: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    stopped: Option<Stopped>,
    on_disconnect: OnDisconnect,
}

impl Relaying {
    pub(super) fn new(gate: &Gate, hold: Hold, status: u16, source: Source, editor: StreamEditor, on_disconnect: OnDisconnect) -> Relaying {
        let open = Open {
            gate: gate.clone(),
            status,
            source,
            editor: Some(editor),
            idle: hold.card.provider.timeouts.idle,
            heard: clock::mono(),
            timer: None,
            stopped: None,
            _call: gate.track(),
            hold: Some(hold),
            on_disconnect,
        };
        Relaying { state: State::Open(Box::new(open)) }
    }

    /// The next bytes for the client.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        match &mut self.state {
            State::Open(open) => match open.poll(cx) {
                Step::Wait => Poll::Pending,
                Step::Send(bytes) => frame(bytes),
                Step::End(tail) => {
                    self.state = State::Over;
                    if tail.is_empty() { Poll::Ready(None) } else { frame(tail) }
                }
                Step::Break(last) => {
                    self.state = State::Breaking { flushed: false };
                    frame(last)
                }
            },
            State::Breaking { flushed: false } => {
                // The server flushes when a body is pending, and drops what is not flushed when it fails.
                self.state = State::Breaking { flushed: true };
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            State::Breaking { flushed: true } => {
                self.state = State::Over;
                Poll::Ready(Some(Err(Broken)))
            }
            State::Over => Poll::Ready(None),
        }
    }
}

fn frame(bytes: Bytes) -> Polled {
    Poll::Ready(Some(Ok(Frame::data(bytes))))
}

/// What comes next for the client.
enum Step {
    Wait,
    Send(Bytes),
    End(Bytes),
    Break(Bytes),
}

impl Open {
    fn poll(&mut self, cx: &mut Context<'_>) -> Step {
        for _ in 0..FRAMES_PER_TURN {
            let Some(editor) = &mut self.editor else { return Step::End(Bytes::new()) };
            match self.source.poll_bytes(cx) {
                Poll::Ready(Some(Ok(bytes))) => {
                    self.heard = clock::mono();
                    let relay = editor.push(bytes);
                    if let Some(fault) = relay.fault {
                        let message = fault.to_string();
                        return self.cut(Outcome::ProviderLeft, &message, relay.bytes);
                    }
                    if editor.meter().done {
                        // Settled before the client sees the end: its next call finds the money released.
                        let meter = editor.meter().clone();
                        self.settle_meter(&meter, Outcome::NoUsage);
                    } else if self.is_beyond_bound() {
                        return self.cut(Outcome::Cut, "The answer passed the bound that was held for it and was cut.", relay.bytes);
                    }
                    if !relay.bytes.is_empty() {
                        return Step::Send(relay.bytes);
                    }
                }
                Poll::Ready(Some(Err(()))) => return self.cut(Outcome::ProviderLeft, UpstreamFault::Cut.message(), Bytes::new()),
                Poll::Ready(None) => return self.finish(),
                Poll::Pending => return self.wait(cx),
            }
        }
        cx.waker().wake_by_ref();
        Step::Wait
    }

    /// The provider is silent: for too long, or has somebody stopped the account?
    fn wait(&mut self, cx: &mut Context<'_>) -> Step {
        if let Some(hold) = &self.hold {
            let view = &hold.view;
            let stopped = self.stopped.get_or_insert_with(|| {
                let stop = std::sync::Arc::clone(&view.stop);
                Box::pin(async move { stop.raised().await })
            });
            if stopped.as_mut().poll(cx).is_ready() {
                return self.cut(Outcome::Stopped, "The account was stopped.", Bytes::new());
            }
        }
        let idle = self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        while timer.as_mut().poll(cx).is_ready() {
            let silent = clock::mono().saturating_sub(self.heard);
            if silent >= idle {
                return self.cut(Outcome::ProviderLeft, UpstreamFault::IdleTimeout.message(), Bytes::new());
            }
            timer.set(tokio::time::sleep(idle.saturating_sub(silent)));
        }
        Step::Wait
    }

    /// Some providers report usage as they go.
    fn is_beyond_bound(&self) -> bool {
        let used = self.editor.as_ref().and_then(|editor| editor.meter().usage.as_ref()).map_or(0, |usage| usage.get(Bucket::Output));
        self.hold.as_ref().is_some_and(|hold| used > hold.bound.output_tokens)
    }

    /// The provider has ended its answer.
    fn finish(&mut self) -> Step {
        let Some(editor) = self.editor.take() else { return Step::End(Bytes::new()) };
        let ending = editor.finish();
        if ending.complete {
            self.settle_meter(&ending.meter, Outcome::NoUsage);
            return Step::End(ending.tail);
        }
        let message = ending.fault.map_or_else(|| UpstreamFault::Cut.message().to_owned(), |fault| fault.to_string());
        self.settle_meter(&ending.meter, Outcome::ProviderLeft);
        // The provider's own error event has passed already.
        let event = if ending.meter.provider_error { Bytes::new() } else { error_event(&message) };
        Step::Break([ending.tail, event].concat().into())
    }

    /// The stream cannot go on: settled, one last event, and the connection broken.
    fn cut(&mut self, outcome: Outcome, message: &str, before: Bytes) -> Step {
        self.settle_as(outcome);
        self.editor = None;
        let event = error_event(message);
        Step::Break(if before.is_empty() { event } else { [before, event].concat().into() })
    }

    fn settle_as(&mut self, outcome: Outcome) {
        let meter = self.editor.as_ref().map(|editor| editor.meter().clone()).unwrap_or_default();
        self.settle_meter(&meter, outcome);
    }

    fn settle_meter(&mut self, meter: &Meter, outcome: Outcome) {
        let Some(hold) = self.hold.take() else { return };
        let whole = outcome == Outcome::NoUsage;
        let ended = match &meter.usage {
            Some(usage) if whole => Ended::Answered { status: self.status, usage: usage.clone() },
            // An error from the provider in its stream, before any output: no proof that nothing was billed.
            None if meter.provider_error && meter.relayed_output_bytes == 0 => Ended::Failed { status: Some(self.status) },
            _ => Ended::Relayed { outcome, status: Some(self.status), bytes: meter.relayed_output_bytes },
        };
        settle(&self.gate, hold, ended);
    }
}

fn error_event(message: &str) -> Bytes {
    denial::stream_error_event(message, "upstream_error")
}

impl Drop for Relaying {
    /// The client has left, or the daemon ends, while the provider is still sending.
    fn drop(&mut self) {
        let State::Open(open) = &mut self.state else { return };
        let Some(hold) = &open.hold else { return };
        if std::thread::panicking() {
            let key = hold.key;
            open.hold = None;
            open.gate.end_unknown(key, Outcome::Panic);
            return;
        }
        if open.on_disconnect == OnDisconnect::Cancel {
            return open.settle_as(Outcome::ClientLeft);
        }
        if let State::Open(open) = std::mem::replace(&mut self.state, State::Over) {
            let mut rest = Relaying { state: State::Open(open) };
            tokio::spawn(async move {
                if let State::Open(open) = &mut rest.state {
                    open.on_disconnect = OnDisconnect::Cancel;
                }
                while let Some(Ok(_)) = std::future::poll_fn(|cx| rest.poll_frame(cx)).await {}
            });
        }
    }
}
