//! What the provider remembers: requests, bills, scripts to come. It also counts releases. It does no HTTP.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use super::script::Script;

/// How long a test waits for an event before it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// Counts from 1.
    pub seq: u64,
    /// `POST`.
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
    /// The raw body.
    pub body: Bytes,
}

impl Request {
    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(held, _)| held.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; fails the test when it isn't.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body of the recorded request is JSON")
    }
}

/// What the provider would charge for one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// The request's.
    pub seq: u64,
    /// As the request named it.
    pub model: String,
    /// All prompt tokens, the cached ones included.
    pub prompt_tokens: u64,
    /// Of those, from the cache.
    pub cached_tokens: u64,
    /// Of those, written to the cache.
    #[serde(default)]
    pub written_tokens: u64,
    /// Produced tokens, the hidden ones included.
    pub completion_tokens: u64,
    /// How the call ended.
    pub ended: Ended,
}

impl Bill {
    /// A refused call costs nothing.
    #[must_use]
    pub fn is_billed(&self) -> bool {
        self.ended != Ended::Refused
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Not yet.
    Open,
    /// All was produced and handed to the socket.
    Complete,
    /// The client left; a stream is billed to the last token that was handed to the socket, a plain call in full.
    CutByClient,
    /// The script cut the answer; billed like `CutByClient`.
    CutByProvider,
    /// An error status; not billed.
    Refused,
}

/// Shared by the server's tasks and the tests' threads.
pub(super) struct Book {
    pages: Mutex<Pages>,
    changed: Condvar,
    releases: watch::Sender<u64>,
    record: bool,
}

#[derive(Default)]
struct Pages {
    seq: u64,
    arrived: u64,
    connections: u64,
    requests: Vec<Request>,
    bills: Vec<Bill>,
    next: VecDeque<Script>,
    always: Script,
}

/// A call that arrived, with the script that it got.
pub(super) struct Arrival {
    pub(super) seq: u64,
    pub(super) script: Script,
    pub(super) gate: Gate,
}

/// The holds of one call: the first release after its arrival ends the first hold, and so on. So a release never comes too early.
pub(super) struct Gate {
    releases: watch::Receiver<u64>,
    passed: u64,
}

impl Gate {
    pub(super) async fn wait(&mut self) {
        self.passed += 1;
        let wanted = self.passed;
        // The sender lives in the book, which outlives every call.
        let _ = self.releases.wait_for(|count| *count >= wanted).await.is_ok();
    }
}

impl Book {
    pub(super) fn new(always: Script, record: bool) -> Arc<Self> {
        let pages = Mutex::new(Pages { always, ..Pages::default() });
        Arc::new(Self { pages, changed: Condvar::new(), releases: watch::Sender::new(0), record })
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn connected(&self) {
        self.pages().connections += 1;
        self.changed.notify_all();
    }

    pub(super) fn connections(&self) -> u64 {
        self.pages().connections
    }

    /// Notes a request. Only a chat call (`scripted`) takes a script; it counts as arrived when its bill is open, so that
    /// whoever waited for it finds the bill.
    pub(super) fn arrive(&self, mut request: Request, scripted: bool) -> Arrival {
        let mut pages = self.pages();
        pages.seq += 1;
        pages.arrived += u64::from(!scripted);
        let seq = pages.seq;
        request.seq = seq;
        let planned = if scripted { pages.next.pop_front() } else { None };
        let script = planned.unwrap_or_else(|| pages.always.clone());
        if self.record {
            pages.requests.push(request);
        }
        let releases = self.releases.subscribe();
        let passed = *releases.borrow();
        drop(pages);
        self.changed.notify_all();
        Arrival { seq, script, gate: Gate { releases, passed } }
    }

    pub(super) fn open(self: &Arc<Self>, bill: Bill) -> Tab {
        let tab = Tab { book: Arc::clone(self), seq: bill.seq, completion: bill.completion_tokens, ended: None };
        let mut pages = self.pages();
        pages.arrived += 1;
        pages.bills.push(bill);
        drop(pages);
        self.changed.notify_all();
        tab
    }

    fn close(&self, seq: u64, completion: u64, ended: Ended) {
        let mut pages = self.pages();
        // Calls end soon after they began: search from the end.
        if let Some(bill) = pages.bills.iter_mut().rev().find(|bill| bill.seq == seq) {
            bill.ended = ended;
            bill.completion_tokens = completion;
            if ended == Ended::Refused {
                bill.prompt_tokens = 0;
                bill.cached_tokens = 0;
                bill.written_tokens = 0;
                bill.completion_tokens = 0;
            }
        }
        drop(pages);
        self.changed.notify_all();
    }

    pub(super) fn next(&self, script: Script) {
        self.pages().next.push_back(script);
    }

    pub(super) fn always(&self, script: Script) {
        self.pages().always = script;
    }

    pub(super) fn release(&self) {
        // Under the lock, so that a call that has arrived is released, and one that has not isn't.
        let pages = self.pages();
        self.releases.send_modify(|count| *count += 1);
        drop(pages);
    }

    pub(super) fn forget(&self) {
        let mut pages = self.pages();
        pages.requests.clear();
        pages.bills.clear();
        pages.next.clear();
        pages.always = Script::default();
        pages.arrived = 0;
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.pages().requests.clone()
    }

    pub(super) fn bills(&self) -> Vec<Bill> {
        self.pages().bills.clone()
    }

    /// The number of arrived requests, once it is at least `count`; the same as an error when the deadline passes.
    pub(super) fn wait_for_requests(&self, count: u64) -> Result<u64, u64> {
        let pages = self.wait(|pages| pages.arrived >= count);
        if pages.arrived >= count { Ok(pages.arrived) } else { Err(pages.arrived) }
    }

    /// The bills, once at least `count` ended; the same as an error when the deadline passes.
    pub(super) fn wait_for_bills(&self, count: usize) -> Result<Vec<Bill>, Vec<Bill>> {
        let pages = self.wait(|pages| pages.ended() >= count);
        if pages.ended() >= count { Ok(pages.bills.clone()) } else { Err(pages.bills.clone()) }
    }

    fn wait(&self, enough: impl Fn(&Pages) -> bool) -> MutexGuard<'_, Pages> {
        let deadline = Instant::now() + PATIENCE;
        let mut pages = self.pages();
        while !enough(&pages) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.changed.wait_timeout(pages, left).unwrap_or_else(PoisonError::into_inner);
            pages = woken.0;
        }
        pages
    }
}

impl Pages {
    fn ended(&self) -> usize {
        self.bills.iter().filter(|bill| bill.ended != Ended::Open).count()
    }
}

/// An open bill. Dropped without an end, the client has left.
pub(super) struct Tab {
    book: Arc<Book>,
    seq: u64,
    completion: u64,
    ended: Option<Ended>,
}

impl Tab {
    pub(super) fn produce(&mut self, tokens: u64) {
        self.completion += tokens;
    }

    pub(super) fn end(mut self, ended: Ended) {
        self.ended = Some(ended);
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        let ended = self.ended.unwrap_or(Ended::CutByClient);
        self.book.close(self.seq, self.completion, ended);
    }
}
