//! When a kill test strikes: at random moments of a load, and at each fail point of the daemon. A seed makes the plan, and makes
//! it again. Pure: who kills, and what is looked at afterwards, is in `tests/kills.rs`.

use std::fmt;

/// Kills of one home: each finds what the ones before it left.
pub const KILLS_PER_HOME: usize = 10;

/// One kill in so many is one in the midst of a load that is long enough for a checkpoint.
const LONG: usize = 100;

/// A fail point of the daemon (`daemon/src/os/failpoint.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its name; it stands once in the daemon's sources (`tests/tidy.rs`).
    pub name: &'static str,
    /// When it is reached.
    pub reach: Reach,
    /// It is reached at least so often.
    pub most: u64,
}

/// When a point is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// When the daemon starts, after one that died.
    Start,
    /// When calls come in; some are reached by a start, too.
    Load,
    /// With flushes: as `Load`, but without durability only at a start.
    Flush,
    /// When it stops in good order, and under a load of more than 512 groups.
    Checkpoint,
    /// When it stops in good order.
    Stop,
}

/// All fail points.
pub const POINTS: [Point; 18] = [
    point("recovery.before_commit", Reach::Start, 1),
    point("recovery.after_commit", Reach::Start, 1),
    point("ledger.before_commit", Reach::Load, 60),
    point("ledger.after_commit", Reach::Load, 60),
    point("ledger.end", Reach::Load, 30),
    point("flush.before", Reach::Flush, 30),
    point("flush.after", Reach::Flush, 30),
    point("send.before", Reach::Load, 30),
    point("send.after", Reach::Load, 30),
    point("answer.head", Reach::Load, 30),
    point("stream.chunk", Reach::Load, 60),
    point("count.before", Reach::Load, 4),
    point("settle.before", Reach::Load, 30),
    point("settle.after", Reach::Load, 30),
    point("checkpoint.before", Reach::Checkpoint, 4),
    point("checkpoint.after", Reach::Checkpoint, 4),
    point("checkpoint.restart", Reach::Checkpoint, 1),
    point("close.written", Reach::Stop, 1),
];

const fn point(name: &'static str, reach: Reach, most: u64) -> Point {
    Point { name, reach, most }
}

/// One kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// From outside, a moment after so many calls were sent.
    Moment {
        /// Calls.
        calls: u64,
        /// How often the killer lets others run before it strikes.
        turns: u64,
    },
    /// The daemon ends itself when it reaches a point for the count-th time; `long`: under a load that goes on until then.
    At {
        /// The point.
        point: Point,
        /// From 1.
        count: u64,
        /// Whether a point that a stop reaches is waited for under load.
        long: bool,
    },
}

impl Kill {
    /// What AEX_FAILPOINT has to say.
    #[must_use]
    pub fn failpoint(&self) -> Option<String> {
        match self {
            Kill::Moment { .. } => None,
            Kill::At { point, count, .. } => Some(format!("{}:{count}", point.name)),
        }
    }

    /// What it counts as.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Kill::Moment { .. } => "random moment",
            Kill::At { point, .. } => point.name,
        }
    }
}

/// The kills of one home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The ledger's durability.
    pub durability: &'static str,
    /// One after the other.
    pub kills: Vec<Kill>,
    /// For what its clients and its provider do.
    pub seed: u64,
}

impl fmt::Display for Home {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "durability {}, seed {}, {:?}", self.durability, self.seed, self.kills)
    }
}

/// So many kills: two in five at random moments, the others at each point in turn.
#[must_use]
pub fn plan(kills: usize, seed: u64) -> Vec<Home> {
    let mut dice = Dice(seed);
    let mut points = POINTS.iter().cycle();
    let mut homes = Vec::new();
    for (number, durability) in (0..kills.div_ceil(KILLS_PER_HOME)).zip(["overlap", "full", "normal"].into_iter().cycle()) {
        let wanted = KILLS_PER_HOME.min(kills - number * KILLS_PER_HOME);
        let mut home = Home { durability, kills: Vec::new(), seed: dice.next() };
        for index in 0..wanted {
            let point = if index % 5 < 2 { None } else { points.next() };
            let moment = Kill::Moment { calls: 1 + dice.below(40), turns: dice.below(200) };
            home.kills.push(point.map_or(moment, |point| at(*point, durability, &mut dice)));
        }
        // Kinds of kills follow each other in another order each time.
        for last in (1..home.kills.len()).rev() {
            home.kills.swap(last, usize::try_from(dice.below(u64::try_from(last + 1).unwrap_or(1))).unwrap_or(0));
        }
        homes.push(home);
    }
    let checkpoints: Vec<Point> = POINTS.into_iter().filter(|point| point.reach == Reach::Checkpoint).collect();
    for (home, point) in homes.iter_mut().rev().take(kills / LONG).zip(checkpoints.into_iter().cycle()) {
        if let Some(last) = home.kills.iter_mut().rfind(|kill| matches!(kill, Kill::Moment { .. })) {
            *last = Kill::At { point, count: 1, long: true };
        }
    }
    homes
}

fn at(point: Point, durability: &str, dice: &mut Dice) -> Kill {
    let most = if point.reach == Reach::Flush && durability == "normal" { 2 } else { point.most };
    Kill::At { point, count: 1 + dice.below(most), long: false }
}

/// Numbers that look random: splitmix64.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "a dice never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number below a limit that is not zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_plan_and_a_plan_of_a_hundred_kills_has_every_point() {
        assert_eq!(plan(103, 7), plan(103, 7));
        assert_ne!(plan(103, 7), plan(103, 8));
        for seed in 0..50 {
            let homes = plan(103, seed);
            let all: Vec<Kill> = homes.iter().flat_map(|home| home.kills.iter().copied()).collect();
            assert_eq!(all.len(), 103);
            for point in POINTS {
                let has = |kill: &Kill| matches!(kill, Kill::At { point: planned, count, .. } if *planned == point && (1..=point.most).contains(count));
                assert!(all.iter().any(has), "seed {seed}: no kill at {}", point.name);
            }
        }
    }
}
