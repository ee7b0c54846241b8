//! What a conversation tells those around it: its calls, the server's log, whoever counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use tokio::sync::mpsc;

/// Progress of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// How far it is.
    pub progress: f64,
    /// How far it will be at its end.
    pub total: Option<f64>,
    /// What it says about that.
    pub message: Option<String>,
}

/// What a request is told about while it waits: put into its extensions.
#[derive(Clone, Debug)]
pub(in crate::tools) struct Activity {
    /// Milliseconds of the monotonic clock at its last sign of progress.
    pub(in crate::tools) at_ms: Arc<AtomicU64>,
    /// Where its progress goes. What does not fit is dropped.
    pub(in crate::tools) progress: Option<mpsc::Sender<Progress>>,
}

/// What is said on standard output and is no message.
#[derive(Clone, Copy, Debug)]
pub(in crate::tools) enum Odd<'a> {
    /// A line.
    Line(&'a [u8]),
    /// A line that is longer than a message may be.
    TooLong,
}

/// What is told of it.
pub(in crate::tools) type Junk = Box<dyn Fn(Odd<'_>) + Send>;

/// What came in, counted.
#[derive(Debug, Default)]
pub(in crate::tools) struct Seen {
    /// Lines that are no message.
    pub(in crate::tools) junk: AtomicU64,
    /// Messages that were too long.
    pub(in crate::tools) oversize: AtomicU64,
    /// A line is longer than a message may be, and has no end yet.
    pub(in crate::tools) endless: AtomicBool,
    /// Answers that nobody waited for any more.
    pub(in crate::tools) late: AtomicU64,
    /// The probe was answered after it had been given up: the server is slow, not old.
    pub(in crate::tools) probed_late: AtomicBool,
    /// Milliseconds of the monotonic clock at the last answer.
    pub(in crate::tools) answered_ms: AtomicU64,
}
