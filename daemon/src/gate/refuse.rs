//! Refusals on their way to the ledger: the first of an account and rule at once, repeats within a second as one later event,
//! so that a client that retries without end doesn't fill the disk.

use super::Gate;
use crate::ledger::{AccountView, Snapshot};
use crate::os::clock;
use aex_core::ask::Ask;
use aex_core::decision::{AuthCause, Denial};
use aex_core::event::{AuthFailed, CallDenied, CallDeniedAgain, Event};
use aex_core::policy::Facts;
use aex_core::window::Period;
use aex_proto::value::{AccountId, Digest, RequestId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long repeats are gathered.
const GATHER_MS: u64 = 1_000;

/// What a refusal was decided on, as far as it came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// What the call asks.
    pub ask: Option<&'a Ask>,
    /// The digest of the model's card.
    pub card: Option<Digest>,
    /// What the policy's rules looked at.
    pub facts: Option<&'a Facts>,
    /// The policy in force.
    pub policy: Option<&'a Arc<Snapshot>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// Whose call, which rule, and whose limit: a group's refusal is no repeat of the agent's own.
    Call(AccountId, String, Option<Limit>),
    Auth(AuthCause),
}

/// The account whose limit refused a call, and the period of its budget.
type Limit = (AccountId, Option<Period>);

/// Which limit refused a call, where several accounts have one.
fn limit(denial: &Denial) -> Option<Limit> {
    match denial {
        Denial::Budget { account, period, .. } => Some((account.id, Some(*period))),
        Denial::Account { account, .. } | Denial::Rate { account, .. } | Denial::TokenRate { account: Some(account), .. } => {
            Some((account.id, None))
        }
        _ => None,
    }
}

#[derive(Debug)]
struct Repeats {
    since_ms: u64,
    count: u64,
    first: RequestId,
    last: RequestId,
}

impl Repeats {
    fn event(&self, key: &Key) -> Event {
        let (count, first, last) = (self.count, self.first, self.last);
        match key {
            Key::Call(account, rule, _) => CallDeniedAgain { account: *account, count, first, last, rule: rule.clone() }.into(),
            Key::Auth(cause) => AuthFailed { cause: *cause, count, first, last }.into(),
        }
    }
}

/// Refusals of the last second.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    gathered: BTreeMap<Key, Repeats>,
}

impl Refusals {
    /// Counts a refusal. `true`: it is the first, and to be recorded now.
    fn is_first(&mut self, key: Key, request: RequestId, now_ms: u64) -> bool {
        match self.gathered.get_mut(&key) {
            Some(repeats) => {
                if repeats.count == 0 {
                    repeats.first = request;
                }
                repeats.count += 1;
                repeats.last = request;
                false
            }
            None => {
                self.gathered.insert(key, Repeats { since_ms: now_ms, count: 0, first: request, last: request });
                true
            }
        }
    }

    /// Takes out what has been gathered for a second, or all of it.
    fn take(&mut self, now_ms: u64, all: bool) -> Vec<Event> {
        let ripe = |repeats: &Repeats| all || repeats.since_ms + GATHER_MS <= now_ms;
        let events =
            self.gathered.iter().filter(|(_, repeats)| repeats.count > 0 && ripe(repeats)).map(|(key, repeats)| repeats.event(key));
        let events = events.collect();
        self.gathered.retain(|_, repeats| !ripe(repeats));
        events
    }
}

impl Gate {
    /// Records that a call was refused. Waits for nothing.
    pub fn refused(&self, request: RequestId, view: Option<&AccountView>, denial: &Denial, evidence: Evidence<'_>) {
        let key = match (view, denial) {
            (Some(view), _) => Key::Call(view.named.id, denial.rule().into_owned(), limit(denial)),
            (None, Denial::Unauthenticated { cause }) => Key::Auth(*cause),
            (None, _) => Key::Call(AccountId::ROOT, denial.rule().into_owned(), None),
        };
        let first = self.inner.refusals.lock().is_ok_and(|mut refusals| refusals.is_first(key.clone(), request, clock::mono_ms()));
        if !first {
            return;
        }
        self.inner.refusal.notify_one();
        let event: Event = match key {
            Key::Auth(cause) => AuthFailed { cause, count: 1, first: request, last: request }.into(),
            Key::Call(account, rule, _) => CallDenied {
                account,
                ask: evidence.ask.cloned(),
                card: evidence.card,
                denial: denial.clone(),
                facts: evidence.facts.cloned(),
                policy: match (evidence.policy, view) {
                    (Some(policy), _) => policy.digest,
                    (None, view) => view.map_or(Digest::ZERO, |view| view.policy_digest),
                },
                request,
                rule,
            }
            .into(),
        };
        self.hand_over(event, evidence.policy.cloned());
    }

    /// Resolves when a refusal was the first of its kind since this resolved last: a second later it is to be gathered.
    pub async fn refusal(&self) {
        self.inner.refusal.notified().await;
    }

    /// Hands the repeats of refusals to the ledger; called a second after the first, and with `all` before somebody counts.
    pub fn gather_refusals(&self, all: bool) {
        let events = self.inner.refusals.lock().map(|mut refusals| refusals.take(clock::mono_ms(), all)).unwrap_or_default();
        for event in events {
            self.hand_over(event, None);
        }
    }

    /// Hands all counted repeats of refusals to the ledger.
    pub async fn flush_denials(&self) {
        self.gather_refusals(true);
        // A writer that is gone is told by the ledger itself.
        if let Err(fault) = self.inner.ledger.settled().await {
            tracing::warn!(%fault, "refusals could not be recorded");
        }
    }

    fn hand_over(&self, event: Event, policy: Option<Arc<Snapshot>>) {
        if let Err(fault) = self.inner.ledger.record(event, policy) {
            tracing::warn!(%fault, "a refusal could not be recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_retries_without_end_makes_two_events_a_second() {
        let mut refusals = Refusals::default();
        let key = Key::Call(AccountId::new(3), "budget".to_owned(), None);
        let recorded = (0..500).filter(|n| refusals.is_first(key.clone(), RequestId::new(1, *n), *n)).count();
        assert_eq!(recorded, 1);
        assert!(refusals.take(999, false).is_empty());
        let again = CallDeniedAgain {
            account: AccountId::new(3),
            count: 499,
            first: RequestId::new(1, 1),
            last: RequestId::new(1, 499),
            rule: "budget".to_owned(),
        };
        assert_eq!(refusals.take(1_000, false), vec![Event::from(again)]);
        assert!(refusals.is_first(key, RequestId::new(1, 501), 1_001));
        // Another level's refusal is another one.
        for level in [(AccountId::new(2), Some(Period::Day)), (AccountId::new(2), Some(Period::Week)), (AccountId::ROOT, None)] {
            let key = Key::Call(AccountId::new(3), "budget".to_owned(), Some(level));
            assert!(
                refusals.is_first(key.clone(), RequestId::new(1, 502), 1_002) && !refusals.is_first(key, RequestId::new(1, 503), 1_003)
            );
        }
    }
}
