//! When a server that ended is started again, and when it has failed. Pure: time and dice are arguments.

use super::options::Pace;
use std::collections::VecDeque;
use std::time::Duration;

/// The ends that were not asked for.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    ends: VecDeque<Duration>,
    in_a_row: u32,
}

/// What comes after an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another start, after this time.
    Rest(Duration),
    /// None, until somebody asks for it.
    Fail,
}

impl Backoff {
    /// Counts an end. `ready_for` is how long the server had been ready; `dice` makes servers that ended together start apart.
    pub(super) fn ended(&mut self, now: Duration, ready_for: Option<Duration>, pace: &Pace, dice: u16) -> Next {
        if ready_for.is_some_and(|time| time >= pace.steady) {
            self.in_a_row = 0;
        }
        self.ends.push_back(now);
        while self.ends.front().is_some_and(|end| now.saturating_sub(*end) > pace.window) {
            self.ends.pop_front();
        }
        if self.ends.len() > pace.ends {
            return Next::Fail;
        }
        let doubled = 2_u32.saturating_pow(self.in_a_row);
        self.in_a_row = self.in_a_row.saturating_add(1);
        let rest = pace.first_rest.saturating_mul(doubled).min(pace.longest_rest);
        // 80 to 120 percent.
        let permille = u32::from(dice % 401).saturating_add(800);
        Next::Rest(rest.saturating_mul(permille) / 1_000)
    }

    /// Forgets all ends: somebody has looked into it.
    pub(super) fn forget(&mut self) {
        *self = Backoff::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_until_the_server_has_failed() {
        let pace = Pace::DEFAULT;
        let at = Duration::from_secs;
        let mut backoff = Backoff::default();
        let rests: Vec<Next> = (0..6).map(|second| backoff.ended(at(second), None, &pace, 200)).collect();
        let rest = |ms| Next::Rest(Duration::from_millis(ms));
        assert_eq!(rests, [rest(500), rest(1_000), rest(2_000), rest(4_000), rest(8_000), Next::Fail]);
        backoff.forget();
        assert_eq!(backoff.ended(at(7), None, &pace, 0), rest(400), "after a restart that was asked for, and 20 % less");
        assert_eq!(backoff.ended(at(8), Some(at(60)), &pace, 400), rest(600), "steady for a minute, and 20 % more");
        assert_eq!(backoff.ended(at(9), Some(at(59)), &pace, 200), rest(1_000), "not steady");
    }

    #[test]
    fn ends_long_ago_do_not_count_and_rests_are_bounded() {
        let pace = Pace::DEFAULT;
        let mut backoff = Backoff::default();
        for number in 0..100 {
            let next = backoff.ended(Duration::from_secs(number * 61), None, &pace, 400);
            assert!(matches!(next, Next::Rest(rest) if rest <= Duration::from_secs(72)), "{number}: {next:?}");
        }
    }
}
