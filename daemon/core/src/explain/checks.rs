//! Every check of a request, with its values, in the order of the request's path; the one that denied is the last.

use crate::ask::Ask;
use crate::decision::{Denial, RateKind};
use crate::policy::{self, Effective, Fallback, Permit};
use crate::price::{self, Bound, ModelCard, Unbounded};
use crate::verify::{Holder, Standing};
use aex_proto::account::AccountState;
use aex_proto::explain::{Check, Verdict};
use aex_proto::value::{AccountId, Pico};

/// What the checks looked at, as far as the request came.
pub(super) struct Seen<'a> {
    pub(super) standing: &'a Standing,
    pub(super) denial: Option<&'a Denial>,
    pub(super) ask: Option<&'a Ask>,
    pub(super) card: Option<&'a ModelCard>,
    pub(super) policy: Option<&'a Effective>,
    /// What the policy says again, when it let the call pass.
    pub(super) permit: Option<&'a Permit>,
    pub(super) bound: Option<Bound>,
}

/// The list under way; `Err(Done)`: the check that denied is in it.
struct List(Vec<Check>);
struct Done;
type Step = Result<(), Done>;

pub(super) fn checks(seen: &Seen<'_>) -> Vec<Check> {
    let mut list = List(Vec::new());
    let step = seen.entered(&mut list).and_then(|()| seen.read(&mut list)).and_then(|()| seen.decided(&mut list));
    // Whatever denied stands at the end, though its account or limit may have changed before the denial was recorded.
    if let (Ok(()), Some(denial)) = (step, seen.denial) {
        list.put(&denial.rule(), String::new(), None, None, Verdict::Denied);
    }
    list.0
}

impl List {
    fn put(&mut self, name: &str, asked: String, allowed: Option<String>, of: Option<String>, verdict: Verdict) {
        self.0.push(Check { allowed, asked, name: name.to_owned(), of, verdict });
    }

    /// A check that denied when `denied`, and let pass otherwise.
    fn check(&mut self, denied: bool, name: &str, asked: impl Into<String>, allowed: Option<String>, of: Option<&str>) -> Step {
        let verdict = if denied { Verdict::Denied } else { Verdict::Passed };
        self.put(name, asked.into(), allowed, of.map(str::to_owned), verdict);
        if denied { Err(Done) } else { Ok(()) }
    }
}

