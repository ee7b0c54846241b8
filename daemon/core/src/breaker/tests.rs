//! Tests of `breaker`: rows, and histories against a naive breaker that remembers everything and knows no states.

use super::*;
use proptest::prelude::*;

const SETTINGS: Settings = Settings { failures: 3, window_ms: 100, pause_ms: 50 };

/// Fails so many calls at these instants.
fn failed(at: &[u64]) -> Breaker {
    let mut breaker = Breaker::new(SETTINGS);
    for now in at {
        let pass = breaker.pass(*now).unwrap();
        breaker.heard(pass, Heard::Down, *now);
    }
    breaker
}

#[test]
fn failures_in_a_row_within_the_window_open_it_and_nothing_else_does() {
    assert_eq!(failed(&[0, 10, 20]).standing(20), Standing::Open(50));
    assert_eq!(failed(&[0, 10, 111]).standing(111), Standing::Closed);
    let mut mixed = failed(&[0, 10]);
    mixed.heard(Pass::Call, Heard::Nothing, 11);
    assert!(!mixed.is_quiet());
    mixed.heard(Pass::Call, Heard::Up, 12);
    assert!(mixed.is_quiet());
    mixed.heard(Pass::Call, Heard::Down, 13);
    assert_eq!(mixed.standing(13), Standing::Closed);
}

#[test]
fn after_the_pause_one_probe_at_a_time_decides() {
    let mut breaker = failed(&[0, 10, 20]);
    assert_eq!(breaker.pass(69), Err(1));
    let probe = breaker.pass(70).unwrap();
    assert_eq!((probe, breaker.pass(71), breaker.standing(71)), (Pass::Probe(1), Err(49), Standing::HalfOpen));
    // What was under way before says nothing.
    breaker.heard(Pass::Call, Heard::Up, 72);
    breaker.heard(Pass::Call, Heard::Down, 72);
    assert_eq!(breaker.standing(72), Standing::HalfOpen);
    assert!(breaker.heard(probe, Heard::Down, 80));
    assert_eq!(breaker.pass(129), Err(1));
    let probe = breaker.pass(130).unwrap();
    breaker.heard(probe, Heard::Nothing, 131);
    let probe = breaker.pass(131).unwrap();
    breaker.heard(probe, Heard::Up, 132);
    assert!(breaker.is_quiet());
}

#[test]
fn a_probe_that_is_not_heard_of_is_given_up_and_its_word_counts_no_more() {
    let mut breaker = failed(&[0, 0, 0]);
    let lost = breaker.pass(50).unwrap();
    let next = breaker.pass(100).unwrap();
    assert_ne!(lost, next);
    breaker.heard(lost, Heard::Up, 101);
    assert_eq!(breaker.standing(101), Standing::HalfOpen);
    breaker.heard(next, Heard::Up, 102);
    assert_eq!(breaker.standing(102), Standing::Closed);
}

/// Remembers every report; what it says follows from all of them each time.
#[derive(Default)]
struct Naive {
    /// Reports that count: when, and whether the provider was up.
    run: Vec<u64>,
    opened: Option<u64>,
    /// The probe under way: its number and when it began.
    probe: Option<(u64, u64)>,
    probes: u64,
}

impl Naive {
    fn pass(&mut self, now: u64) -> Option<Pass> {
        let Some(opened) = self.opened else { return Some(Pass::Call) };
        let from = self.probe.map_or(opened, |(_, begun)| begun);
        if now < from + SETTINGS.pause_ms {
            return None;
        }
        self.probes += 1;
        self.probe = Some((self.probes, now));
        Some(Pass::Probe(self.probes))
    }

    fn heard(&mut self, pass: Pass, heard: Heard, now: u64) {
        if self.opened.is_some() {
            let Pass::Probe(number) = pass else { return };
            if self.probe.is_none_or(|(current, _)| current != number) {
                return;
            }
            self.probe = None;
            match heard {
                Heard::Up => {
                    self.opened = None;
                    self.run.clear();
                }
                Heard::Down => self.opened = Some(now),
                Heard::Nothing => self.opened = Some(now.saturating_sub(SETTINGS.pause_ms)),
            }
            return;
        }
        match heard {
            Heard::Nothing => {}
            Heard::Up => self.run.clear(),
            Heard::Down => {
                if self.run.first().is_some_and(|first| now - first > SETTINGS.window_ms) {
                    self.run.clear();
                }
                self.run.push(now);
                if self.run.len() >= 3 {
                    self.opened = Some(now);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Pass,
    /// Tells of one of the calls that passed and were not told of.
    Tell(prop::sample::Index, Heard),
}

fn step() -> impl Strategy<Value = Step> {
    let heard = prop_oneof![1 => Just(Heard::Up), 4 => Just(Heard::Down), 1 => Just(Heard::Nothing)];
    prop_oneof![
        1 => (0_u64..70).prop_map(Step::Wait),
        3 => Just(Step::Pass),
        4 => (any::<prop::sample::Index>(), heard).prop_map(|(which, heard)| Step::Tell(which, heard)),
    ]
}

proptest! {
    #[test]
    fn it_does_what_the_naive_one_does(steps in prop::collection::vec(step(), 1..200)) {
        let (mut breaker, mut naive, mut now) = (Breaker::new(SETTINGS), Naive::default(), 1_000);
        let mut under_way = Vec::new();
        for step in steps {
            match step {
                Step::Wait(millis) => now += millis,
                Step::Pass => {
                    let passed = breaker.pass(now);
                    prop_assert_eq!(passed.ok(), naive.pass(now));
                    if let Err(wait) = passed {
                        prop_assert!((1..=SETTINGS.pause_ms).contains(&wait));
                    }
                    under_way.extend(passed);
                }
                Step::Tell(which, heard) if !under_way.is_empty() => {
                    let pass = under_way.swap_remove(which.index(under_way.len()));
                    breaker.heard(pass, heard, now);
                    naive.heard(pass, heard, now);
                }
                Step::Tell(..) => {}
            }
            prop_assert_eq!(breaker.standing(now) == Standing::Closed, naive.opened.is_none());
        }
    }

    #[test]
    fn it_never_stays_open_for_longer_than_the_pause(failures in 1_u32..5, window_ms in 0_u64..200, pause_ms in 0_u64..200) {
        let mut breaker = Breaker::new(Settings { failures, window_ms, pause_ms });
        for _ in 0..failures {
            let pass = breaker.pass(0).unwrap();
            breaker.heard(pass, Heard::Down, 0);
        }
        prop_assert!(matches!(breaker.pass(pause_ms), Ok(Pass::Probe(1))));
    }
}
