//! What people let pass: a call with a person's consent needs the event of that person's answer before it.
//!
//! A lasting yes that is taken back lets calls pass that were on their way, and none that began later.

use super::checkpoint::pairs;
use super::{Audit, Place};
use crate::event::{Answered, ApprovalGiven, By};
use crate::tool::{Consent, ToolCall};
use aex_proto::value::{AccountId, Digest, RequestId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The answers that let something pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Consents {
    /// Lasting ones: the agent, the tool, what the rules say that asked.
    lasting: BTreeSet<(AccountId, String, Digest)>,
    /// Those that were taken back, with the newest request of that time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "pairs")]
    ended: BTreeMap<(AccountId, String, Digest), RequestId>,
    /// Those of calls that have not been admitted yet.
    #[serde(with = "pairs")]
    once: BTreeMap<RequestId, (AccountId, String, By)>,
}

impl Consents {
    pub(super) fn is_empty(&self) -> bool {
        self.lasting.is_empty() && self.ended.is_empty() && self.once.is_empty()
    }

    /// Leaves those of some accounts.
    pub(super) fn within(&mut self, below: &BTreeSet<AccountId>) {
        self.lasting.retain(|(account, _, _)| below.contains(account));
        self.ended.retain(|(account, _, _), _| below.contains(account));
        self.once.retain(|_, (account, _, _)| below.contains(account));
    }

    /// Forgets what waited in a daemon that is no more.
    pub(super) fn begin(&mut self) {
        self.once.clear();
        self.ended.clear();
    }

    /// An admitted call needs its answer no more.
    pub(super) fn used(&mut self, request: RequestId) {
        self.once.remove(&request);
    }

    /// Whether a person gave what a call has. `stated`: what the rules say that ask for it.
    ///
    /// # Errors
    /// Why not, in words.
    pub(super) fn gave(
        &self,
        request: RequestId,
        agent: AccountId,
        call: &ToolCall,
        consent: &Consent,
        stated: Option<Digest>,
    ) -> Result<(), String> {
        let tool = call.name().to_string();
        if !consent.always {
            let given = self.once.get(&request);
            let is_given = given.is_some_and(|(account, named, by)| (*account, named, by) == (agent, &tool, &consent.by));
            return if is_given { Ok(()) } else { Err("with the consent of a person, which no event tells of".to_owned()) };
        }
        let is_given = stated.is_some_and(|stated| {
            let word = (agent, tool, stated);
            self.lasting.contains(&word) || self.ended.get(&word).is_some_and(|until| request <= *until)
        });
        if is_given { Ok(()) } else { Err("with a lasting consent, which no event tells of for the rules that ask".to_owned()) }
    }
}

impl Audit {
    pub(super) fn approval(&mut self, place: Place, given: ApprovalGiven) {
        let ApprovalGiven { account, answer, by, request, stated, tool, until, .. } = given;
        let is_known = self.tree.path(account).first().is_some_and(|node| node.row.kind == crate::books::AccountKind::Agent);
        self.found.integrity.check(is_known, || format!("{place}: a call of account {account} is answered, which is no agent"));
        let fits = (answer == Answered::Revoked) == request.is_none() && (answer != Answered::Always || stated.is_some());
        self.found.integrity.check(fits, || format!("{place}: an answer of the kind `{}` does not say what it is for", answer.name()));
        if let Some(stated) = stated {
            let word = (account, tool.clone(), stated);
            match (answer, until) {
                (Answered::Always, _) => {
                    self.consents.ended.remove(&word);
                    self.consents.lasting.insert(word);
                }
                (Answered::Revoked, Some(until)) if self.consents.lasting.remove(&word) => {
                    self.consents.ended.insert(word, until);
                }
                _ => {}
            }
        }
        if let (Answered::Always | Answered::Approved, Some(request)) = (answer, request) {
            self.consents.once.insert(request, (account, tool, by));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::{Caller, Facts};

    fn request() -> RequestId {
        RequestId::new(1, 2)
    }
    const AGENT: AccountId = AccountId::new(3);
    const BY: By = By { pid: 7, uid: 1_000 };

    fn call(tool: &str) -> ToolCall {
        ToolCall {
            answers: None,
            arguments: None,
            caller: Caller::default(),
            consent: None,
            definition: None,
            facts: Facts::default(),
            level: None,
            permissions: Digest::ZERO,
            server: "s".to_owned(),
            tool: tool.to_owned(),
        }
    }

    #[test]
    fn a_consent_needs_the_answer_of_that_person_for_that_call() {
        let mut consents = Consents::default();
        consents.once.insert(request(), (AGENT, "s.t".to_owned(), BY));
        let once = |by: By| Consent { always: false, by };
        let gave = |consents: &Consents, request, agent, tool, by| consents.gave(request, agent, &call(tool), &once(by), None).is_ok();
        assert!(gave(&consents, request(), AGENT, "t", BY));
        assert!(!gave(&consents, RequestId::new(1, 3), AGENT, "t", BY));
        assert!(!gave(&consents, request(), AccountId::new(4), "t", BY));
        assert!(!gave(&consents, request(), AGENT, "u", BY));
        assert!(!gave(&consents, request(), AGENT, "t", By { pid: 8, ..BY }));
        assert!(consents.gave(request(), AGENT, &call("t"), &Consent { always: true, by: BY }, Some(Digest::ZERO)).is_err());
        let mut used = consents.clone();
        used.used(request());
        assert!(!gave(&used, request(), AGENT, "t", BY));
        consents.begin();
        assert!(consents.is_empty());
    }

    #[test]
    fn a_lasting_consent_needs_an_answer_to_what_these_rules_say() {
        let mut consents = Consents::default();
        let stated = Digest::of(b"rules");
        consents.lasting.insert((AGENT, "s.t".to_owned(), stated));
        let lasting = Consent { always: true, by: BY };
        let gave = |agent, tool, stated| consents.gave(request(), agent, &call(tool), &lasting, stated).is_ok();
        assert!(gave(AGENT, "t", Some(stated)));
        assert!(!gave(AGENT, "t", Some(Digest::ZERO)) && !gave(AGENT, "t", None));
        assert!(!gave(AccountId::new(4), "t", Some(stated)) && !gave(AGENT, "u", Some(stated)));
        let mut revoked = consents.clone();
        revoked.ended.insert((AGENT, "s.t".to_owned(), stated), request());
        revoked.lasting.clear();
        let later = RequestId::new(1, 3);
        let begun = |request| revoked.gave(request, AGENT, &call("t"), &lasting, Some(stated)).is_ok();
        assert!(begun(request()) && begun(RequestId::new(1, 1)) && !begun(later));
        // A start forgets what waited, and not what lasts; another's state has none of it.
        consents.once.insert(request(), (AGENT, "s.t".to_owned(), BY));
        let text = crate::canon::text(&consents);
        assert!(crate::canon::is_canonical(&text), "{text}");
        assert_eq!(serde_json::from_str::<Consents>(&text).map_err(|fault| fault.to_string()), Ok(consents.clone()));
        consents.begin();
        assert_eq!((consents.lasting.len(), consents.once.len()), (1, 0));
        let mut own = consents.clone();
        own.within(&BTreeSet::from([AGENT]));
        assert_eq!(own, consents);
        consents.within(&BTreeSet::from([AccountId::new(4)]));
        assert!(consents.is_empty());
    }
}
