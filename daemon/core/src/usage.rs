//! What a provider reports that a call used, in disjoint buckets.

mod tool;

use crate::price::TierField;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

pub use tool::ToolName;

/// One kind of billed quantity. Buckets are disjoint: nothing is counted in two of them. Their order is that of the lines of a
/// charge, in which a new bucket may stand anywhere but before or behind its neighbours of before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// Text input read afresh, in tokens.
    Input,
    /// Input read from the provider's cache, in tokens.
    CachedInput,
    /// Input written to the provider's cache for a time that is not told, in tokens.
    CacheWrite,
    /// Input written to the cache for 5 minutes, in tokens.
    CacheWrite5m,
    /// Input written to the cache for 30 minutes, in tokens.
    CacheWrite30m,
    /// Input written to the cache for an hour, in tokens.
    CacheWrite1h,
    /// Input written to the cache for 12 hours, in tokens.
    CacheWrite12h,
    /// Output, reasoning included, in tokens.
    Output,
    /// Audio input, in tokens.
    AudioInput,
    /// Audio output, in tokens.
    AudioOutput,
    /// Input of images, in tokens.
    ImageInput,
    /// Output of images, in tokens.
    ImageOutput,
    /// Calls of a tool that the provider runs. In JSON `tool:` and its name.
    Tool(ToolName),
    /// One call, whatever its size.
    Call,
}

/// How many buckets have a fixed name.
const NAMED: usize = 13;
/// What stands before the name of a tool.
const TOOL: &str = "tool:";

impl Bucket {
    /// The buckets with a fixed name.
    const ALL: [(Bucket, &'static str); NAMED] = [
        (Bucket::Input, "input"),
        (Bucket::CachedInput, "cached_input"),
        (Bucket::CacheWrite, "cache_write"),
        (Bucket::CacheWrite5m, "cache_write_5m"),
        (Bucket::CacheWrite30m, "cache_write_30m"),
        (Bucket::CacheWrite1h, "cache_write_1h"),
        (Bucket::CacheWrite12h, "cache_write_12h"),
        (Bucket::Output, "output"),
        (Bucket::AudioInput, "audio_input"),
        (Bucket::AudioOutput, "audio_output"),
        (Bucket::ImageInput, "image_input"),
        (Bucket::ImageOutput, "image_output"),
        (Bucket::Call, "call"),
    ];

    /// Whether it counts tokens that were sent.
    #[must_use]
    pub const fn is_input(self) -> bool {
        match self {
            Bucket::Input
            | Bucket::CachedInput
            | Bucket::CacheWrite
            | Bucket::CacheWrite5m
            | Bucket::CacheWrite30m
            | Bucket::CacheWrite1h
            | Bucket::CacheWrite12h
            | Bucket::AudioInput
            | Bucket::ImageInput => true,
            Bucket::Output | Bucket::AudioOutput | Bucket::ImageOutput | Bucket::Tool(_) | Bucket::Call => false,
        }
    }

    /// Whether it counts tokens that came back.
    #[must_use]
    pub const fn is_output(self) -> bool {
        matches!(self, Bucket::Output | Bucket::AudioOutput | Bucket::ImageOutput)
    }

    /// Whether it counts tokens at all.
    #[must_use]
    pub const fn is_tokens(self) -> bool {
        self.is_input() || self.is_output()
    }

    /// Its name in JSON.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Bucket::Tool(tool) => format!("{TOOL}{tool}"),
            fixed => Bucket::ALL.iter().find(|(bucket, _)| *bucket == fixed).map_or_else(String::new, |(_, name)| (*name).to_owned()),
        }
    }

    /// By its name in JSON.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Bucket> {
        match name.strip_prefix(TOOL) {
            Some(tool) => ToolName::new(tool).map(Bucket::Tool),
            None => Bucket::ALL.iter().find(|(_, known)| *known == name).map(|(bucket, _)| *bucket),
        }
    }
}

impl Serialize for Bucket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match Bucket::ALL.iter().find(|(bucket, _)| bucket == self) {
            Some((_, name)) => serializer.serialize_str(name),
            None => serializer.serialize_str(&self.name()),
        }
    }
}

impl<'de> Deserialize<'de> for Bucket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bucket, D::Error> {
        struct Named;
        impl Visitor<'_> for Named {
            type Value = Bucket;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a bucket")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Bucket, E> {
                Bucket::of_name(name).ok_or_else(|| E::custom(format_args!("unknown bucket `{name}`")))
            }
        }
        deserializer.deserialize_str(Named)
    }
}

