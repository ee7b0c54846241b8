//! Calls of tools at the gate: what the permissions say, what the rules' rates let through, the price that is held; and the end.
//!
//! Must not: know processes, wait for people. Whoever runs the call asks the gate at each step, and tells it how the call ended.

use super::{Active, CALL_LASTS, Call, Entered, Evidence, Gate};
use crate::ledger::{AccountView, EndCall, Held, HoldCall, LedgerFault, Snapshot};
use crate::os::clock;
use crate::tools::resolve::{Bases, resolve};
use aex_core::ask::Ask;
use aex_core::books::HoldKey;
use aex_core::decision::Denial;
use aex_core::ended::Ended;
use aex_core::event::Outcome;
use aex_core::price::{self, Bound, ModelCard, Terms};
use aex_core::rate::{Counted, Spent};
use aex_core::tool::{self, Answers, Arguments, Caller, Consent, Effect, NoConsent, ToolCall, ToolDenied, ToolName, ToolResult, Verdict};
use aex_core::usage::Usage;
use aex_proto::sandbox::Level;
use aex_proto::value::{Digest, Pico, RequestId};
use std::collections::HashMap;
use std::sync::Arc;

/// Cards of tools that are kept ready: one for each tool and price.
const MAX_CARDS: usize = 4_096;

/// Cards of tools by tool and price.
pub(super) type Cards = HashMap<(ToolName, Option<Pico>), Arc<ToolCard>>;

/// What a tool costs, as events name it.
#[derive(Debug)]
pub(super) struct ToolCard {
    card: ModelCard,
    snapshot: Arc<Snapshot>,
}

/// A call of a tool that an agent wants to make.
#[derive(Debug)]
pub struct ToolWanted {
    /// The tool.
    pub name: ToolName,
    /// Its arguments.
    pub arguments: Arguments,
    /// What it answers to questions of the server, in canonical JSON.
    pub answers: Option<String>,
    /// Where the paths among them begin.
    pub bases: Bases,
    /// What its server's configuration asks for a call.
    pub price: Option<Pico>,
    /// Its arguments are recorded whole.
    pub log_full: bool,
}

/// What the permissions say to a call.
#[derive(Debug)]
pub struct Weighed {
    /// The verdict.
    pub verdict: Verdict,
    call: ToolCall,
    name: ToolName,
    input: Digest,
    bytes: u64,
    price: Option<Pico>,
    policy: Arc<Snapshot>,
}

/// Money held for a call of a tool, of which there may be none: the permit to make it. Ended by [`Gate::end_tool`], exactly once.
#[derive(Debug)]
#[must_use = "a hold that is not ended keeps its money until the deadline"]
pub struct ToolHold {
    /// The hold's row.
    pub key: HoldKey,
    held: Held,
    bound: Bound,
    card: Arc<ToolCard>,
    /// Keeps the call in the rates until it ends.
    entered: Entered,
}

/// How a call of a tool ended.
#[derive(Debug)]
pub enum ToolEnded {
    /// With a result.
    Answered(ToolResult),
    /// Its server certainly saw nothing of it.
    Unsent,
    /// Its server says that it is no valid request, and did nothing.
    Refused,
    /// Without a result: it may have taken effect, and costs what it costs.
    Broken(Outcome),
}

impl ToolHold {
    /// Who calls.
    #[must_use]
    pub fn view(&self) -> &Arc<AccountView> {
        &self.entered.view
    }
}

impl Gate {
    /// Asks the permissions of a configuration. Nothing is recorded or taken yet.
    ///
    /// # Errors
    /// When the agent has no policy that can be read.
    pub async fn weigh_tool(&self, active: &Active, view: &AccountView, wanted: &ToolWanted) -> Result<Weighed, Denial> {
        let policy = active.policy_of(view)?;
        let caller = Caller { agent: view.agent.name.clone(), groups: view.groups.clone() };
        let ToolWanted { name, arguments, answers, bases, price, log_full } = wanted;
        let in_force = &active.permissions;
        let resolved = resolve(in_force.permissions.questions(&caller, name, arguments), bases.clone()).await;
        let facts = in_force.permissions.observe(&caller, name, arguments, &resolved);
        let verdict = in_force.permissions.decide(&caller, name, &facts).within(&policy.effective.fields, name);
        // `serde_json` writes maps by the order of their keys: the text is canonical.
        let text = serde_json::Value::Object(arguments.map().clone()).to_string();
        let said = tool::said(&text, answers.as_deref());
        let answered = |answers: &String| Answers { digest: Digest::of(answers.as_bytes()), text: log_full.then(|| answers.clone()) };
        let call = ToolCall {
            answers: answers.as_ref().map(answered),
            arguments: log_full.then_some(text),
            caller,
            consent: None,
            definition: None,
            facts,
            level: None,
            permissions: in_force.snapshot.digest,
            server: name.server.clone(),
            tool: name.tool.clone(),
        };
        let price = verdict.price.as_ref().map(|priced| priced.price).or(*price);
        let (input, bytes) = (Digest::of(said.as_bytes()), u64::try_from(said.len()).unwrap_or(u64::MAX));
        Ok(Weighed { verdict, call, name: name.clone(), input, bytes, price, policy: Arc::clone(&policy.snapshot) })
    }

