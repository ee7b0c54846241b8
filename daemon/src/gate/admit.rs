//! Admission: everything between a parsed request and the send, in the order of the checks. First failure wins.

use super::policy::{InForce, facts};
use super::tokens::TakenTokens;
use super::{Active, Card, Entered, Evidence, Gate};
use crate::ledger::{AccountView, Held, HoldCall, LedgerFault};
use aex_core::ask::{Ask, Reference};
use aex_core::books::HoldKey;
use aex_core::decision::{Denial, Protocol};
use aex_core::policy::{self, Facts, Permit};
use aex_core::price::{self, Bound, Terms};
use aex_proto::value::Digest;
use std::sync::Arc;
use std::time::Duration;

/// How long a call may last in all: longer than any SDK waits. It is cut then; a hold that nobody drives is ended then.
pub const CALL_LASTS: Duration = Duration::from_secs(2 * 3_600);

/// What was decided.
#[derive(Debug)]
pub enum Decision<P = Hold> {
    /// The call may be sent: the proof of it.
    Permit(P),
    /// It may not.
    Deny(Denial),
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
    /// Keeps the call in the rates until it is settled.
    _entered: Entered,
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
    /// The client brings a provider key of its own.
    pub brings_key: bool,
}

/// Decides a call and holds its bound.
///
/// # Errors
/// When the ledger cannot commit: nothing is admitted then.
pub async fn admit(gate: &Gate, active: &Active, entered: Entered, asked: Asked) -> Result<Decision, LedgerFault> {
    let input = asked.input;
    let Cleared { ask, card, policy, facts, permit } = match clear(gate, active, &entered, asked).await? {
        Decision::Permit(cleared) => cleared,
        Decision::Deny(denial) => return Ok(Decision::Deny(denial)),
    };
    let evidence = evidence(&ask, &card, facts.as_ref(), &policy);
    let bound = match price::bound(&ask, &card.card, permit.max_tokens) {
        Ok(bound) => bound,
        Err(why) => return Ok(deny(gate, &entered, Denial::Unbounded { model: ask.model.clone(), why }, evidence)),
    };
    let tokens = match gate.take_tokens(&entered.view, &card, &ask, permit.max_tokens) {
        Ok(tokens) => tokens,
        Err(denial) => return Ok(deny(gate, &entered, denial, evidence)),
    };
    let terms = Terms::of(&ask, &card.card);
    let key = HoldKey { request: entered.request, attempt: 0 };
    let call = HoldCall {
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
        ask: ask.clone(),
    };
    match gate.ledger().hold(call).await? {
        Ok(held) => {
            let view = Arc::clone(&entered.view);
            let gateway_errors_charged = active.config.settings.charge_on_gateway_error.value;
            Ok(Decision::Permit(Hold { key, held, card, permit, bound, terms, view, gateway_errors_charged, tokens, _entered: entered }))
        }
        Err(denial) => {
            tokens.correct(0);
            Ok(deny(gate, &entered, denial, evidence))
        }
    }
}

/// Decides a call that costs nothing: by all that [`admit`] checks but price, tokens per minute and budget.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn exempt(gate: &Gate, active: &Active, entered: Entered, asked: Asked) -> Result<Decision<Exempt>, LedgerFault> {
    Ok(match clear(gate, active, &entered, asked).await? {
        Decision::Permit(Cleared { card, permit, .. }) => {
            Decision::Permit(Exempt { card, permit, view: Arc::clone(&entered.view), _entered: entered })
        }
        Decision::Deny(denial) => Decision::Deny(denial),
    })
}

/// A call that its policy lets pass, and whose provider can be called.
struct Cleared {
    ask: Ask,
    card: Arc<Card>,
    policy: Arc<InForce>,
    facts: Option<Facts>,
    permit: Permit,
}

/// The checks before the money.
async fn clear(gate: &Gate, active: &Active, entered: &Entered, asked: Asked) -> Result<Decision<Cleared>, LedgerFault> {
    let Asked { mut ask, protocol, brings_key, refers, .. } = asked;
    let Some(card) = active.card(&ask.model).cloned() else {
        let denial = Denial::UnknownModel { model: ask.model.clone() };
        return Ok(deny(gate, entered, denial, Evidence { ask: Some(&ask), ..Evidence::default() }));
    };
    ask.model.clone_from(&card.card.name);
    if card.provider.speaking(protocol).is_none() {
        let (model, provider) = (ask.model.clone(), card.provider.name.clone());
        let setting = card.provider.kind.other_setting().map(str::to_owned);
        let denial = Denial::Protocol { model, protocol, provider, setting };
        let evidence = Evidence { ask: Some(&ask), card: Some(card.digest), ..Evidence::default() };
        return Ok(deny(gate, entered, denial, evidence));
    }
    let policy = match active.policy_of(&entered.view) {
        Ok(policy) => policy,
        Err(denial) => {
            let evidence = Evidence { ask: Some(&ask), card: Some(card.digest), ..Evidence::default() };
            return Ok(deny(gate, entered, denial, evidence));
        }
    };
    let facts = facts(gate, active, &entered.view, &policy.effective).await?;
    let evidence = evidence(&ask, &card, facts.as_ref(), &policy);
    let permit = match policy::decide(&ask, &card.card, &policy.effective, facts.as_ref()) {
        Ok(permit) => permit,
        Err(denial) => return Ok(deny(gate, entered, denial, evidence)),
    };
    if let Some(denial) = gate.not_owned(&entered.view, &card.provider.name, refers).await? {
        return Ok(deny(gate, entered, denial, evidence));
    }
    if brings_key && !policy.effective.fields.allow_passthrough {
        return Ok(deny(gate, entered, Denial::Passthrough, evidence));
    }
    let provider = &card.provider;
    if provider.needs_key() && !brings_key && active.config.keys.get(&provider.name).is_none() {
        let denial = Denial::KeyMissing { provider: provider.name.clone(), variable: provider.key_variable.clone() };
        return Ok(deny(gate, entered, denial, evidence));
    }
    Ok(Decision::Permit(Cleared { ask, card, policy, facts, permit }))
}

const fn evidence<'a>(ask: &'a Ask, card: &Card, facts: Option<&'a Facts>, policy: &'a InForce) -> Evidence<'a> {
    Evidence { ask: Some(ask), card: Some(card.digest), facts, policy: Some(&policy.snapshot) }
}

fn deny<P>(gate: &Gate, entered: &Entered, denial: Denial, evidence: Evidence<'_>) -> Decision<P> {
    gate.refused(entered.request, Some(&entered.view), &denial, evidence);
    Decision::Deny(denial)
}
