//! Usage as OpenAI counts it: the whole of input and of output, with details that are parts of them. Chat, completions, embeddings
//! and responses differ in names alone, and so do the providers that follow OpenAI: all names are known everywhere.

use super::tools::HostedTools;
use super::{MAX_COUNT, Notes, members};
use crate::wire::json::{Fault, Scanner};
use aex_core::usage::{Bucket, ToolName, Usage};

/// Counters. Those that are not used as quantities are parts of them.
#[derive(Default)]
struct Counted {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    cached: u64,
    cache_write: u64,
    cache_write_5m: u64,
    cache_write_30m: u64,
    cache_write_1h: u64,
    cache_write_12h: u64,
    audio_in: u64,
    audio_out: u64,
    image_in: u64,
    image_out: u64,
    reasoning: u64,
    tools: HostedTools,
    notes: Notes,
}

/// Reads the value at the scanner's place as the usage object of a chat answer or a completion. `None` when it is none, or cannot
/// be right.
///
/// # Errors
/// When the text is not JSON here.
pub fn chat(scanner: &mut Scanner<'_>) -> Result<Option<Usage>, Fault> {
    let counted = Counted::read(scanner)?;
    let output = counted.output;
    Ok(counted.usage(output))
}

/// The same of embeddings, which have no output: some providers leave its count out, some the prompt's.
///
/// # Errors
/// When the text is not JSON here.
pub fn embeddings(scanner: &mut Scanner<'_>) -> Result<Option<Usage>, Fault> {
    let mut counted = Counted::read(scanner)?;
    let output = counted.output.unwrap_or(0);
    // What the total has beyond the prompt is input: it would be output elsewhere.
    counted.input = counted.input.max(counted.total.map(|total| total.saturating_sub(output)));
    Ok(counted.usage(Some(output)))
}

/// The same of a response. Calls of hosted tools stand beside the usage: see [`HostedTools`].
///
/// # Errors
/// When the text is not JSON here.
pub fn responses(scanner: &mut Scanner<'_>) -> Result<Option<Usage>, Fault> {
    chat(scanner)
}

impl Counted {
    fn read(scanner: &mut Scanner<'_>) -> Result<Counted, Fault> {
        let mut counted = Counted::default();
        members(scanner, |scanner, name| counted.member(scanner, name))?;
        Ok(counted)
    }

    fn member(&mut self, scanner: &mut Scanner<'_>, name: &str) -> Result<(), Fault> {
        match name {
            "prompt_tokens" | "input_tokens" => self.input = self.notes.number(scanner)?.max(self.input),
            "completion_tokens" | "output_tokens" => self.output = self.notes.number(scanner)?.max(self.output),
            "total_tokens" => self.total = self.notes.number(scanner)?,
            // Moonshot, DeepSeek, Mistral and gateways before Anthropic tell here too what was read from the cache; the rest of the
            // prompt is what missed it.
            "cached_tokens" | "prompt_cache_hit_tokens" | "num_cached_tokens" | "cache_read_input_tokens" => {
                self.notes.most(scanner, &mut self.cached)?;
            }
            "cache_creation_input_tokens" => self.notes.most(scanner, &mut self.cache_write)?,
            "cache_creation" => self.lifetimes(scanner, name)?,
            // Perplexity.
            "reasoning_tokens" => self.notes.most(scanner, &mut self.reasoning)?,
            "num_search_queries" => self.calls(scanner, "web_search")?,
            // xAI's live search, which a request asks for by this field: it bills sources.
            "num_sources_used" => self.calls(scanner, "search_parameters")?,
            "server_side_tool_usage_details" => self.tools.each(scanner, "_calls", &mut self.notes)?,
            // OpenRouter, as Anthropic.
            "server_tool_use" => self.tools.each(scanner, "_requests", &mut self.notes)?,
            // Groq's durations in seconds; OpenRouter's, Perplexity's, xAI's and DeepInfra's own sums of money; how full xAI's context
            // is; the sum of what its details tell by name.
            "cost"
            | "cost_details"
            | "cost_in_usd_ticks"
            | "estimated_cost"
            | "is_byok"
            | "prompt_cache_miss_tokens"
            | "queue_time"
            | "prompt_time"
            | "completion_time"
            | "total_time"
            | "context_details"
            | "num_server_side_tools_used" => scanner.pass()?,
            "prompt_tokens_details" | "input_tokens_details" | "prompt_token_details" | "input_token_details" => {
                members(scanner, |scanner, detail| self.input_detail(scanner, name, detail))?;
            }
            "completion_tokens_details" | "output_tokens_details" | "output_token_details" => {
                members(scanner, |scanner, detail| self.output_detail(scanner, name, detail))?;
            }
            other => self.notes.unknown(scanner, other)?,
        }
        Ok(())
    }