/// The quantities of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Quantities by bucket, in the order of [`Bucket`], none of them zero.
    pub quantities: Vec<(Bucket, u64)>,
    /// Fields of the tier that the report of it leaves out, where the provider has them: those may be as they were asked for.
    pub silent: Vec<TierField>,
    /// The service tier that the provider says it billed, as [`crate::price::tier`] names it; `None`: it says nothing.
    pub tier: Option<String>,
    /// Tools that the provider runs and of which the report tells how often they were called, those that were not included.
    pub told: Vec<ToolName>,
    /// Fields of the provider's usage object that this meter does not know and whose value is not zero, with that value.
    pub unknown: Vec<(String, String)>,
}

impl Usage {
    /// Input and output alone.
    #[must_use]
    pub fn text(input: u64, output: u64) -> Usage {
        let mut usage = Usage::default();
        usage.add(Bucket::Input, input);
        usage.add(Bucket::Output, output);
        usage
    }

    /// Adds a quantity to a bucket; zero adds nothing.
    pub fn add(&mut self, bucket: Bucket, quantity: u64) {
        if quantity == 0 {
            return;
        }
        match self.quantities.binary_search_by_key(&bucket, |(held, _)| *held) {
            Ok(at) => {
                if let Some((_, held)) = self.quantities.get_mut(at) {
                    *held = held.saturating_add(quantity);
                }
            }
            Err(at) => self.quantities.insert(at, (bucket, quantity)),
        }
    }

    /// Adds calls of a tool that the provider runs; zero is told, too.
    pub fn add_calls(&mut self, tool: ToolName, calls: u64) {
        self.add(Bucket::Tool(tool), calls);
        if !self.told.contains(&tool) {
            self.told.push(tool);
        }
    }

    /// The quantity of a bucket.
    #[must_use]
    pub fn get(&self, bucket: Bucket) -> u64 {
        self.quantities.iter().find(|(held, _)| *held == bucket).map_or(0, |(_, quantity)| *quantity)
    }

    /// Tokens of all input, whatever they cost.
    #[must_use]
    pub fn input_tokens(&self) -> u64 {
        self.sum(Bucket::is_input)
    }

    /// Tokens of all output.
    #[must_use]
    pub fn output_tokens(&self) -> u64 {
        self.sum(Bucket::is_output)
    }

    fn sum(&self, counts: fn(Bucket) -> bool) -> u64 {
        let quantities = self.quantities.iter().filter(|(bucket, _)| counts(*bucket)).map(|(_, quantity)| *quantity);
        quantities.fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_has_one_name_and_comes_back_by_it() {
        let tool = Bucket::Tool(ToolName::new("web_search").unwrap());
        for bucket in Bucket::ALL.into_iter().map(|(bucket, _)| bucket).chain([tool]) {
            let text = serde_json::to_string(&bucket).unwrap();
            assert_eq!(text, format!("\"{}\"", bucket.name()));
            assert_eq!(serde_json::from_str::<Bucket>(&text).unwrap(), bucket);
            // A bucket counts tokens of one side, or none.
            assert!(!(bucket.is_input() && bucket.is_output()), "{text}");
        }
        assert_eq!(tool.name(), "tool:web_search");
        for foreign in ["", "Input", "tool:", "tool:Web", "tool:a b", "inputs"] {
            assert!(serde_json::from_str::<Bucket>(&format!("\"{foreign}\"")).is_err(), "{foreign}");
        }
    }

    /// Lines of the first ledgers stand in this order, and a charge that is computed again has to put them so.
    #[test]
    fn the_order_of_the_first_buckets_stays() {
        use Bucket::{AudioInput, AudioOutput, CacheWrite, CachedInput, Call, Input, Output};
        assert!([Input, CachedInput, CacheWrite, Output, AudioInput, AudioOutput, Call].is_sorted());
    }

    #[test]
    fn quantities_of_one_bucket_add_up_and_zero_leaves_none() {
        let mut usage = Usage::text(1, 0);
        usage.add(Bucket::ImageOutput, 2);
        usage.add(Bucket::Input, 4);
        assert_eq!(usage.quantities, [(Bucket::Input, 5), (Bucket::ImageOutput, 2)]);
        assert_eq!((usage.input_tokens(), usage.output_tokens()), (5, 2));
    }
}