impl Seen<'_> {
    /// What needs no body.
    fn entered(&self, list: &mut List) -> Step {
        match self.denial {
            Some(Denial::Unauthenticated { cause }) => {
                return list.check(true, "authentication", super::name(cause), Some("a valid token".to_owned()), None);
            }
            Some(Denial::AuthThrottled { .. }) => {
                return list.check(true, "authentication_rate", "one more failed authentication", None, Some("this address"));
            }
            _ => {}
        }
        let caller = self.standing.path.first().map(|holder| holder.name.as_str());
        list.check(false, "authentication", "a token", Some("a valid token".to_owned()), caller)?;
        let read_only = matches!(self.denial, Some(Denial::ReadOnlyToken));
        list.check(read_only, "token_scope", if read_only { "read-only" } else { "execution" }, Some("execution".to_owned()), None)?;
        for holder in &self.standing.path {
            self.state(list, holder)?;
        }
        for holder in &self.standing.path {
            self.rates(list, holder)?;
        }
        if matches!(self.denial, Some(Denial::Draining)) {
            return list.check(true, "shutdown", "a new call", Some("none while the daemon stops".to_owned()), None);
        }
        Ok(())
    }

    fn state(&self, list: &mut List, holder: &Holder) -> Step {
        let active = || Some(AccountState::Active.name().to_owned());
        match self.denial {
            Some(Denial::Account { account, reason, state }) if account.id == holder.id => {
                let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                list.check(true, "account_state", format!("{}{why}", state.name()), active(), Some(&holder.name))
            }
            _ if holder.state == AccountState::Active => {
                list.check(false, "account_state", holder.state.name(), active(), Some(&holder.name))
            }
            // It changed between the decision and its event.
            _ => Ok(()),
        }
    }

    fn rates(&self, list: &mut List, holder: &Holder) -> Step {
        let kinds =
            [(RateKind::RequestsPerMinute, "rpm", holder.limits.rpm), (RateKind::Concurrent, "concurrency", holder.limits.concurrent)];
        for (kind, name, limit) in kinds {
            let told = match self.denial {
                Some(Denial::Rate { account, kind: denied, limit, .. }) if account.id == holder.id && *denied == kind => Some(*limit),
                _ => None,
            };
            let Some(limit) = told.or(limit) else { continue };
            let unit = if kind == RateKind::RequestsPerMinute { "requests in 60 s" } else { "requests in flight" };
            list.check(told.is_some(), name, "one more", Some(format!("{limit} {unit}")), Some(&holder.name))?;
        }
        Ok(())
    }

    /// The body, and the model that it names.
    fn read(&self, list: &mut List) -> Step {
        match self.denial {
            Some(Denial::TooLarge { limit }) => {
                return list.check(true, "max_body", format!("more than {limit} bytes"), Some(format!("{limit} bytes")), None);
            }
            Some(Denial::Malformed { message, param }) => {
                return list.check(true, "request_form", message.clone(), Some("a valid request".to_owned()), param.as_deref());
            }
            _ => {}
        }
        if let Some(ask) = self.ask {
            list.check(false, "max_body", format!("{} bytes", ask.body_bytes), None, None)?;
            let form = if ask.stream { "a stream" } else { "a plain answer" };
            list.check(false, "request_form", form, Some("a valid request".to_owned()), None)?;
        }
        let known = || Some("a model of models.yaml".to_owned());
        match (self.denial, self.card) {
            (Some(Denial::UnknownModel { model }), _) => list.check(true, "known_model", model.clone(), known(), None),
            (_, Some(card)) => list.check(false, "known_model", card.name.clone(), known(), None),
            _ => Ok(()),
        }?;
        match (self.denial, self.card) {
            (Some(Denial::Protocol { protocol, provider, .. }), Some(card)) => {
                let speaks = Some("a protocol that the model's provider speaks".to_owned());
                list.check(true, "protocol", format!("{} of {provider}", protocol.name()), speaks, Some(&card.name))
            }
            _ => Ok(()),
        }
    }

    /// Policy, price and money.
    fn decided(&self, list: &mut List) -> Step {
        if let Some(Denial::TwoProfiles { profiles: [first, second] }) = self.denial {
            return list.check(true, "profiles", format!("{first} and {second}"), Some("one at most".to_owned()), None);
        }
        let (Some(ask), Some(card), Some(policy)) = (self.ask, self.card, self.policy) else { return Ok(()) };
        self.fields(list, ask, card, policy)?;
        self.rules(list, policy)?;
        if let Some(Denial::NotStored { name, .. }) = self.denial {
            return list.check(true, "stored_response", name.as_str(), Some("what the agent got at this provider".to_owned()), None);
        }
        match self.denial {
            Some(Denial::Passthrough) => {
                return list.check(true, "allow_passthrough", "a provider key of its own", Some("false".to_owned()), None);
            }
            Some(Denial::PassthroughElsewhere { provider }) => {
                let limit = Some("a provider of `type: anthropic`".to_owned());
                return list.check(true, "allow_passthrough", "the client's own credentials", limit, Some(provider));
            }
            Some(Denial::KeyMissing { variable, .. }) => {
                list.check(true, "provider_key", format!("{variable} is not set"), Some("a key".to_owned()), Some(&card.provider))?;
            }
            _ => list.check(false, "provider_key", "there, or none needed", Some("a key".to_owned()), Some(&card.provider))?,
        }
        let priced = || Some("a price for all that it asks".to_owned());
        match (self.denial, self.bound) {
            (Some(Denial::Unbounded { why, .. }), _) => list.check(true, "price", unbounded(why), priced(), Some(&card.name))?,
            (_, Some(bound)) => list.check(false, "price", format!("at most {}", bound.amount), priced(), Some(&card.name))?,
            _ => return Ok(()),
        }
        self.tokens(list, ask, card)?;
        self.budgets(list)
    }

    /// All of them are looked at, whichever decides.
    fn fields(&self, list: &mut List, ask: &Ask, card: &ModelCard, policy: &Effective) -> Step {
        let mut decided = false;
        for (breach, is_broken) in policy::checked(&price::without_dropped(ask, card), card, &policy.fields) {
            let verdict = match (is_broken, decided) {
                (false, _) => Verdict::Passed,
                (true, false) => Verdict::Denied,
                (true, true) => Verdict::Broken,
            };
            decided |= is_broken;
            let asked = if breach.asked.is_empty() { "nothing".to_owned() } else { breach.asked };
            list.put(
                breach.rule.setting(),
                asked,
                Some(if breach.limit.is_empty() { "anything".to_owned() } else { breach.limit }),
                None,
                verdict,
            );
        }
        if decided { Err(Done) } else { Ok(()) }
    }

    fn rules(&self, list: &mut List, policy: &Effective) -> Step {
        let place = |file: &str, line: u64| format!("{file}:{line}");
        if let Some(Denial::Rule(ruled)) = self.denial {
            let place = ruled.file.as_ref().zip(ruled.line).map(|(file, line)| place(file, line));
            let why = ruled.error.clone().or_else(|| ruled.reason.clone()).unwrap_or_else(|| ruled.effect.name().to_owned());
            return list.check(true, &format!("rule:{}", ruled.rule), why, None, place.as_deref());
        }
        if !policy.has_rules() {
            return Ok(());
        }
        let rule = self.permit.and_then(|permit| permit.rule.as_ref());
        let spec = rule.and_then(|name| policy.rules.iter().find(|spec| spec.name == *name));
        match spec {
            Some(spec) => {
                let of = place(&spec.file, spec.line);
                list.check(false, &format!("rule:{}", spec.name), spec.effect.name(), None, Some(&of))
            }
            None => {
                let default = if policy.default == Fallback::Allow { "allow" } else { "deny" };
                list.check(false, "rule:default", "no rule decides", Some(default.to_owned()), None)
            }
        }
    }

    fn tokens(&self, list: &mut List, ask: &Ask, card: &ModelCard) -> Step {
        let asked = self.permit.map_or(0, |permit| ask.estimated_tokens(permit.max_tokens));
        let told = |whose: Option<AccountId>| match self.denial {
            Some(Denial::TokenRate { account, asked, limit, .. }) if account.as_ref().map(|named| named.id) == whose => {
                Some((*asked, *limit))
            }
            _ => None,
        };
        let accounts = self.standing.path.iter().map(|holder| (Some(holder.id), holder.name.as_str(), holder.limits.tpm));
        for (whose, name, limit) in accounts.chain([(None, card.name.as_str(), card.max_tokens_per_minute)]) {
            let denied = told(whose);
            let Some((asked, limit)) = denied.or(limit.map(|limit| (asked, limit))) else { continue };
            list.check(denied.is_some(), "tpm", format!("about {asked} tokens"), Some(format!("{limit} tokens in 60 s")), Some(name))?;
        }
        Ok(())
    }

    fn budgets(&self, list: &mut List) -> Step {
        let asked = self.bound.map_or(Pico::ZERO, |bound| bound.amount);
        for holder in &self.standing.path {
            for purse in &holder.purses {
                let told = match self.denial {
                    Some(Denial::Budget { account, left, limit, period, .. }) if account.id == holder.id && *period == purse.period => {
                        Some((*left, *limit))
                    }
                    _ => None,
                };
                let used = purse.balance.as_ref().and_then(|balance| balance.spent.plus(balance.reserved)).unwrap_or(Pico::ZERO);
                let stood = purse.limit.and_then(|limit| Some((limit.minus(used)?, limit)));
                let Some((left, limit)) = told.or(stood) else { continue };
                let of = format!("{} by {}", holder.name, purse.period.name());
                let allowed = Some(format!("{left} left of {limit}"));
                list.check(told.is_some(), "budget", asked.to_string(), allowed, Some(&of))?;
            }
        }
        Ok(())
    }
}

fn unbounded(why: &Unbounded) -> String {
    match why {
        Unbounded::Unpriced => "the model has no price".to_owned(),
        Unbounded::AudioUnpriced => "audio, which has no price".to_owned(),
        Unbounded::ContextUnknown => "parts whose size is unknown, and the model's context, too".to_owned(),
        Unbounded::CacheUnpriced(lifetime) => format!("a write to a cache for {lifetime}, which has no price"),
        Unbounded::HostedTool(tool) => format!("the tool {tool}, which the provider runs, without a price"),
        Unbounded::HostedUnlimited(tool) => format!("the tool {tool}, which the provider runs as often as it likes"),
        Unbounded::Tier(tier) => format!("the service tier {tier}, which has no price"),
        Unbounded::TooLarge => "more money than can be held".to_owned(),
    }
}
