//! Admission: everything between a parsed request and the send, in the order of the checks. First failure wins.

use super::circuit::Passage;
use super::policy::{InForce, facts};
use super::tokens::TakenTokens;
use super::{Active, Card, Entered, Evidence, Gate, Tight};
use crate::config::ProviderKind;
use crate::ledger::{AccountView, Held, HoldCall, LedgerFault, Snapshot};
use aex_core::ask::{Ask, Reference};
use aex_core::books::HoldKey;
use aex_core::breaker::Heard;
use aex_core::decision::{Denial, Protocol};
use aex_core::event::Skipped;
use aex_core::policy::{self, Facts, Permit};
use aex_core::price::{self, Bound, Terms};
use aex_proto::value::Digest;
use std::sync::Arc;
use std::time::Duration;

/// How long a call may last in all: longer than any SDK waits. It is cut then; a hold that nobody drives is ended then.
pub const CALL_LASTS: Duration = Duration::from_secs(2 * 3_600);

/// What a client brings to authenticate with at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brings {
    /// A key that it names as one for the provider of this call.
    Key,
    /// Its own credentials for Anthropic, beside the agent's token.
    Credentials,
}

/// What was decided.
#[derive(Debug)]
pub enum Decision<P = Hold> {
    /// The call may be sent: the proof of it.
    Permit(P),
    /// It may not.
    Deny(Turned),
}

/// A caller whose call was not admitted.
#[derive(Debug)]
pub struct Turned {
    /// The caller, for another model's sake.
    pub entered: Entered,
    /// Why not.
    pub unmet: Box<Unmet>,
    /// The tokens of its prompt may fit where its bytes do not.
    pub tight: Option<Box<Tight>>,
}

/// Why a call was not admitted, and what that was decided on.
#[derive(Debug)]
pub struct Unmet {
    denial: Denial,
    ask: Ask,
    card: Option<Digest>,
    facts: Option<Facts>,
    policy: Option<Arc<Snapshot>>,
}

impl Unmet {
    /// The denial.
    #[must_use]
    pub const fn denial(&self) -> &Denial {
        &self.denial
    }

    /// Records it: the client is told so.
    pub fn record(&self, gate: &Gate, entered: &Entered) {
        let Unmet { denial, ask, card, facts, policy } = self;
        let evidence = Evidence { ask: Some(ask), card: *card, facts: facts.as_ref(), policy: policy.as_ref(), ..Evidence::default() };
        gate.refused(entered.request, Some(&entered.view), denial, evidence);
    }
}

/// Money held for a call: the permit to send it. Ended by [`super::settle`], exactly once; by the call's tracker after a panic,
/// and by the next start after a crash.
#[derive(Debug)]
#[must_use = "a hold that is not settled keeps its money until the deadline"]
pub struct Hold {
    /// The hold's row.
    pub key: HoldKey,
    /// What the ledger answered.
    pub held: Held,
    /// The model.
    pub card: Arc<Card>,
    /// The output limit per choice that holds, and what the policy's limits changed.
    pub permit: Permit,
    /// The most that it can use and cost.
    pub bound: Bound,
    /// What it asked that decides its charge.
    pub terms: Terms,
    /// Who calls.
    pub view: Arc<AccountView>,
    /// Whether a failure of a gateway is charged, by the configuration that admitted the call.
    pub gateway_errors_charged: bool,
    /// What it took of the tokens per minute.
    pub(super) tokens: TakenTokens,
    /// What is heard of the provider is told here.
    passage: Passage,
    /// Keeps the call in the rates until it is settled.
    pub(super) entered: Entered,
}

/// A call that costs nothing and may be sent: all but the money was decided for it.
#[derive(Debug)]
pub struct Exempt {
    /// The model.
    pub card: Arc<Card>,
    /// What the policy's limits changed.
    pub permit: Permit,
    /// Who calls.
    pub view: Arc<AccountView>,
    /// Keeps the call in the rates until it is done.
    _entered: Entered,
}

/// What a send needs of an admitted call. Only the gate makes one.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    card: &'a Card,
    permit: &'a Permit,
}

impl<'a> Sending<'a> {
    /// The model.
    #[must_use]
    pub const fn card(self) -> &'a Card {
        self.card
    }

    /// The output limit, and what the policy's limits changed.
    #[must_use]
    pub const fn permit(self) -> &'a Permit {
        self.permit
    }
}

