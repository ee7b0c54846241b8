//! Whole histories of a daemon in a made-up world, each from one seed: admit, dispatch, settle, with clients that leave, providers
//! that fail, a clock that jumps, a disk that is full, crashes, power cuts and new configurations.
//!
//! Policy, bound, books, endings and durability are those of `aex_core`. One thread, no clock, no randomness but the seed: the same
//! seed is the same history. After each step no balance is beyond its limit; at the end each bill is compared with its charge.

mod bills;
mod call;
mod house;
mod random;

use aex_core::hold::Durability;
use call::Stage;
use house::House;
use random::Random;

/// What a history did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Steps taken.
    pub steps: u64,
    /// Calls that were admitted.
    pub admitted: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Calls that were billed.
    pub billed: u64,
    /// Bills beyond their bound.
    pub overbilled: u64,
    /// Crashes and power cuts.
    pub crashes: u64,
    /// Bills that a power cut lost, as the durability allows.
    pub lost: u64,
}

impl Report {
    /// Adds another history.
    pub fn add(&mut self, other: &Report) {
        let Report { steps, admitted, refused, billed, overbilled, crashes, lost } = other;
        self.steps += steps;
        self.admitted += admitted;
        self.refused += refused;
        self.billed += billed;
        self.overbilled += overbilled;
        self.crashes += crashes;
        self.lost += lost;
    }
}

/// A mistake that is made on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An answer is shown before its hold is on disk.
    RelayBeforeFlush,
    /// The next start takes what was sent for unsent.
    RecoveryReleasesSent,
    /// A call past its deadline is released.
    ReleaseOnTimeout,
    /// A client that leaves pays nothing for what it got.
    FreeForLeavers,
    /// The books in memory are kept when a commit has failed.
    KeepBooksOfFailedCommit,
}

/// A promise that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The seed of the history.
    pub seed: u64,
    /// After which step.
    pub step: u64,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "--seed {}: after step {}: {}", self.seed, self.step, self.what)
    }
}

/// Steps of a history before it is brought to its end.
const STEPS: u64 = 150;

/// Runs the history of a seed.
///
/// # Errors
/// The first promise that does not hold.
pub fn run(seed: u64, fault: Option<Fault>) -> Result<Report, Broken> {
    let mut random = Random::new(seed);
    let durability = random.pick(&Durability::ALL);
    let mut house = House::new(&mut random, durability, fault);
    let mut step = 0;
    let checked =
        |house: &mut House, step, found: Result<(), String>| found.and_then(|()| house.check()).map_err(|what| Broken { seed, step, what });
    while step < STEPS {
        step += 1;
        let found = happen(&mut house, &mut random);
        checked(&mut house, step, found)?;
    }
    while !house.is_over() {
        step += 1;
        assert!(step < 100 * STEPS, "--seed {seed}: a history does not end");
        let found = house.wind_up(&mut random);
        checked(&mut house, step, found)?;
    }
    house.report.steps = step;
    bills::compare(&mut house).map_err(|what| Broken { seed, step, what })?;
    Ok(house.report)
}

/// One thing happens, whatever it is.
fn happen(house: &mut House, random: &mut Random) -> Result<(), String> {
    match random.below(100) {
        _ if !house.up => house.recover(),
        0..=19 => house.ask(random),
        20..=59 => return house.drive(random),
        60..=79 => house.write(random.below(20) == 0),
        80..=87 => house.wal.flush_all(&mut house.calls),
        88..=89 => house.set_clock(random),
        90..=92 => house.set_budget(random),
        93..=94 => house.resume(random),
        95 => house.reload(random),
        96 => house.crash(),
        97 => house.power_cut(random),
        _ => house.time_out(random),
    }
    Ok(())
}

trait FlushAll {
    fn flush_all(&mut self, calls: &mut [call::Call]);
}

impl<T> FlushAll for crate::wal::Wal<T> {
    /// Commits are counted from the newest flush on.
    fn flush_all(&mut self, calls: &mut [call::Call]) {
        self.flush();
        for call in calls.iter_mut().filter(|call| call.stage != Stage::Asked) {
            call.commit = 0;
        }
    }
}
