//! `aexctl audit`: by the daemon when it runs, else by its binary on the ledger itself; of a file, by nobody but this program.

mod file;

use super::Context;
use crate::aexd;
use crate::cli;
use crate::client::{self, Client};
use crate::clock::Deadline;
use crate::exit::{Attempt, Exit, Failure};
use crate::units::{count, grouped};
use crate::view::Paint;
use aex_proto::audit::{Audit, AuditQuery, InvariantName, Noted};
use aex_proto::ledger::LedgerHead;
use aex_proto::method::{self, AuditRun, Nothing};
use serde::de::DeserializeOwned;
use std::process::Stdio;
use std::time::Duration;

/// How often a wait looks again.
const STEP: Duration = Duration::from_millis(20);

pub(super) fn run(context: &Context<'_>, wanted: &cli::Audit) -> Result<Exit, Failure> {
    if wanted.head {
        return head(context);
    }
    let audit =
        if wanted.file.is_empty() { of_ledger(context, &wanted.expect_head)? } else { file::audit(&wanted.file, &wanted.expect_head)? };
    context.view.show(&audit, |paint| text(&audit, paint))?;
    if audit.passed {
        return Ok(Exit::Done);
    }
    let failure = Failure::silent(Exit::Failed);
    Err(if wanted.file.is_empty() && only_orphans(&audit) { failure.hint("aexctl daemon start") } else { failure })
}

fn of_ledger(context: &Context<'_>, expect: &[Noted]) -> Result<Audit, Failure> {
    match Client::connect(&context.paths) {
        Ok(mut client) => client.call_within::<AuditRun>(&AuditQuery { expect: expect.to_vec() }, client::AUDIT),
        Err(failure) if failure.exit == Exit::Unreachable => offline(context, expect),
        Err(failure) => Err(failure),
    }
}

/// Where the chain ends: to be kept where nobody who can write the ledger can write.
fn head(context: &Context<'_>) -> Result<Exit, Failure> {
    let head: LedgerHead = match Client::connect(&context.paths) {
        Ok(mut client) => client.call::<method::LedgerHead>(&Nothing {})?,
        Err(failure) if failure.exit == Exit::Unreachable => asked(context, &["--head".to_owned()])?,
        Err(failure) => return Err(failure),
    };
    context.view.show(&head, |_| Noted { hash: head.hash, seq: head.seq }.to_string())?;
    Ok(Exit::Done)
}

/// Whether nothing is wrong but what the next start puts right.
pub(super) fn only_orphans(audit: &Audit) -> bool {
    audit.invariants.iter().all(|invariant| invariant.passed || invariant.name == InvariantName::NoOrphanedReservations)
}

/// `aexd audit` reads the ledger without a daemon. What it says on stderr is its own, and so is its exit code.
fn offline(context: &Context<'_>, expect: &[Noted]) -> Result<Audit, Failure> {
    let expected = expect.iter().flat_map(|noted| ["--expect-head".to_owned(), noted.to_string()]);
    asked(context, &expected.collect::<Vec<_>>())
}

fn asked<T: DeserializeOwned>(context: &Context<'_>, words: &[String]) -> Result<T, Failure> {
    let ledger = &context.paths.ledger;
    if ledger.try_exists().is_ok_and(|exists| !exists) {
        return Err(Failure::new(format!("there is no ledger at {}", ledger.display())).hint("aexctl init"));
    }
    let output = aexd::output(aexd::command("audit", context.home.as_deref()).arg("--json").args(words).stdin(Stdio::null()))?;
    let silent = Failure::silent(match aexd::exit_of(output.status) {
        Exit::Command(0) => Exit::Bug,
        exit => exit,
    });
    serde_json::from_slice(&output.stdout).map_err(|_| silent)
}

/// The same within a limit; `None`: it took longer and was ended.
pub(super) fn offline_within(context: &Context<'_>, limit: Duration) -> Result<Option<Audit>, Failure> {
    let mut command = aexd::command("audit", context.home.as_deref());
    command.arg("--json").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().attempt(|| "run aexd".to_owned()).map_err(aexd::missing)?;
    let deadline = Deadline::after(limit);
    // Its answer fits into the pipe, so that it ends without being read.
    while child.try_wait().attempt(|| "wait for aexd".to_owned())?.is_none() {
        if deadline.is_over() {
            child.kill().and_then(|()| child.wait()).attempt(|| "end aexd".to_owned())?;
            return Ok(None);
        }
        std::thread::sleep(STEP);
    }
    let output = child.wait_with_output().attempt(|| "read from aexd".to_owned())?;
    serde_json::from_slice(&output.stdout).map(Some).map_err(|_| Failure::new("the ledger could not be audited"))
}

fn text(audit: &Audit, paint: Paint) -> String {
    let mut lines = Vec::new();
    for invariant in &audit.invariants {
        let verdict = if invariant.passed { paint.good("PASS") } else { paint.bad("FAIL") };
        lines.push(format!("{}: {verdict}", invariant.name.name()));
        lines.push(format!("  {} checked; {}", count(invariant.checked, "row"), invariant.detail));
        lines.extend(invariant.broken.iter().cloned().chain(invariant.more()).map(|row| format!("  - {row}")));
    }
    let held = audit.invariants.iter().filter(|invariant| invariant.passed).count();
    lines.push(format!("{held} of {} invariants hold", audit.invariants.len()));
    lines.extend(audit.unchecked.iter().map(|what| format!("not checked: {what}")));
    let (exact, estimated, worst) = (grouped(audit.exact), grouped(audit.estimated), grouped(audit.worst_case));
    lines.push(format!("charges: {exact} exact, {estimated} estimated, {worst} worst case; chain of {}", count(audit.head_seq, "event")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::audit::Invariant;
    use aex_proto::value::{Digest, Stamp};

    #[test]
    fn each_invariant_keeps_the_line_that_scripts_read() {
        let row = |name, passed, broken: &[&str]| Invariant {
            name,
            passed,
            checked: 3,
            detail: if passed { "none wrong" } else { "1 wrong" }.to_owned(),
            broken: broken.iter().map(ToString::to_string).collect(),
            broken_count: if passed { 0 } else { 24 },
        };
        let audit = Audit {
            passed: false,
            invariants: vec![
                row(InvariantName::SpentWithinBudget, true, &[]),
                row(InvariantName::NoNegativeValues, false, &["account 7: −1"]),
            ],
            at: Stamp::new(0),
            head_seq: 1200,
            head_hash: Digest::ZERO,
            exact: 9,
            estimated: 1,
            worst_case: 0,
            unchecked: vec!["rows".to_owned()],
        };
        let wanted = "\
spent_within_budget: PASS
  3 rows checked; none wrong
no_negative_values: FAIL
  3 rows checked; 1 wrong
  - account 7: −1
  - and 23 more
1 of 2 invariants hold
not checked: rows
charges: 9 exact, 1 estimated, 0 worst case; chain of 1,200 events";
        assert_eq!(text(&audit, Paint::PLAIN), wanted);
        assert!(!only_orphans(&audit));
        let invariants =
            vec![row(InvariantName::SpentWithinBudget, true, &[]), row(InvariantName::NoOrphanedReservations, false, &["req_1"])];
        assert!(only_orphans(&Audit { invariants, ..audit }));
    }
}
