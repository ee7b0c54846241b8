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
