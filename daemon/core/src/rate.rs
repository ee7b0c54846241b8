//! Rates: an exact sliding window of one minute, and calls in flight, at every level of the tree.
//!
//! All levels are checked before any is taken. Time is a count of milliseconds from any fixed start; a call counts until the
//! 60,000th millisecond after the one it came in.

mod tokens;

pub use tokens::{Counted, Spent, Taken, TokenRates};

use crate::books::Limits;
use crate::decision::RateKind;
use aex_proto::value::AccountId;
use std::collections::{BTreeMap, VecDeque};

/// The length of the window, in milliseconds.
pub const WINDOW_MS: u64 = 60_000;

/// Calls of the last minute, one entry per millisecond that had any: at most 60,000 entries, whatever the rate.
#[derive(Clone, Debug, Default)]
struct Minute {
    entries: VecDeque<(u64, u32)>,
    total: u64,
}

impl Minute {
    fn forget(&mut self, now: u64) {
        while let Some((at, count)) = self.entries.front().copied() {
            if at.saturating_add(WINDOW_MS) > now {
                return;
            }
            self.entries.pop_front();
            self.total = self.total.saturating_sub(u64::from(count));
        }
    }

    fn take(&mut self, now: u64) {
        self.total = self.total.saturating_add(1);
        match self.entries.back_mut() {
            // A clock that does not advance, or a rebuilt entry from the future, joins the newest entry: it leaves later, never earlier.
            Some((at, count)) if *at >= now => *count = count.saturating_add(1),
            _ => self.entries.push_back((now, 1)),
        }
    }

    /// Milliseconds until fewer than `limit` calls are in the window.
    fn wait(&self, now: u64, limit: u32) -> u64 {
        let mut over = self.total.saturating_add(1).saturating_sub(u64::from(limit));
        for (at, count) in &self.entries {
            over = over.saturating_sub(u64::from(*count));
            if over == 0 {
                return at.saturating_add(WINDOW_MS).saturating_sub(now).clamp(1, WINDOW_MS);
            }
        }
        WINDOW_MS
    }
}

#[derive(Clone, Debug, Default)]
struct Level {
    minute: Minute,
    in_flight: u32,
}

/// A level that has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// The account whose rate it is.
    pub account: AccountId,
    /// What is used up.
    pub kind: RateKind,
    /// The limit.
    pub limit: u32,
    /// When a call would pass, in milliseconds; at most 60,000.
    pub retry_after_ms: u64,
}

/// The rates of all accounts.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    levels: BTreeMap<AccountId, Level>,
}

impl Rates {
    /// Takes one call on every level of a path that has a limit, or on none.
    ///
    /// # Errors
    /// The first level, from the caller up, that has no room.
    pub fn enter(&mut self, path: &[(AccountId, Limits)], now_ms: u64) -> Result<(), Full> {
        for (account, limits) in path {
            let Some(level) = self.levels.get_mut(account) else {
                if limits.rpm == Some(0) {
                    return Err(Full { account: *account, kind: RateKind::RequestsPerMinute, limit: 0, retry_after_ms: WINDOW_MS });
                }
                if limits.concurrent == Some(0) {
                    return Err(Full { account: *account, kind: RateKind::Concurrent, limit: 0, retry_after_ms: WINDOW_MS });
                }
                continue;
            };
            level.minute.forget(now_ms);
            if let Some(limit) = limits.rpm.filter(|limit| level.minute.total >= u64::from(*limit)) {
                let retry_after_ms = level.minute.wait(now_ms, limit);
                return Err(Full { account: *account, kind: RateKind::RequestsPerMinute, limit, retry_after_ms });
            }
            if let Some(limit) = limits.concurrent.filter(|limit| level.in_flight >= *limit) {
                // Nobody knows when a call in flight ends; a second is a polite guess.
                return Err(Full { account: *account, kind: RateKind::Concurrent, limit, retry_after_ms: 1_000 });
            }
        }
        for (account, limits) in path {
            if limits.rpm.is_some() || limits.concurrent.is_some() {
                let level = self.levels.entry(*account).or_default();
                level.in_flight = level.in_flight.saturating_add(1);
                if limits.rpm.is_some() {
                    level.minute.take(now_ms);
                }
            }
        }
        Ok(())
    }

