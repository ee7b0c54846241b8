//! The way of a call to its hold: weighed, a person asked where a rule wants that, a place taken at its server; and all of that weighed again
//! after each wait, so that what holds when the call is sent let it pass.
//!
//! While it waits it holds no money. Must not: decide who may answer.

use super::super::approvals::{Waiting, Word};
use super::super::pins::Trusted;
use super::super::server::Server;
use super::super::supervisor::Entry;
use super::attended::{Attended, Over};
use super::{Gatekeeper, Meant, Unmade, who};
use crate::gate::Weighed;
use crate::ledger::AccountView;
use crate::os::clock;
use crate::tools::fault::ToolFault;
use aex_core::books::AccountKind;
use aex_core::decision::Denial;
use aex_core::event::By;
use aex_core::tool::{Consent, Effect, NoConsent};
use aex_proto::value::Digest;
use std::sync::Arc;

/// A call that may pass, at its place.
pub(super) struct Cleared {
    /// What the permissions say now.
    pub(super) weighed: Weighed,
    /// The person's word, where one is needed.
    pub(super) consent: Option<Consent>,
    /// Its server, as it is configured now.
    pub(super) server: Arc<Server>,
    /// Its place there.
    pub(super) place: Place,
}

/// A call's place at a process of its server.
pub(super) struct Place {
    pub(super) entry: Entry,
    /// The list of that process, as far as it is trusted; nothing where it need not have the tool.
    trusted: Option<Trusted>,
}

/// What the permissions say to a call that they do not deny.
pub(super) struct Judged {
    pub(super) weighed: Weighed,
    /// The digest of the rules that ask.
    pub(super) stated: Option<Digest>,
}

/// A person's word for a call.
struct Said {
    by: By,
    always: bool,
    /// The digest of the rules that asked.
    stated: Option<Digest>,
}

/// What a call needs beside its permissions.
enum Needs {
    /// Nothing; or this, which it has.
    Nothing(Option<Consent>),
    /// A person's word.
    Word,
}

impl Place {
    /// The digest of what its process says of the tool.
    pub(super) fn definition(&self, tool: &str) -> Option<Digest> {
        self.trusted.as_ref().and_then(|trusted| trusted.digest(tool))
    }

    /// Whether its process says of the tool what it did when it was judged.
    pub(super) fn still_has(&self, tool: &str) -> bool {
        self.trusted.as_ref().is_none_or(|trusted| trusted.still_says(tool, &self.entry.listing()))
    }
}

impl Gatekeeper {
    /// Weighs a call, waits for a person where a rule asks for one, and for its place.
    pub(super) async fn cleared(&self, call: &mut Attended, meant: &mut Meant) -> Result<Cleared, Unmade> {
        // Nothing is started for a call that the permissions deny.
        let mut judged = self.judged(call, meant).await?;
        let mut said = None;
        loop {
            let mut before = Some(judged);
            if let Some(asking) = before.take_if(|judged| matches!(self.needs(&call.view, judged, said.as_ref()), Needs::Word)) {
                said = Some(self.word(call, meant, asking).await?);
            }
            let view = Arc::clone(&call.view);
            let (place, has_waited) = call.wait_on(self.place(&view, meant)).await?;
            let place = place?;
            let server = self.tools.server(&meant.server.name).ok_or_else(|| call.refused(&meant.unknown()))?;
            if !server.runs_like(place.entry.server()) {
                return Err(Unmade::Failed(ToolFault::Changed { server: server.name.clone() }));
            }
            let is_same = Arc::ptr_eq(&server, &meant.server);
            meant.server = server;
            if let Some(trusted) = &place.trusted {
                self.is_there(call, meant, trusted)?;
            }
            judged = match before {
                Some(judged) if is_same && !has_waited => judged,
                _ => self.judged(call, meant).await?,
            };
            if let Needs::Nothing(consent) = self.needs(&call.view, &judged, said.as_ref()) {
                return Ok(Cleared { weighed: judged.weighed, consent, server: Arc::clone(&meant.server), place });
            }
            // A rule asks that did not before: no place is kept while a person thinks.
        }
    }

