//! Tokens per minute: an exact sliding window of one minute for every account and model with a limit.
//!
//! A call takes its estimate when it is admitted, on all levels or on none, and is corrected once when its quantities are known.
//! What it took counts from the millisecond it was taken in, whatever the correction and whenever it comes.

use super::WINDOW_MS;
use aex_proto::value::AccountId;
use std::collections::{BTreeMap, VecDeque};

/// Whose tokens are counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    /// An account, with all below it.
    Account(AccountId),
    /// A model, whoever calls it.
    Model(String),
    /// Calls of one agent that a rule of the permissions matches: each counts as one.
    Rule(AccountId, String),
}

/// Tokens of the last minute, one entry per millisecond that had any: at most 60,000 entries.
#[derive(Clone, Debug, Default)]
struct Minute {
    entries: VecDeque<(u64, u64)>,
    total: u64,
}

impl Minute {
    fn forget(&mut self, now: u64) {
        while let Some((at, tokens)) = self.entries.front().copied() {
            if at.saturating_add(WINDOW_MS) > now {
                return;
            }
            self.entries.pop_front();
            self.total = self.total.saturating_sub(tokens);
        }
    }

    /// Adds tokens, and says at which millisecond they count.
    fn take(&mut self, now: u64, tokens: u64) -> u64 {
        self.total = self.total.saturating_add(tokens);
        match self.entries.back_mut() {
            Some((at, taken)) if *at >= now => {
                *taken = taken.saturating_add(tokens);
                *at
            }
            _ => {
                self.entries.push_back((now, tokens));
                now
            }
        }
    }

    /// Replaces what a call took. Nothing is left to correct of what has left the window.
    fn correct(&mut self, at: u64, taken: u64, used: u64) {
        if let Ok(place) = self.entries.binary_search_by_key(&at, |(at, _)| *at)
            && let Some((_, tokens)) = self.entries.get_mut(place)
        {
            *tokens = tokens.saturating_sub(taken).saturating_add(used);
            self.total = self.total.saturating_sub(taken).saturating_add(used);
        }
    }

    /// Milliseconds until so many tokens fit below a limit; the whole window when they never do.
    fn wait(&self, now: u64, tokens: u64, limit: u64) -> u64 {
        let mut over = self.total.saturating_add(tokens).saturating_sub(limit);
        for (at, taken) in &self.entries {
            over = over.saturating_sub(*taken);
            if over == 0 {
                return at.saturating_add(WINDOW_MS).saturating_sub(now).clamp(1, WINDOW_MS);
            }
        }
        WINDOW_MS
    }
}

/// A limit without room for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Whose limit it is.
    pub counted: Counted,
    /// The limit.
    pub limit: u32,
    /// When the call would pass, in milliseconds; `None`: never, it is larger than the limit.
    pub retry_after_ms: Option<u64>,
}

/// What a call took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    levels: Vec<(Counted, u64)>,
    tokens: u64,
}

/// The token rates of all accounts and models.
#[derive(Clone, Debug, Default)]
pub struct TokenRates {
    minutes: BTreeMap<Counted, Minute>,
}

impl TokenRates {
    /// Takes tokens on every level, or on none.
    ///
    /// # Errors
    /// The first level that has no room.
    pub fn take(&mut self, levels: Vec<(Counted, u32)>, tokens: u64, now_ms: u64) -> Result<Taken, Spent> {
        for (counted, limit) in &levels {
            let room = u64::from(*limit);
            let minute = self.minutes.get_mut(counted);
            let used = minute.map_or(0, |minute| {
                minute.forget(now_ms);
                minute.total
            });
            if used.saturating_add(tokens) > room {
                let wait = self.minutes.get(counted).map_or(WINDOW_MS, |minute| minute.wait(now_ms, tokens, room));
                return Err(Spent { counted: counted.clone(), limit: *limit, retry_after_ms: (tokens <= room).then_some(wait) });
            }
        }
        let take = |(counted, _): (Counted, u32)| {
            let at = self.minutes.entry(counted.clone()).or_default().take(now_ms, tokens);
            (counted, at)
        };
        Ok(Taken { levels: levels.into_iter().map(take).collect(), tokens })
    }

    /// Replaces what a call took by what it used.
    pub fn correct(&mut self, taken: &Taken, used: u64) {
        for (counted, at) in &taken.levels {
            if let Some(minute) = self.minutes.get_mut(counted) {
                minute.correct(*at, taken.tokens, used);
            }
        }
    }