    /// A call that entered has ended. `path` is the one that it entered with.
    pub fn leave(&mut self, path: &[(AccountId, Limits)]) {
        for (account, limits) in path {
            if (limits.rpm.is_some() || limits.concurrent.is_some())
                && let Some(level) = self.levels.get_mut(account)
            {
                level.in_flight = level.in_flight.saturating_sub(1);
            }
        }
    }

    /// Counts a call from before a restart. Calls are to be given oldest first.
    pub fn recall(&mut self, account: AccountId, at_ms: u64) {
        self.levels.entry(account).or_default().minute.take(at_ms);
    }

    /// Forgets accounts that have been closed, once their last call has left.
    pub fn forget_closed(&mut self, is_open: impl Fn(AccountId) -> bool) {
        self.levels.retain(|account, level| level.in_flight > 0 || is_open(*account));
    }

    /// Calls of an account in the last minute.
    pub fn used(&mut self, account: AccountId, now_ms: u64) -> u64 {
        self.levels.get_mut(&account).map_or(0, |level| {
            level.minute.forget(now_ms);
            level.minute.total
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(rpm: &[(i64, u32)]) -> Vec<(AccountId, Limits)> {
        rpm.iter().map(|(id, rpm)| (AccountId::new(*id), Limits { concurrent: None, rpm: Some(*rpm), tpm: None })).collect()
    }

    #[test]
    fn zero_denies_all() {
        let mut rates = Rates::default();
        assert!(rates.enter(&path(&[(3, 0)]), 5).is_err());
        let none = [(AccountId::new(3), Limits { concurrent: Some(0), rpm: None, tpm: None })];
        assert!(matches!(rates.enter(&none, 5), Err(Full { kind: RateKind::Concurrent, .. })));
    }

    #[test]
    fn a_denial_on_one_level_takes_nothing_on_another() {
        let mut rates = Rates::default();
        let both = path(&[(3, 10), (1, 2)]);
        assert!(rates.enter(&both, 0).is_ok() && rates.enter(&both, 1_000).is_ok());
        let full = rates.enter(&both, 2_000).unwrap_err();
        assert_eq!((full.account, full.retry_after_ms), (AccountId::ROOT, 58_000));
        assert_eq!(rates.used(AccountId::new(3), 2_000), 2);
        assert!(rates.enter(&both, 60_000).is_ok());
    }

    #[test]
    fn calls_in_flight_are_counted_until_they_leave() {
        let mut rates = Rates::default();
        let one = [(AccountId::new(3), Limits { concurrent: Some(1), rpm: None, tpm: None })];
        assert!(rates.enter(&one, 0).is_ok());
        assert!(matches!(rates.enter(&one, 0), Err(Full { kind: RateKind::Concurrent, .. })));
        rates.leave(&one);
        assert!(rates.enter(&one, 0).is_ok());
    }

    #[test]
    fn a_closed_account_is_forgotten_when_its_last_call_has_left_and_an_open_one_keeps_its_count() {
        let mut rates = Rates::default();
        let (open, closed) = (path(&[(3, 10)]), path(&[(4, 10)]));
        assert!(rates.enter(&open, 0).is_ok() && rates.enter(&closed, 0).is_ok());
        rates.leave(&open);
        let is_open = |account| account == AccountId::new(3);
        rates.forget_closed(is_open);
        assert_eq!(rates.levels.len(), 2);
        rates.leave(&closed);
        rates.forget_closed(is_open);
        assert_eq!(rates.levels.keys().copied().collect::<Vec<_>>(), [AccountId::new(3)]);
        assert_eq!(rates.used(AccountId::new(3), 1), 1);
    }

    proptest! {
        #[test]
        fn the_window_is_exact(steps in prop::collection::vec(0..9_000u64, 1..200), limit in 1..12u32) {
            let (mut rates, mut taken, mut now) = (Rates::default(), Vec::new(), 0);
            for step in steps {
                now += step;
                let used = taken.iter().filter(|at| **at + WINDOW_MS > now).count();
                match rates.enter(&path(&[(3, limit)]), now) {
                    Ok(()) => {
                        prop_assert!(used < limit as usize);
                        taken.push(now);
                    }
                    Err(full) => {
                        prop_assert_eq!(used, limit as usize);
                        let mut later = rates.clone();
                        prop_assert!(later.clone().enter(&path(&[(3, limit)]), now + full.retry_after_ms - 1).is_err());
                        prop_assert!(later.enter(&path(&[(3, limit)]), now + full.retry_after_ms).is_ok());
                    }
                }
            }
        }
    }
}
