//! Idempotency keys: one call for each key of an agent within 24 hours, and its answer again for as long as that is kept.
//!
//! Owns which keys are used, and the answers, in memory alone and bounded. That a key was used is durable by `call.held`, which has
//! its digest: the first call with a key asks the ledger what the daemons before this one held. A key is free again when its call
//! was denied, or ended without a charge: the clients' own retries come with the same key. Must not: know HTTP, keep a raw key.

use super::{Entered, Gate};
use crate::ledger::{KEY_LASTS_US, LedgerFault, UsedKey};
use crate::os::clock;
use aex_core::decision::{Denial, KeyUse};
use aex_proto::value::{AccountId, Digest, RequestId};
use bytes::{Bytes, BytesMut};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a key belongs to its first call.
const LASTS: Duration = Duration::from_micros(KEY_LASTS_US.unsigned_abs());
/// How often a full memory is looked through for keys whose time is over.
const SWEEP: Duration = Duration::from_secs(60);
/// Keys that are remembered before they are looked through for the first time.
const FEW: usize = 1_024;
/// What an answer takes beside its bytes.
const AROUND: usize = 512;

/// What may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLimits {
    /// The largest answer, in bytes.
    pub answer: usize,
    /// All answers, in bytes.
    pub memory: usize,
    /// Keys of a day.
    pub keys: usize,
}

/// An answer as the client got it.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Names and values of its headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its bytes; all events of a stream.
    pub body: Bytes,
    /// What it takes of the memory.
    size: usize,
}

/// A call that comes with a key.
#[derive(Clone, Copy, Debug)]
pub struct KeyedCall<'a> {
    /// The key as it was sent.
    pub key: &'a [u8],
    /// What was called: the same key on another path is another call's.
    pub endpoint: &'static str,
    /// The digest of the client's bytes.
    pub input: Digest,
    /// What may be kept.
    pub limits: KeyLimits,
}

/// What becomes of a call that comes with a key.
#[derive(Debug)]
pub enum Begun {
    /// It is the first: it runs, and its answer is to be given to the ticket.
    First(Arc<Ticket>),
    /// It was made before, and this was its answer.
    Again(Arc<Answer>),
    /// It may not run.
    Denied(Denial),
}

impl Gate {
    /// Takes a key for a call, or finds what became of the call that has it.
    ///
    /// # Errors
    /// When the ledger cannot be asked which keys are used: nothing is admitted then.
    pub async fn begin_keyed(&self, entered: &mut Entered, call: KeyedCall<'_>) -> Result<Begun, LedgerFault> {
        let keys = &self.inner.keys;
        keys.past.get_or_try_init(|| self.recall_keys(call.limits.keys)).await?;
        let name = name(entered.view.agent.id, call.key);
        let begun = keys.begin(name, entered.request, call, clock::mono());
        if let Begun::First(ticket) = &begun {
            entered.ticket = Some(Arc::clone(ticket));
        }
        Ok(begun)
    }

    /// What the daemons before this one held under a key.
    async fn recall_keys(&self, at_most: usize) -> Result<(), LedgerFault> {
        let (now, mono) = (clock::wall(), clock::mono());
        // One more than may be kept: the memory is full then, and says so.
        let used = self.ledger().used_keys(now.offset(-KEY_LASTS_US), at_most.saturating_add(1)).await?;
        for used in used {
            let age = Duration::from_micros(u64::try_from(now.since(used.at)).unwrap_or(0));
            self.inner.keys.recall(&used, mono.saturating_add(LASTS.saturating_sub(age)));
        }
        Ok(())
    }
}

/// A key as it is remembered: no raw key is kept, and agents do not share theirs.
fn name(agent: AccountId, key: &[u8]) -> Digest {
    Digest::of(&[agent.to_string().as_bytes(), b"\0", key].concat())
}

/// The keys that are used.
#[derive(Debug, Default)]
pub(super) struct Keys {
    uses: Arc<Mutex<Uses>>,
    /// Those of the daemons before this one are among them.
    past: tokio::sync::OnceCell<()>,
}

