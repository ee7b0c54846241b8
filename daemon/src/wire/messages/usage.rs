//! Usage objects of Anthropic's API → quantities in disjoint buckets.
//!
//! `input_tokens` excludes what was read from the cache and what was written to it; `output_tokens` includes thinking
//! (platform.claude.com, "Messages" and "Prompt caching"). In a stream the counts of `message_delta` are cumulative: they replace
//! those of `message_start`. What cannot be right is no usage at all.

use crate::wire::json::{Fault, Kind, Number, Scanner};
use crate::wire::request::shortened;
use aex_core::ask::NAMES_KEPT;
use aex_core::price::STANDARD_TIERS;
use aex_core::usage::{Bucket, Usage};

/// The largest count: quantities are JSON numbers in the ledger, which are exact up to here.
const MAX_COUNT: u64 = (1 << 53) - 1;

/// Where inference may take place at the listed prices. `not_available` is what models before Claude 4.6 report.
const STANDARD_GEOS: [&str; 2] = ["global", "not_available"];

/// Tokens of one sampling, as a usage object or one of its `iterations` counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tokens {
    input: Option<u64>,
    output: Option<u64>,
    cache_read: u64,
    /// All that was written to the cache.
    cache_write: u64,
    cache_write_5m: u64,
    cache_write_1h: u64,
}

/// What the usage objects of one answer have reported up to now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::wire) struct Counted {
    tokens: Tokens,
    /// Summaries of the conversation that the provider made within the call: by the same model, and not in the other counts.
    compactions: Vec<Tokens>,
    unknown: Vec<(String, String)>,
    broken: bool,
}

impl Counted {
    /// Reads the value at the scanner's place over what was reported before. `false` when it is no object.
    pub(in crate::wire) fn read(&mut self, scanner: &mut Scanner<'_>) -> Result<bool, Fault> {
        if scanner.kind()? != Kind::Object {
            scanner.pass()?;
            return Ok(false);
        }
        let mut open = scanner.object()?;
        while let Some(key) = scanner.key(&mut open)? {
            let name = key.unescape();
            let mut tokens = self.tokens;
            if tokens.read(&name, scanner, &mut self.broken)? {
                self.tokens = tokens;
                continue;
            }
            match &*name {
                "service_tier" => self.word(scanner, "service_tier", &STANDARD_TIERS)?,
                "speed" => self.word(scanner, "speed", &["standard"])?,
                "inference_geo" => self.word(scanner, "inference_geo", &STANDARD_GEOS)?,
                "iterations" => self.iterations(scanner)?,
                // Thinking is within `output_tokens`; the rest is OpenRouter's own sum in dollars.
                "output_tokens_details" | "cost" | "cost_details" | "is_byok" => scanner.pass()?,
                other => self.other(scanner, other)?,
            }
        }
        Ok(true)
    }

    /// What has been reported; `None` when input or output is missing, or a count cannot be right.
    pub(in crate::wire) fn usage(&self) -> Option<Usage> {
        if self.broken {
            return None;
        }
        let mut usage = Usage { unknown: self.unknown.clone(), ..Usage::default() };
        for tokens in std::iter::once(&self.tokens).chain(&self.compactions) {
            let (input, output) = (tokens.input?, tokens.output?);
            // The parts are known from the first event, the whole may grow.
            let written = tokens.cache_write.max(tokens.cache_write_5m.saturating_add(tokens.cache_write_1h));
            usage.add(Bucket::Input, input);
            usage.add(Bucket::CachedInput, tokens.cache_read);
            usage.add(Bucket::CacheWrite, written);
            usage.add(Bucket::Output, output);
            if tokens.cache_write_1h > 0 {
                // Dearer than a write for five minutes, and without a price of its own.
                note(&mut usage.unknown, "cache_creation.ephemeral_1h_input_tokens", &tokens.cache_write_1h.to_string());
            }
        }
        usage.quantities.iter().all(|(_, quantity)| *quantity <= MAX_COUNT).then_some(usage)
    }

    /// A word that changes prices unless it is one of `standard`.
    fn word(&mut self, scanner: &mut Scanner<'_>, name: &str, standard: &[&str]) -> Result<(), Fault> {
        let kind = scanner.kind()?;
        let start = scanner.at();
        let is_standard = match kind {
            Kind::Text => {
                let word = scanner.text()?;
                word.raw.is_empty() || standard.iter().any(|standard| word.is(standard))
            }
            kind => {
                scanner.pass()?;
                kind == Kind::Null
            }
        };
        if is_standard {
            self.unknown.retain(|(noted, _)| noted != name);
        } else {
            note(&mut self.unknown, name, scanner.whole().get(start..scanner.at()).unwrap_or_default());
        }
        Ok(())
    }