    /// Records that a call of a tool is refused by its permissions, or for want of a person's word; the denial.
    pub fn refuse_tool(&self, view: &AccountView, request: RequestId, weighed: Weighed, unasked: Option<NoConsent>) -> Denial {
        let denial = Denial::Tool(Box::new(ToolDenied::of(weighed.verdict.clone(), &weighed.name, unasked)));
        self.refused_tool(view, request, &weighed, &denial, None);
        denial
    }

    fn refused_tool(&self, view: &AccountView, request: RequestId, weighed: &Weighed, denial: &Denial, card: Option<&ToolCard>) {
        let ask = weighed.ask();
        let evidence = Evidence {
            ask: Some(&ask),
            card: card.map(|card| card.snapshot.digest),
            input: Some(weighed.input),
            policy: Some(&weighed.policy),
            tool: Some(&weighed.call),
            tool_card: card.map(|card| &card.snapshot),
            ..Evidence::default()
        };
        self.refused(request, Some(view), denial, evidence);
    }

    /// Takes the rates of the rules and holds the price. `consent`: the word of a person, where the verdict is to ask for one.
    ///
    /// # Errors
    /// Outer: the ledger cannot commit. Inner: why the call does not pass; it is recorded.
    pub async fn hold_tool(
        &self,
        entered: Entered,
        mut weighed: Weighed,
        consent: Option<Consent>,
    ) -> Result<Result<ToolHold, Denial>, LedgerFault> {
        let (view, request) = (Arc::clone(&entered.view), entered.request);
        match (weighed.verdict.effect, consent) {
            (Effect::Allow, _) => {}
            (Effect::Ask, Some(consent)) => weighed.call.consent = Some(consent),
            (Effect::Ask, None) => return Ok(Err(self.refuse_tool(&view, request, weighed, Some(NoConsent::Unanswered)))),
            (Effect::Deny, _) => return Ok(Err(self.refuse_tool(&view, request, weighed, None))),
        }
        let card = self.tool_card(&weighed.name, weighed.price);
        if let Err(denial) = self.take_rule_rates(&view, &weighed) {
            self.refused_tool(&view, request, &weighed, &denial, Some(&card));
            return Ok(Err(denial));
        }
        let ask = weighed.ask();
        let bound = match price::bound(&ask, &card.card, 0) {
            Ok(bound) => bound,
            Err(why) => {
                let denial = Denial::Unbounded { model: ask.model.clone(), why };
                self.refused_tool(&view, request, &weighed, &denial, Some(&card));
                return Ok(Err(denial));
            }
        };
        let key = HoldKey { request, attempt: 0 };
        let call = HoldCall {
            key,
            account: view.named.id,
            ask,
            card: card.snapshot.digest,
            policy: Arc::clone(&weighed.policy),
            facts: None,
            changes: Vec::new(),
            rule: Some(weighed.verdict.by.rule.clone()),
            amount: bound.amount,
            input: weighed.input,
            input_tokens: bound.input_tokens,
            output_tokens: bound.output_tokens,
            max_tokens: 0,
            lasts_us: i64::try_from(CALL_LASTS.as_micros()).unwrap_or(i64::MAX),
            sent: true,
            idempotency: None,
            skipped: Vec::new(),
            tool: Some(Box::new(weighed.call.clone())),
            tool_card: Some(Arc::clone(&card.snapshot)),
        };
        match self.ledger().hold(Box::new(call)).await? {
            Ok(held) => Ok(Ok(ToolHold { key, held, bound, card, entered })),
            Err(denial) => {
                self.refused_tool(&view, request, &weighed, &denial, Some(&card));
                Ok(Err(denial))
            }
        }
    }

    /// Waits until a result may be shown: the hold of a call that costs something has to be on disk, as a model's has.
    ///
    /// # Errors
    /// When the disk refuses to flush.
    pub async fn may_show(&self, hold: &ToolHold) -> Result<(), LedgerFault> {
        if hold.bound.amount == Pico::ZERO {
            return Ok(());
        }
        self.ledger().may_relay(&hold.held).await
    }

