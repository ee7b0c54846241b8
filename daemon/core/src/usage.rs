//! What a provider reports that a call used, in disjoint buckets.

use serde::{Deserialize, Serialize};

/// One kind of billed quantity. Buckets are disjoint: nothing is counted in two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    /// Text input read afresh, in tokens.
    Input,
    /// Input read from the provider's cache, in tokens.
    CachedInput,
    /// Input written to the provider's cache, in tokens.
    CacheWrite,
    /// Output, reasoning included, in tokens.
    Output,
    /// Audio input, in tokens.
    AudioInput,
    /// Audio output, in tokens.
    AudioOutput,
    /// One call, whatever its size.
    Call,
}

impl Bucket {
    /// Whether it counts what was sent.
    #[must_use]
    pub const fn is_input(self) -> bool {
        matches!(self, Bucket::Input | Bucket::CachedInput | Bucket::CacheWrite | Bucket::AudioInput)
    }
}

/// The quantities of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Quantities by bucket, in the order of [`Bucket`], none of them zero.
    pub quantities: Vec<(Bucket, u64)>,
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

    /// The quantity of a bucket.
    #[must_use]
    pub fn get(&self, bucket: Bucket) -> u64 {
        self.quantities.iter().find(|(held, _)| *held == bucket).map_or(0, |(_, quantity)| *quantity)
    }
}