    /// Samplings of one call. Those of type `message` are within the other counts, a `compaction` is not; an advisor's and a
    /// fallback's are another model's, at prices that are not known here.
    fn iterations(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        self.compactions.clear();
        if scanner.kind()? != Kind::List {
            return scanner.pass();
        }
        let mut list = scanner.list()?;
        while scanner.item(&mut list)? {
            if scanner.kind()? != Kind::Object {
                scanner.pass()?;
                continue;
            }
            let mut tokens = Tokens::default();
            let mut kind = String::new();
            let start = scanner.at();
            let mut open = scanner.object()?;
            while let Some(key) = scanner.key(&mut open)? {
                if key.is("type") && scanner.kind()? == Kind::Text {
                    kind = shortened(&scanner.text()?.unescape());
                } else if !tokens.read(&key.unescape(), scanner, &mut self.broken)? {
                    scanner.pass()?;
                }
            }
            match kind.as_str() {
                "message" => {}
                "compaction" => self.compactions.push(tokens),
                other => {
                    let written = scanner.whole().get(start..scanner.at()).unwrap_or_default();
                    note(&mut self.unknown, &format!("iterations.{other}"), written);
                }
            }
        }
        Ok(())
    }

    /// Notes a field that the meter has no price for when it is, or holds, anything but zero.
    fn other(&mut self, scanner: &mut Scanner<'_>, name: &str) -> Result<(), Fault> {
        if scanner.kind()? != Kind::Object {
            return self.value(scanner, || name.to_owned());
        }
        let mut open = scanner.object()?;
        while let Some(key) = scanner.key(&mut open)? {
            self.value(scanner, || format!("{name}.{}", key.unescape()))?;
        }
        Ok(())
    }

    fn value(&mut self, scanner: &mut Scanner<'_>, name: impl FnOnce() -> String) -> Result<(), Fault> {
        let kind = scanner.kind()?;
        let start = scanner.at();
        let counts = match kind {
            Kind::Number => !matches!(scanner.number()?, Number::Natural(0) | Number::Zero),
            // What lies deeper is not looked at: any content counts.
            Kind::Object | Kind::List => scanner.skip()?.len() > "{}".len(),
            Kind::Text | Kind::True | Kind::False | Kind::Null => {
                scanner.pass()?;
                false
            }
        };
        if counts {
            note(&mut self.unknown, &name(), scanner.whole().get(start..scanner.at()).unwrap_or_default());
        }
        Ok(())
    }
}

impl Tokens {
    /// Reads a count that it knows; `false` leaves the value unread.
    fn read(&mut self, name: &str, scanner: &mut Scanner<'_>, broken: &mut bool) -> Result<bool, Fault> {
        let mut read = |held: u64| Ok::<u64, Fault>(number(scanner, broken)?.unwrap_or(held));
        match name {
            "input_tokens" => self.input = number(scanner, broken)?.or(self.input),
            "output_tokens" => self.output = number(scanner, broken)?.or(self.output),
            "cache_read_input_tokens" => self.cache_read = read(self.cache_read)?,
            "cache_creation_input_tokens" => self.cache_write = read(self.cache_write)?,
            "cache_creation" if scanner.kind()? == Kind::Object => {
                let mut open = scanner.object()?;
                while let Some(key) = scanner.key(&mut open)? {
                    match &*key.unescape() {
                        "ephemeral_5m_input_tokens" => self.cache_write_5m = number(scanner, broken)?.unwrap_or(0),
                        "ephemeral_1h_input_tokens" => self.cache_write_1h = number(scanner, broken)?.unwrap_or(0),
                        // Another lifetime is within the whole, at a price that is not known.
                        _ => *broken |= number(scanner, broken)?.unwrap_or(0) > 0,
                    }
                }
            }
            "cache_creation" => scanner.pass()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A count; null counts as absent. Anything else that is no natural number breaks the whole usage.
fn number(scanner: &mut Scanner<'_>, broken: &mut bool) -> Result<Option<u64>, Fault> {
    match scanner.kind()? {
        Kind::Number => Ok(match scanner.number()? {
            Number::Natural(number) if number <= MAX_COUNT => Some(number),
            Number::Zero => Some(0),
            Number::Natural(_) | Number::Other => {
                *broken = true;
                None
            }
        }),
        kind => {
            *broken |= kind != Kind::Null;
            scanner.pass()?;
            Ok(None)
        }
    }
}

/// Notes a field with its value as it is written, once, in a list that stays short whatever a provider sends.
fn note(unknown: &mut Vec<(String, String)>, name: &str, value: &str) {
    let (name, value) = (shortened(name), shortened(value));
    if let Some((_, noted)) = unknown.iter_mut().find(|(noted, _)| *noted == name) {
        *noted = value;
    } else if unknown.len() < NAMES_KEPT {
        unknown.push((name, value));
    }
}
