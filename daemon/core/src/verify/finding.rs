//! What the audit says: one finding per invariant, counted whole, described in part.

/// Findings of one invariant that are kept; more are counted only.
const KEPT: usize = 20;

/// What the audit says of one invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The invariant.
    pub name: &'static str,
    /// Rows looked at.
    pub checked: u64,
    /// Rows that break it, described; at most twenty.
    pub broken: Vec<String>,
    /// All rows that break it.
    pub broken_count: u64,
}

impl Finding {
    const fn new(name: &'static str) -> Finding {
        Finding { name, checked: 0, broken: Vec::new(), broken_count: 0 }
    }

    /// Whether it holds.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.broken_count == 0
    }

    pub(super) fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        self.checked = self.checked.saturating_add(1);
        if !holds {
            self.fail(what());
        }
    }

    /// One more row: it is as it has to be, or what is wrong with it.
    pub(super) fn verdict(&mut self, verdict: Result<(), String>, of: impl FnOnce() -> String) {
        self.checked = self.checked.saturating_add(1);
        if let Err(what) = verdict {
            self.fail(format!("{}: {what}", of()));
        }
    }

    pub(super) fn fail(&mut self, what: String) {
        self.broken_count = self.broken_count.saturating_add(1);
        if self.broken.len() < KEPT {
            self.broken.push(what);
        }
    }
}

/// All invariants: the seed's five first.
#[derive(Debug)]
pub(super) struct Findings {
    /// Every hold is on every balance that has to count it, and none is admitted beyond a limit.
    pub(super) budget: Finding,
    /// No amount is below zero.
    pub(super) negative: Finding,
    /// What is held belongs to a call in flight.
    pub(super) orphans: Finding,
    /// The chain is whole, its events follow from each other, and the rows that stand for it say what it says.
    pub(super) integrity: Finding,
    /// Rows of money are what the events add up to.
    pub(super) sums: Finding,
    /// Each charge, and each release, follows from what the provider reported.
    pub(super) charges: Finding,
    /// Each admission and each refusal follows from its inputs.
    pub(super) decisions: Finding,
}

impl Findings {
    pub(super) const fn new() -> Findings {
        Findings {
            budget: Finding::new("spent_within_budget"),
            negative: Finding::new("no_negative_values"),
            orphans: Finding::new("no_orphaned_reservations"),
            integrity: Finding::new("event_log_integrity"),
            sums: Finding::new("spent_matches_events"),
            charges: Finding::new("charges_repriced"),
            decisions: Finding::new("decisions_recomputed"),
        }
    }

    pub(super) fn list(self) -> Vec<Finding> {
        vec![self.budget, self.negative, self.orphans, self.integrity, self.sums, self.charges, self.decisions]
    }
}
