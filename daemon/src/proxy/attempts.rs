//! The attempts of one call: what is tried next when a provider certainly did not process it, and what the client gets when
//! nothing is left to try.
//!
//! First the same model again, after a wait, as often as its route says; then its fallbacks, each with retries of its own. Every
//! attempt is admitted anew, and has a hold and an end of its own. Must not: send, settle, decide what a call may cost.

use super::dispatch::{self, Brought, Message};
use super::reply::{self, Reply};
use super::tighten::{Tokenized, tighten};
use crate::gate::{Active, Asked, Card, Entered, Gate, Hold, Turned, Unmet};
use crate::wire::denial;
use aex_core::decision::Denial;
use aex_core::event::Skipped;
use aex_proto::value::Digest;
use http::{HeaderMap, Response};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The first wait before a call is sent again to a provider that could not be reached; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// How often a waiting call looks whether its account was paused.
const LOOK: Duration = Duration::from_millis(200);

/// What became of an attempt.
pub(super) enum Tried {
    /// This is the client's answer.
    Over(Response<Reply>),
    /// The provider did not process it, and something else may be tried.
    Unserved(Box<Unserved>),
}

/// A call that its provider certainly did not process.
pub(super) struct Unserved {
    /// What the client gets when nothing else helps.
    pub(super) answer: Response<Reply>,
    pub(super) entered: Entered,
    pub(super) card: Arc<Card>,
    pub(super) cause: Cause,
}

/// Why a provider did not process a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing of it was sent.
    NeverSent,
    /// The provider has no time for it, or is broken; it may say when to come back.
    Refused { wait: Option<Duration> },
}

impl Cause {
    /// What a refusal of the provider means for another attempt; `None`: the same request would be refused everywhere.
    pub(super) fn of_refusal(status: u16, headers: &HeaderMap) -> Option<Cause> {
        match status {
            429 | 503 | 529 => Some(Cause::Refused { wait: retry_after(headers) }),
            500 => Some(Cause::Refused { wait: None }),
            _ => None,
        }
    }
}

/// When a provider wants to be asked again: `retry-after-ms`, or `retry-after` in seconds. Dates are not read.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(millis) = text("retry-after-ms").and_then(|text| text.split('.').next()?.parse().ok()) {
        return Some(Duration::from_millis(millis));
    }
    // A part of a second counts as one.
    let (whole, part) = text("retry-after").map(|text| text.split_once('.').map_or((text, ""), |(whole, part)| (whole, part)))?;
    let seconds: u64 = whole.parse().ok()?;
    let more = part.bytes().any(|digit| digit != b'0');
    part.bytes().all(|digit| digit.is_ascii_digit()).then(|| Duration::from_secs(seconds.saturating_add(u64::from(more))))
}

/// How a call goes on.
pub(super) enum Next {
    /// With another attempt.
    Try(Entered),
    /// With this answer.
    Answer(Response<Reply>),
}

/// Where a call is on its way.
#[derive(Default)]
pub(super) struct Attempts {
    /// The model of the next attempt; `None`: the one that was asked for.
    next: Option<Arc<Card>>,
    /// The model that was asked for, once it is known.
    asked: Option<Arc<Card>>,
    /// Fallbacks that were looked at.
    fallbacks: usize,
    /// Retries of the model under way.
    retries: u8,
    /// The number of the next hold.
    attempt: u8,
    waited: Duration,
    skipped: Vec<Skipped>,
    /// Tokens of the prompt, once they were counted for the next model.
    tokenized: Option<Tokenized>,
    /// What the client gets when nothing else helps.
    last: Option<Response<Reply>>,
    /// The provider that was asked for is down: told when no fallback helps, and no attempt was made.
    down: Option<Box<Unmet>>,
}

impl Attempts {
    /// What the gate decides on.
    pub(super) fn asked(&self, message: &Message) -> Asked {
        let mut ask = message.request.ask.clone();
        if let Some(tokenized) = &self.tokenized {
            tokenized.note(&mut ask);
        }
        Asked {
            ask,
            protocol: message.dialect.protocol(),
            input: Digest::of(&message.body),
            refers: message.request.refers.clone(),
            brings: message.provider_key.as_ref().map(Brought::kind),
            card: self.next.clone(),
            attempt: self.attempt,
            skipped: self.skipped.clone(),
        }
    }

