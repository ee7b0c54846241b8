//! A part of a chain: what an export without the events of others can prove, heads that were noted elsewhere, and where in a file
//! the audit looks.

use super::rows::Stub;
use super::{Audit, Place};
use crate::chain::Head;
use aex_proto::value::{AccountId, Digest};

/// Kinds that are nobody's own: no filter leaves them out.
const COMMON: [&str; 6] = ["clock.jumped", "config.loaded", "epoch.closed", "epoch.opened", "ledger.restored", "ledger.sealed"];

impl Audit {
    /// From here on only the events of an account and those below it are told, and what limits the accounts above it.
    pub fn within(&mut self, account: AccountId) {
        self.within = Some(account);
    }

    /// Takes in an event of others, by what keeps the chain whole.
    pub fn stub(&mut self, stub: &Stub) {
        let place = Place { seq: stub.seq, at: stub.at };
        self.follow(place, &stub.kind, &stub.digest, stub.hash);
        self.pending(None);
        self.stubs = self.stubs.saturating_add(1);
        let may_be = self.within.is_some() && !COMMON.contains(&stub.kind.as_str());
        self.found.integrity.check(may_be, || format!("{place}: what it says is left out, and no filter leaves out its {}", stub.kind));
        if stub.kind == "account.created" {
            self.tree.last = self.tree.last.saturating_add(1);
        }
    }

    /// Events that were seen as stubs.
    #[must_use]
    pub const fn stubs(&self) -> u64 {
        self.stubs
    }

    /// Whether all that happens on an account is told.
    pub(super) fn is_whole(&self, account: AccountId) -> bool {
        self.within.is_none_or(|within| self.tree.path(account).iter().any(|node| node.row.id == within))
    }

    /// Demands that an event has the hash that was noted for it elsewhere.
    pub fn expect(&mut self, head: Head) {
        self.expected.entry(head.seq).or_default().push(head.hash);
        self.meet();
    }

    /// Compares what was noted for the event that the chain has come to.
    pub(super) fn meet(&mut self) {
        if self.expected.is_empty() {
            return;
        }
        let Head { seq, hash } = self.head;
        for noted in self.expected.remove(&seq).unwrap_or_default() {
            self.found
                .integrity
                .check(noted == hash, || format!("event {seq}: its hash is {hash}, and {noted} was noted: the chain was rewritten"));
        }
    }

    /// Events that were noted and never met.
    pub(super) fn unmet(&mut self) {
        let begun = self.bases.keys().next().copied();
        for (seq, hashes) in std::mem::take(&mut self.expected) {
            let why = match begun {
                Some(begun) if seq < begun => "it lies before what is audited here: audit the segments, then an export, with --file",
                _ => "the event is not there",
            };
            for hash in hashes {
                self.found.integrity.fail(format!("event {seq}: {hash} was noted for it, and {why}"));
            }
        }
    }

    /// What is taken in next stands in this line of a file; 0: in none.
    pub fn at_line(&mut self, line: u64) {
        self.found.at_line(line);
    }

    /// What is taken in next stands in this file; empty: in the only one.
    pub fn in_file(&mut self, name: &str) {
        self.found.in_file(name);
    }

    /// Something about the form of what is read.
    pub fn form(&mut self, holds: bool, what: impl FnOnce() -> String) {
        self.found.integrity.check(holds, what);
    }

    /// Whether a snapshot's text is at hand.
    #[must_use]
    pub fn knows(&self, snapshot: &Digest) -> bool {
        let super::Snapshots { cards, policies, fields, permissions } = &self.snapshots;
        let is_of_models = cards.contains_key(snapshot) || policies.contains_key(snapshot) || fields.contains_key(snapshot);
        is_of_models || permissions.contains_key(snapshot)
    }
}
