//! The findings as the protocol tells them.

use super::{Counts, Finding};
use crate::chain::Head;
use aex_proto::audit::{Audit, Invariant, InvariantName};
use aex_proto::value::Stamp;

/// What becomes of reservations that nobody works on.
const ORPHANS: &str = "the daemon's next start ends them: a call that was sent is charged its worst case";

/// The findings in the protocol's order. An invariant that nobody looked at does not hold.
#[must_use]
pub fn told(findings: &[Finding], head: Head, counts: Counts, at: Stamp, unchecked: Vec<String>) -> Audit {
    let invariants: Vec<Invariant> = InvariantName::ALL.into_iter().map(|name| invariant(name, findings)).collect();
    Audit {
        passed: invariants.iter().all(|invariant| invariant.passed),
        invariants,
        at,
        head_seq: head.seq.unsigned_abs(),
        head_hash: head.hash,
        exact: counts.exact,
        estimated: counts.estimated,
        worst_case: counts.worst_case,
        unchecked,
    }
}

fn invariant(name: InvariantName, findings: &[Finding]) -> Invariant {
    let Some(finding) = findings.iter().find(|finding| finding.name == name.name()) else {
        return Invariant { name, passed: false, checked: 0, detail: "was not checked".to_owned(), broken: Vec::new(), broken_count: 0 };
    };
    let detail = match (name, finding.passed()) {
        (_, true) => "none wrong".to_owned(),
        (InvariantName::NoOrphanedReservations, false) => format!("{} wrong; {ORPHANS}", finding.broken_count),
        (_, false) => format!("{} wrong", finding.broken_count),
    };
    Invariant {
        name,
        passed: finding.passed(),
        checked: finding.checked,
        detail,
        broken: finding.broken.iter().take(Audit::MAX_BROKEN).cloned().collect(),
        broken_count: finding.broken_count,
    }
}
