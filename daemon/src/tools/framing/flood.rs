//! How much a server may say unasked: beyond it its output is read more slowly, so that it waits and nobody else does.

use std::time::Duration;

/// Bytes that may come at once.
const BURST: u64 = 8 << 20;
/// Bytes for each millisecond after that: 2 MiB a second.
const PER_MS: u64 = (2 << 20) / 1_000;
/// What each line costs beside its bytes.
const LINE: u64 = 256;

/// The bytes that a server may still say unasked.
#[derive(Debug)]
pub(in crate::tools) struct Allowance {
    owed: u64,
    at: Duration,
}

impl Allowance {
    pub(in crate::tools) fn new(now: Duration) -> Allowance {
        Allowance { owed: 0, at: now }
    }

    /// Counts a line that nobody waited for.
    pub(in crate::tools) fn spend(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.owed = self.owed.saturating_add(bytes).saturating_add(LINE);
    }

    /// How long the reader rests before it reads on.
    pub(in crate::tools) fn rest(&mut self, now: Duration) -> Option<Duration> {
        let since = u64::try_from(now.saturating_sub(self.at).as_millis()).unwrap_or(u64::MAX);
        if since > 0 {
            self.owed = self.owed.saturating_sub(since.saturating_mul(PER_MS));
            self.at = now;
        }
        let beyond = self.owed.checked_sub(BURST).filter(|beyond| *beyond > 0)?;
        Some(Duration::from_millis((beyond / PER_MS).max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_a_flood_is_read_at_its_rate() {
        let at = Duration::from_millis;
        let mut allowance = Allowance::new(at(0));
        allowance.spend(8 << 20);
        assert_eq!(allowance.rest(at(1)), None, "a burst");
        allowance.spend(2 << 20);
        let rest = allowance.rest(at(1)).unwrap();
        assert!(rest > at(990) && rest < at(1_010), "{rest:?}");
        assert_eq!(allowance.rest(at(1).saturating_add(rest).saturating_add(at(2))), None, "after its rest");
    }
}
