//! The audit: replays the events and compares what follows from them with what the ledger's rows say.
//!
//! Feed it the snapshots, every event in order, then the rows, then ask for the findings. It needs no daemon and no database,
//! and it shares none of the books' code but the calendar: a mistake there is found here. It keeps what is open, never what has
//! ended: its memory grows with accounts, tokens and balances, not with calls. All of its state can be written down behind any
//! event (`checkpoint`), and an audit can go on from there.

mod calls;
mod checkpoint;
mod compare;
mod consents;
mod decisions;
mod finding;
mod look;
mod money;
mod part;
pub mod rows;
mod seals;
mod told;
mod tools;
mod tree;
mod words;

pub use calls::repriced;
pub use checkpoint::{Checkpoint, Piece};
pub use finding::Finding;
pub use look::{Holder, Purse, Standing};
pub use rows::{Ended, Prepared, Record, Stub};
pub use seals::Basis;
pub use told::told;

use crate::books::HoldKey;
use crate::chain::Head;
use crate::event::{ConfigLoaded, EpochClosed, EpochOpened, Event, LedgerRestored, LedgerSealed};
use crate::policy::{Effective, Fields};
use crate::price::ModelCard;
use crate::tool::Permissions;
use aex_proto::value::{AccountId, Digest, Pico, Stamp};
use calls::Held;
use consents::Consents;
use finding::Findings;
use jiff::tz::TimeZone;
use money::Money;
use rows::Call;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use tree::Tree;

/// Finds a zone by the name that an event holds. Rules of zones are data of the machine, so they are passed in; a machine whose
/// rules changed since a window was opened tells that window as wrong.
pub type Zones = fn(&str) -> Option<TimeZone>;

/// What the events count up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Money charged in all.
    pub charged: Pico,
    /// Calls settled by an estimate.
    pub estimated: u64,
    /// Calls settled by the provider's report.
    pub exact: u64,
    /// Holds released.
    pub released: u64,
    /// Money charged by estimates and worst cases.
    pub uncertain: Pico,
    /// Calls charged in full because nobody knows.
    pub worst_case: u64,
}

/// An event's number and time.
#[derive(Clone, Copy, Debug)]
struct Place {
    seq: i64,
    at: Stamp,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {}", self.seq)
    }
}

/// Texts that events name by digest.
#[derive(Debug, Default)]
struct Snapshots {
    cards: BTreeMap<Digest, ModelCard>,
    /// What holds for an agent's calls.
    policies: BTreeMap<Digest, Effective>,
    /// What an account states.
    fields: BTreeMap<Digest, Fields>,
    /// What holds for the calls of tools.
    permissions: BTreeMap<Digest, Permissions>,
}

/// What the configurations of the living epoch said. A call keeps the one that it began with, whatever came into force since,
/// so it may be held by any of them.
#[derive(Debug, Default)]
struct Configs {
    cards: BTreeSet<(String, Digest)>,
    free_gateway_errors: bool,
}

/// An audit under way.
#[derive(Debug)]
pub struct Audit {
    zones: Zones,
    zone: Option<TimeZone>,
    zone_name: Option<String>,
    head: Head,
    epoch: u32,
    /// The last event was a restore: the start from which it has the ledger count on.
    restored: Option<u32>,
    ledger: Option<String>,
    snapshots: Snapshots,
    configs: Configs,
    consents: Consents,
    tree: Tree,
    money: Money,
    open: BTreeMap<HoldKey, Held>,
    /// The event whose bill went beyond a limit, and the agent that the next event has to suspend for it.
    suspends: Option<(i64, AccountId)>,
    /// The windows of balances are taken from their rows.
    windows_of_rows: bool,
    /// Calls that have ended.
    ended: Ended,
    /// What was taken out into files, oldest first.
    seals: Vec<LedgerSealed>,
    /// Accounts whose rows were compared.
    seen: BTreeSet<AccountId>,
    counts: Counts,
    /// The account that a filtered export is about. Of the accounts above it only what limits it is known, of others nothing.
    within: Option<AccountId>,
    /// Events that were seen as stubs.
    stubs: u64,
    /// States that it began with, or that a file ended with.
    bases: BTreeMap<i64, Basis>,
    /// Heads that were noted elsewhere and have to be met.
    expected: BTreeMap<i64, Vec<Digest>>,
    found: Findings,
}