impl Hold {
    /// The provider answered with a status: its breaker has to know.
    pub fn heard(&mut self, status: u16) {
        self.passage.tell(if status >= 500 { Heard::Down } else { Heard::Up });
    }

    /// The provider did not answer.
    pub fn unheard(&mut self) {
        self.passage.tell(Heard::Down);
    }

    /// For its send.
    #[must_use]
    pub fn sending(&self) -> Sending<'_> {
        Sending { card: &self.card, permit: &self.permit }
    }
}

impl Exempt {
    /// For its send.
    #[must_use]
    pub fn sending(&self) -> Sending<'_> {
        Sending { card: &self.card, permit: &self.permit }
    }
}

/// What is to be decided.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What the call asks.
    pub ask: Ask,
    /// Whose API it calls.
    pub protocol: Protocol,
    /// The digest of the bytes that the client sent.
    pub input: Digest,
    /// What it names of what the provider has stored.
    pub refers: Vec<Reference>,
    /// What the client brings in place of the daemon's key.
    pub brings: Option<Brings>,
    /// The model that it goes to, when that is not the one it asks for.
    pub card: Option<Arc<Card>>,
    /// Which try of the request, from 0.
    pub attempt: u8,
    /// Models that it does not go to.
    pub skipped: Vec<Skipped>,
}

/// Decides a call and holds its bound.
///
/// # Errors
/// When the ledger cannot commit: nothing is admitted then.
pub async fn admit(gate: &Gate, active: &Active, entered: Entered, asked: Asked) -> Result<Decision, LedgerFault> {
    let Asked { input, attempt, skipped, .. } = asked;
    let wanted = Wanted { ask: asked.ask, protocol: asked.protocol, refers: asked.refers, brings: asked.brings, card: asked.card };
    let Cleared { ask, card, policy, facts, permit } = match clear(gate, active, &entered.view, wanted).await? {
        Ok(cleared) => cleared,
        Err(unmet) => return Ok(turned(entered, unmet)),
    };
    let unmet = |denial, ask, facts| Unmet { denial, ask, card: Some(card.digest), facts, policy: Some(Arc::clone(&policy.snapshot)) };
    let passage = match card.circuit.pass() {
        Ok(passage) => passage,
        Err(retry_after_ms) => {
            let denial = Denial::ProviderDown { provider: card.provider.name.clone(), retry_after_ms };
            return Ok(turned(entered, unmet(denial, ask, facts)));
        }
    };
    let bound = match price::bound(&ask, &card.card, permit.max_tokens) {
        Ok(bound) => bound,
        Err(why) => return Ok(turned(entered, unmet(Denial::Unbounded { model: ask.model.clone(), why }, ask, facts))),
    };
    let tokens = match gate.take_tokens(&entered.view, &card, &ask, permit.max_tokens) {
        Ok(tokens) => tokens,
        Err(denial) => return Ok(turned(entered, unmet(denial, ask, facts))),
    };
    let terms = Terms::of(&ask, &card.card);
    let key = HoldKey { request: entered.request, attempt };
    let call = Box::new(HoldCall {
        key,
        account: entered.view.named.id,
        card: card.digest,
        policy: Arc::clone(&policy.snapshot),
        facts: facts.clone(),
        changes: permit.changes.clone(),
        rule: permit.rule.clone(),
        amount: bound.amount,
        input,
        input_tokens: bound.input_tokens,
        output_tokens: bound.output_tokens,
        max_tokens: permit.max_tokens,
        lasts_us: i64::try_from(CALL_LASTS.as_micros()).unwrap_or(i64::MAX),
        sent: true,
        idempotency: entered.ticket.as_ref().map(|ticket| ticket.name()),
        skipped,
        ask: ask.clone(),
        tool: None,
        tool_card: None,
    });
    gate.drives(key);
    if let Some(ticket) = &entered.ticket {
        ticket.spend();
    }
    let held = gate.ledger().hold(call).await;
    // What could not be held is not sent: its key is free.
    if let (Some(ticket), Ok(Err(_)) | Err(_)) = (&entered.ticket, &held) {
        ticket.free();
    }
    match held? {
        Ok(held) => {
            let view = Arc::clone(&entered.view);
            let gateway_errors_charged = active.config.settings.charge_on_gateway_error.value;
            Ok(Decision::Permit(Hold { key, held, card, permit, bound, terms, view, gateway_errors_charged, tokens, passage, entered }))
        }
        Err(denial) => {
            tokens.correct(0);
            let tight = Tight::of(&denial, active, &ask, &card, permit.max_tokens).map(Box::new);
            Ok(Decision::Deny(Turned { entered, unmet: Box::new(unmet(denial, ask, facts)), tight }))
        }
    }
}

