//! What a check found, in lines: all is well, a warning, a failure, each with what mends it.

use crate::exit::Exit;
use crate::units::count;
use crate::view::Paint;
use aex_proto::check::{Checked, Finding, Verdict};

/// A failure fails; a warning does not.
pub(super) fn exit(checked: &Checked) -> Exit {
    match checked.worst() {
        Verdict::Ok | Verdict::Warning => Exit::Done,
        Verdict::Error => Exit::Failed,
    }
}

pub(super) fn text(checked: &Checked, paint: Paint) -> String {
    let mut lines: Vec<String> = checked.findings.iter().flat_map(|finding| told(finding, paint)).collect();
    let of = |verdict| {
        let found = checked.findings.iter().filter(|finding| finding.verdict == verdict).count();
        u64::try_from(found).unwrap_or(u64::MAX)
    };
    lines.push(format!("{}, {}", count(of(Verdict::Error), "failure"), count(of(Verdict::Warning), "warning")));
    lines.join("\n")
}

fn told(finding: &Finding, paint: Paint) -> Vec<String> {
    let word = match finding.verdict {
        Verdict::Ok => paint.good("ok  "),
        Verdict::Warning => paint.strong("WARN"),
        Verdict::Error => paint.bad("FAIL"),
    };
    let mut lines = vec![format!("{word}  {}: {}", finding.subject, finding.detail)];
    lines.extend(finding.fix.as_ref().map(|fix| format!("      fix: {fix}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_has_its_fix_and_only_a_failure_fails() {
        let mut checked = Checked { findings: vec![Finding::ok("clock", "steady"), Finding::warning("model m", "dear", "check the unit")] };
        assert_eq!(exit(&checked), Exit::Done);
        checked.findings.push(Finding::error("port", "taken", "stop it"));
        let wanted = "\
ok    clock: steady
WARN  model m: dear
      fix: check the unit
FAIL  port: taken
      fix: stop it
1 failure, 1 warning";
        assert_eq!((text(&checked, Paint::PLAIN).as_str(), exit(&checked)), (wanted, Exit::Failed));
    }
}
