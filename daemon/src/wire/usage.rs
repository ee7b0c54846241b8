//! Usage objects of providers → quantities in disjoint buckets.
//!
//! A usage that cannot be understood is none at all: the call is then estimated, or charged its bound, never priced too low.

use super::chat::keep;
use super::json::{Fault, Kind, Number, Scanner};
use aex_core::usage::{Bucket, Usage};

/// Counters of a chat usage object. Those that are not used as quantities are parts of them.
#[derive(Default)]
struct Counted {
    prompt: Option<u64>,
    completion: Option<u64>,
    cached: u64,
    cache_write: u64,
    audio_in: u64,
    audio_out: u64,
    broken: bool,
    unknown: Vec<String>,
}

/// Reads the value at the scanner's place as the usage object of a chat answer. `None` when it is none, or cannot be right.
///
/// # Errors
/// When the text is not JSON here.
pub fn chat(scanner: &mut Scanner<'_>) -> Result<Option<Usage>, Fault> {
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
            // A sum, and Groq's durations in seconds.
            "total_tokens" | "queue_time" | "prompt_time" | "completion_time" | "total_time" => scanner.pass()?,
            "prompt_tokens_details" => counted.details(scanner, "prompt_tokens_details", Counted::prompt_detail)?,
            "completion_tokens_details" => counted.details(scanner, "completion_tokens_details", Counted::completion_detail)?,
            other => counted.unknown(scanner, other)?,
        }
    }
    Ok(counted.usage())
}

impl Counted {
    /// A count; null counts as absent. Anything else that is no natural number breaks the whole usage.
    fn number(&mut self, scanner: &mut Scanner<'_>) -> Result<Option<u64>, Fault> {
        let number = match scanner.kind()? {
            Kind::Number => match scanner.number()? {
                Number::Natural(number) if number < u64::MAX => Some(number),
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
            "cached_tokens" => self.cached = self.number(scanner)?.unwrap_or(0),
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
            // All within completion_tokens, and billed as output.
            "reasoning_tokens" | "text_tokens" | "accepted_prediction_tokens" | "rejected_prediction_tokens" => scanner.pass()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Notes an unknown field when it is, or holds, anything but zero.
    fn unknown(&mut self, scanner: &mut Scanner<'_>, name: &str) -> Result<(), Fault> {
        match scanner.kind()? {
            Kind::Number => {
                if !matches!(scanner.number()?, Number::Natural(0) | Number::Zero) {
                    keep(&mut self.unknown, name);
                }
            }
            Kind::Object => {
                let mut open = scanner.object()?;
                while let Some(key) = scanner.key(&mut open)? {
                    let counts = match scanner.kind()? {
                        Kind::Number => !matches!(scanner.number()?, Number::Natural(0) | Number::Zero),
                        // What lies deeper is not looked at: any content counts.
                        Kind::Object | Kind::List => scanner.skip()?.len() > "{}".len(),
                        _ => {
                            scanner.skip()?;
                            false
                        }
                    };
                    if counts {
                        keep(&mut self.unknown, &format!("{name}.{}", key.unescape()));
                    }
                }
            }
            Kind::List => {
                if scanner.skip()?.len() > "[]".len() {
                    keep(&mut self.unknown, name);
                }
            }
            _ => scanner.pass()?,
        }
        Ok(())
    }

    /// Parts that exceed their whole are cut, the dearest last, so that the sum is always the whole.
    fn usage(self) -> Option<Usage> {
        let (Some(prompt), Some(completion), false) = (self.prompt, self.completion, self.broken) else {
            return None;
        };
        let mut usage = Usage { unknown: self.unknown, ..Usage::default() };
        let mut rest = prompt;
        for (bucket, part) in
            [(Bucket::AudioInput, self.audio_in), (Bucket::CacheWrite, self.cache_write), (Bucket::CachedInput, self.cached)]
        {
            let part = part.min(rest);
            rest -= part;
            usage.add(bucket, part);
        }
        usage.add(Bucket::Input, rest);
        let audio = self.audio_out.min(completion);
        usage.add(Bucket::AudioOutput, audio);
        usage.add(Bucket::Output, completion - audio);
        Some(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Bucket::{AudioInput, AudioOutput, CacheWrite, CachedInput, Input, Output};

    fn read(text: &str) -> Option<Usage> {
        chat(&mut Scanner::new(text.as_bytes()).unwrap()).unwrap()
    }

    #[track_caller]
    fn check(text: &str, quantities: &[(Bucket, u64)], unknown: &[&str]) {
        let usage = read(text).unwrap();
        assert_eq!(usage.quantities, quantities, "{text}");
        assert_eq!(usage.unknown, unknown, "{text}");
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
            r#"{"prompt_tokens":10,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":99,"cache_write_tokens":8},"completion_tokens_details":{"audio_tokens":9}}"#,
            &[(CachedInput, 2), (CacheWrite, 8), (AudioOutput, 3)],
            &[],
        );
        check(
            r#"{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":null,"completion_tokens_details":{"audio_tokens":null}}"#,
            &[(Input, 1), (Output, 1)],
            &[],
        );
    }

    #[test]
    fn what_is_not_known_is_told_when_it_counts() {
        check(r#"{"prompt_tokens":1,"completion_tokens":1,"queue_time":0.02,"total_time":1.5}"#, &[(Input, 1), (Output, 1)], &[]);
        check(
            r#"{"prompt_tokens":1,"completion_tokens":1,"cost":0.5,"free":0,"none":0.0,"tier":"x","prompt_tokens_details":{"video_tokens":7},"tools":{"searches":2,"other":0},"l":[1],"e":[]}"#,
            &[(Input, 1), (Output, 1)],
            &["cost", "prompt_tokens_details.video_tokens", "tools.searches", "l"],
        );
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
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
