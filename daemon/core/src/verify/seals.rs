//! Seals: events that were taken out into files. The chain names each file and the state behind it, so that an audit can begin there.

use super::checkpoint::Checkpoint;
use super::rows::Seal;
use super::words::Said;
use super::{Audit, Place};
use crate::chain::Head;
use crate::event::LedgerSealed;
use aex_proto::value::Digest;

/// A state that an audit began with, or that a file of the chain ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basis {
    /// The event that it stands behind.
    pub head: Head,
    /// Its digest.
    pub state: Digest,
    /// It follows from events that were read, or an event of the chain names it.
    pub is_proven: bool,
    /// The SHA-256 of the file that ends there, when one was read.
    pub file: Option<Digest>,
}

impl Audit {
    /// Notes the state that the events so far lead to: a later event may seal them.
    pub fn mark(&mut self, file: Option<Digest>) -> Digest {
        let state = self.checkpoint().digest();
        let basis = Basis { head: self.head, state, is_proven: true, file: None };
        let basis = self.bases.entry(self.head.seq).or_insert(basis);
        basis.file = basis.file.or(file);
        state
    }

    /// States that it began with and that nothing proves.
    pub fn unproven(&self) -> impl Iterator<Item = &Basis> {
        self.bases.values().filter(|basis| !basis.is_proven)
    }

    /// Finds each state that it began with and that no event names.
    pub fn demand_proof(&mut self) {
        let unproven: Vec<Basis> = self.unproven().copied().collect();
        self.found.integrity.check(unproven.is_empty(), || {
            let places: Vec<String> = unproven.iter().map(|basis| basis.head.seq.to_string()).collect();
            format!("the state behind event {} is named by no event", places.join(", "))
        });
    }

    pub(super) fn sealed(&mut self, place: Place, sealed: LedgerSealed) {
        let LedgerSealed { events, first, hash, last, segment, state, .. } = sealed;
        let next = self.seals.last().map_or(1, |before| before.last.saturating_add(1));
        let counted = last.checked_sub(first).and_then(|span| span.checked_add(1)) == Some(events) && events > 0;
        self.found.integrity.check(first == next && counted && last < place.seq, || {
            format!("{place}: it seals {events} events from {first} to {last}, and event {next} was to be the first")
        });
        let is_filtered = self.within.is_some();
        if let Some(basis) = self.bases.get_mut(&last) {
            // What a filter leaves of a state has another digest.
            let same = basis.head.hash == hash && (is_filtered || basis.state == state);
            basis.is_proven |= same && !is_filtered;
            let found = *basis;
            if let Some(file) = found.file {
                self.found.integrity.check(file == segment, || {
                    format!("{place}: it seals events {first} to {last} into a file with the SHA-256 {segment}; that of the file is {file}")
                });
            }
            self.found.integrity.check(same, || {
                format!(
                    "{place}: it seals event {last} with the hash {hash} and the state {state}; these are {} and {}",
                    found.head.hash, found.state
                )
            });
        }
        self.seals.push(sealed);
    }

    /// Compares the rows of what was sealed with the events that say so, in the same order.
    pub fn seals(&mut self, rows: &[Seal]) {
        let (events, stored) = (self.seals.len(), rows.len());
        self.found.integrity.check(events == stored, || format!("seals: {stored} rows, by their events {events}"));
        for (event, row) in self.seals.iter().zip(rows) {
            let named = Seal { denials: event.denials, first: event.first, last: event.last, segment: event.segment, state: event.state };
            self.found
                .integrity
                .check(named == *row, || format!("seal of event {}: its row is {}, by its event {}", event.last, row.said(), named.said()));
        }
    }

    /// Compares the digest over all terminal rows that were sealed with what the state said of them.
    pub fn sealed_calls(&mut self, sealed: &Checkpoint, rows: super::Ended) {
        let told = sealed.state().ended;
        self.found.sums.check(told == rows, || {
            let last = sealed.head().seq;
            format!(
                "calls that ended up to event {last}: {} rows with the digest {}, by what was sealed {} with {}",
                rows.count, rows.digest, told.count, told.digest
            )
        });
    }
}
