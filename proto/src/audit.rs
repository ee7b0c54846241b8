//! The audit: the ledger recomputed from its events.

use crate::value::{Digest, Stamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What must hold, in the order in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvariantName {
    /// spent + reserved − overdraft ≤ limit, for every account and window.
    SpentWithinBudget,
    /// No amount is below zero.
    NoNegativeValues,
    /// Everything reserved belongs to a call in flight of this daemon.
    NoOrphanedReservations,
    /// Every event's hash follows from the one before and its body.
    EventLogIntegrity,
    /// What each account spent is the sum of its charges in the events.
    SpentMatchesEvents,
    /// Each charge is the sum of its lines at the prices that held for it.
    ChargesRepriced,
    /// Each admission, and each denial by policy, follows from its inputs again.
    DecisionsRecomputed,
}

impl InvariantName {
    /// All, in order: the five of the earlier program first.
    pub const ALL: [InvariantName; 7] = [
        InvariantName::SpentWithinBudget,
        InvariantName::NoNegativeValues,
        InvariantName::NoOrphanedReservations,
        InvariantName::EventLogIntegrity,
        InvariantName::SpentMatchesEvents,
        InvariantName::ChargesRepriced,
        InvariantName::DecisionsRecomputed,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            InvariantName::SpentWithinBudget => "spent_within_budget",
            InvariantName::NoNegativeValues => "no_negative_values",
            InvariantName::NoOrphanedReservations => "no_orphaned_reservations",
            InvariantName::EventLogIntegrity => "event_log_integrity",
            InvariantName::SpentMatchesEvents => "spent_matches_events",
            InvariantName::ChargesRepriced => "charges_repriced",
            InvariantName::DecisionsRecomputed => "decisions_recomputed",
        }
    }
}

/// One invariant and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invariant {
    /// Its name.
    pub name: InvariantName,
    /// Whether it holds.
    pub passed: bool,
    /// Rows looked at.
    pub checked: u64,
    /// What was found, in one line.
    pub detail: String,
    /// Rows that break it, each in one line; at most [`Audit::MAX_BROKEN`].
    pub broken: Vec<String>,
    /// All rows that break it.
    #[serde(default)]
    pub broken_count: u64,
}

/// An event's hash, as it was noted when the event was the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noted {
    /// Its hash.
    pub hash: Digest,
    /// The number of the event.
    pub seq: u64,
}

impl FromStr for Noted {
    type Err = String;

    fn from_str(text: &str) -> Result<Noted, String> {
        let wrong = || format!("`{text}` is not the number and the hash of an event, such as 12:9f86d0…");
        let (seq, hash) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Noted { hash: hash.parse().map_err(|_| wrong())?, seq: seq.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// `audit.run`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Hashes that were noted elsewhere: a chain that was made anew does not have them.
    #[serde(default)]
    pub expect: Vec<Noted>,
}

/// Reply of `audit.run`, and what `aexd audit --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Whether all hold.
    pub passed: bool,
    /// The invariants, in the order of [`InvariantName::ALL`].
    pub invariants: Vec<Invariant>,
    /// When it was made.
    pub at: Stamp,
    /// The last event that it covers.
    pub head_seq: u64,
    /// The hash of that event.
    pub head_hash: Digest,
    /// Charges that are exact.
    pub exact: u64,
    /// Charges that are estimates.
    pub estimated: u64,
    /// Charges at the bound, because the meter was lost.
    pub worst_case: u64,
    /// What could not be checked, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unchecked: Vec<String>,
}

impl Invariant {
    /// `and N more`, when not all rows that break it are listed.
    #[must_use]
    pub fn more(&self) -> Option<String> {
        let listed = u64::try_from(self.broken.len()).unwrap_or(u64::MAX);
        let more = self.broken_count.saturating_sub(listed);
        (more > 0).then(|| format!("and {more} more"))
    }
}

impl Audit {
    /// Most broken rows that are listed for one invariant.
    pub const MAX_BROKEN: usize = 100;
}
