//! A call that a rule asks a person for: it waits, and is weighed again when there is an answer.
//!
//! While it waits it holds no money. Must not: decide who may answer.

use super::super::approvals::{Waiting, Word};
use super::super::server::Server;
use super::{Gatekeeper, Meant, Unmade};
use crate::gate::{Evidence, Weighed};
use crate::ledger::AccountView;
use crate::os::clock;
use aex_core::books::AccountKind;
use aex_core::decision::Denial;
use aex_core::tool::{Consent, Effect, NoConsent, shown};
use aex_proto::value::RequestId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// What a person is shown of a call's arguments, in bytes.
const MAX_SHOWN: usize = 8 << 10;

/// A call that may pass.
pub(super) struct Cleared {
    /// What the permissions say now.
    pub(super) weighed: Weighed,
    /// The person's word, where one is needed.
    pub(super) consent: Option<Consent>,
    /// Its server, as it is configured now.
    pub(super) server: Arc<Server>,
}

impl Gatekeeper {
    /// Weighs a call, and waits for a person where a rule asks for one.
    pub(super) async fn cleared(
        &self,
        view: &Arc<AccountView>,
        request: RequestId,
        meant: &mut Meant,
        left: &mut oneshot::Receiver<()>,
    ) -> Result<Cleared, Unmade> {
        let (weighed, stated) = self.weighed(view, request, meant).await?;
        self.is_there(view, request, meant).await?;
        if weighed.verdict.effect == Effect::Allow {
            return Ok(Cleared { weighed, consent: None, server: Arc::clone(&meant.server) });
        }
        let name = weighed.name().clone();
        let lasting = stated.and_then(|stated| self.approvals.lasting_by(view.agent.id, &name, stated));
        if let Some(by) = lasting {
            let consent = Some(Consent { always: true, by });
            return Ok(Cleared { weighed, consent, server: Arc::clone(&meant.server) });
        }
        let limit = self.gate.active().config.settings.approval_timeout.value;
        let text = serde_json::Value::Object(meant.wanted.arguments.map().clone()).to_string();
        let (arguments, is_cut) = shown(&text, MAX_SHOWN);
        let asked_at = clock::wall();
        let waiting = Waiting {
            request,
            account: view.agent.id,
            agent: view.agent.name.clone(),
            run: (view.kind == AccountKind::Run).then_some(view.named.id),
            tool: name,
            arguments,
            is_cut,
            bytes: weighed.bytes(),
            by: weighed.verdict.by.clone(),
            stated,
            asked_at,
            expires_at: asked_at.offset(i64::try_from(limit.as_micros()).unwrap_or(i64::MAX)),
        };
        let (by, always) = match self.word(view, waiting, limit, left).await {
            Ok(Word::Yes { by, always }) => (by, always),
            Ok(Word::No) => return Err(Unmade::Denied(self.gate.refuse_tool(view, request, weighed, Some(NoConsent::Refused)))),
            Err(Silence::Unasked(why)) => return Err(Unmade::Denied(self.gate.refuse_tool(view, request, weighed, Some(why)))),
            Err(Silence::Stopped(denial)) => {
                self.gate.refused(request, Some(view), &denial, Evidence::default());
                return Err(Unmade::Denied(denial));
            }
        };
        // Whatever was changed meanwhile holds.
        let view = self.still_there(view, request)?;
        let refused = |denial: Denial| {
            self.gate.refused(request, Some(&view), &denial, Evidence::default());
            Unmade::Denied(denial)
        };
        let servers = self.tools.servers();
        let server = servers.iter().find(|server| server.name == meant.server.name);
        meant.server = Arc::clone(server.ok_or_else(|| refused(Denial::UnknownTool { tool: meant.wanted.name.to_string() }))?);
        let (weighed, now_stated) = self.weighed(&view, request, meant).await?;
        self.is_there(&view, request, meant).await?;
        let consent = (weighed.verdict.effect == Effect::Ask).then_some(Consent { always: always && now_stated == stated, by });
        Ok(Cleared { weighed, consent, server: Arc::clone(&meant.server) })
    }

    async fn word(&self, view: &AccountView, waiting: Waiting, limit: Duration, left: &mut oneshot::Receiver<()>) -> Result<Word, Silence> {
        let mut draining = self.gate.draining();
        let mut turn = self.approvals.wait(waiting).ok_or(Silence::Unasked(NoConsent::TooMany))?;
        tokio::select! {
            biased;
            () = view.stop.raised() => Err(Silence::Stopped(self.gate.stopped_within(view))),
            _ = left => Err(Silence::Unasked(NoConsent::Unanswered)),
            () = async { drop(draining.wait_for(|draining| *draining).await) } => Err(Silence::Stopped(Denial::Draining)),
            word = turn.word(limit) => word.ok_or(Silence::Unasked(NoConsent::Unanswered)),
        }
    }

    /// The caller as it is now.
    fn still_there(&self, view: &Arc<AccountView>, request: RequestId) -> Result<Arc<AccountView>, Unmade> {
        let now = self.gate.ledger().directory().accounts.get(&view.named.id).map(Arc::clone);
        let denial = match &now {
            Some(now) => now.stopped.clone(),
            None => Some(self.gate.stopped_within(view)),
        };
        if let Some(denial) = denial {
            self.gate.refused(request, Some(view), &denial, Evidence::default());
            return Err(Unmade::Denied(denial));
        }
        Ok(now.unwrap_or_else(|| Arc::clone(view)))
    }
}

/// Why there is no word.
enum Silence {
    /// Nobody gave one.
    Unasked(NoConsent),
    /// The call may not go on at all.
    Stopped(Denial),
}
