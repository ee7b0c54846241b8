//! What servers asked agents for: an agent answers what it was asked, and nothing else.
//!
//! Answers go to a server beside the arguments that the permissions look at, so that one which was not asked for would pass unseen.

use super::super::lock;
use crate::os::clock;
use aex_core::tool::ToolName;
use aex_proto::value::{AccountId, Digest};
use rmcp::model::{InputRequiredResult, InputResponses};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

/// How long a question may be answered, in milliseconds.
const LASTS_MS: u64 = 3_600_000;
/// Questions that are remembered; the oldest goes first.
const MAX: usize = 4_096;
/// Of them, those of one account.
const MAX_OF_ACCOUNT: usize = 64;
/// Parts of a question that can be answered.
const MAX_PARTS: usize = 64;

/// The questions, the oldest first. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Asks(Arc<Mutex<VecDeque<Asking>>>);

struct Asking {
    account: AccountId,
    tool: ToolName,
    /// The state that is to come back.
    state: Option<Digest>,
    /// The names of what was asked for.
    parts: BTreeSet<Digest>,
    at_ms: u64,
}

/// What an agent answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Input {
    /// What it was asked for.
    pub responses: Option<InputResponses>,
    /// The state that the server gave.
    pub state: Option<String>,
}

impl Input {
    /// It; `None` where there is nothing.
    #[must_use]
    pub fn of(responses: Option<InputResponses>, state: Option<String>) -> Option<Input> {
        (responses.is_some() || state.is_some()).then_some(Input { responses, state })
    }

    /// In canonical JSON.
    pub(super) fn text(&self) -> String {
        let responses = self.responses.as_ref().map(|told| Value::Object(told.clone().into_iter().collect()));
        let state = self.state.clone().map(Value::String);
        let members = [("inputResponses", responses), ("requestState", state)];
        let members: Map<String, Value> = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        Value::Object(members).to_string()
    }
}

impl Asks {
    /// A server asks an account, which called this tool.
    pub(super) fn asked(&self, account: AccountId, tool: &ToolName, wanted: &InputRequiredResult) {
        let parts = wanted.input_requests.iter().flatten().take(MAX_PARTS).map(|(name, _)| Digest::of(name.as_bytes())).collect();
        let state = wanted.request_state.as_ref().map(|state| Digest::of(state.as_bytes()));
        self.add(Asking { account, tool: tool.clone(), state, parts, at_ms: clock::mono_ms() });
    }

    fn add(&self, asking: Asking) {
        let mut all = lock(&self.0);
        forget(&mut all, asking.at_ms);
        if all.iter().filter(|other| other.account == asking.account).count() >= MAX_OF_ACCOUNT
            && let Some(first) = all.iter().position(|other| other.account == asking.account)
        {
            all.remove(first);
        } else if all.len() >= MAX {
            all.pop_front();
        }
        all.push_back(asking);
    }

    /// Whether an account may answer so in a call of this tool.
    pub(super) fn may_answer(&self, account: AccountId, tool: &ToolName, input: &Input) -> bool {
        let mut all = lock(&self.0);
        forget(&mut all, clock::mono_ms());
        let state = input.state.as_ref().map(|state| Digest::of(state.as_bytes()));
        let parts: Vec<Digest> = input.responses.iter().flatten().map(|(name, _)| Digest::of(name.as_bytes())).collect();
        let mut own = all.iter().filter(|asking| asking.account == account && asking.tool == *tool && asking.state == state);
        own.any(|asking| parts.iter().all(|part| asking.parts.contains(part)))
    }
}

fn forget(all: &mut VecDeque<Asking>, now_ms: u64) {
    while all.front().is_some_and(|first| now_ms.saturating_sub(first.at_ms) > LASTS_MS) {
        all.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: AccountId = AccountId::new(3);

    fn tool(name: &str) -> ToolName {
        ToolName { server: "s".to_owned(), tool: name.to_owned() }
    }

    fn input(parts: &[&str], state: Option<&str>) -> Input {
        let responses = parts.iter().map(|part| ((*part).to_owned(), Value::Null)).collect();
        Input { responses: Some(responses), state: state.map(str::to_owned) }
    }

    fn asking(account: AccountId, state: &str, at_ms: u64) -> Asking {
        let parts = BTreeSet::from([Digest::of(b"who"), Digest::of(b"why")]);
        Asking { account, tool: tool("t"), state: Some(Digest::of(state.as_bytes())), parts, at_ms }
    }

    #[test]
    fn only_what_was_asked_is_answered_by_whom_it_was_asked_for_what_it_was_asked() {
        let asks = Asks::default();
        asks.add(asking(ME, "one", clock::mono_ms()));
        for (account, name, parts, state, may) in [
            (ME, "t", &["who"][..], Some("one"), true),
            (ME, "t", &["who", "why"], Some("one"), true),
            (ME, "t", &[], Some("one"), true),
            (ME, "t", &["who", "path"], Some("one"), false),
            (ME, "t", &["who"], None, false),
            (ME, "t", &["who"], Some("two"), false),
            (ME, "u", &["who"], Some("one"), false),
            (AccountId::new(4), "t", &["who"], Some("one"), false),
        ] {
            assert_eq!(asks.may_answer(account, &tool(name), &input(parts, state)), may, "{account:?} {name} {parts:?} {state:?}");
        }
    }

    #[test]
    fn questions_are_forgotten_and_an_account_has_no_others_forgotten() {
        let asks = Asks::default();
        let (other, now) = (AccountId::new(4), clock::mono_ms());
        asks.add(asking(other, "its", now));
        (0..2 * MAX).for_each(|number| asks.add(asking(ME, &number.to_string(), now)));
        assert!(asks.may_answer(other, &tool("t"), &input(&[], Some("its"))));
        let last = (2 * MAX - 1).to_string();
        assert!(asks.may_answer(ME, &tool("t"), &input(&[], Some(&last))) && !asks.may_answer(ME, &tool("t"), &input(&[], Some("0"))));
        assert_eq!(lock(&asks.0).len(), MAX_OF_ACCOUNT + 1);
        forget(&mut lock(&asks.0), now + LASTS_MS + 1);
        assert!(lock(&asks.0).is_empty());
    }
}
