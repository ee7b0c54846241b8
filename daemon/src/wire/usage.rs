//! Usage objects of providers → quantities in disjoint buckets.
//!
//! A usage that cannot be understood is none at all: the call is then estimated, or charged its bound, never priced too low.

use super::json::{Fault, Kind, Number, Scanner};
use super::request::shortened;
use aex_core::ask::NAMES_KEPT;
use aex_core::usage::{Bucket, Usage};

/// The largest count: quantities are JSON numbers in the ledger, which are exact up to here.
const MAX_COUNT: u64 = (1 << 53) - 1;

/// Counters of a chat usage object. Those that are not used as quantities are parts of them.
#[derive(Default)]
struct Counted {
    prompt: Option<u64>,
    completion: Option<u64>,
    total: Option<u64>,
    cached: u64,
    cache_write: u64,
    audio_in: u64,
    audio_out: u64,
    reasoning: u64,
    broken: bool,
    unknown: Vec<(String, String)>,
}

/// Reads the value at the scanner's place as the usage object of a chat answer. `None` when it is none, or cannot be right.
///
/// # Errors
/// When the text is not JSON here.
pub fn chat(scanner: &mut Scanner<'_>) -> Result<Option<Usage>, Fault> {
    Ok(counted(scanner)?.and_then(Counted::usage))
}

/// The same for embeddings, which have no output: some providers leave its count out, some the prompt's.
///
/// # Errors
/// When the text is not JSON here.
pub fn embeddings(scanner: &mut Scanner<'_>) -> Result<Option<Usage>, Fault> {
    Ok(counted(scanner)?.and_then(|mut counted| {
        counted.completion = counted.completion.or(Some(0));
        counted.prompt = counted.prompt.or(counted.total);
        counted.usage()
    }))
}

fn counted(scanner: &mut Scanner<'_>) -> Result<Option<Counted>, Fault> {
    if scanner.kind()? != Kind::Object {
        scanner.skip()?;
        return Ok(None);
    }
    let mut counted = Counted::default();
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        match &*key.unescape() {
            "prompt_tokens" => counted.prompt = counted.number(scanner)?,
            "completion_tokens" => counted.completion = counted.number(scanner)?,
            "total_tokens" => counted.total = counted.number(scanner)?,
            // Moonshot and DeepSeek tell here too what was read from the cache; the rest of the prompt is what missed it.
            "cached_tokens" | "prompt_cache_hit_tokens" => counted.cached = counted.number(scanner)?.unwrap_or(0).max(counted.cached),
            // Groq's durations in seconds; OpenRouter's own sum in dollars.
            "cost"
            | "cost_details"
            | "is_byok"
            | "prompt_cache_miss_tokens"
            | "queue_time"
            | "prompt_time"
            | "completion_time"
            | "total_time" => scanner.pass()?,
            "prompt_tokens_details" => counted.details(scanner, "prompt_tokens_details", Counted::prompt_detail)?,
            "completion_tokens_details" => counted.details(scanner, "completion_tokens_details", Counted::completion_detail)?,
            other => counted.unknown(scanner, other)?,
        }
    }
    Ok(Some(counted))
}

/// Adds a field that the meter does not know, with its value as it is written, to a list that stays short whatever a provider sends.
fn note(unknown: &mut Vec<(String, String)>, name: &str, value: &str) {
    if unknown.len() < NAMES_KEPT {
        unknown.push((shortened(name), shortened(value)));
    }
}

/// Notes that an answer was given in a service tier of another price.
pub(super) fn tiered(usage: &mut Usage, tier: &str) {
    const NAME: &str = "service_tier";
    if usage.unknown.iter().all(|(name, _)| name != NAME) {
        note(&mut usage.unknown, NAME, tier);
    }
}

impl Counted {
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

    fn details(
        &mut self,
        scanner: &mut Scanner<'_>,
        object: &str,
        detail: fn(&mut Counted, &mut Scanner<'_>, &str) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        if scanner.kind()? != Kind::Object {
            scanner.skip()?;
            return Ok(());
        }
        let mut open = scanner.object()?;
        while let Some(key) = scanner.key(&mut open)? {
            let name = key.unescape();
            if !detail(self, scanner, &name)? {
                self.unknown(scanner, &format!("{object}.{name}"))?;
            }
        }
        Ok(())
    }

