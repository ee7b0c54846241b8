//! The life of a hold beside the books: when its request may be sent, when its answer may be shown, and how it ends.

use crate::event::{Outcome, Relayed, Released, Settled};
use crate::price::{Charge, Line};
use aex_proto::value::Pico;

/// When a reservation counts as safe. Commits are counted from 1; `flushed` is the newest one that is known to be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// On disk before the first byte of the answer is relayed.
    Overlap,
    /// On disk before the call is sent.
    Full,
    /// Left to SQLite.
    Normal,
}

impl Durability {
    /// All of them.
    pub const ALL: [Durability; 3] = [Durability::Overlap, Durability::Full, Durability::Normal];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Durability::Overlap => "overlap",
            Durability::Full => "full",
            Durability::Normal => "normal",
        }
    }

    /// Whether the request of a hold may be sent. The hold is committed by then: it survives any end of the process.
    #[must_use]
    pub const fn may_send(self, commit: u64, flushed: u64) -> bool {
        match self {
            Durability::Overlap | Durability::Normal => true,
            Durability::Full => commit <= flushed,
        }
    }

    /// Whether anything of the answer to a hold's request may be shown.
    #[must_use]
    pub const fn may_relay(self, commit: u64, flushed: u64) -> bool {
        match self {
            Durability::Overlap | Durability::Full => commit <= flushed,
            Durability::Normal => true,
        }
    }

    /// Whether somebody will wait for the flush of a hold, so that it had better begin at once. `is_free`: of a tool's call that costs
    /// nothing, whose result waits for no flush.
    #[must_use]
    pub const fn awaits_flush(self, is_free: bool) -> bool {
        match self {
            Durability::Full => true,
            Durability::Overlap => !is_free,
            Durability::Normal => false,
        }
    }
}

/// How a hold ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a charge.
    Settle {
        /// How sure the charge is. A worst case charges the whole hold, whatever the lines say.
        state: Settled,
        /// The charge.
        lines: Vec<Line>,
        /// Why.
        outcome: Outcome,
        /// The output that an estimate rests on.
        relayed: Option<Relayed>,
        /// The status of the provider's answer.
        status: Option<u16>,
        /// The service tier of the charge, when it is not the standard one.
        tier: Option<String>,
        /// Fields of the reported usage that are not known.
        unknown_usage: Vec<(String, String)>,
    },
    /// Without one.
    Release {
        /// Why nothing was billed.
        reason: Released,
        /// The status of the provider's answer.
        status: Option<u16>,
    },
}

impl Ending {
    /// The whole hold is charged: nobody knows what was used.
    #[must_use]
    pub const fn worst_case(outcome: Outcome, status: Option<u16>) -> Ending {
        Ending::Settle {
            state: Settled::WorstCase,
            lines: Vec::new(),
            outcome,
            relayed: None,
            status,
            tier: None,
            unknown_usage: Vec::new(),
        }
    }

    /// How the next start ends a hold whose daemon is dead. One that was sent may have been billed, as far as anyone knows.
    #[must_use]
    pub const fn of_dead(sent: bool) -> Ending {
        if sent { Ending::worst_case(Outcome::Crash, None) } else { Ending::Release { reason: Released::Crash, status: None } }
    }

    /// The state of the call's row.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        match self {
            Ending::Settle { state, .. } => state.name(),
            Ending::Release { .. } => "released",
        }
    }

    /// What a hold of an amount is charged. Lines beyond the range of money charge the whole hold.
    #[must_use]
    pub fn charge(&self, held: Pico) -> Pico {
        match self {
            Ending::Settle { state: Settled::WorstCase, .. } => held,
            Ending::Settle { lines, .. } => Charge::sum(lines).unwrap_or(held),
            Ending::Release { .. } => Pico::ZERO,
        }
    }

    /// Tokens that the call used; `None` when only its bound is known.
    #[must_use]
    pub fn tokens(&self) -> Option<u64> {
        match self {
            Ending::Settle { state: Settled::WorstCase, .. } => None,
            Ending::Settle { lines, .. } => {
                let quantities = lines.iter().filter(|Line(bucket, ..)| bucket.is_tokens()).map(|Line(_, quantity, _)| *quantity);
                Some(quantities.fold(0, u64::saturating_add))
            }
            Ending::Release { .. } => Some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_durability_holds_back_what_it_says() {
        let check = |durability: Durability, unflushed: (bool, bool)| {
            assert_eq!((durability.may_send(3, 2), durability.may_relay(3, 2)), unflushed, "{durability:?}");
            assert!(durability.may_send(3, 3) && durability.may_relay(3, 3), "{durability:?}");
        };
        check(Durability::Overlap, (true, false));
        check(Durability::Full, (false, false));
        check(Durability::Normal, (true, true));
    }

    #[test]
    fn what_may_have_been_sent_by_a_dead_daemon_is_charged_in_full_and_nothing_else() {
        assert_eq!(Ending::of_dead(true).charge(Pico::new(7)), Pico::new(7));
        assert_eq!(Ending::of_dead(false), Ending::Release { reason: Released::Crash, status: None });
    }
}
