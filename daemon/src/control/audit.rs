//! The audit, as the protocol tells it.

use super::fault::{Answer, read};
use crate::gate::Gate;
use crate::ledger::AuditReport;
use crate::os::clock;
use aex_core::chain::Head;
use aex_core::verify::told;
use aex_proto::audit::{Audit, AuditQuery, Noted};
use aex_proto::value::Stamp;

pub(super) async fn run(gate: &Gate, query: AuditQuery) -> Answer<Audit> {
    gate.flush_denials().await;
    let epoch = gate.ledger().epoch();
    read(gate, move |reader| {
        let now = clock::wall();
        let expected: Vec<Head> = query.expect.iter().map(noted).collect();
        Ok(reply(&reader.audit_against(now, Some(epoch), &expected)?, now))
    })
    .await
}

/// A head that was noted. A number beyond the chain's range names an event that is not there.
#[must_use]
pub fn noted(noted: &Noted) -> Head {
    Head { hash: noted.hash, seq: i64::try_from(noted.seq).unwrap_or(i64::MAX) }
}

/// The findings in the protocol's order. An invariant that nobody looked at does not hold.
#[must_use]
pub fn reply(report: &AuditReport, at: Stamp) -> Audit {
    told(&report.findings, report.head, report.counts, at, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_core::verify::{Audit as Replay, Counts, Finding};
    use aex_proto::audit::InvariantName;

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
