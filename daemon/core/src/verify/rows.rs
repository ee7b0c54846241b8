//! The ledger's rows as the audit takes them in. What the events say of one has the same type, so that the two are compared whole.

use crate::books::{AccountKind, HoldKey, Limits};
use crate::chain::Head;
use crate::decision::AccountState;
use crate::event::Settled;
use crate::window::Period;
use aex_proto::value::{AccountId, BalanceId, Digest, Pico, Stamp};

/// One event as it is stored or exported.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its number.
    pub seq: i64,
    /// When it was recorded.
    pub at: Stamp,
    /// Its kind.
    pub kind: String,
    /// Its canonical body.
    pub body: String,
    /// Its hash.
    pub hash: Digest,
}

/// The one row that says where the ledger stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The last event.
    pub head: Head,
    /// The daemon's last start.
    pub epoch: u32,
    /// The number that the next account gets.
    pub next_account: AccountId,
    /// The ledger's own name.
    pub ledger: String,
}

/// An account's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub id: AccountId,
    /// The account above; `None` for the root.
    pub parent: Option<AccountId>,
    /// What it stands for.
    pub kind: AccountKind,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: AccountState,
    /// Why it is in that state.
    pub reason: String,
    /// Its limits on calls.
    pub limits: Limits,
    /// The digest of its policy's text.
    pub policy: Digest,
    /// When it was created.
    pub created_at: Stamp,
    /// When it was closed.
    pub closed_at: Option<Stamp>,
}

/// A budget's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Whose it is.
    pub account: AccountId,
    /// Its period.
    pub period: Period,
    /// What may be spent in it.
    pub limit: Pico,
}

/// A token's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The SHA-256 of its text.
    pub hash: Digest,
    /// Whose it is.
    pub account: AccountId,
    /// It may read only.
    pub read_only: bool,
    /// When it was created.
    pub created_at: Stamp,
    /// When it ends by itself.
    pub expires_at: Option<Stamp>,
    /// From when on it is refused.
    pub revoked_at: Option<Stamp>,
    /// What it is for; may be empty.
    pub label: String,
}

/// A hold's row that is still open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The hold.
    pub key: HoldKey,
    /// Whose call it is.
    pub account: AccountId,
    /// The model.
    pub model: String,
    /// The digest of the model's card.
    pub card: Digest,
    /// What it holds.
    pub amount: Pico,
    /// Tokens in its bound.
    pub tokens: i64,
    /// The balances that hold it.
    pub balances: Vec<BalanceId>,
    /// When it was placed.
    pub held_at: Stamp,
    /// When it is to end at the latest.
    pub deadline: Stamp,
    /// The daemon's start that it belongs to.
    pub epoch: u32,
    /// The request may have reached the provider.
    pub sent: bool,
    /// The event that placed it.
    pub held_seq: i64,
}

/// A call's terminal row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The hold that it ended.
    pub key: HoldKey,
    /// Whose call it was.
    pub account: AccountId,
    /// The model.
    pub model: String,
    /// How it was settled; `None`: it was released.
    pub state: Option<Settled>,
    /// What was held.
    pub amount: Pico,
    /// What was charged; zero for a release.
    pub charge: Pico,
    /// Tokens that it is counted with.
    pub tokens: i64,
    /// When it was held.
    pub held_at: Stamp,
    /// When it ended.
    pub ended_at: Stamp,
    /// The event that placed the hold.
    pub held_seq: i64,
    /// The event that ended it.
    pub ended_seq: i64,
}
