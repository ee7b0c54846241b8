//! The lines of the file, as types. Fields stand in alphabetical order; optional ones may be added.

use crate::books::{Balance, HoldKey};
use crate::chain::Head;
use crate::verify::Stub;
use crate::verify::rows::{Account, Budget, Chain, Hold, Token};
use aex_proto::value::{AccountId, BalanceId, Digest, Stamp};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Whose events a filtered file tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its account.
    pub account: AccountId,
    /// Its name.
    pub name: String,
}

/// The event before the first.
pub type Since = Head;

/// The first line: what the file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Whose events it tells; absent when it tells all.
    pub agent: Option<Agent>,
    /// The ledger's own name.
    pub ledger: String,
    /// The daemon's start that lived when it was made; absent when none did.
    pub living: Option<u32>,
    /// When it was made.
    pub made_at: Stamp,
    /// Whether the ledger's rows are in it. A sealed segment has none.
    pub rows: bool,
    /// The event before its first; absent when it begins with event 1.
    pub since: Option<Since>,
    /// The version of the format.
    pub version: u32,
}

/// A part of the file with a digest of its own, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// The first line.
    Header,
    /// The state before the first event.
    Checkpoint,
    /// Texts that are named by digest.
    Snapshots,
    /// Events and stubs.
    Events,
    /// Rows of the tables.
    Rows,
}

impl Section {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Section::Header => "header",
            Section::Checkpoint => "checkpoint",
            Section::Snapshots => "snapshots",
            Section::Events => "events",
            Section::Rows => "rows",
        }
    }
}

/// A section in sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    /// Its lines.
    pub lines: u64,
    /// Which.
    pub name: Section,
    /// The SHA-256 of its lines with their line feeds.
    pub sha256: Digest,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Where the chain ends.
    pub head: Head,
    /// All lines, this one included.
    pub lines: u64,
    /// Each section that has lines, in order.
    pub sections: Vec<Sum>,
}

/// A row of the tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Row {
    /// An account.
    Account(Account),
    /// A budget.
    Budget(Budget),
    /// A token, by its digest.
    Token(Token),
    /// A balance.
    Balance(Balance),
    /// A call in flight.
    Hold(Hold),
    /// Where the ledger stands.
    Chain(Chain),
}

/// Where a row, or a snapshot, has its place: they stand in ascending order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Snapshot(Digest),
    Account(AccountId),
    Budget(AccountId, &'static str),
    Token(Digest),
    Balance(BalanceId),
    Hold(HoldKey),
    Chain,
}

impl Row {
    pub(super) fn key(&self) -> Key {
        match self {
            Row::Account(row) => Key::Account(row.id),
            Row::Budget(row) => Key::Budget(row.account, row.period.name()),
            Row::Token(row) => Key::Token(row.hash),
            Row::Balance(row) => Key::Balance(row.id),
            Row::Hold(row) => Key::Hold(row.key),
            Row::Chain(_) => Key::Chain,
        }
    }
}

/// A text that is named by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Snapshot<'a> {
    /// The SHA-256 of the text.
    pub digest: Digest,
    /// What it is.
    pub kind: Cow<'a, str>,
    /// The text.
    pub text: Cow<'a, str>,
}

/// A line that is no event, no row and no part of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line<'a> {
    End(End),
    Export(Header),
    #[serde(borrow)]
    Snapshot(Snapshot<'a>),
    Stub(Stub),
}
