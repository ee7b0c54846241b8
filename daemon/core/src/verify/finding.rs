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
    /// Whether it holds.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.broken_count == 0
    }
}

/// A finding under way, and the place in a file that is looked at.
#[derive(Debug)]
pub(super) struct Watch {
    finding: Finding,
    /// Put before the line; empty for the only file.
    file: String,
    /// 0: nothing is read from a file, or its end has passed.
    line: u64,
}

impl Watch {
    const fn new(name: &'static str) -> Watch {
        Watch { finding: Finding { name, checked: 0, broken: Vec::new(), broken_count: 0 }, file: String::new(), line: 0 }
    }

    pub(super) fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        self.finding.checked = self.finding.checked.saturating_add(1);
        if !holds {
            self.fail(what());
        }
    }

    /// One more row: it is as it has to be, or what is wrong with it.
    pub(super) fn verdict(&mut self, verdict: Result<(), String>, of: impl FnOnce() -> String) {
        self.finding.checked = self.finding.checked.saturating_add(1);
        if let Err(what) = verdict {
            self.fail(format!("{}: {what}", of()));
        }
    }

    pub(super) fn fail(&mut self, what: String) {
        let Finding { broken, broken_count, .. } = &mut self.finding;
        *broken_count = broken_count.saturating_add(1);
        if broken.len() < KEPT {
            broken.push(match self.line {
                0 => format!("{}{what}", self.file),
                line => format!("{}line {line}: {what}", self.file),
            });
        }
    }
}

/// All invariants: the seed's five first.
#[derive(Debug)]
pub(super) struct Findings {
    /// Every hold is on every balance that has to count it, and none is admitted beyond a limit.
    pub(super) budget: Watch,
    /// No amount is below zero.
    pub(super) negative: Watch,
    /// What is held belongs to a call in flight.
    pub(super) orphans: Watch,
    /// The chain is whole, its events follow from each other, and the rows that stand for it say what it says.
    pub(super) integrity: Watch,
    /// Rows of money are what the events add up to.
    pub(super) sums: Watch,
    /// Each charge, and each release, follows from what the provider reported.
    pub(super) charges: Watch,
    /// Each admission and each refusal follows from its inputs.
    pub(super) decisions: Watch,
}

impl Findings {
    pub(super) const fn new() -> Findings {
        Findings {
            budget: Watch::new("spent_within_budget"),
            negative: Watch::new("no_negative_values"),
            orphans: Watch::new("no_orphaned_reservations"),
            integrity: Watch::new("event_log_integrity"),
            sums: Watch::new("spent_matches_events"),
            charges: Watch::new("charges_repriced"),
            decisions: Watch::new("decisions_recomputed"),
        }
    }

    /// What is looked at next stands in this line of a file; 0: in none.
    pub(super) fn at_line(&mut self, line: u64) {
        self.each(|watch| watch.line = line);
    }

    /// What is looked at next stands in this file.
    pub(super) fn in_file(&mut self, name: &str) {
        self.each(|watch| watch.file = if name.is_empty() { String::new() } else { format!("{name}: ") });
    }

    fn each(&mut self, set: impl FnMut(&mut Watch)) {
        let Findings { budget, negative, orphans, integrity, sums, charges, decisions } = self;
        [budget, negative, orphans, integrity, sums, charges, decisions].into_iter().for_each(set);
    }

    pub(super) fn list(self) -> Vec<Finding> {
        let all = [self.budget, self.negative, self.orphans, self.integrity, self.sums, self.charges, self.decisions];
        all.into_iter().map(|watch| watch.finding).collect()
    }
}
