//! Refusals on their way to the ledger: the first of an account and rule at once, repeats within a second as one later event,
//! so that a client that retries without end doesn't fill the disk. A repeat says the same of the same call's maker: only what
//! changes with every call, and what the client wrote, is left out of the comparison.

use super::Gate;
use crate::ledger::{AccountView, Snapshot};
use crate::os::clock;
use aex_core::ask::Ask;
use aex_core::decision::{AuthCause, Denial};
use aex_core::event::{AuthFailed, CallDenied, CallDeniedAgain, Event};
use aex_core::policy::Facts;
use aex_core::price::Unbounded;
use aex_core::tool::ToolCall;
use aex_proto::value::{AccountId, Digest, Pico, RequestId};
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
    /// The digest of what a call of a tool says.
    pub input: Option<Digest>,
    /// The policy in force.
    pub policy: Option<&'a Arc<Snapshot>>,
    /// The call of a tool.
    pub tool: Option<&'a ToolCall>,
    /// What that tool costs.
    pub tool_card: Option<&'a Arc<Snapshot>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// Whose call, which rule, and all that the refusal says by itself, as JSON: a group's refusal is no repeat of the agent's own,
    /// nor a kill one of a pause.
    Call(AccountId, String, String),
    Auth(AuthCause),
}

impl Key {
    fn call(account: AccountId, denial: &Denial) -> Key {
        // It has been written as an event before: serialising it cannot fail.
        Key::Call(account, denial.rule().into_owned(), serde_json::to_string(&lasting(denial.clone())).unwrap_or_default())
    }

    /// Whether an event of repeats would tell both alike.
    fn is_told_as(&self, other: &Key) -> bool {
        matches!((self, other), (Key::Call(account, rule, _), Key::Call(others, same, _)) if account == others && rule == same)
    }
}

