//! What several kinds of events hold.

use aex_proto::value::{Digest, Pico, Stamp};
use serde::{Deserialize, Serialize};

/// Who did an admin action: the peer of the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct By {
    /// Its process.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
}

/// What an account brought along from the database of an earlier program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imported {
    /// When that program had made it.
    pub created_at: Stamp,
    /// The SHA-256 of that database.
    pub database: Digest,
    /// What it had spent there: its total begins with it.
    pub spent: Pico,
}

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
