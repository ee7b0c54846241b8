//! The breakers of the providers, shared by all workers. A reload of the configuration makes new ones, closed.

use crate::os::clock;
use aex_core::breaker::{Breaker, Heard, Pass, Settings, Standing};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The breaker of one provider.
#[derive(Debug)]
pub struct Circuit {
    provider: String,
    /// `None`: it never opens.
    breaker: Option<Mutex<Breaker>>,
    /// It is closed, and nothing failed lately: nobody has to look closer.
    is_quiet: AtomicBool,
}

impl Circuit {
    /// A closed one.
    #[must_use]
    pub fn new(provider: &str, settings: Option<Settings>) -> Circuit {
        let breaker = settings.map(|settings| Mutex::new(Breaker::new(settings)));
        Circuit { provider: provider.to_owned(), breaker, is_quiet: AtomicBool::new(true) }
    }

    /// Lets a call pass.
    ///
    /// # Errors
    /// In how many milliseconds one may.
    pub(super) fn pass(self: &Arc<Circuit>) -> Result<Passage, u64> {
        let mut passage = Passage { circuit: Arc::clone(self), pass: Pass::Call, is_told: false };
        if !self.is_quiet.load(Ordering::Acquire)
            && let Some(Ok(mut breaker)) = self.breaker.as_ref().map(Mutex::lock)
        {
            match breaker.pass(clock::mono_ms()) {
                Ok(pass) => passage.pass = pass,
                Err(wait_ms) => {
                    passage.is_told = true;
                    return Err(wait_ms);
                }
            }
        }
        Ok(passage)
    }

    fn heard(&self, pass: Pass, heard: Heard) {
        // The common case: nothing was wrong, and nothing is.
        if pass == Pass::Call && heard != Heard::Down && self.is_quiet.load(Ordering::Acquire) {
            return;
        }
        let Some(Ok(mut breaker)) = self.breaker.as_ref().map(Mutex::lock) else { return };
        let opened = breaker.heard(pass, heard, clock::mono_ms());
        self.is_quiet.store(breaker.is_quiet(), Ordering::Release);
        drop(breaker);
        if opened {
            tracing::warn!(provider = self.provider, "a provider fails: its calls are refused for a while, or go to fallbacks");
        }
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let breaker = self.breaker.as_ref().and_then(|breaker| breaker.lock().ok());
        breaker.map_or(Standing::Closed, |breaker| breaker.standing(clock::mono_ms()))
    }
}

/// A call that passed. Dropped untold, it says nothing of the provider.
#[derive(Debug)]
pub(super) struct Passage {
    circuit: Arc<Circuit>,
    pass: Pass,
    is_told: bool,
}

impl Passage {
    /// Tells what was heard of the provider: once, later words do not count.
    pub(super) fn tell(&mut self, heard: Heard) {
        if !std::mem::replace(&mut self.is_told, true) {
            self.circuit.heard(self.pass, heard);
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.tell(Heard::Nothing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_dropped_says_nothing_and_gives_its_probe_to_the_next() {
        let circuit = Arc::new(Circuit::new("p", Some(Settings { failures: 1, window_ms: 1_000, pause_ms: 3_600_000 })));
        drop(circuit.pass().unwrap());
        assert_eq!(circuit.standing(), Standing::Closed);
        let (mut first, mut second) = (circuit.pass().unwrap(), circuit.pass().unwrap());
        first.tell(Heard::Down);
        first.tell(Heard::Up);
        second.tell(Heard::Up);
        assert!(matches!(circuit.standing(), Standing::Open(_)));
        assert!(circuit.pass().is_err());
        let never = Arc::new(Circuit::new("q", None));
        for _ in 0..100 {
            never.pass().unwrap().tell(Heard::Down);
        }
        assert_eq!(never.standing(), Standing::Closed);
    }
}
