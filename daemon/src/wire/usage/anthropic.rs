//! Usage as Anthropic counts it: input without what was read from and written to caches, in one object or, in a stream, in several of
//! which each counts from the beginning of the message.

use super::tools::HostedTools;
use super::{MAX_COUNT, Notes, members, word};
use crate::wire::json::{Fault, Kind, Scanner};
use aex_core::price::{self, TierField};
use aex_core::usage::{Bucket, ToolName, Usage};

/// Counts of the model's own passes over the conversation.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    input: Option<u64>,
    output: Option<u64>,
    cached: Option<u64>,
    cache_write: Option<u64>,
    cache_write_5m: Option<u64>,
    cache_write_1h: Option<u64>,
}

/// The usage of one message: of an answer's `usage`, or of those of `message_start` and every `message_delta` in turn.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    counts: Counts,
    /// Passes that compacted the conversation: they stand beside the counts of the message.
    compactions: Vec<Counts>,
    tools: HostedTools,
    service_tier: Option<String>,
    speed: Option<String>,
    inference_geo: Option<String>,
    notes: Notes,
}

impl Messages {
    /// Reads the value at the scanner's place. Counts are cumulative: they replace, and never fall; what is absent or null stays as it
    /// was. One that falls stays, too, and is noted.
    ///
    /// # Errors
    /// When the text is not JSON here.
    pub fn read(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        members(scanner, |scanner, name| {
            if self.counts.member(scanner, name, &mut self.notes)? {
                return Ok(());
            }
            match name {
                "service_tier" => self.service_tier = word(scanner)?.or(self.service_tier.take()),
                "speed" => self.speed = word(scanner)?.or(self.speed.take()),
                "inference_geo" => self.inference_geo = word(scanner)?.or(self.inference_geo.take()),
                "server_tool_use" => self.tools.each(scanner, "_requests", &mut self.notes)?,
                "iterations" => self.iterations(scanner)?,
                other => self.notes.unknown(scanner, other)?,
            }
            Ok(())
        })
    }

    /// Anthropic, "Compaction": the counts of the message leave out the passes of type `compaction`, and have those of type `message`.
    /// Others may be by another model: nobody knows their price.
    fn iterations(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        if scanner.kind()? != Kind::List {
            scanner.skip()?;
            return Ok(());
        }
        let mut seen = 0;
        let mut list = scanner.list()?;
        while scanner.item(&mut list)? {
            let mut counts = Counts::default();
            let mut kind = None;
            let start = scanner.at();
            let notes = &mut self.notes;
            members(scanner, |scanner, name| {
                if counts.member(scanner, name, notes)? {
                    return Ok(());
                }
                match name {
                    "type" => kind = word(scanner)?,
                    _ => scanner.pass()?,
                }
                Ok(())
            })?;
            match kind.as_deref() {
                Some("message") => {}
                Some("compaction") => {
                    match self.compactions.get_mut(seen) {
                        Some(before) => before.rise_to(&counts, &mut self.notes),
                        None => self.compactions.push(counts),
                    }
                    seen += 1;
                }
                _ => {
                    let text = scanner.whole().get(start..scanner.at()).unwrap_or_default();
                    self.notes.note("iterations", text.trim_start_matches([',', ' ']));
                }
            }
        }
        Ok(())
    }

    /// What was told up to here; `None` when it is no usage, or cannot be right.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        if self.notes.broken || self.counts.input.is_none() || self.counts.output.is_none() {
            return None;
        }
        let mut usage = Usage { unknown: self.notes.unknown.clone(), ..Usage::default() };
        self.compactions.iter().chain([&self.counts]).for_each(|counts| counts.add_to(&mut usage));
        if usage.input_tokens() > MAX_COUNT || usage.output_tokens() > MAX_COUNT {
            return None;
        }
        let words = [&self.service_tier, &self.speed, &self.inference_geo];
        if words.iter().any(|word| word.is_some()) {
            let tier = price::tier(words.map(|word| word.as_deref()));
            usage.tier = Some(tier.unwrap_or_else(|| "standard".to_owned()));
            let fields = TierField::ALL.into_iter().zip(words);
            usage.silent = fields.filter(|(_, word)| word.is_none()).map(|(field, _)| field).collect();
        }
        // A report without `server_tool_use` is of a message without such calls.
        ["web_search", "web_fetch"].into_iter().filter_map(ToolName::new).for_each(|tool| usage.add_calls(tool, 0));
        self.tools.clone().add_to(&mut usage);
        Some(usage)
    }
}

impl Counts {
    /// Reads a count; `false` leaves the value unread.
    fn member(&mut self, scanner: &mut Scanner<'_>, name: &str, notes: &mut Notes) -> Result<bool, Fault> {
        let count = match name {
            "input_tokens" => &mut self.input,
            "output_tokens" => &mut self.output,
            "cache_read_input_tokens" => &mut self.cached,
            "cache_creation_input_tokens" => &mut self.cache_write,
            "cache_creation" => {
                members(scanner, |scanner, lifetime| {
                    let count = match lifetime {
                        "ephemeral_5m_input_tokens" => &mut self.cache_write_5m,
                        "ephemeral_1h_input_tokens" => &mut self.cache_write_1h,
                        _ => return notes.unknown(scanner, &format!("{name}.{lifetime}")),
                    };
                    let later = notes.number(scanner)?;
                    notes.rise(lifetime, count, later);
                    Ok(())
                })?;
                return Ok(true);
            }
            // Thoughts are within the output.
            "output_tokens_details" => {
                scanner.pass()?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        let later = notes.number(scanner)?;
        notes.rise(name, count, later);
        Ok(true)
    }

    /// The same counts, told again.
    fn rise_to(&mut self, later: &Counts, notes: &mut Notes) {
        for (name, count, later) in [
            ("input_tokens", &mut self.input, later.input),
            ("output_tokens", &mut self.output, later.output),
            ("cache_read_input_tokens", &mut self.cached, later.cached),
            ("cache_creation_input_tokens", &mut self.cache_write, later.cache_write),
            ("ephemeral_5m_input_tokens", &mut self.cache_write_5m, later.cache_write_5m),
            ("ephemeral_1h_input_tokens", &mut self.cache_write_1h, later.cache_write_1h),
        ] {
            notes.rise(name, count, later);
        }
    }

    fn add_to(&self, usage: &mut Usage) {
        let (of_5m, of_1h) = (self.cache_write_5m.unwrap_or(0), self.cache_write_1h.unwrap_or(0));
        usage.add(Bucket::Input, self.input.unwrap_or(0));
        usage.add(Bucket::CachedInput, self.cached.unwrap_or(0));
        usage.add(Bucket::CacheWrite5m, of_5m);
        usage.add(Bucket::CacheWrite1h, of_1h);
        usage.add(Bucket::CacheWrite, self.cache_write.unwrap_or(0).saturating_sub(of_5m + of_1h));
        usage.add(Bucket::Output, self.output.unwrap_or(0));
    }
}
