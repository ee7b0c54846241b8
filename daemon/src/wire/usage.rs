//! Usage objects of providers → quantities in disjoint buckets.
//!
//! A usage that cannot be understood is none at all: the call is then estimated, or charged its bound, never priced too low.
//! Counts only; knows no prices.

mod anthropic;
mod openai;
mod tools;

pub use anthropic::Messages;
pub use openai::{chat, embeddings, responses};
pub use tools::HostedTools;

use super::json::{Fault, Kind, Number, Scanner};
use super::request::shortened;
use aex_core::ask::NAMES_KEPT;
use aex_core::price::tier;
use aex_core::usage::{Bucket, Usage};

/// The largest count: quantities are JSON numbers in the ledger, which are exact up to here.
const MAX_COUNT: u64 = (1 << 53) - 1;

/// Notes the service tier that an answer names beside its usage. An empty name says nothing.
pub(super) fn tiered(usage: &mut Usage, name: &str) {
    if !name.is_empty() {
        usage.tier = Some(tier([Some(name)]).unwrap_or_else(|| name.to_owned()));
    }
}

/// How a count that fell is called among what is not known, where it makes of the charge an estimate.
fn fallen(name: &str) -> String {
    format!("{name}.fell")
}

/// The later of two reports of one stream, each of which counts from its beginning. Input, output or calls of a tool of which it
/// counts fewer stay as they were before, and that they fell is noted; so does what nobody knows.
pub(super) fn later(before: &Usage, later: &Usage) -> Usage {
    let mut usage = Usage { quantities: Vec::new(), tier: later.tier.clone().or_else(|| before.tier.clone()), ..later.clone() };
    for (name, value) in &before.unknown {
        note(&mut usage.unknown, name, value);
    }
    for (name, counts) in [("input", Bucket::is_input as fn(Bucket) -> bool), ("output", Bucket::is_output)] {
        let of = |usage: &Usage| usage.quantities.iter().copied().filter(|(bucket, _)| counts(*bucket)).collect::<Vec<_>>();
        let sum = |parts: &[(Bucket, u64)]| parts.iter().fold(0, |sum: u64, (_, part)| sum.saturating_add(*part));
        let (held, told) = (of(before), of(later));
        let falls = sum(&told) < sum(&held);
        if falls {
            note(&mut usage.unknown, &fallen(name), &format!("[{},{}]", sum(&held), sum(&told)));
        }
        (if falls { held } else { told }).into_iter().for_each(|(bucket, part)| usage.add(bucket, part));
    }
    let others = before.quantities.iter().chain(&later.quantities).filter(|(bucket, _)| !bucket.is_tokens());
    for (bucket, _) in others {
        let (held, told) = (before.get(*bucket), later.get(*bucket));
        if told < held {
            note(&mut usage.unknown, &fallen(&bucket.name()), &format!("[{held},{told}]"));
        }
        usage.add(*bucket, held.max(told).saturating_sub(usage.get(*bucket)));
    }
    usage
}

/// Notes what is not known, once.
fn note(unknown: &mut Vec<(String, String)>, name: &str, value: &str) {
    if unknown.len() < NAMES_KEPT && unknown.iter().all(|(known, _)| known != name) {
        unknown.push((name.to_owned(), value.to_owned()));
    }
}

/// What any reader of a usage object keeps beside its counts.
#[derive(Clone, Debug, Default)]
struct Notes {
    /// A count is no natural number: the whole usage is none.
    broken: bool,
    /// Fields that the meter does not know, with their values as they are written: a list that stays short whatever a provider sends.
    unknown: Vec<(String, String)>,
}

impl Notes {
    /// A count; null counts as absent. Anything else that is no natural number breaks the whole usage.
    fn number(&mut self, scanner: &mut Scanner<'_>) -> Result<Option<u64>, Fault> {
        let number = match scanner.kind()? {
            Kind::Number => match scanner.number()? {
                Number::Natural(number) if number <= MAX_COUNT => Some(number),
                Number::Zero => Some(0),
                Number::Natural(_) | Number::Other => {
                    self.broken = true;
                    None
                }
            },
            kind => {
                self.broken |= kind != Kind::Null;
                scanner.skip()?;
                None
            }
        };
        Ok(number)
    }

    /// Raises a count to one that is told again.
    fn most(&mut self, scanner: &mut Scanner<'_>, count: &mut u64) -> Result<(), Fault> {
        *count = self.number(scanner)?.unwrap_or(0).max(*count);
        Ok(())
    }

    /// Replaces a cumulative count by a later one. One that falls is not to be trusted: the larger stays, and that it fell is noted.
    fn rise(&mut self, name: &str, count: &mut Option<u64>, later: Option<u64>) {
        match (*count, later) {
            (Some(before), Some(later)) if later < before => self.note(&fallen(name), &format!("[{before},{later}]")),
            (_, None) => {}
            (_, later) => *count = later,
        }
    }

    /// Notes an unknown field when it is, or holds, anything but zero.
    fn unknown(&mut self, scanner: &mut Scanner<'_>, name: &str) -> Result<(), Fault> {
        if scanner.kind()? != Kind::Object {
            return self.unknown_value(scanner, || name.to_owned());
        }
        let mut open = scanner.object()?;
        while let Some(key) = scanner.key(&mut open)? {
            self.unknown_value(scanner, || format!("{name}.{}", key.unescape()))?;
        }
        Ok(())
    }

    fn unknown_value(&mut self, scanner: &mut Scanner<'_>, name: impl FnOnce() -> String) -> Result<(), Fault> {
        let kind = scanner.kind()?;
        let start = scanner.at();
        let counts = match kind {
            Kind::Number => !matches!(scanner.number()?, Number::Natural(0) | Number::Zero),
            // What lies deeper is not looked at: any content counts.
            Kind::Object | Kind::List => scanner.skip()?.len() > "{}".len(),
            // A text may hold a count, or a sum; a word holds none.
            Kind::Text => scanner.text()?.unescape().chars().any(|char| char.is_numeric() && char != '0'),
            Kind::True | Kind::False | Kind::Null => {
                scanner.skip()?;
                false
            }
        };
        if counts {
            self.note(&name(), scanner.whole().get(start..scanner.at()).unwrap_or_default());
        }
        Ok(())
    }

    fn note(&mut self, name: &str, value: &str) {
        if self.unknown.len() < NAMES_KEPT {
            self.unknown.push((shortened(name), shortened(value)));
        }
    }
}

/// Calls `read` for each member of an object with its name and the scanner at its value, which it has to take; anything but an
/// object is passed over.
fn members<'a>(scanner: &mut Scanner<'a>, mut read: impl FnMut(&mut Scanner<'a>, &str) -> Result<(), Fault>) -> Result<(), Fault> {
    if scanner.kind()? != Kind::Object {
        scanner.skip()?;
        return Ok(());
    }
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        read(scanner, &key.unescape())?;
    }
    Ok(())
}

/// A text, shortened; anything else counts as absent.
fn word(scanner: &mut Scanner<'_>) -> Result<Option<String>, Fault> {
    if scanner.kind()? != Kind::Text {
        scanner.skip()?;
        return Ok(None);
    }
    Ok(Some(shortened(&scanner.text()?.unescape())))
}

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;
