//! Thousands of made-up histories, each from a seed that is printed when it breaks a promise; and planted faults, which do.
//!
//! A longer run: `cargo run -p aex-models --bin simulate -- --histories 1000000`; a history again: `--seed N --histories 1`.

#![allow(clippy::panic, clippy::print_stderr, reason = "a test may fail loudly; histories are counted for whoever looks")]
#![allow(clippy::disallowed_methods, reason = "how fast it is is told, never judged")]

use aex_models::simulation::{self, Fault, Report};
use std::time::Instant;

const HISTORIES: u64 = 10_000;

#[test]
fn no_history_breaks_a_limit_and_each_bill_is_charged() {
    let begun = Instant::now();
    let mut sum = Report::default();
    for seed in 1..=HISTORIES {
        match simulation::run(seed, None) {
            Ok(report) => sum.add(&report),
            Err(broken) => panic!("{broken}"),
        }
    }
    let a_minute = 60.0 / begun.elapsed().as_secs_f64();
    eprintln!("{sum:?}: {a_minute:.0} times {HISTORIES} histories a minute");
    // Histories in which nothing happens prove nothing.
    let Report { steps: _, admitted, refused, billed, overbilled, crashes, lost } = sum;
    for (what, count) in
        [("admitted", admitted), ("refused", refused), ("billed", billed), ("overbilled", overbilled), ("crashes", crashes), ("lost", lost)]
    {
        assert!(count > HISTORIES / 100, "{what}: {count} in {HISTORIES} histories");
    }
}

#[test]
fn a_seed_is_a_history() {
    assert_eq!(simulation::run(7, None), simulation::run(7, None));
    assert_ne!(simulation::run(7, None), simulation::run(8, None));
}

#[test]
fn planted_faults_are_noticed() {
    let faults = [
        Fault::RelayBeforeFlush,
        Fault::RecoveryReleasesSent,
        Fault::ReleaseOnTimeout,
        Fault::FreeForLeavers,
        Fault::KeepBooksOfFailedCommit,
    ];
    for fault in faults {
        let broken = (1..=HISTORIES).find_map(|seed| simulation::run(seed, Some(fault)).err());
        eprintln!("{fault:?}: {}", broken.as_ref().map_or_else(|| "not noticed".to_owned(), ToString::to_string));
        assert!(broken.is_some(), "{fault:?} was not noticed in {HISTORIES} histories");
    }
}