    /// An attempt is admitted. Whether another one could follow it.
    pub(super) fn admitted(&mut self, hold: &Hold) -> bool {
        self.skipped.clear();
        let asked = self.asked.get_or_insert_with(|| Arc::clone(&hold.card));
        hold.card.route.retries.attempts > self.retries || asked.route.fallbacks.len() > self.fallbacks
    }

    /// An attempt was not admitted. Whether it is to be tried again with the tokens of its prompt, which its bytes hid: once for a model.
    pub(super) async fn tightened(&mut self, message: &Message, turned: &mut Turned) -> bool {
        let Some(tight) = turned.tight.take() else { return false };
        self.tokenized = tighten(*tight, message).await;
        self.tokenized.is_some()
    }

    /// An attempt was not admitted: a fallback may be, unless this was the client's own wish that was denied.
    pub(super) fn turned(&mut self, gate: &Gate, active: &Active, message: &Message, turned: Turned) -> Next {
        let Turned { entered, unmet, .. } = turned;
        let is_final = match unmet.denial() {
            Denial::ProviderDown { .. } => false,
            Denial::Account { .. } | Denial::LedgerUnavailable | Denial::Draining => true,
            _ => self.asked.is_none(),
        };
        if is_final {
            unmet.record(gate, &entered);
            return Next::Answer(refuse(unmet.denial(), message));
        }
        let card = self.next.clone().or_else(|| active.card(&message.request.ask.model).cloned());
        if let Some(card) = card {
            self.skip(&card, &unmet.denial().rule());
            self.asked.get_or_insert(card);
        }
        // Of several denials the client is told the one of what it asked for.
        if self.last.is_none() {
            self.down.get_or_insert(unmet);
            return match self.fall_back(active, message) {
                true => Next::Try(entered),
                false => self.give_up(gate, &entered, message),
            };
        }
        if self.fall_back(active, message) {
            return Next::Try(entered);
        }
        unmet.record(gate, &entered);
        self.give_up(gate, &entered, message)
    }

    /// An attempt was not processed: the model is asked again after a wait, or a fallback is.
    pub(super) async fn unserved(
        &mut self,
        gate: &Gate,
        active: &Active,
        message: &Message,
        unserved: Unserved,
        left: &mut oneshot::Receiver<()>,
    ) -> Next {
        let Unserved { answer, entered, card, cause } = unserved;
        self.last = Some(answer);
        self.attempt = self.attempt.saturating_add(1);
        if let Some(wait) = self.wait_for(&card, cause) {
            self.retries = self.retries.saturating_add(1);
            self.waited = self.waited.saturating_add(wait);
            return match waited(gate, &entered, wait, left).await {
                Waited::Over => {
                    self.next = Some(card);
                    Next::Try(entered)
                }
                Waited::ClientLeft => self.give_up(gate, &entered, message),
                Waited::Denied(denial) => {
                    gate.refused(entered.request, Some(&entered.view), &denial, crate::gate::Evidence::default());
                    Next::Answer(refuse(&denial, message))
                }
            };
        }
        // A client that has left wants no other model.
        if left.try_recv().is_err() && self.fall_back(active, message) {
            return Next::Try(entered);
        }
        self.give_up(gate, &entered, message)
    }

    /// How long to wait before the same model is asked again; `None`: it is not.
    fn wait_for(&self, card: &Card, cause: Cause) -> Option<Duration> {
        let retries = card.route.retries;
        if self.retries >= retries.attempts {
            return None;
        }
        let wait = match cause {
            Cause::NeverSent => FIRST_WAIT.saturating_mul(1 << self.retries.min(16)),
            Cause::Refused { wait } => wait?,
        };
        (self.waited.saturating_add(wait) <= retries.max_wait).then_some(wait)
    }