#[derive(Debug, Default)]
struct Uses {
    by_name: HashMap<Digest, Use>,
    /// Those that have an answer, oldest first; some may have lost it.
    answered: VecDeque<(Digest, RequestId)>,
    /// What answers take, those included that are being recorded.
    bytes: usize,
    /// With so many keys they are looked through.
    sweep_at: usize,
    swept: Duration,
}

#[derive(Debug)]
struct Use {
    request: RequestId,
    input: Digest,
    /// Not known of calls of an earlier daemon.
    endpoint: Option<&'static str>,
    expires: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    Running,
    Answered(Arc<Answer>),
    /// It was charged, and there is no answer.
    Spent,
}

impl Use {
    fn is_over(&self, now: Duration) -> bool {
        self.expires <= now && !matches!(self.state, State::Running)
    }
}

impl Keys {
    fn begin(&self, name: Digest, request: RequestId, call: KeyedCall<'_>, now: Duration) -> Begun {
        // A panic while they were held: they cannot be trusted, so nothing passes.
        let Ok(mut uses) = self.uses.lock() else { return Begun::Denied(Denial::LedgerUnavailable) };
        if let Some(used) = uses.by_name.get(&name).filter(|used| !used.is_over(now)) {
            let same = used.input == call.input && used.endpoint.is_none_or(|endpoint| endpoint == call.endpoint);
            let cause = match &used.state {
                _ if !same => KeyUse::OtherRequest,
                State::Answered(answer) => return Begun::Again(Arc::clone(answer)),
                State::Running => KeyUse::Running,
                State::Spent => KeyUse::AnswerGone,
            };
            return Begun::Denied(Denial::Idempotency { cause, first: used.request });
        }
        uses.forget(name);
        if !uses.has_room(call.limits.keys, now) {
            return Begun::Denied(Denial::IdempotencyFull { limit: u64::try_from(call.limits.keys).unwrap_or(u64::MAX) });
        }
        let (input, endpoint, expires) = (call.input, Some(call.endpoint), now.saturating_add(LASTS));
        uses.by_name.insert(name, Use { request, input, endpoint, expires, state: State::Running });
        drop(uses);
        let uses = Arc::clone(&self.uses);
        Begun::First(Arc::new(Ticket { uses, name, limits: call.limits, spent: AtomicBool::new(false), answer: Mutex::default() }))
    }

    /// Takes in a key that a daemon before this one held money for.
    fn recall(&self, used: &UsedKey, expires: Duration) {
        let Ok(mut uses) = self.uses.lock() else { return };
        let UsedKey { key, request, input, .. } = *used;
        uses.by_name.entry(key).or_insert(Use { request, input, endpoint: None, expires, state: State::Spent });
    }
}

impl Uses {
    /// Takes a key out, its answer with it.
    fn forget(&mut self, name: Digest) {
        if let Some(Use { state: State::Answered(answer), .. }) = self.by_name.remove(&name) {
            self.bytes = self.bytes.saturating_sub(answer.size);
        }
    }

    /// Whether another key can be remembered. Those whose time is over make room.
    fn has_room(&mut self, limit: usize, now: Duration) -> bool {
        let count = self.by_name.len();
        let full = count >= limit && now.saturating_sub(self.swept) >= SWEEP;
        if full || count >= self.sweep_at.max(FEW) {
            self.swept = now;
            let bytes = &mut self.bytes;
            self.by_name.retain(|_, used| {
                let over = used.is_over(now);
                if over && let State::Answered(answer) = &used.state {
                    *bytes = bytes.saturating_sub(answer.size);
                }
                !over
            });
            self.sweep_at = self.by_name.len().saturating_mul(2);
            let by_name = &self.by_name;
            self.answered.retain(|(name, request)| by_name.get(name).is_some_and(|used| used.request == *request));
        }
        self.by_name.len() < limit
    }

