//! The audit, as the protocol tells it.

use super::fault::{Answer, read};
use crate::gate::Gate;
use crate::ledger::AuditReport;
use crate::os::clock;
use aex_core::verify::Finding;
use aex_proto::audit::{Audit, Invariant, InvariantName};
use aex_proto::value::Stamp;

/// What becomes of reservations that nobody works on.
const ORPHANS: &str = "the daemon's next start ends them: a call that was sent is charged its worst case";

pub(super) async fn run(gate: &Gate) -> Answer<Audit> {
    gate.flush_denials().await;
    let epoch = gate.ledger().epoch();
    read(gate, move |reader| {
        let now = clock::wall();
        Ok(reply(&reader.audit(now, Some(epoch))?, now))
    })
    .await
}

/// The findings in the protocol's order. An invariant that nobody looked at does not hold.
#[must_use]
pub fn reply(report: &AuditReport, at: Stamp) -> Audit {
    let invariants: Vec<Invariant> = InvariantName::ALL.into_iter().map(|name| invariant(name, &report.findings)).collect();
    Audit {
        passed: invariants.iter().all(|invariant| invariant.passed),
        invariants,
        at,
        head_seq: report.head.seq.unsigned_abs(),
        head_hash: report.head.hash,
        exact: report.counts.exact,
        estimated: report.counts.estimated,
        worst_case: report.counts.worst_case,
    }
}

fn invariant(name: InvariantName, findings: &[Finding]) -> Invariant {
    let Some(finding) = findings.iter().find(|finding| finding.name == name.name()) else {
        return Invariant { name, passed: false, checked: 0, detail: "was not checked".to_owned(), broken: Vec::new() };
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_core::chain::Head;
    use aex_core::verify::{Audit as Replay, Counts};

    #[test]
    fn each_invariant_of_the_replay_has_its_name_on_the_wire_in_the_same_order() {
        let findings = Replay::new(|_| None).finish();
        let names: Vec<&str> = findings.iter().map(|finding| finding.name).collect();
        assert_eq!(names, InvariantName::ALL.map(InvariantName::name));
    }

    #[test]
    fn an_invariant_that_was_not_checked_fails_the_audit() {
        let mut report = AuditReport { findings: Replay::new(|_| None).finish(), head: Head::START, counts: Counts::default() };
        assert!(reply(&report, Stamp::new(0)).passed);
        report.findings.pop();
        assert!(!reply(&report, Stamp::new(0)).passed);
        report.findings.push(Finding { name: "decisions_recomputed", checked: 3, broken: vec!["event 3".to_owned()], broken_count: 1 });
        let audit = reply(&report, Stamp::new(0));
        assert_eq!((audit.passed, audit.invariants[6].detail.as_str()), (false, "1 wrong"));
        assert_eq!((audit.invariants[0].checked, audit.invariants[0].detail.as_str()), (0, "none wrong"));
    }

    #[test]
    fn an_orphaned_reservation_fails_the_audit_and_says_what_ends_it() {
        let mut report = AuditReport { findings: Replay::new(|_| None).finish(), head: Head::START, counts: Counts::default() };
        report.findings[2] = Finding { broken: vec!["req_1".to_owned()], broken_count: 1, ..report.findings[2].clone() };
        let invariant = &reply(&report, Stamp::new(0)).invariants[2];
        assert!(!invariant.passed && invariant.detail.starts_with("1 wrong; the daemon's next start ends them"), "{invariant:?}");
    }
}
