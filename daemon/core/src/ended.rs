//! How a call ended, as it is seen, and what it is charged for that. Never zero for want of knowledge.

use crate::canon;
use crate::event::{Outcome, Relayed, Released, Settled};
use crate::hold::Ending;
use crate::price::{Bound, Charge, HostedCalls, ModelCard, Price, Step, Terms};
use crate::usage::{Bucket, Usage};
use aex_proto::value::Pico;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The provider answered in full and reported what it used.
    Answered {
        /// Its status.
        status: u16,
        /// Its report. Zero usage is not missing usage: it is charged as it is.
        usage: Usage,
    },
    /// It ended with an answer that reports nothing, or not in full: charged by what was relayed and what was reported by then.
    Relayed {
        /// Why there is no full report.
        outcome: Outcome,
        /// The provider's status, when there was an answer.
        status: Option<u16>,
        /// The output that was relayed.
        relayed: Relayed,
        /// The provider's dialect tells that nothing was written unseen by then.
        shows_all: bool,
        /// What the provider had reported.
        usage: Option<Usage>,
    },
    /// The provider refused it: nothing is billed.
    Refused {
        /// Its status.
        status: u16,
    },
    /// It never left the daemon.
    NeverSent,
    /// It failed on the way, without proof that nothing was billed: charged for its input.
    Failed {
        /// The status of the answer, when there was one.
        status: Option<u16>,
    },
    /// Nobody knows what it used: charged in full.
    Unknown {
        /// Why.
        outcome: Outcome,
        /// The provider's status, when there was an answer.
        status: Option<u16>,
    },
}

/// What of a stream has passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Bytes of output that were relayed.
    pub bytes: u64,
    /// The provider sent an error in the stream.
    pub provider_error: bool,
    /// The provider's dialect tells that all which was written by then has passed: nothing was thought unseen.
    pub shows_all: bool,
    /// The usage that the provider reported last.
    pub usage: Option<Usage>,
}

impl Ended {
    /// A plain answer that was read to its end. `bytes` counts its output.
    #[must_use]
    pub fn plain(status: u16, usage: Option<Usage>, bytes: u64) -> Ended {
        match usage {
            Some(usage) => Ended::Answered { status, usage },
            None => Ended::relayed(Outcome::NoUsage, Some(status), bytes, None),
        }
    }

    /// An error of the provider. `in_dialect`: its body is an error in the provider's dialect.
    #[must_use]
    pub fn declined(status: u16, in_dialect: impl Fn() -> bool) -> Ended {
        match status {
            408 => Ended::Failed { status: Some(status) },
            400..=499 => Ended::Refused { status },
            500 | 503 | 529 if in_dialect() => Ended::Refused { status },
            _ => Ended::Failed { status: Some(status) },
        }
    }

    /// A plain answer that broke off. A success that nobody could read may have cost all of it.
    #[must_use]
    pub const fn unread(status: u16) -> Ended {
        let known = Some(status);
        match status {
            200..=299 => Ended::Unknown { outcome: Outcome::ProviderLeft, status: known },
            _ => Ended::Failed { status: known },
        }
    }

    /// A stream that has passed whole.
    #[must_use]
    pub fn streamed(status: u16, passed: Passed) -> Ended {
        match passed.usage {
            Some(usage) => Ended::Answered { status, usage },
            // An error in a stream, before any output, is no proof that nothing was billed.
            None if passed.provider_error && passed.bytes == 0 => Ended::Failed { status: Some(status) },
            None => Ended::relayed(Outcome::NoUsage, Some(status), passed.bytes, None),
        }
    }

    /// A stream that ended before its end.
    #[must_use]
    pub fn cut(status: u16, passed: Passed, outcome: Outcome) -> Ended {
        if passed.provider_error && passed.bytes == 0 && passed.usage.is_none() {
            return Ended::Failed { status: Some(status) };
        }
        match Ended::relayed(outcome, Some(status), passed.bytes, passed.usage) {
            Ended::Relayed { outcome, status, relayed, usage, .. } => {
                Ended::Relayed { outcome, status, relayed, shows_all: passed.shows_all, usage }
            }
            other => other,
        }
    }

    /// Output by its bytes, and what was reported by then.
    #[must_use]
    pub const fn relayed(outcome: Outcome, status: Option<u16>, bytes: u64, usage: Option<Usage>) -> Ended {
        Ended::Relayed { outcome, status, relayed: Relayed::bytes(bytes), shows_all: false, usage }
    }

    /// The same with the tokens of the output, at most, where they matter.
    #[must_use]
    pub fn counted(self, tokens: u64) -> Ended {
        match self {
            Ended::Relayed { outcome, status, relayed: Relayed { bytes, .. }, shows_all, usage } => {
                Ended::Relayed { outcome, status, relayed: Relayed { bytes, tokens: Some(tokens.min(bytes)) }, shows_all, usage }
            }
            other => other,
        }
    }