    fn input_detail(&mut self, scanner: &mut Scanner<'_>, object: &str, name: &str) -> Result<(), Fault> {
        match name {
            "cached_tokens" => self.notes.most(scanner, &mut self.cached),
            // The latter at LiteLLM and DashScope.
            "cache_write_tokens" | "cache_creation_tokens" | "cache_creation_input_tokens" => {
                self.notes.most(scanner, &mut self.cache_write)
            }
            "cache_write_tokens_details" | "cache_creation_token_details" | "cache_creation" => self.lifetimes(scanner, object),
            "audio_tokens" => self.notes.most(scanner, &mut self.audio_in),
            "image_tokens" => self.notes.most(scanner, &mut self.image_in),
            // The rest of the prompt; of what was read from the cache which part was what, at one price for all of it.
            "text_tokens" | "cached_tokens_details" => scanner.pass(),
            _ => self.notes.unknown(scanner, &format!("{object}.{name}")),
        }
    }

    /// How long what was written to the cache stays there.
    fn lifetimes(&mut self, scanner: &mut Scanner<'_>, object: &str) -> Result<(), Fault> {
        members(scanner, |scanner, name| {
            let count = match name {
                "ephemeral_5m_input_tokens" => &mut self.cache_write_5m,
                "ttl_30m_tokens" => &mut self.cache_write_30m,
                "ephemeral_1h_input_tokens" => &mut self.cache_write_1h,
                "ttl_12h_tokens" => &mut self.cache_write_12h,
                _ => return self.notes.unknown(scanner, &format!("{object}.{name}")),
            };
            self.notes.most(scanner, count)
        })
    }

    fn output_detail(&mut self, scanner: &mut Scanner<'_>, object: &str, name: &str) -> Result<(), Fault> {
        match name {
            "audio_tokens" => self.notes.most(scanner, &mut self.audio_out),
            "image_tokens" => self.notes.most(scanner, &mut self.image_out),
            "reasoning_tokens" => self.notes.most(scanner, &mut self.reasoning),
            // All within the output, and billed as such.
            "text_tokens" | "accepted_prediction_tokens" | "rejected_prediction_tokens" => scanner.pass(),
            _ => self.notes.unknown(scanner, &format!("{object}.{name}")),
        }
    }

    fn calls(&mut self, scanner: &mut Scanner<'_>, tool: &str) -> Result<(), Fault> {
        if let (Some(tool), Some(calls)) = (ToolName::new(tool), self.notes.number(scanner)?) {
            self.tools.told(tool, calls);
        }
        Ok(())
    }

    fn usage(self, output: Option<u64>) -> Option<Usage> {
        let (Some(input), Some(output), false) = (self.input, output, self.notes.broken) else {
            return None;
        };
        let written = [
            (Bucket::CacheWrite5m, self.cache_write_5m),
            (Bucket::CacheWrite30m, self.cache_write_30m),
            (Bucket::CacheWrite1h, self.cache_write_1h),
            (Bucket::CacheWrite12h, self.cache_write_12h),
        ];
        // Lifetimes are parts of what was written.
        let of_lifetimes: u64 = written.iter().map(|(_, part)| part).sum();
        let cache_write = self.cache_write.max(of_lifetimes);
        let parts = [self.audio_in, cache_write, self.cached];
        let input = whole(input, &parts);
        let rest = input - parts.iter().sum::<u64>();
        // Images that were read from the cache are in both counts: no more were read afresh than is left.
        let image_in = self.image_in.min(rest);
        // xAI, and Gemini's own OpenAI endpoint, count reasoning beside the output: what the total has beyond the input is output.
        let output = whole(output, &[self.audio_out, self.image_out, self.reasoning]).max(self.total.unwrap_or(0).saturating_sub(input));
        if input > MAX_COUNT || output > MAX_COUNT {
            return None;
        }
        let mut usage = Usage { unknown: self.notes.unknown, ..Usage::default() };
        written.into_iter().for_each(|(bucket, part)| usage.add(bucket, part));
        usage.add(Bucket::CacheWrite, cache_write - of_lifetimes);
        usage.add(Bucket::AudioInput, self.audio_in);
        usage.add(Bucket::CachedInput, self.cached);
        usage.add(Bucket::ImageInput, image_in);
        usage.add(Bucket::Input, rest - image_in);
        usage.add(Bucket::AudioOutput, self.audio_out);
        usage.add(Bucket::ImageOutput, self.image_out);
        usage.add(Bucket::Output, output.saturating_sub(self.audio_out + self.image_out));
        self.tools.add_to(&mut usage);
        Some(usage)
    }
}

/// A whole that is never less than its parts. A part that is more than the whole shows that the whole excludes the parts. When only
/// their sum is more, they overlap, and the sum is what they are at most.
fn whole(stated: u64, parts: &[u64]) -> u64 {
    let sum: u64 = parts.iter().sum();
    if parts.iter().any(|part| *part > stated) { stated + sum } else { stated.max(sum) }
}