    /// Reads a known detail; `false` leaves the value unread.
    fn prompt_detail(&mut self, scanner: &mut Scanner<'_>, name: &str) -> Result<bool, Fault> {
        match name {
            "cached_tokens" => self.cached = self.number(scanner)?.unwrap_or(0).max(self.cached),
            "cache_write_tokens" => self.cache_write = self.number(scanner)?.unwrap_or(0),
            "audio_tokens" => self.audio_in = self.number(scanner)?.unwrap_or(0),
            // Parts of the prompt that cost what text costs, and the lifetimes of what was written to the cache.
            "text_tokens" | "image_tokens" | "cache_write_tokens_details" => scanner.pass()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn completion_detail(&mut self, scanner: &mut Scanner<'_>, name: &str) -> Result<bool, Fault> {
        match name {
            "audio_tokens" => self.audio_out = self.number(scanner)?.unwrap_or(0),
            "reasoning_tokens" => self.reasoning = self.number(scanner)?.unwrap_or(0),
            // All within completion_tokens, and billed as output.
            "text_tokens" | "accepted_prediction_tokens" | "rejected_prediction_tokens" => scanner.pass()?,
            _ => return Ok(false),
        }
        Ok(true)
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
            Kind::Text | Kind::True | Kind::False | Kind::Null => {
                scanner.skip()?;
                false
            }
        };
        if counts {
            note(&mut self.unknown, &name(), scanner.whole().get(start..scanner.at()).unwrap_or_default());
        }
        Ok(())
    }

    fn usage(self) -> Option<Usage> {
        let (Some(prompt), Some(completion), false) = (self.prompt, self.completion, self.broken) else {
            return None;
        };
        let inputs = [self.audio_in, self.cache_write, self.cached];
        let prompt = whole(prompt, &inputs);
        // xAI counts reasoning beside `completion_tokens`: what the total has beyond the prompt is output.
        let completion = whole(completion, &[self.audio_out, self.reasoning]).max(self.total.unwrap_or(0).saturating_sub(prompt));
        if prompt > MAX_COUNT || completion > MAX_COUNT {
            return None;
        }
        let mut usage = Usage { unknown: self.unknown, ..Usage::default() };
        for (bucket, part) in [Bucket::AudioInput, Bucket::CacheWrite, Bucket::CachedInput].into_iter().zip(inputs) {
            usage.add(bucket, part);
        }
        usage.add(Bucket::Input, prompt - inputs.iter().sum::<u64>());
        usage.add(Bucket::AudioOutput, self.audio_out);
        usage.add(Bucket::Output, completion - self.audio_out);
        Some(usage)
    }
}

/// A whole that is never less than its parts. A part that is more than the whole shows that the whole excludes the parts. When only
/// their sum is more, they overlap, and the sum is what they are at most.
fn whole(stated: u64, parts: &[u64]) -> u64 {
    let sum: u64 = parts.iter().sum();
    if parts.iter().any(|part| *part > stated) { stated + sum } else { stated.max(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Bucket::{AudioInput, AudioOutput, CacheWrite, CachedInput, Input, Output};

    fn read(text: &str) -> Option<Usage> {
        chat(&mut Scanner::new(text.as_bytes()).unwrap()).unwrap()
    }

    #[track_caller]
    fn check(text: &str, quantities: &[(Bucket, u64)], unknown: &[(&str, &str)]) {
        let usage = read(text).unwrap();
        assert_eq!(usage.quantities, quantities, "{text}");
        let told: Vec<_> = usage.unknown.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(told, unknown, "{text}");
    }

    #[test]
    fn buckets_are_disjoint_and_sum_to_the_totals() {
        check(r#"{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13}"#, &[(Input, 10), (Output, 3)], &[]);
        check(r#"{"prompt_tokens":0,"completion_tokens":0}"#, &[], &[]);
        check(
            r#"{"prompt_tokens":100,"completion_tokens":30,"prompt_tokens_details":{"cached_tokens":40,"cache_write_tokens":20,"audio_tokens":10,"image_tokens":5},
            "completion_tokens_details":{"reasoning_tokens":25,"audio_tokens":4,"rejected_prediction_tokens":1}}"#,
            &[(Input, 30), (CachedInput, 40), (CacheWrite, 20), (Output, 26), (AudioInput, 10), (AudioOutput, 4)],
            &[],
        );
        check(
            r#"{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":null,"completion_tokens_details":{"audio_tokens":null}}"#,
            &[(Input, 1), (Output, 1)],
            &[],
        );
        // DeepSeek.
        check(
            r#"{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":4},"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":6}"#,
            &[(Input, 6), (CachedInput, 4), (Output, 3)],
            &[],
        );
    }

    #[test]
    fn what_the_total_has_beyond_its_parts_is_output() {
        // xAI.
        check(
            r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"prompt_tokens_details":{"text_tokens":32,"audio_tokens":0,"image_tokens":0,
            "cached_tokens":6},"completion_tokens_details":{"reasoning_tokens":94,"audio_tokens":0},"num_sources_used":0}"#,
            &[(Input, 26), (CachedInput, 6), (Output, 103)],
            &[],
        );
        check(
            r#"{"prompt_tokens":32,"completion_tokens":200,"total_tokens":326,"completion_tokens_details":{"reasoning_tokens":94}}"#,
            &[(Input, 32), (Output, 294)],
            &[],
        );
        check(
            r#"{"prompt_tokens":32,"completion_tokens":200,"total_tokens":232,"completion_tokens_details":{"reasoning_tokens":94}}"#,
            &[(Input, 32), (Output, 200)],
            &[],
        );
        check(
            r#"{"prompt_tokens":32,"completion_tokens":9,"completion_tokens_details":{"reasoning_tokens":94}}"#,
            &[(Input, 32), (Output, 103)],
            &[],
        );
        check(r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":0}"#, &[(Input, 32), (Output, 9)], &[]);
    }

    #[test]
    fn parts_beyond_their_whole_are_added_never_cut() {
        check(
            r#"{"prompt_tokens":10,"completion_tokens":3,"total_tokens":129,"prompt_tokens_details":{"cached_tokens":99,"cache_write_tokens":8},
            "completion_tokens_details":{"audio_tokens":9}}"#,
            &[(Input, 10), (CachedInput, 99), (CacheWrite, 8), (Output, 3), (AudioOutput, 9)],
            &[],
        );
        // Cached audio is in both counts.
        check(
            r#"{"prompt_tokens":10,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":8,"audio_tokens":5}}"#,
            &[(CachedInput, 8), (Output, 3), (AudioInput, 5)],
            &[],
        );
    }

    #[test]
    fn what_is_not_known_is_told_with_its_value_when_it_counts() {
        check(r#"{"prompt_tokens":1,"completion_tokens":1,"queue_time":0.02,"total_time":1.5}"#, &[(Input, 1), (Output, 1)], &[]);
        check(
            r#"{"prompt_tokens":1,"completion_tokens":1,"fee": 5.0e-1 ,"free":0,"none":0.0,"tier":"x","prompt_tokens_details":{"video_tokens":7},"tools":{"searches":2,"other":0,"deep":{"a":1}},"l":[1],"e":[]}"#,
            &[(Input, 1), (Output, 1)],
            &[
                ("fee", "5.0e-1"),
                ("prompt_tokens_details.video_tokens", "7"),
                ("tools.searches", "2"),
                ("tools.deep", r#"{"a":1}"#),
                ("l", "[1]"),
            ],
        );
        let long = format!(r#"{{"prompt_tokens":1,"completion_tokens":1,"l":[{}1]}}"#, "1,".repeat(100));
        let unknown = read(&long).unwrap().unknown;
        assert_eq!(unknown, [("l".to_owned(), format!("[{}…", "1,".repeat(64).trim_end_matches(',')))]);
        let many: String = (0..100).map(|at| format!(r#","f{at}":1"#)).collect();
        assert_eq!(read(&format!(r#"{{"prompt_tokens":1,"completion_tokens":1{many}}}"#)).unwrap().unknown.len(), NAMES_KEPT);
    }

    #[test]
    fn what_cannot_be_right_is_no_usage() {
        for text in [
            "null",
            "[]",
            "{}",
            r#"{"prompt_tokens":5}"#,
            r#"{"prompt_tokens":-5,"completion_tokens":1}"#,
            r#"{"prompt_tokens":5.5,"completion_tokens":1}"#,
            r#"{"prompt_tokens":"5","completion_tokens":1}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":-1}}"#,
            r#"{"prompt_tokens":99999999999999999999,"completion_tokens":1}"#,
            r#"{"prompt_tokens":9007199254740992,"completion_tokens":1}"#,
            r#"{"prompt_tokens":1,"completion_tokens":1,"total_tokens":9007199254740992}"#,
            r#"{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":9007199254740991}}"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read(r#"{"prompt_tokens":9007199254740991,"completion_tokens":0}"#), Some(Usage::text(MAX_COUNT, 0)));
    }
}