    /// What a call of a bound is charged.
    #[must_use]
    pub fn ending(&self, bound: &Bound, card: &ModelCard, terms: &Terms, gateway_errors_charged: bool) -> Ending {
        match self {
            Ended::Answered { status, usage } => match charge(usage, card, terms) {
                Some(Priced { charge, is_told, price }) => {
                    let state = if charge.priced && is_told { Settled::Exact } else { Settled::Estimated };
                    let why = Why { outcome: Outcome::Answered, relayed: None, status: Some(*status) };
                    settle(state, charge, why, usage, price)
                }
                None => Ending::worst_case(Outcome::NoUsage, Some(*status)),
            },
            Ended::Relayed { outcome, status, relayed, shows_all, usage } => {
                let hidden = if *shows_all { Some(0) } else { terms.hidden };
                let used = seen(*relayed, usage.as_ref(), bound, terms.step, hidden);
                // Where it may have written anything unseen, the charge does not rest on what was relayed.
                let relayed = hidden.map(|_| *relayed);
                estimated(Why { outcome: *outcome, relayed, status: *status }, &used, card, terms)
            }
            Ended::Refused { status } => Ending::Release { reason: Released::Refused, status: Some(*status) },
            Ended::NeverSent => Ending::Release { reason: Released::NeverSent, status: None },
            Ended::Failed { status } if gateway_errors_charged => {
                // No tool is known to have run, so no step behind the first was made.
                let usage = Usage::text(terms.step.map_or(bound.input_tokens, |step| step.first.min(bound.input_tokens)), 0);
                let terms = Terms { tools: Vec::new(), ..terms.clone() };
                estimated(Why { outcome: Outcome::ProviderFailed, relayed: None, status: *status }, &usage, card, &terms)
            }
            Ended::Failed { status } => Ending::Release { reason: Released::GatewayError, status: *status },
            Ended::Unknown { outcome, status } => Ending::worst_case(*outcome, *status),
        }
    }
}

/// What a call used that has no full report. By tokens where they were counted, else by bytes: no token is shorter. The bound is the ceiling. What the provider has reported
/// counts in full, whatever the bound. Of input that nobody reported one step counts: that the tools of the provider made the model
/// read it again is not known, and before any output the request is all that it had read.
///
/// A model that thinks before it answers may have used what nobody saw: that is charged as far as the request lets it.
fn seen(relayed: Relayed, reported: Option<&Usage>, bound: &Bound, step: Option<Step>, hidden: Option<u64>) -> Usage {
    let mut usage = reported.cloned().unwrap_or_default();
    if usage.input_tokens() == 0 {
        let begun = relayed.bytes > 0 || reported.is_some();
        let step = step.map_or(bound.input_tokens, |step| if begun { step.any } else { step.first });
        usage.add(Bucket::Input, step.min(bound.input_tokens));
    }
    let hidden = hidden.unwrap_or(bound.output_tokens);
    let written = relayed.counts().saturating_add(hidden).min(bound.output_tokens);
    usage.add(Bucket::Output, written.saturating_sub(usage.output_tokens()));
    // Tools may have run that an earlier report does not have.
    usage.told.clear();
    usage
}

struct Priced<'a> {
    charge: Charge,
    /// All that was used was told.
    is_told: bool,
    price: &'a Price,
}

/// The price of what was used. A report that is silent on tools which cost something is taken for one of as many calls as they may make.
fn charge<'a>(usage: &Usage, card: &'a ModelCard, terms: &Terms) -> Option<Priced<'a>> {
    let price = card.price.as_ref()?;
    let silent =
        |tool: &&HostedCalls| !usage.told.contains(&tool.tool) && usage.get(Bucket::Tool(tool.tool)) < tool.calls && tool.unit > Pico::ZERO;
    let untold: Vec<&HostedCalls> = terms.tools.iter().filter(silent).collect();
    if untold.is_empty() {
        return Some(Priced { charge: Charge::asked(usage, price, terms.tier.as_deref())?, is_told: true, price });
    }
    let mut usage = usage.clone();
    for tool in untold {
        let bucket = Bucket::Tool(tool.tool);
        usage.add(bucket, tool.calls.saturating_sub(usage.get(bucket)));
    }
    Some(Priced { charge: Charge::asked(&usage, price, terms.tier.as_deref())?, is_told: false, price })
}

/// What an event says of an end beside its charge.
struct Why {
    outcome: Outcome,
    relayed: Option<Relayed>,
    status: Option<u16>,
}

fn estimated(why: Why, usage: &Usage, card: &ModelCard, terms: &Terms) -> Ending {
    match charge(usage, card, terms) {
        Some(Priced { charge, price, .. }) => settle(Settled::Estimated, charge, why, usage, price),
        None => Ending::worst_case(why.outcome, why.status),
    }
}

fn settle(state: Settled, charge: Charge, why: Why, usage: &Usage, price: &Price) -> Ending {
    let Why { outcome, relayed, status } = why;
    let Charge { lines, tier, .. } = charge;
    let mut unknown_usage = usage.unknown.clone();
    if let Some(unpriced) = tier.as_ref().filter(|tier| !price.tiers.contains_key(tier.as_str())) {
        unknown_usage.push(("service_tier".to_owned(), canon::text(unpriced)));
    }
    Ending::Settle { state, lines, outcome, relayed, status, tier, unknown_usage }
}

#[cfg(test)]
mod tests;
