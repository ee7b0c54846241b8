//! Events of the ledger's chain.

use crate::account::AgentName;
use crate::ledger::Sealed;
use crate::value::{AccountId, Digest, Stamp};
use serde::{Deserialize, Serialize};

/// `event.list`: a part of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// The first `limit` events behind this number; `None`: the newest `limit`.
    #[serde(default)]
    pub after: Option<u64>,
    /// At most so many; above [`EventQuery::MAX_LIMIT`] it counts as that.
    #[serde(default = "EventQuery::default_limit")]
    pub limit: u32,
    /// Only those of this agent and its runs. A deleted agent's events are found by `account`.
    #[serde(default)]
    pub agent: Option<AgentName>,
    /// Only those of this account and the accounts below it.
    #[serde(default)]
    pub account: Option<AccountId>,
}

impl EventQuery {
    /// Most events in one reply.
    pub const MAX_LIMIT: u32 = 1000;

    const fn default_limit() -> u32 {
        100
    }
}

/// `event.tail`: the chain as it grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventTail {
    /// From behind this number on, none left out; `None`: from the newest on.
    #[serde(default)]
    pub after: Option<u64>,
    /// Only those of this agent and its runs.
    #[serde(default)]
    pub agent: Option<AgentName>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number; the first is 1, none is missing.
    pub seq: u64,
    /// When it happened.
    pub at: Stamp,
    /// What happened.
    pub kind: String,
    /// Its hash, which covers all before it.
    pub hash: Digest,
    /// The account that it is about.
    pub account: Option<AccountId>,
    /// The name of that account's agent. Not part of the hash.
    pub agent: Option<String>,
    /// The name of the group that is the account, or the nearest one above it. Not part of the hash.
    #[serde(default)]
    pub group: Option<String>,
    /// Its facts. Written again with sorted keys and no white space they are the bytes that were hashed.
    pub body: serde_json::Value,
}

/// Reply of `event.list`: in ascending order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventList {
    /// The events.
    pub events: Vec<Event>,
    /// Number of the newest event of the chain.
    pub head_seq: u64,
    /// Older events that are in segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
}

/// Reply of `event.tail`. It ends with the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Names it in its notifications.
    pub subscription: u64,
    /// The number behind which it begins.
    pub after: u64,
}

/// The notification `event`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventNotice {
    /// The subscription that it belongs to.
    pub subscription: u64,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}
