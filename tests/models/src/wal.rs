//! The write-ahead log as a crash sees it: the state after each commit that may not be on disk yet.
//!
//! SQLite's WAL has the prefix property: a power cut keeps all commits up to one of them, which is none before the newest
//! that was flushed, and nothing of those behind it. A crash of the process alone loses no commit.

/// States of the tables, oldest first: as of the newest flush that is known of, and after each commit since.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wal<T> {
    states: Vec<T>,
}

impl<T> Wal<T> {
    /// All of it is on disk.
    #[must_use]
    pub fn new(state: T) -> Wal<T> {
        Wal { states: vec![state] }
    }

    /// The tables as the daemon sees them.
    #[must_use]
    pub fn now(&self) -> &T {
        self.states.last().expect("a log is never empty")
    }

    /// Commits a state; returns the commit's number, counted from the newest flush.
    pub fn commit(&mut self, state: T) -> u64 {
        self.states.push(state);
        self.unflushed()
    }

    /// Commits that may not be on disk yet.
    #[must_use]
    pub fn unflushed(&self) -> u64 {
        u64::try_from(self.states.len()).unwrap_or(u64::MAX).saturating_sub(1)
    }

    /// Flushes. Commits are counted from here on; what was committed before has number zero.
    pub fn flush(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }

    /// The power fails: all but so many commits are lost, and what is left has been on disk.
    pub fn cut(&mut self, kept: usize) {
        self.states.truncate(kept + 1);
        self.flush();
    }

    /// Every state that a power cut may leave.
    pub fn states(&self) -> impl Iterator<Item = &T> {
        self.states.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_keeps_what_was_flushed_and_a_prefix_of_the_rest() {
        let mut wal = Wal::new(0);
        assert_eq!((wal.commit(1), wal.commit(2), wal.commit(3)), (1, 2, 3));
        assert_eq!(wal.states().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
        wal.cut(2);
        assert_eq!((*wal.now(), wal.unflushed()), (2, 0));
        wal.commit(4);
        wal.flush();
        wal.cut(0);
        assert_eq!(*wal.now(), 4);
    }
}
