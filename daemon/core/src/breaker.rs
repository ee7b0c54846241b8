//! The circuit breaker of a provider: calls that would fail anyway are not made, and one at a time finds out whether that is over.
//!
//! Closed: calls pass; enough failures in a row, within a window, open it. Open: nothing passes until the pause is over. Then one
//! call passes as the probe: what becomes of it closes or opens it again. Pure: it is told the time, by a clock that never goes back.

use serde::{Deserialize, Serialize};

/// When it opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// So many failures in a row open it; at least 1.
    pub failures: u32,
    /// Within so many milliseconds from the first of them.
    pub window_ms: u64,
    /// How long it is open before a probe passes, in milliseconds.
    pub pause_ms: u64,
}

impl Settings {
    /// What holds where nothing is configured.
    pub const DEFAULT: Settings = Settings { failures: 20, window_ms: 60_000, pause_ms: 10_000 };
}

/// What was heard of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It answered, and not with a failure of its own.
    Up,
    /// It could not be reached, did not answer, or failed.
    Down,
    /// Nothing: the call was not made, or nobody waited for it.
    Nothing,
}

/// A call that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// As any other.
    Call,
    /// As the probe of this number.
    Probe(u64),
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Calls pass.
    Closed,
    /// None passes for so many milliseconds.
    Open(u64),
    /// A probe may pass, or is under way.
    HalfOpen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Failures in a row, and when the first of them was.
    Closed {
        failures: u32,
        since_ms: u64,
    },
    Open {
        until_ms: u64,
    },
    /// A probe is under way. One that is not heard of until then is lost.
    Probing {
        until_ms: u64,
    },
}

/// A breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    settings: Settings,
    state: State,
    probes: u64,
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub const fn new(settings: Settings) -> Breaker {
        Breaker { settings, state: State::Closed { failures: 0, since_ms: 0 }, probes: 0 }
    }

    /// Lets a call pass, or says in how many milliseconds one may; at least 1.
    ///
    /// # Errors
    /// While it is open, or a probe is under way.
    pub fn pass(&mut self, now_ms: u64) -> Result<Pass, u64> {
        let until_ms = match self.state {
            State::Closed { .. } => return Ok(Pass::Call),
            State::Open { until_ms } | State::Probing { until_ms } => until_ms,
        };
        if now_ms < until_ms {
            return Err(until_ms.saturating_sub(now_ms));
        }
        self.probes = self.probes.saturating_add(1);
        self.state = State::Probing { until_ms: now_ms.saturating_add(self.settings.pause_ms.max(1)) };
        Ok(Pass::Probe(self.probes))
    }

    /// Takes in what was heard of a call that passed. `true`: it opened now.
    pub fn heard(&mut self, pass: Pass, heard: Heard, now_ms: u64) -> bool {
        let opened = State::Open { until_ms: now_ms.saturating_add(self.settings.pause_ms) };
        match (self.state, pass, heard) {
            (State::Closed { .. }, _, Heard::Up) => self.close(),
            (State::Closed { failures, since_ms }, _, Heard::Down) => {
                let in_window = failures > 0 && now_ms.saturating_sub(since_ms) <= self.settings.window_ms;
                let (failures, since_ms) = if in_window { (failures.saturating_add(1), since_ms) } else { (1, now_ms) };
                let opens = failures >= self.settings.failures;
                self.state = if opens { opened } else { State::Closed { failures, since_ms } };
                return opens;
            }
            (State::Probing { .. }, Pass::Probe(number), heard) if number == self.probes => match heard {
                Heard::Up => self.close(),
                Heard::Down => {
                    self.state = opened;
                    return true;
                }
                // The next call is the probe.
                Heard::Nothing => self.state = State::Open { until_ms: now_ms },
            },
            // Calls from before it opened, and probes that were given up, say nothing of now.
            _ => {}
        }
        false
    }

    /// How it stands.
    #[must_use]
    pub const fn standing(&self, now_ms: u64) -> Standing {
        match self.state {
            State::Closed { .. } => Standing::Closed,
            State::Open { until_ms } if now_ms < until_ms => Standing::Open(until_ms.saturating_sub(now_ms)),
            State::Open { .. } | State::Probing { .. } => Standing::HalfOpen,
        }
    }

    /// Whether it is closed, and nothing failed since it last went well.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        matches!(self.state, State::Closed { failures: 0, .. })
    }

    const fn close(&mut self) {
        self.state = State::Closed { failures: 0, since_ms: 0 };
    }
}

#[cfg(test)]
mod tests;