/// Decides a call that costs nothing: by all that [`admit`] checks but price, tokens per minute and budget.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn exempt(gate: &Gate, active: &Active, entered: Entered, asked: Asked) -> Result<Decision<Exempt>, LedgerFault> {
    let wanted = Wanted { ask: asked.ask, protocol: asked.protocol, refers: asked.refers, brings: asked.brings, card: asked.card };
    Ok(match clear(gate, active, &entered.view, wanted).await? {
        Ok(Cleared { card, permit, .. }) => Decision::Permit(Exempt { card, permit, view: Arc::clone(&entered.view), _entered: entered }),
        Err(unmet) => turned(entered, unmet),
    })
}

fn turned<P>(entered: Entered, unmet: Unmet) -> Decision<P> {
    Decision::Deny(Turned { entered, unmet: Box::new(unmet), tight: None })
}

/// What the policy is asked.
struct Wanted {
    ask: Ask,
    protocol: Protocol,
    refers: Vec<Reference>,
    brings: Option<Brings>,
    card: Option<Arc<Card>>,
}

/// A call that its policy lets pass, and whose provider can be called.
struct Cleared {
    ask: Ask,
    card: Arc<Card>,
    policy: Arc<InForce>,
    facts: Option<Facts>,
    permit: Permit,
}

/// The checks before the money. Inner: why the call does not pass.
async fn clear(gate: &Gate, active: &Active, view: &AccountView, wanted: Wanted) -> Result<Result<Cleared, Unmet>, LedgerFault> {
    let Wanted { mut ask, protocol, refers, brings, card } = wanted;
    let Some(card) = card.or_else(|| active.card(&ask.model).cloned()) else {
        let denial = Denial::UnknownModel { model: ask.model.clone() };
        return Ok(Err(Unmet { denial, ask, card: None, facts: None, policy: None }));
    };
    ask.model.clone_from(&card.card.name);
    if card.provider.speaking(protocol).is_none() {
        let (model, provider) = (ask.model.clone(), card.provider.name.clone());
        let setting = card.provider.kind.other_setting().map(str::to_owned);
        let denial = Denial::Protocol { model, protocol, provider, setting };
        return Ok(Err(Unmet { denial, ask, card: Some(card.digest), facts: None, policy: None }));
    }
    let policy = match active.policy_of(view) {
        Ok(policy) => policy,
        Err(denial) => return Ok(Err(Unmet { denial, ask, card: Some(card.digest), facts: None, policy: None })),
    };
    let facts = facts(gate, active, view, &policy.effective).await?;
    let provider = &card.provider;
    let lacks_key = || provider.needs_key() && brings.is_none() && active.config.keys.get(&provider.name).is_none();
    let passable = || {
        if brings.is_some() && !policy.effective.fields.allow_passthrough {
            return Some(Denial::Passthrough);
        }
        // A subscriber's token opens more than this call: no other host is shown it, whatever it speaks.
        if brings == Some(Brings::Credentials) && provider.kind != ProviderKind::Anthropic {
            return Some(Denial::PassthroughElsewhere { provider: provider.name.clone() });
        }
        lacks_key().then(|| Denial::KeyMissing { provider: provider.name.clone(), variable: provider.key_variable.clone() })
    };
    let denial = match policy::decide(&ask, &card.card, &policy.effective, facts.as_ref()) {
        Err(denial) => denial,
        Ok(permit) => match gate.not_owned(view, &provider.name, refers).await?.or_else(passable) {
            Some(denial) => denial,
            None => return Ok(Ok(Cleared { ask, card, policy, facts, permit })),
        },
    };
    Ok(Err(Unmet { denial, ask, card: Some(card.digest), facts, policy: Some(Arc::clone(&policy.snapshot)) }))
}