/// A refusal without amounts and waits, which change with every call, and without the client's own words, of which there is no end.
fn lasting(mut denial: Denial) -> Denial {
    match &mut denial {
        Denial::Budget { asked, left, .. } => (*asked, *left) = (Pico::ZERO, Pico::ZERO),
        Denial::Rate { retry_after_ms, .. } | Denial::AuthThrottled { retry_after_ms } | Denial::ProviderDown { retry_after_ms, .. } => {
            *retry_after_ms = 0;
        }
        // Whether a wait helps at all stays.
        Denial::TokenRate { asked, retry_after_ms, .. } => (*asked, *retry_after_ms) = (0, retry_after_ms.map(|_| 0)),
        Denial::Malformed { message, param } => {
            message.clear();
            *param = None;
        }
        Denial::UnknownModel { model } => model.clear(),
        Denial::NotStored { name, .. } => name.clear(),
        Denial::Idempotency { first, .. } => *first = RequestId::from_bits(0),
        Denial::Policy { also, breach } => {
            also.clear();
            breach.asked.clear();
        }
        Denial::Rule(ruled) => {
            ruled.matched.clear();
            ruled.near.clear();
            ruled.error = ruled.error.take().map(|_| String::new());
        }
        Denial::Tool(denied) => {
            denied.also.clear();
            denied.near.clear();
        }
        Denial::UnknownTool { tool } => tool.clear(),
        Denial::ToolRate { retry_after_ms, .. } => *retry_after_ms = 0,
        Denial::Unbounded {
            why: Unbounded::CacheUnpriced(words) | Unbounded::HostedTool(words) | Unbounded::HostedUnlimited(words) | Unbounded::Tier(words),
            ..
        } => words.clear(),
        _ => {}
    }
    denial
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

    /// Takes out the repeats that an event behind this refusal would tell as repeats of it: theirs is to come before it.
    fn take_before(&mut self, next: &Key) -> Vec<Event> {
        let others = self.gathered.iter_mut().filter(|(key, repeats)| key.is_told_as(next) && *key != next && repeats.count > 0);
        let events = others.map(|(key, repeats)| {
            let event = repeats.event(key);
            // It stays known: two refusals that take turns make no event each.
            repeats.count = 0;
            event
        });
        events.collect()
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
            (Some(view), _) => Key::call(view.named.id, denial),
            (None, Denial::Unauthenticated { cause }) => Key::Auth(*cause),
            (None, _) => Key::call(AccountId::ROOT, denial),
        };
        let before = {
            let Ok(mut refusals) = self.inner.refusals.lock() else { return };
            if !refusals.is_first(key.clone(), request, clock::mono_ms()) {
                return;
            }
            refusals.take_before(&key)
        };
        for event in before {
            self.hand_over(event, [None, None]);
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
                input: evidence.input,
                policy: match (evidence.policy, view) {
                    (Some(policy), _) => policy.digest,
                    (None, view) => view.map_or(Digest::ZERO, |view| view.policy_digest),
                },
                request,
                rule,
                tool: evidence.tool.cloned().map(Box::new),
            }
            .into(),
        };
        self.hand_over(event, [evidence.policy, evidence.tool_card].map(Option::<&Arc<Snapshot>>::cloned));
    }

    /// Resolves when a refusal was the first of its kind since this resolved last: a second later it is to be gathered.
    pub async fn refusal(&self) {
        self.inner.refusal.notified().await;
    }

    /// Hands the repeats of refusals to the ledger; called a second after the first, and with `all` before somebody counts.
    pub fn gather_refusals(&self, all: bool) {
        let events = self.inner.refusals.lock().map(|mut refusals| refusals.take(clock::mono_ms(), all)).unwrap_or_default();
        for event in events {
            self.hand_over(event, [None, None]);
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

    fn hand_over(&self, event: Event, named: [Option<Arc<Snapshot>>; 2]) {
        if let Err(fault) = self.inner.ledger.record(event, named) {
            tracing::warn!(%fault, "a refusal could not be recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_core::decision::{AccountState, Named};
    use aex_core::window::Period;

    #[test]
    fn a_client_that_retries_without_end_makes_two_events_a_second() {
        let mut refusals = Refusals::default();
        let key = Key::call(AccountId::new(3), &budget(2, Period::Total));
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
        assert!(refusals.is_first(key.clone(), RequestId::new(1, 501), 1_001));
        // What changes with every call makes no refusal of its own, another level or period does.
        let mut same = budget(2, Period::Total);
        if let Denial::Budget { left, .. } = &mut same {
            *left = Pico::new(-5);
        }
        assert_eq!(Key::call(AccountId::new(3), &same), key);
        for level in [budget(1, Period::Total), budget(2, Period::Week)] {
            let key = Key::call(AccountId::new(3), &level);
            assert!(
                refusals.is_first(key.clone(), RequestId::new(1, 502), 1_002) && !refusals.is_first(key, RequestId::new(1, 503), 1_003)
            );
        }
    }

    #[test]
    fn repeats_stand_before_a_refusal_of_the_same_rule_that_says_something_else() {
        let mut refusals = Refusals::default();
        let stopped = |state, reason: &str| Denial::Account { account: named(1), reason: reason.to_owned(), state };
        let denials = [stopped(AccountState::Paused, ""), stopped(AccountState::Killed, "fire"), stopped(AccountState::Killed, "flood")];
        let keys = denials.map(|denial| Key::call(AccountId::new(3), &denial));
        for (number, key) in (0..).zip(&keys) {
            assert!(refusals.is_first(key.clone(), RequestId::new(1, 10 * number), 0), "{key:?}");
            let told = refusals.take_before(key);
            assert_eq!(told.len(), usize::from(number > 0), "{told:?}");
            assert!(!refusals.is_first(key.clone(), RequestId::new(1, 10 * number + 1), 0));
        }
        // They take turns: no event each.
        assert!(keys.iter().all(|key| !refusals.is_first(key.clone(), RequestId::new(1, 99), 0)));
    }

    #[test]
    fn words_of_the_client_make_no_events_without_end() {
        let unknown = |model: &str| Key::call(AccountId::new(3), &Denial::UnknownModel { model: model.to_owned() });
        assert_eq!(unknown("a"), unknown("b"));
    }

    fn named(id: i64) -> Named {
        Named { id: AccountId::new(id), kind: None, name: id.to_string() }
    }

    fn budget(account: i64, period: Period) -> Denial {
        let (asked, left, limit) = (Pico::new(9), Pico::new(1), Pico::new(100));
        Denial::Budget { account: named(account), asked, left, limit, period, resets_at: None }
    }
}