    /// Goes on to the next fallback that may be asked.
    fn fall_back(&mut self, active: &Active, message: &Message) -> bool {
        let Some(asked) = self.asked.clone() else { return false };
        self.retries = 0;
        while let Some(name) = asked.route.fallbacks.get(self.fallbacks) {
            self.fallbacks += 1;
            let Some(card) = active.card(name) else { continue };
            if !dispatch::serves(&card.provider, message.dialect) {
                self.skip(card, "dialect");
            } else if message.provider_key.is_some() && card.provider.name != asked.provider.name {
                // The client's key is meant for one provider, and is shown to no other.
                self.skip(card, "allow_passthrough");
            } else if !message.request.refers.is_empty() && card.provider.name != asked.provider.name {
                // What one provider has stored, no other knows.
                self.skip(card, "stored_response");
            } else {
                self.next = Some(Arc::clone(card));
                self.tokenized = self.tokenized.filter(|tokenized| tokenized.holds_for(card.card.tokenizer));
                return true;
            }
        }
        false
    }

    fn skip(&mut self, card: &Card, rule: &str) {
        self.skipped.push(Skipped { model: card.card.name.clone(), rule: rule.to_owned() });
    }

    /// Nothing is left to try.
    fn give_up(&mut self, gate: &Gate, entered: &Entered, message: &Message) -> Next {
        if let Some(answer) = self.last.take() {
            return Next::Answer(answer);
        }
        let denial = self.down.take().map(|unmet| {
            unmet.record(gate, entered);
            unmet.denial().clone()
        });
        Next::Answer(refuse(&denial.unwrap_or(Denial::LedgerUnavailable), message))
    }
}

/// How a wait ended.
enum Waited {
    Over,
    /// Nobody waits for the answer any more.
    ClientLeft,
    /// Meanwhile the call may not go on.
    Denied(Denial),
}

/// Waits. Nothing is held meanwhile; a client that leaves, a stop of the account and one of the daemon end it.
async fn waited(gate: &Gate, entered: &Entered, wait: Duration, left: &mut oneshot::Receiver<()>) -> Waited {
    let (view, mut draining) = (&entered.view, gate.draining());
    let paused = async {
        loop {
            tokio::time::sleep(LOOK).await;
            let stopped = gate.ledger().directory().accounts.get(&view.named.id).and_then(|now| now.stopped.clone());
            if let Some(denial) = stopped {
                return denial;
            }
        }
    };
    tokio::select! {
        biased;
        Ok(()) = left => Waited::ClientLeft,
        () = view.stop.raised() => Waited::Denied(gate.stopped_within(view)),
        _ = draining.wait_for(|draining| *draining) => Waited::Denied(Denial::Draining),
        denial = paused => Waited::Denied(denial),
        () = tokio::time::sleep(wait) => Waited::Over,
    }
}

fn refuse(denial: &Denial, message: &Message) -> Response<Reply> {
    reply::refusal(&denial::worded(denial, message.to), message.to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_providers_wait_is_read_in_either_unit_and_nothing_is_guessed() {
        let check = |rows: &[(&'static str, &'static str)], millis: Option<u64>| {
            let headers = rows.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect();
            assert_eq!(retry_after(&headers), millis.map(Duration::from_millis), "{rows:?}");
        };
        check(&[("retry-after", "3")], Some(3_000));
        check(&[("retry-after", "1.5")], Some(2_000));
        check(&[("retry-after", "2.000")], Some(2_000));
        check(&[("retry-after", "3"), ("retry-after-ms", "250")], Some(250));
        check(&[("retry-after-ms", "17.5")], Some(17));
        for wrong in ["", "-1", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "1e3", "99999999999999999999"] {
            check(&[("retry-after", wrong)], None);
        }
        check(&[], None);
    }

    #[test]
    fn only_what_another_attempt_may_change_is_tried_again() {
        let none = HeaderMap::new();
        for status in [429, 500, 503, 529] {
            assert_eq!(Cause::of_refusal(status, &none), Some(Cause::Refused { wait: None }), "{status}");
        }
        for status in [400, 401, 402, 403, 404, 409, 413, 422] {
            assert_eq!(Cause::of_refusal(status, &none), None, "{status}");
        }
    }
}