    /// Forgets accounts that have been closed. A correction that comes later finds nothing, and does nothing.
    pub fn forget_closed(&mut self, is_open: impl Fn(AccountId) -> bool) {
        self.minutes.retain(|counted, _| match counted {
            Counted::Account(account) | Counted::Rule(account, _) => is_open(*account),
            Counted::Model(_) => true,
        });
    }

    /// Counts tokens from before a restart. Calls are to be given oldest first.
    pub fn recall(&mut self, counted: Counted, tokens: u64, at_ms: u64) {
        self.minutes.entry(counted).or_default().take(at_ms, tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn level(id: i64, limit: u32) -> (Counted, u32) {
        (Counted::Account(AccountId::new(id)), limit)
    }

    #[test]
    fn a_call_that_does_not_fit_on_one_level_takes_nothing_on_another() {
        let mut rates = TokenRates::default();
        let both = || vec![level(3, 100), (Counted::Model("m".to_owned()), 50)];
        assert!(rates.take(both(), 40, 0).is_ok());
        let spent = rates.take(both(), 20, 1_000).unwrap_err();
        assert_eq!((spent.counted, spent.limit, spent.retry_after_ms), (Counted::Model("m".to_owned()), 50, Some(59_000)));
        assert!(rates.take(vec![level(3, 100)], 60, 1_000).is_ok());
        assert!(rates.take(both(), 0, 1_000).is_ok());
    }

    #[test]
    fn a_call_above_the_limit_never_passes() {
        let mut rates = TokenRates::default();
        assert_eq!(rates.take(vec![level(3, 10)], 11, 0).map_err(|spent| spent.retry_after_ms), Err(None));
        assert_eq!(rates.take(vec![level(3, 0)], 1, 0).map_err(|spent| spent.retry_after_ms), Err(None));
    }

    #[test]
    fn a_correction_frees_or_takes_where_the_call_was_counted() {
        let mut rates = TokenRates::default();
        let taken = rates.take(vec![level(3, 100)], 100, 0).unwrap();
        assert!(rates.take(vec![level(3, 100)], 1, 10).is_err());
        rates.correct(&taken, 30);
        let more = rates.take(vec![level(3, 100)], 70, 10).unwrap();
        rates.correct(&more, 500);
        let spent = rates.take(vec![level(3, 100)], 1, 20).unwrap_err();
        assert_eq!(spent.retry_after_ms, Some(59_990));
        assert!(rates.take(vec![level(3, 100)], 100, 60_010).is_ok());
        // A correction that comes late changes nothing.
        rates.correct(&more, 0);
        assert!(rates.take(vec![level(3, 100)], 1, 60_011).is_err());
    }

    #[test]
    fn a_closed_account_is_forgotten_and_an_open_one_and_a_model_keep_their_count() {
        let mut rates = TokenRates::default();
        let levels = vec![level(3, 10), level(4, 10), (Counted::Model("m".to_owned()), 10)];
        let taken = rates.take(levels.clone(), 10, 0).unwrap();
        rates.forget_closed(|account| account == AccountId::new(3));
        assert_eq!(rates.minutes.len(), 2);
        assert!(levels.into_iter().filter(|kept| *kept != level(4, 10)).all(|kept| rates.take(vec![kept], 1, 1).is_err()));
        rates.correct(&taken, 0);
        assert_eq!(rates.minutes.len(), 2);
    }

    proptest! {
        #[test]
        fn the_window_is_exact(
            steps in prop::collection::vec((0..9_000_u64, 0..60_u64, prop::option::of(0..90_u64)), 1..120),
            limit in 1..120_u32,
        ) {
            let (mut rates, mut known, mut now) = (TokenRates::default(), Vec::<(u64, u64)>::new(), 0);
            for (step, tokens, used) in steps {
                now += step;
                let sum: u64 = known.iter().filter(|(at, _)| at + WINDOW_MS > now).map(|(_, tokens)| *tokens).sum();
                match rates.take(vec![level(3, limit)], tokens, now) {
                    Ok(taken) => {
                        prop_assert!(sum + tokens <= u64::from(limit));
                        if let Some(used) = used {
                            rates.correct(&taken, used);
                        }
                        known.push((now, used.unwrap_or(tokens)));
                    }
                    Err(spent) => {
                        prop_assert!(sum + tokens > u64::from(limit));
                        if let Some(wait) = spent.retry_after_ms {
                            prop_assert!(rates.clone().take(vec![level(3, limit)], tokens, now + wait - 1).is_err());
                            prop_assert!(rates.clone().take(vec![level(3, limit)], tokens, now + wait).is_ok());
                        }
                    }
                }
            }
        }
    }
}
