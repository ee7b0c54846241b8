//! Promise 1 in every state that a few calls, crashes and power cuts can reach; and planted faults, which have to be found.
//!
//! `AEX_INTERLEAVINGS=all` checks more of them: three calls with two crashes, and in `normal`; some minutes.

#![allow(clippy::panic, clippy::print_stderr, reason = "a test may fail loudly; states are counted for whoever looks")]
#![allow(clippy::disallowed_methods, reason = "how long a check takes is told, never judged")]

use aex_core::hold::Durability;
use aex_models::interleaving::Habit::{Leaves, TimesOut, Waits};
use aex_models::interleaving::{self, Config, Fault, Habit};
use std::time::Instant;

const THREE: [Habit; 3] = [Waits, TimesOut, Leaves];

#[track_caller]
fn holds(what: &str, config: &Config) {
    let (begun, durability) = (Instant::now(), config.durability.name());
    let checked = interleaving::check(config);
    eprintln!("{durability}, {what}: {} states, {} steps deep, {:.1} s", checked.states, checked.depth, begun.elapsed().as_secs_f64());
    assert!(checked.broken.is_none(), "{durability}, {what}: {}", checked.trace());
    assert!(checked.states > 1_000, "{durability}, {what}: {} states are no check", checked.states);
}

#[test]
fn promise_1_holds_in_every_state_of_two_calls_two_crashes_and_a_budget_a_day() {
    for durability in Durability::ALL {
        for calls in [[Waits, Leaves], [TimesOut, Waits]] {
            holds("2 calls, 2 crashes", &Config::new(durability, &calls).crashes(2));
        }
    }
    holds("2 calls, 1 crash, days", &Config::new(Durability::Overlap, &[TimesOut, Leaves]).days());
}

#[test]
fn promise_1_holds_in_every_state_of_three_calls_and_a_crash() {
    for durability in [Durability::Overlap, Durability::Full] {
        holds("3 calls, 1 crash", &Config::new(durability, &THREE));
    }
    if std::env::var("AEX_INTERLEAVINGS").is_ok_and(|value| value == "all") {
        holds("3 calls, 1 crash", &Config::new(Durability::Normal, &THREE));
        holds("3 calls, 2 crashes", &Config::new(Durability::Full, &THREE).crashes(2));
        holds("3 calls, 2 crashes", &Config::new(Durability::Overlap, &THREE).crashes(2));
        holds("2 calls, 1 crash, days", &Config::new(Durability::Normal, &[TimesOut, Leaves]).days());
    }
}

/// The fault is found as a breach of a promise that names it, in so many steps: no shorter trace leads there.
#[track_caller]
fn found(fault: Fault, durability: Durability, calls: &[Habit], promise: &str, steps: usize) {
    let checked = interleaving::check(&Config::new(durability, calls).fault(fault));
    eprintln!("{fault:?}, {}: {}", durability.name(), checked.trace());
    let Some((broken, trace)) = &checked.broken else { panic!("{fault:?} was not found: {}", checked.trace()) };
    assert!(broken.iter().any(|name| name.contains(promise)), "{fault:?}: {}", checked.trace());
    assert_eq!(trace.len(), steps, "{fault:?}: {}", checked.trace());
}

#[test]
fn planted_faults_are_found_by_their_shortest_trace() {
    let plain = [TimesOut, Leaves];
    found(Fault::RelayBeforeFlush, Durability::Overlap, &plain, "lost as the durability allows", 6);
    found(Fault::SendBeforeFlush, Durability::Full, &plain, "lost as the durability allows", 3);
    found(Fault::SendBeforeMark, Durability::Overlap, &[Waits, Leaves], "billed is released", 4);
    found(Fault::RecoveryReleasesSent, Durability::Overlap, &plain, "billed is released", 4);
    found(Fault::SettleTwice, Durability::Overlap, &plain, "ends twice", 6);
    found(Fault::HalfHold, Durability::Overlap, &THREE, "the sum of its holds", 3);
    found(Fault::ReleaseOnTimeout, Durability::Overlap, &plain, "billed is released", 4);
    found(Fault::DropOverdraft, Durability::Overlap, &plain, "is charged", 7);
}
