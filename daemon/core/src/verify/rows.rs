//! The ledger's rows as the audit takes them in, and as exports hold them: fields in alphabetical order. What the events say of one has
//! the same type, so that the two are compared whole.

use crate::books::{AccountKind, HoldKey, Limits};
use crate::chain::Head;
use crate::decision::AccountState;
use crate::event::{Event, Settled};
use crate::window::Period;
use aex_proto::value::{AccountId, BalanceId, Digest, Pico, RequestId, Stamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use std::borrow::Cow;

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

impl Record {
    /// Reads what it says. With what has to be read around it that is half of an audit's work, and may be done on another thread
    /// than the rest.
    #[must_use]
    pub fn prepare(&self) -> Prepared {
        Prepared::of(self.seq, self.at, &self.kind, &self.body, self.hash)
    }
}

/// An event that has been read.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(super) seq: i64,
    pub(super) at: Stamp,
    pub(super) kind: Cow<'static, str>,
    pub(super) body: String,
    pub(super) hash: Digest,
    pub(super) event: Result<Event, String>,
}

impl Prepared {
    /// Reads what an event says.
    #[must_use]
    pub fn of(seq: i64, at: Stamp, kind: &str, body: &str, hash: Digest) -> Prepared {
        let event = Event::parse(kind, body);
        let kind = event.as_ref().map_or_else(|_| Cow::Owned(kind.to_owned()), |event| Cow::Borrowed(event.kind()));
        Prepared { seq, at, kind, body: body.to_owned(), hash, event }
    }

    /// Its number.
    #[must_use]
    pub const fn seq(&self) -> i64 {
        self.seq
    }

    /// What it says, when it can be read.
    #[must_use]
    pub fn event(&self) -> Option<&Event> {
        self.event.as_ref().ok()
    }

    /// The call that it ends.
    #[must_use]
    pub fn ends(&self) -> Option<HoldKey> {
        match self.event()? {
            Event::CallSettled(settled) => Some(HoldKey { request: settled.request, attempt: settled.attempt }),
            Event::CallReleased(released) => Some(HoldKey { request: released.request, attempt: released.attempt }),
            _ => None,
        }
    }
}

/// What a filtered export keeps of an event of others: enough for the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stub {
    /// When it was recorded.
    pub at: Stamp,
    /// The digest of its body.
    pub digest: Digest,
    /// Its hash.
    pub hash: Digest,
    /// Its kind.
    pub kind: String,
    /// Its number.
    pub seq: i64,
}

/// The one row that says where the ledger stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// The daemon's last start.
    pub epoch: u32,
    /// The last event.
    pub head: Head,
    /// The ledger's own name.
    pub ledger: String,
    /// The number that the next account gets.
    pub next_account: AccountId,
}

/// An account's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// When it was closed.
    pub closed_at: Option<Stamp>,
    /// When it was created.
    pub created_at: Stamp,
    /// Its number.
    pub id: AccountId,
    /// What it stands for.
    pub kind: AccountKind,
    /// Its limits on calls.
    pub limits: Limits,
    /// Its name.
    pub name: String,
    /// The account above; `None` for the root.
    pub parent: Option<AccountId>,
    /// The digest of its policy's text.
    pub policy: Digest,
    /// Why it is in that state.
    pub reason: String,
    /// Its state.
    pub state: AccountState,
}

/// A budget's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Whose it is.
    pub account: AccountId,
    /// What may be spent in it.
    pub limit: Pico,
    /// Its period.
    pub period: Period,
}

/// A token's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Whose it is.
    pub account: AccountId,
    /// When it was created.
    pub created_at: Stamp,
    /// When it ends by itself.
    pub expires_at: Option<Stamp>,
    /// The SHA-256 of its text.
    pub hash: Digest,
    /// What it is for; may be empty.
    pub label: String,
    /// It may read only.
    pub read_only: bool,
    /// From when on it is refused.
    pub revoked_at: Option<Stamp>,
}

/// A hold's row that is still open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Whose call it is.
    pub account: AccountId,
    /// What it holds.
    pub amount: Pico,
    /// The balances that hold it.
    pub balances: Vec<BalanceId>,
    /// The digest of the model's card.
    pub card: Digest,
    /// When it is to end at the latest.
    pub deadline: Stamp,
    /// The daemon's start that it belongs to.
    pub epoch: u32,
    /// When it was placed.
    pub held_at: Stamp,
    /// The event that placed it.
    pub held_seq: i64,
    /// The hold.
    pub key: HoldKey,
    /// The model.
    pub model: String,
    /// The request may have reached the provider.
    pub sent: bool,
    /// Tokens in its bound.
    pub tokens: i64,
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

impl Call {
    /// The digest of the row: SHA-256(request ‖ attempt ‖ account ‖ amount ‖ charge ‖ tokens ‖ held ‖ ended ‖ held_seq ‖ ended_seq ‖
    /// state ‖ 0 ‖ model), numbers big-endian in 8 bytes, the attempt in one, times in microseconds since 1970, the state by its
    /// name, a release as `released`.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = sha2::Sha256::new();
        hasher.update(self.key.request.bits().to_be_bytes());
        hasher.update([self.key.attempt]);
        let numbers = [
            self.account.get(),
            self.amount.get(),
            self.charge.get(),
            self.tokens,
            self.held_at.micros(),
            self.ended_at.micros(),
            self.held_seq,
            self.ended_seq,
        ];
        for number in numbers {
            hasher.update(number.to_be_bytes());
        }
        hasher.update(self.state.map_or("released", Settled::name).as_bytes());
        hasher.update([0]);
        hasher.update(self.model.as_bytes());
        Digest::from_bytes(hasher.finalize().into())
    }
}

/// Terminal rows, by their number and one digest over all of them in the order of their ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// How many.
    pub count: u64,
    /// SHA-256(digest of those before ‖ digest of the last row); zeros without any.
    pub digest: Digest,
}

impl Ended {
    /// None yet.
    pub const NONE: Ended = Ended { count: 0, digest: Digest::ZERO };

    /// With one more, by its row's digest.
    #[must_use]
    pub fn and(self, row: Digest) -> Ended {
        let mut hasher = sha2::Sha256::new();
        hasher.update(self.digest.bytes());
        hasher.update(row.bytes());
        Ended { count: self.count.saturating_add(1), digest: Digest::from_bytes(hasher.finalize().into()) }
    }
}

/// The row of what was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The digest of what is kept of refusals.
    pub denials: Digest,
    /// The first event.
    pub first: i64,
    /// The last event.
    pub last: i64,
    /// The digest of the file.
    pub segment: Digest,
    /// The digest of the state behind the last event.
    pub state: Digest,
}

/// Its two parts, in the order of their names.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "HoldKey")]
struct KeyParts {
    attempt: u8,
    request: RequestId,
}

impl Serialize for HoldKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        KeyParts { attempt: self.attempt, request: self.request }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for HoldKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HoldKey, D::Error> {
        KeyParts::deserialize(deserializer).map(|KeyParts { attempt, request }| HoldKey { request, attempt })
    }
}
