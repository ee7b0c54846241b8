//! How a hold ended, as events and rows name it.

use serde::{Deserialize, Serialize};

/// How a hold ended with a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// The provider reported the usage.
    Exact,
    /// The usage was estimated from what was sent and relayed.
    Estimated,
    /// The whole hold was charged: nobody knows what was used.
    WorstCase,
}

impl Settled {
    /// Its name, as rows and events hold it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Settled::Exact => "exact",
            Settled::Estimated => "estimated",
            Settled::WorstCase => "worst_case",
        }
    }
}

/// Output that was relayed and that nobody reported in full: an estimate rests on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relayed {
    /// Its bytes, as they stand in the answer.
    pub bytes: u64,
    /// Its tokens, at most: its texts by the model's vocabulary, all else by its bytes. Absent where no text was tokenised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

impl Relayed {
    /// By bytes alone.
    #[must_use]
    pub const fn bytes(bytes: u64) -> Relayed {
        Relayed { bytes, tokens: None }
    }

    /// The tokens that it counts as: no token is shorter than a byte.
    #[must_use]
    pub fn counts(self) -> u64 {
        self.tokens.map_or(self.bytes, |tokens| tokens.min(self.bytes))
    }
}

/// Why a call was settled as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The provider answered, usage included.
    Answered,
    /// It answered without usage.
    NoUsage,
    /// The client left the stream.
    ClientLeft,
    /// The provider broke off after it began to answer.
    ProviderLeft,
    /// The provider, or something before it, failed in a way that does not prove that nothing was billed.
    ProviderFailed,
    /// A stream was cut because it passed its bound.
    Cut,
    /// The deadline passed.
    Deadline,
    /// The call's task panicked.
    Panic,
    /// The daemon died; found at the next start.
    Crash,
    /// An account on the path was paused, killed, suspended or closed.
    Stopped,
}

/// Why a hold was released: proof that nothing was billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Released {
    /// The request never left.
    NeverSent,
    /// The provider refused it.
    Refused,
    /// The configuration says that gateway errors are not charged.
    GatewayError,
    /// The daemon died before it was sent; found at the next start.
    Crash,
}