    /// Ends a call of a tool. Does not wait: the end is in line before every later hold.
    pub fn end_tool(&self, hold: ToolHold, ended: ToolEnded) {
        let ToolHold { key, bound, card, entered, .. } = hold;
        let (ended, result) = match ended {
            ToolEnded::Answered(result) => (Ended::Answered { status: 200, usage: Usage::default() }, Some(Box::new(result))),
            ToolEnded::Unsent => (Ended::NeverSent, None),
            ToolEnded::Refused => (Ended::Refused { status: 400 }, None),
            ToolEnded::Broken(outcome) => (Ended::Unknown { outcome, status: None }, None),
        };
        let ending = ended.ending(&bound, &card.card, &Terms::default(), true);
        if let Err(fault) = self.ledger().end_call(EndCall { key, ending, tool: result }) {
            tracing::error!(request = %key.request, %fault, "a call of a tool could not be settled; the next start charges it in full");
        }
        drop(entered);
    }

    fn take_rule_rates(&self, view: &AccountView, weighed: &Weighed) -> Result<(), Denial> {
        let rates = &weighed.verdict.rates;
        if rates.is_empty() {
            return Ok(());
        }
        let levels = rates.iter().map(|rated| (Counted::Rule(view.agent.id, rated.rule.clone()), rated.per_minute)).collect();
        // A panic while they were held: they cannot be trusted, so nothing passes.
        let mut tokens = self.inner.tokens.lock().map_err(|_| Denial::LedgerUnavailable)?;
        let taken = tokens.take(levels, 1, clock::mono_ms());
        drop(tokens);
        let Err(Spent { counted, limit, retry_after_ms }) = taken else { return Ok(()) };
        let rule = match counted {
            Counted::Rule(_, rule) => rule,
            Counted::Account(_) | Counted::Model(_) => String::new(),
        };
        // A rate of 0 never lets one pass; a minute is as good a time to ask again as any.
        Err(Denial::ToolRate { limit, retry_after_ms: retry_after_ms.unwrap_or(60_000), rule, tool: weighed.name.to_string() })
    }

    fn tool_card(&self, name: &ToolName, price: Option<Pico>) -> Arc<ToolCard> {
        let key = (name.clone(), price);
        if let Some(card) = self.inner.tool_cards.lock().ok().and_then(|cards| cards.get(&key).cloned()) {
            return card;
        }
        let card = tool::card(name, price);
        let (text, digest) = card.snapshot();
        let card = Arc::new(ToolCard { card, snapshot: Arc::new(Snapshot { kind: "card", digest, text }) });
        if let Ok(mut cards) = self.inner.tool_cards.lock() {
            if cards.len() >= MAX_CARDS {
                cards.clear();
            }
            cards.insert(key, Arc::clone(&card));
        }
        card
    }
}

impl Weighed {
    /// The tool.
    #[must_use]
    pub const fn name(&self) -> &ToolName {
        &self.name
    }

    /// Who calls, by the names that the rules look at.
    #[must_use]
    pub const fn caller(&self) -> &Caller {
        &self.call.caller
    }

    /// It goes to a process that is confined so and says this of the tool.
    pub fn goes_to(&mut self, level: Level, definition: Option<Digest>) {
        (self.call.level, self.call.definition) = (Some(level.name().to_owned()), definition);
    }

    /// The call as the ledger knows calls. What it costs does not depend on its size.
    fn ask(&self) -> Ask {
        Ask { choices: 1, model: tool::counted_as(&self.name), tool_names: Vec::new(), text_chars: 0, body_bytes: 0, ..Ask::default() }
    }

    /// The digest of what it says.
    #[must_use]
    pub const fn input(&self) -> Digest {
        self.input
    }

    /// Bytes of what it says.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Ends what a call of a tool holds should its task be lost.
#[derive(Debug)]
pub struct ToolGuard {
    gate: Gate,
    call: Option<Call>,
}

impl ToolGuard {
    /// Tracks a call: the daemon's end waits for it.
    #[must_use]
    pub fn new(gate: &Gate, request: RequestId) -> ToolGuard {
        ToolGuard { gate: gate.clone(), call: Some(gate.track(request)) }
    }

    /// It ended in good order.
    pub fn done(mut self) {
        self.call = None;
    }
}

impl Drop for ToolGuard {
    fn drop(&mut self) {
        let Some(call) = self.call.take() else { return };
        let outcome = if std::thread::panicking() { Outcome::Panic } else { Outcome::Stopped };
        self.gate.end_lost(call.request(), outcome);
    }
}
