//! PURE: steps of the wall clock, seen against the boot clock, which nobody sets.
//!
//! What slews the one slews the other (clock_gettime(2)), so the two differ by what they differed by at the start until
//! somebody sets the wall clock. Must not: read a clock.

use aex_proto::value::Stamp;

/// Smaller differences are no jump: a leap second, and what NTP steps after a start, are less.
pub(super) const JUMP_US: i64 = 5_000_000;
/// How long a jump is told by the daemon's health, by the boot clock.
pub(super) const TOLD_FOR_US: i64 = 24 * 3_600 * 1_000_000;

/// A step of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// When it was seen: microseconds since the machine booted.
    pub boot_us: i64,
    /// The wall time that was expected then.
    pub from: Stamp,
    /// The wall time that was found.
    pub to: Stamp,
}

impl Jump {
    /// Whether it is young enough to be told, at a boot time.
    #[must_use]
    pub const fn is_recent(&self, boot_us: i64) -> bool {
        boot_us.saturating_sub(self.boot_us) < TOLD_FOR_US
    }
}

/// Where the wall clock stands against the boot clock, as the newest start or jump on record has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    boot_began: Stamp,
}

impl Watch {
    pub(super) const fn new(wall: Stamp, boot_us: i64) -> Watch {
        Watch { boot_began: Stamp::new(wall.micros().saturating_sub(boot_us)) }
    }

    /// The jump that lies between what is on record and now. Small steps add up until they are one.
    pub(super) fn look(&self, wall: Stamp, boot_us: i64) -> Option<Jump> {
        let from = self.boot_began.offset(boot_us);
        (wall.since(from).saturating_abs() > JUMP_US).then_some(Jump { boot_us, from, to: wall })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_more_than_five_seconds_is_a_jump_and_small_ones_add_up() {
        let watch = Watch::new(Stamp::new(1_000_000_000_000), 3_000_000);
        let at = |wall: i64, boot_us: i64| watch.look(Stamp::new(1_000_000_000_000 + wall), boot_us);
        // An hour later by both clocks; a leap second; as much as is no jump, in both directions.
        for wall in [3_600_000_000, 3_601_000_000, 3_605_000_000, 3_595_000_000] {
            assert_eq!(at(wall, 3_603_000_000), None, "{wall}");
        }
        for wall in [3_605_000_001, 3_594_999_999, -86_400_000_000, 90_000_000_000] {
            let jump = at(wall, 3_603_000_000);
            let to = Stamp::new(1_000_000_000_000 + wall);
            assert_eq!(jump, Some(Jump { boot_us: 3_603_000_000, from: Stamp::new(1_003_600_000_000), to }), "{wall}");
        }
    }

    #[test]
    fn a_jump_is_told_for_a_day_by_the_boot_clock() {
        let jump = Jump { boot_us: 5, from: Stamp::new(0), to: Stamp::new(9_000_000) };
        assert!(jump.is_recent(5 + TOLD_FOR_US - 1) && !jump.is_recent(5 + TOLD_FOR_US));
    }
}