impl Audit {
    /// An audit that has seen nothing.
    #[must_use]
    pub fn new(zones: Zones) -> Audit {
        Audit {
            zones,
            zone: None,
            zone_name: None,
            head: Head::START,
            epoch: 0,
            restored: None,
            ledger: None,
            snapshots: Snapshots::default(),
            configs: Configs::default(),
            consents: Consents::default(),
            tree: Tree::default(),
            money: Money::default(),
            open: BTreeMap::new(),
            suspends: None,
            windows_of_rows: false,
            ended: Ended::NONE,
            seals: Vec::new(),
            seen: BTreeSet::new(),
            counts: Counts::default(),
            within: None,
            stubs: 0,
            bases: BTreeMap::new(),
            expected: BTreeMap::new(),
            found: Findings::new(),
        }
    }

    /// Takes in a snapshot, by which events name prices and policies. One whose text does not have its digest is a finding.
    pub fn snapshot(&mut self, digest: Digest, kind: &str, text: &str) {
        let genuine = Digest::of(text.as_bytes()) == digest;
        self.found.integrity.check(genuine, || format!("snapshot {digest}: its text has another digest"));
        let snapshots = &mut self.snapshots;
        let read = match kind {
            "card" => serde_json::from_str(text).map(|card| drop(snapshots.cards.insert(digest, card))).map_err(|fault| fault.to_string()),
            "fields" => {
                serde_json::from_str(text).map(|fields| drop(snapshots.fields.insert(digest, fields))).map_err(|fault| fault.to_string())
            }
            "permissions" => Permissions::parse(text).map(|permissions| drop(snapshots.permissions.insert(digest, permissions))),
            "policy" => {
                // The first ledgers keep what an account states as a policy; later events go on naming it.
                if let Ok(fields) = serde_json::from_str(text) {
                    snapshots.fields.insert(digest, fields);
                }
                Effective::parse(text).map(|policy| drop(snapshots.policies.insert(digest, policy))).map_err(|fault| fault.to_string())
            }
            _ => return self.found.integrity.fail(format!("snapshot {digest}: `{kind}` is no kind of snapshot that is known here")),
        };
        if let Err(fault) = read {
            self.found.integrity.fail(format!("snapshot {digest}: {fault}"));
        }
    }

    /// Takes in the next event. When it ends a call, the row that has to stand for that end: give it to [`Audit::ended`].
    pub fn event(&mut self, record: &Record) -> Option<Call> {
        self.take(record.prepare())
    }

    /// As [`Audit::event`], with an event that has been read.
    pub fn take(&mut self, event: Prepared) -> Option<Call> {
        let Prepared { seq, at, kind, body, hash, event } = event;
        let place = Place { seq, at };
        let before = self.follow(place, &kind, &Digest::of(body.as_bytes()), hash);
        let read = event.and_then(|event| if event.is_body(&body) { Ok(event) } else { Err(format!("{kind}: its body is not canonical")) });
        match read {
            Ok(event) => self.replay(place, before, event),
            Err(fault) => {
                self.found.integrity.fail(format!("{place}: {fault}"));
                None
            }
        }
    }

    /// Goes one link on in the chain; where it ended before.
    fn follow(&mut self, place: Place, kind: &str, digest: &Digest, hash: Digest) -> Head {
        let next = self.head.link(place.at, kind, digest);
        self.found.integrity.check(next.seq == place.seq, || format!("{place}: {} was expected", next.seq));
        self.found.integrity.check(next.hash == hash, || format!("{place}: its hash does not follow from what it holds"));
        let before = std::mem::replace(&mut self.head, Head { seq: place.seq, hash });
        self.meet();
        before
    }

