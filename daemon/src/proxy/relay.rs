//! A stream on its way to the client, driven by the client's connection: nothing is read from the provider faster than the
//! client takes it. Ends in exactly one settlement, whoever leaves first.

use super::dispatch::Source;
use super::estimate::settle_broken;
use super::line::{Line, Watchdog};
use super::reply::Broken;
use super::serve::to_note;
use crate::config::OnDisconnect;
use crate::gate::{CALL_LASTS, Call, Ended, Gate, Hold, Passed, Recorder, settle};
use crate::ledger::StopFlag;
use crate::os::{clock, failpoint};
use crate::wire::denial::{self, Addressee, UpstreamFault};
use crate::wire::dialect::Dialect;
use crate::wire::said::Said;
use crate::wire::stream::{Meter, StreamEditor};
use aex_core::event::Outcome;
use aex_core::usage::Bucket;
use bytes::Bytes;
use http_body::Frame;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// Frames that are read in one turn without one for the client: then others get theirs.
const FRAMES_PER_TURN: usize = 64;

/// How long the end of an answer is waited for when all of it has come.
const AFTER_DONE: Duration = Duration::from_millis(500);

type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;
type Polled = Poll<Option<Result<Frame<Bytes>, Broken>>>;

/// A stream that is being relayed.
pub(super) struct Relaying {
    state: State,
    /// Keeps the answer for its idempotency key.
    recorder: Option<Box<Recorder>>,
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
    dialect: Dialect,
    to: Addressee,
    /// The provider is to keep the answer.
    stores: bool,
    status: u16,
    source: Source,
    /// `None` once the stream has been read to its end.
    editor: Option<StreamEditor>,
    /// `None` once it is settled.
    hold: Option<Hold>,
    call: Call,
    idle: Duration,
    heard: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    stop: Arc<StopFlag>,
    stopped: Option<Stopped>,
    watchdog: Watchdog,
    on_disconnect: OnDisconnect,
    /// The wait for the end of an answer that is done has begun.
    is_done: bool,
}

impl Relaying {
    pub(super) fn new(gate: &Gate, hold: Hold, line: &Arc<Line>, answer: Streamed) -> Relaying {
        let Streamed { dialect, to, stores, status, source, editor, on_disconnect } = answer;
        let stop = Arc::clone(&hold.view.stop);
        let open = Open {
            gate: gate.clone(),
            dialect,
            to,
            stores,
            status,
            source,
            editor: Some(editor),
            call: gate.track(hold.key.request),
            idle: hold.card.provider.timeouts.idle,
            heard: clock::mono(),
            timer: None,
            watchdog: Watchdog::watch(line, &stop),
            stop,
            stopped: None,
            hold: Some(hold),
            on_disconnect,
            is_done: false,
        };
        Relaying { state: State::Open(Box::new(open)), recorder: None }
    }

    /// Keeps the answer, too, once all of it has passed.
    pub(super) fn record(&mut self, recorder: Recorder) {
        self.recorder = Some(Box::new(recorder));
    }