    /// What a call needs that is not denied.
    fn needs(&self, view: &AccountView, judged: &Judged, said: Option<&Said>) -> Needs {
        if judged.weighed.verdict.effect != Effect::Ask {
            return Needs::Nothing(None);
        }
        if let Some(Said { by, always, stated }) = said {
            return Needs::Nothing(Some(Consent { always: *always && judged.stated == *stated, by: by.clone() }));
        }
        let lasting = judged.stated.and_then(|stated| self.approvals.lasting_by(view.agent.id, judged.weighed.name(), stated));
        lasting.map_or(Needs::Word, |by| Needs::Nothing(Some(Consent { always: true, by })))
    }

    /// Takes a call's place at its server, and looks at what that says of its tools.
    async fn place(&self, view: &AccountView, meant: &Meant) -> Result<Place, Unmade> {
        let entry = self.tools.enter(&meant.server.name, &who(view)).await.map_err(Unmade::Failed)?;
        let trusted = match meant.is_listed {
            true => Some(self.screened(&meant.server, entry.listing()).await),
            false => None,
        };
        Ok(Place { entry, trusted })
    }

    /// Whether the server has the tool, and it can be offered.
    fn is_there(&self, call: &Attended, meant: &Meant, trusted: &Trusted) -> Result<(), Unmade> {
        let name = &meant.wanted.name;
        if trusted.listing.tools.iter().any(|tool| tool.name == name.tool) {
            return Ok(());
        }
        Err(call.refused(&match trusted.listing.quarantined.iter().find(|tool| tool.name == name.tool) {
            Some(bad) => Denial::ToolQuarantined { tool: name.to_string(), why: bad.reason.clone() },
            None => meant.unknown(),
        }))
    }

    /// A person's word for a call.
    async fn word(&self, call: &mut Attended, meant: &Meant, judged: Judged) -> Result<Said, Unmade> {
        // A tool that is not there is not asked for.
        if meant.is_listed {
            let caller = who(&call.view);
            let (trusted, _) = call.wait_on(self.trusted(&meant.server, &caller)).await?;
            self.is_there(call, meant, &trusted.map_err(Unmade::Failed)?)?;
        }
        let Judged { weighed, stated } = judged;
        let view = Arc::clone(&call.view);
        let limit = self.gate.active().config.settings.approval_timeout.value;
        let asked_at = clock::wall();
        let waiting = Waiting {
            request: call.request,
            account: view.agent.id,
            agent: view.agent.name.clone(),
            run: (view.kind == AccountKind::Run).then_some(view.named.id),
            tool: weighed.name().clone(),
            arguments: serde_json::Value::Object(meant.wanted.arguments.map().clone()).to_string(),
            answers: meant.wanted.answers.clone(),
            bytes: weighed.bytes(),
            input: weighed.input(),
            by: weighed.verdict.by.clone(),
            stated,
            asked_at,
            expires_at: asked_at.offset(i64::try_from(limit.as_micros()).unwrap_or(i64::MAX)),
        };
        let request = call.request;
        let unasked = |weighed, why| Err(Unmade::Denied(self.gate.refuse_tool(&view, request, weighed, Some(why))));
        let Some(mut turn) = self.approvals.wait(waiting) else { return unasked(weighed, NoConsent::TooMany) };
        let mut draining = self.gate.draining();
        let word = async {
            tokio::select! {
                biased;
                () = async { drop(draining.wait_for(|draining| *draining).await) } => Err(Denial::Draining),
                word = turn.word(limit) => Ok(word),
            }
        };
        match call.wait(word).await {
            Ok((Ok(Some(Word::Yes { by, always })), _)) => Ok(Said { by, always, stated }),
            Ok((Ok(Some(Word::No)), _)) => unasked(weighed, NoConsent::Refused),
            Ok((Ok(None), _)) | Err(Over::Left) => unasked(weighed, NoConsent::Unanswered),
            Ok((Err(denial), _)) | Err(Over::Refused(denial)) => Err(call.refused(&denial)),
        }
    }
}