    /// `before`: where the chain ended before the event.
    fn replay(&mut self, place: Place, before: Head, event: Event) -> Option<Call> {
        self.pending(Some(&event));
        let restored = self.restored.take();
        let opens = restored.is_none() || matches!(event, Event::EpochOpened(_));
        self.found.integrity.check(opens, || format!("{place}: a restore is not followed by a start of the daemon"));
        match event {
            Event::EpochOpened(opened) => self.epoch_opened(place, restored, *opened),
            Event::EpochClosed(closed) => self.epoch_closed(place, *closed),
            Event::ClockJumped(jumped) => {
                let at = place.at;
                self.found.integrity.check(jumped.to == at, || format!("{place}: the clock went to {}, and it stands at {at}", jumped.to));
                let by_us = jumped.to.since(jumped.from);
                self.open.values_mut().for_each(|held| held.moved_us = held.moved_us.saturating_add(by_us));
            }
            Event::ConfigLoaded(loaded) => self.config_loaded(place, *loaded),
            Event::LedgerRestored(restored) => self.ledger_restored(place, before, &restored),
            Event::AccountCreated(created) => self.account_created(place, *created),
            Event::AccountStateChanged(changed) => self.account_state(place, *changed),
            Event::AccountUpdated(updated) => self.account_updated(place, &updated),
            Event::TokenCreated(created) => self.token_created(place, *created),
            Event::TokenRevoked(revoked) => self.token_revoked(place, &revoked),
            Event::WindowOpened(opened) => self.window_opened(place, *opened),
            Event::BudgetSet(set) => self.budget_set(place, &set),
            Event::CallHeld(held) => self.held(place, *held),
            Event::CallSent(sent) => self.sent(place, &sent),
            Event::CallSettled(settled) => return self.settled(place, &settled),
            Event::CallReleased(released) => return self.released(place, &released),
            Event::CallDenied(denied) => self.denied(place, &denied),
            Event::LedgerSealed(sealed) => self.sealed(place, *sealed),
            Event::ApprovalGiven(given) => self.approval(place, *given),
            Event::CallDeniedAgain(_)
            | Event::AuthFailed(_)
            | Event::ResponseCancelled(_)
            | Event::ResponseDeleted(_)
            | Event::ResponseStored(_)
            | Event::AdminBarred(_)
            | Event::ToolPinned(_)
            | Event::ToolsChanged(_) => {}
        }
        None
    }

    /// `restored`: the start from which a restore, the event before, has the ledger count on.
    fn epoch_opened(&mut self, place: Place, restored: Option<u32>, opened: EpochOpened) {
        let next = restored.unwrap_or(self.epoch).saturating_add(1);
        self.found.integrity.check(opened.epoch == next, || format!("{place}: epoch {} begins, {next} was to be next", opened.epoch));
        let same = self.ledger.as_ref().is_none_or(|ledger| *ledger == opened.ledger);
        self.found.integrity.check(same, || format!("{place}: it belongs to another ledger, {}", opened.ledger));
        self.zone = (self.zones)(&opened.zone);
        self.found.integrity.check(self.zone.is_some(), || {
            format!("{place}: the zone {} is not known here, so its windows cannot be checked", opened.zone)
        });
        self.zone_name = Some(opened.zone);
        self.epoch = opened.epoch;
        self.ledger = Some(opened.ledger);
        self.configs = Configs::default();
        self.consents.begin();
    }

    fn epoch_closed(&mut self, place: Place, closed: EpochClosed) {
        let current = self.epoch;
        self.found.integrity.check(closed.epoch == current, || format!("{place}: epoch {} ends in epoch {current}", closed.epoch));
    }

    /// The ledger is the backup from here on. Nothing but this lets the numbers of starts leave any out.
    fn ledger_restored(&mut self, place: Place, before: Head, restored: &LedgerRestored) {
        self.found.integrity.check(restored.head == before.into(), || {
            format!("{place}: the backup is said to end at event {} ({}), it ends at {}", restored.head.seq, restored.head.hash, before.seq)
        });
        let epoch = self.epoch;
        self.found.integrity.check(restored.epoch >= epoch, || {
            format!("{place}: the restore counts starts from {}, there were {epoch} already", restored.epoch)
        });
        self.restored = Some(restored.epoch);
    }

    fn config_loaded(&mut self, place: Place, loaded: ConfigLoaded) {
        self.configs.free_gateway_errors |= !loaded.gateway_errors_charged;
        for (name, digest) in loaded.cards {
            self.referenced(place, digest);
            self.configs.cards.insert((name, digest));
        }
    }

    /// An event names a snapshot: it has to be there.
    fn referenced(&mut self, place: Place, digest: Digest) {
        let there = self.knows(&digest);
        self.found.integrity.check(there, || format!("{place}: the snapshot {digest} that it names is missing"));
    }

    /// The zone in which windows are counted. Events before the first epoch have none.
    fn zone_at(&mut self, place: Place) -> TimeZone {
        self.found.integrity.check(self.epoch > 0, || format!("{place}: it stands before the first start of a daemon"));
        self.zone.clone().unwrap_or(TimeZone::UTC)
    }

    /// Where the chain ends.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// The ledger's own name, as the last start told it.
    #[must_use]
    pub fn ledger(&self) -> Option<&str> {
        self.ledger.as_deref()
    }

    /// What the events count up to.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests;