    /// The next bytes for the client.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        match &mut self.state {
            State::Open(open) => match open.poll(cx) {
                Step::Wait => Poll::Pending,
                Step::Send(bytes) => {
                    if let Some(recorder) = &mut self.recorder {
                        recorder.push(&bytes);
                    }
                    // With `[DONE]` it is whole: many clients leave then.
                    if open.hold.is_none()
                        && let Some(recorder) = self.recorder.take()
                    {
                        recorder.complete();
                    }
                    frame(bytes)
                }
                Step::End(tail) => {
                    if let Some(mut recorder) = self.recorder.take() {
                        recorder.push(&tail);
                        recorder.complete();
                    }
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
        let now = clock::mono();
        self.watchdog.polled(now);
        if self.hold.is_some() {
            if self.stop.state().is_some() {
                return self.cut_by_stop();
            }
            if now.saturating_sub(self.call.since) > CALL_LASTS {
                return self.cut(Outcome::Deadline, UpstreamFault::IdleTimeout, Bytes::new());
            }
        }
        if self.hold.is_none() && self.editor.is_some() {
            return self.after_done(cx);
        }
        for _ in 0..FRAMES_PER_TURN {
            let Some(editor) = &mut self.editor else { return Step::End(Bytes::new()) };
            match self.source.poll_bytes(cx) {
                Poll::Ready(Some(Ok(bytes))) => {
                    self.heard = now;
                    let relay = editor.push(bytes);
                    if relay.fault.is_some() {
                        return self.cut(Outcome::ProviderLeft, UpstreamFault::BadAnswer, relay.bytes);
                    }
                    if editor.meter().done {
                        // Settled before the client sees the end: its next call finds the money released.
                        let meter = editor.meter().clone();
                        self.settle_whole(&meter);
                    } else if self.is_beyond_bound() {
                        return self.cut(Outcome::Cut, UpstreamFault::BoundPassed, relay.bytes);
                    }
                    if !relay.bytes.is_empty() {
                        failpoint::reached("stream.chunk");
                        return Step::Send(relay.bytes);
                    }
                }
                Poll::Ready(Some(Err(fault))) => return self.cut(Outcome::ProviderLeft, fault, Bytes::new()),
                Poll::Ready(None) => return self.finish(),
                Poll::Pending => return self.wait(cx),
            }
        }
        cx.waker().wake_by_ref();
        Step::Wait
    }

    /// `[DONE]` has passed, and the call is settled: what still comes is not governed, so it does not pass. The end of the
    /// provider's answer is waited for a moment, for its connection to be used again.
    fn after_done(&mut self, cx: &mut Context<'_>) -> Step {
        let polled = self.source.poll_bytes(cx);
        if let (Poll::Ready(Some(Ok(bytes))), Some(editor)) = (&polled, &mut self.editor) {
            let late = editor.push(bytes.clone()).bytes;
            if !late.is_empty() {
                self.editor = None;
                return Step::Send(late);
            }
        }
        if polled.is_pending() {
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(AFTER_DONE)));
            if !self.is_done {
                self.is_done = true;
                timer.set(tokio::time::sleep(AFTER_DONE));
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Step::Wait;
            }
        }
        self.editor = None;
        Step::End(Bytes::new())
    }

    /// The provider is silent: for too long, or has somebody stopped the account?
    fn wait(&mut self, cx: &mut Context<'_>) -> Step {
        if self.hold.is_some() {
            let stop = &self.stop;
            let stopped = self.stopped.get_or_insert_with(|| {
                let stop = Arc::clone(stop);
                Box::pin(async move { stop.raised().await })
            });
            if stopped.as_mut().poll(cx).is_ready() {
                return self.cut_by_stop();
            }
        }
        let idle = self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        while timer.as_mut().poll(cx).is_ready() {
            let silent = clock::mono().saturating_sub(self.heard);
            if silent >= idle {
                return self.cut(Outcome::ProviderLeft, UpstreamFault::IdleTimeout, Bytes::new());
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
            self.settle_whole(&ending.meter);
            return Step::End(ending.tail);
        }
        if ending.metered {
            self.settle_whole(&ending.meter);
        } else {
            self.settle_part(&ending.meter, ending.said, Outcome::ProviderLeft);
        }
        let fault = if ending.fault.is_some() { UpstreamFault::BadAnswer } else { UpstreamFault::Cut };
        // The provider's own error event has passed already.
        let event =
            if ending.meter.provider_error { Bytes::new() } else { denial::stream_fault(fault, self.dialect, self.to, &ending.meter) };
        Step::Break([ending.tail, event].concat().into())
    }

    /// The stream cannot go on: settled, one last event, and the connection broken.
    fn cut(&mut self, outcome: Outcome, fault: UpstreamFault, before: Bytes) -> Step {
        let meter = self.settle_left(outcome);
        let event = denial::stream_fault(fault, self.dialect, self.to, &meter);
        Step::Break(if before.is_empty() { event } else { [before, event].concat().into() })
    }

    /// The same, because the account was deleted, or an account on the path killed: told as a call that would begin now.
    fn cut_by_stop(&mut self) -> Step {
        let denial = self.hold.as_ref().map(|hold| self.gate.stopped_within(&hold.view));
        let meter = self.settle_left(Outcome::Stopped);
        Step::Break(denial.map(|denial| denial::stream_denial(&denial, self.dialect, self.to, &meter)).unwrap_or_default())
    }

    /// The stream is given up where it is: what was read of it. When all of it but the provider's last word has passed, it counts as whole.
    fn settle_left(&mut self, outcome: Outcome) -> Meter {
        let Some(editor) = self.editor.take() else { return Meter::default() };
        let ending = editor.finish();
        if ending.metered {
            self.settle_whole(&ending.meter);
        } else {
            self.settle_part(&ending.meter, ending.said, outcome);
        }
        ending.meter
    }

    fn settle_whole(&mut self, meter: &Meter) {
        let Some(hold) = self.hold.take() else { return };
        let stored = meter.kept.clone().filter(|_| self.stores).and_then(|kept| to_note(&hold, *kept));
        let ended = if meter.has_unread_usage {
            Ended::Unknown { outcome: Outcome::NoUsage, status: Some(self.status) }
        } else if meter.usage_goes_on {
            // It said what went in, and ended without all that came out.
            Ended::cut(self.status, passed(meter), Outcome::NoUsage)
        } else {
            Ended::streamed(self.status, passed(meter))
        };
        settle(&self.gate, hold, ended);
        if let Some(stored) = stored {
            self.gate.note_stored(stored);
        }
    }

    fn settle_part(&mut self, meter: &Meter, said: Said, outcome: Outcome) {
        let Some(hold) = self.hold.take() else { return };
        settle_broken(&self.gate, hold, Ended::cut(self.status, passed(meter), outcome), said);
    }
}

/// What settlement needs of a meter.
fn passed(meter: &Meter) -> Passed {
    let Meter { relayed_output_bytes: bytes, provider_error, shows_all, .. } = *meter;
    Passed { bytes, provider_error, shows_all, usage: meter.usage.clone() }
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
        if open.on_disconnect == OnDisconnect::Cancel || open.stop.state().is_some() {
            let outcome = if open.stop.state().is_some() { Outcome::Stopped } else { Outcome::ClientLeft };
            open.settle_left(outcome);
            return;
        }
        // What is spawned may be dropped before it runs, when the runtime ends: it must not come here again.
        open.on_disconnect = OnDisconnect::Cancel;
        if let State::Open(open) = std::mem::replace(&mut self.state, State::Over) {
            let mut rest = Relaying { state: State::Open(open), recorder: self.recorder.take() };
            tokio::spawn(async move { while let Some(Ok(_)) = std::future::poll_fn(|cx| rest.poll_frame(cx)).await {} });
        }
    }
}

/// A stream's head, and what reads the rest.
pub(super) struct Streamed {
    pub(super) dialect: Dialect,
    pub(super) to: Addressee,
    pub(super) stores: bool,
    pub(super) status: u16,
    pub(super) source: Source,
    pub(super) editor: StreamEditor,
    pub(super) on_disconnect: OnDisconnect,
}
