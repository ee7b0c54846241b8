//! Finds what the chain tells of a request: an event of its own, or only as one of several refusals.

use super::{name, seen};
use crate::event::Event;
use crate::verify::Record;
use aex_proto::explain::{CallStory, Caller, Group, RepeatStory};
use aex_proto::value::{AccountId, RequestId};
use std::collections::BTreeMap;

/// Refusals told together, in whose range the request lies.
#[derive(Clone, Debug)]
pub struct Alike {
    /// `call.denied.again` or `auth.failed`.
    pub record: Record,
    /// Whose calls; `None`: callers that are not known.
    pub account: Option<AccountId>,
    /// The refusal by the same rule before them, which has the facts.
    pub told: Option<Record>,
}

/// A search under way. It needs the events of calls in their order; others do no harm.
#[derive(Debug)]
pub struct Search {
    request: RequestId,
    own: Option<Record>,
    end: Option<Record>,
    alike: Vec<Alike>,
    first: BTreeMap<(AccountId, String), Record>,
}

impl Search {
    /// For a request.
    #[must_use]
    pub const fn new(request: RequestId) -> Search {
        Search { request, own: None, end: None, alike: Vec::new(), first: BTreeMap::new() }
    }

    /// Takes in an event. One that does not parse tells nothing: the audit says so.
    pub fn take(&mut self, record: &Record) {
        let Ok(event) = Event::parse(&record.kind, &record.body) else { return };
        let within = |first: RequestId, last: RequestId| (first..=last).contains(&self.request);
        match event {
            Event::CallHeld(held) if held.request == self.request => self.own = Some(record.clone()),
            Event::CallSettled(settled) if settled.request == self.request => self.end = Some(record.clone()),
            Event::CallReleased(released) if released.request == self.request => self.end = Some(record.clone()),
            Event::CallDenied(denied) => {
                if denied.request == self.request {
                    self.own = Some(record.clone());
                }
                self.first.insert((denied.account, denied.rule), record.clone());
            }
            Event::CallDeniedAgain(again) if within(again.first, again.last) => {
                let told = self.first.get(&(again.account, again.rule)).cloned();
                self.alike.push(Alike { record: record.clone(), account: Some(again.account), told });
            }
            Event::AuthFailed(failed) if within(failed.first, failed.last) => {
                self.alike.push(Alike { record: record.clone(), account: None, told: None });
            }
            _ => {}
        }
    }

    /// Its own event, with that of its end.
    #[must_use]
    pub fn own(&self) -> Option<(&Record, Option<&Record>)> {
        self.own.as_ref().map(|own| (own, self.end.as_ref()))
    }

    /// Looks at one group alone, by the number of its event.
    #[must_use]
    pub fn only(mut self, seq: i64) -> Search {
        self.alike.retain(|alike| alike.record.seq == seq);
        self
    }

    /// The refusals among which it may be, when it has no event of its own.
    #[must_use]
    pub fn alike(self) -> Vec<Alike> {
        self.alike
    }
}

impl Alike {
    /// As a story tells it: whose calls they are, and the story of the refusal before them.
    ///
    /// # Errors
    /// When its event is none of that kind.
    pub fn group(&self, whose: Option<Caller>, told: Option<CallStory>) -> Result<Group, String> {
        let event = seen(&self.record);
        let told = told.map(Box::new);
        match Event::parse(&self.record.kind, &self.record.body)? {
            Event::CallDeniedAgain(again) => {
                let (count, first, last) = (again.count, again.first, again.last);
                Ok(Group { event, caller: whose, rule: again.rule, count, first, last, told })
            }
            Event::AuthFailed(failed) => {
                let (count, first, last) = (failed.count, failed.first, failed.last);
                Ok(Group { event, caller: None, rule: name(&failed.cause), count, first, last, told })
            }
            other => Err(format!("event {} is {}, which tells no refusals together", self.record.seq, other.kind())),
        }
    }
}

/// The story of a request that is told only as one of several; of the group itself without one.
#[must_use]
pub fn repeat(request: Option<RequestId>, groups: Vec<Group>) -> RepeatStory {
    let surely = |group: &Group| {
        let numbers = group.last.bits().saturating_sub(group.first.bits()).saturating_add(1);
        request.is_none_or(|request| request == group.first || request == group.last || numbers == group.count)
    };
    let certain = groups.iter().any(surely);
    let groups = if certain { groups.into_iter().filter(surely).collect() } else { groups };
    RepeatStory { request, certain, groups }
}