    /// Takes memory for an answer; the oldest answers make room. `false` when it does not suffice.
    fn take(&mut self, bytes: usize, memory: usize) -> bool {
        while self.bytes.saturating_add(bytes) > memory {
            let Some((name, request)) = self.answered.pop_front() else { return false };
            let Some(used) = self.by_name.get_mut(&name).filter(|used| used.request == request) else { continue };
            if let State::Answered(answer) = std::mem::replace(&mut used.state, State::Spent) {
                self.bytes = self.bytes.saturating_sub(answer.size);
            }
        }
        self.bytes = self.bytes.saturating_add(bytes);
        true
    }
}

/// The key of a call under way. The last of its holders to drop it ends the use: with the answer, as spent, or free.
#[derive(Debug)]
pub struct Ticket {
    uses: Arc<Mutex<Uses>>,
    name: Digest,
    limits: KeyLimits,
    /// Money is or was held for the call, and was not released.
    spent: AtomicBool,
    answer: Mutex<Option<Answer>>,
}

impl Ticket {
    /// The key's digest, as events hold it.
    pub(super) const fn name(&self) -> Digest {
        self.name
    }

    /// Money is asked for: from here on the key is used, whatever becomes of the call, unless that is released.
    pub(super) fn spend(&self) {
        self.spent.store(true, Ordering::Release);
    }

    /// Nothing was held, or it was released.
    pub(super) fn free(&self) {
        self.spent.store(false, Ordering::Release);
    }

    /// Begins to record an answer that comes in pieces.
    #[must_use]
    pub fn record(self: &Arc<Ticket>, status: u16, headers: Vec<(String, Vec<u8>)>) -> Recorder {
        let around = headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() + AROUND;
        let mut recorder = Recorder { ticket: Arc::clone(self), status, headers, body: BytesMut::new(), taken: 0, has_room: true };
        recorder.take(around);
        recorder
    }

    fn take(&self, bytes: usize) -> bool {
        self.uses.lock().is_ok_and(|mut uses| uses.take(bytes, self.limits.memory))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let answer = self.answer.get_mut().ok().and_then(Option::take);
        let Ok(mut uses) = self.uses.lock() else { return };
        let size = answer.as_ref().map_or(0, |answer| answer.size);
        if !*self.spent.get_mut() {
            uses.bytes = uses.bytes.saturating_sub(size);
            uses.by_name.remove(&self.name);
            return;
        }
        let Some(used) = uses.by_name.get_mut(&self.name) else { return };
        let request = used.request;
        used.state = answer.map_or(State::Spent, |answer| State::Answered(Arc::new(answer)));
        if size > 0 {
            uses.answered.push_back((self.name, request));
        }
    }
}

/// Records an answer as it passes. Dropped before [`Recorder::complete`], it keeps nothing.
#[derive(Debug)]
pub struct Recorder {
    ticket: Arc<Ticket>,
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: BytesMut,
    /// What was taken of the memory.
    taken: usize,
    /// It is not too large so far.
    has_room: bool,
}

impl Recorder {
    /// Takes in the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.take(bytes.len());
        if self.has_room {
            self.body.extend_from_slice(bytes);
        }
    }

    /// The answer is whole: whoever comes with its key gets it.
    pub fn complete(mut self) {
        if !self.has_room {
            return;
        }
        let (headers, body) = (std::mem::take(&mut self.headers), std::mem::take(&mut self.body));
        // A copy of its own size: the buffer has room to grow.
        let answer = Answer { status: self.status, headers, body: Bytes::copy_from_slice(&body), size: std::mem::take(&mut self.taken) };
        if let Ok(mut kept) = self.ticket.answer.lock() {
            *kept = Some(answer);
        }
    }

    fn take(&mut self, bytes: usize) {
        let fits = self.body.len() + bytes <= self.ticket.limits.answer;
        if self.has_room && fits && self.ticket.take(bytes) {
            self.taken += bytes;
            return;
        }
        self.has_room = false;
        self.give_back();
    }

    fn give_back(&mut self) {
        self.body = BytesMut::new();
        let taken = std::mem::take(&mut self.taken);
        if let Ok(mut uses) = self.ticket.uses.lock() {
            uses.bytes = uses.bytes.saturating_sub(taken);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests;
