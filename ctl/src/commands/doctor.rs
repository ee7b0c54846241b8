//! `aexctl doctor`: what is wrong with this installation, and what mends it. Looks only; changes nothing and spends nothing.
//!
//! With `--compat` it calls the running daemon as SDKs do; that is another matter, and stands in `compat`.

mod bypass;
mod compat;
mod files;
mod service;

use super::{Context, audit, check};
use crate::cli;
use crate::client::{self, Client};
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::units::{grouped, span};
use crate::{aexd, http};
use aex_core::paths::{Paths, Place};
use aex_proto::audit::{Audit, AuditQuery};
use aex_proto::check::{Checked, Finding};
use aex_proto::daemon::DaemonStatus;
use aex_proto::method::{AuditRun, ConfigGet, DaemonStatus as Status, ModelCheck, Nothing};
use aex_proto::value::Stamp;
use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

/// How long the recomputation of the ledger may take here; `aexctl audit` waits for longer ones.
const AUDIT: Duration = Duration::from_secs(20);
/// How long the daemon's own port may take.
const PORT: Duration = Duration::from_secs(5);
/// How far the wall clock may move against the clock of the machine: more is no drift, it was set.
const STEP_US: i64 = 5_000_000;
/// The check of the daemon that a user mends in a file.
const PERMISSIONS: &str = "permissions.json";
/// The beginning of 2025: a clock before it was never set.
const EARLIEST: Stamp = Stamp::new(1_735_689_600_000_000);

pub(super) fn run(context: &Context<'_>, wanted: cli::Doctor) -> Result<Exit, Failure> {
    if wanted.compat {
        let token = wanted.token.or_else(|| token_of(std::env::var_os("AEX_AGENT_TOKEN")));
        return compat::run(context, token, wanted.model);
    }
    let mut findings = files::look(&context.paths);
    let connected = Client::connect(&context.paths);
    findings.push(socket(&connected, &context.paths));
    let keys = match connected {
        Ok(mut client) => live(&mut client, &mut findings),
        Err(_) => at_rest(context, &mut findings),
    };
    findings.extend(service::look(&context.paths));
    findings.extend(bypass::look(&context.paths, &keys));
    let checked = Checked { findings };
    context.view.show(&checked, |paint| check::text(&checked, paint))?;
    Ok(check::exit(&checked))
}

/// The token that a variable holds. An empty one counts as not set; one that is no text is no token, and is refused as such.
fn token_of(variable: Option<OsString>) -> Option<String> {
    variable.map(|value| value.to_string_lossy().trim().to_owned()).filter(|token| !token.is_empty())
}

fn socket(connected: &Result<Client, Failure>, paths: &Paths) -> Finding {
    match connected {
        Ok(client) => {
            let hello = client.hello();
            Finding::ok("daemon", format!("aexd {} answers (pid {})", hello.version, hello.pid))
        }
        Err(failure) => {
            let fix = failure.hint.clone().unwrap_or_else(|| "aexctl daemon start".to_owned());
            let stopped = failure.exit == Exit::Unreachable && client::running_pid(paths).is_none();
            if stopped { Finding::warning("daemon", &failure.message, fix) } else { Finding::error("daemon", &failure.message, fix) }
        }
    }
}

/// What a running daemon says of itself. Answers the variables of providers' keys.
fn live(client: &mut Client, findings: &mut Vec<Finding>) -> Vec<String> {
    match client.call::<Status>(&Nothing {}) {
        Ok(status) => {
            findings.extend(
                status.checks.iter().filter(|check| check.name != "clock").map(|check| health(&check.name, check.passed, &check.detail)),
            );
            findings.push(port(&status));
            findings.push(clock_of(&status, clock::wall()));
        }
        Err(failure) => findings.push(Finding::error("daemon", failure.message, "aexctl daemon status")),
    }
    let mut keys = Vec::new();
    match client.call::<ConfigGet>(&Nothing {}) {
        Ok(shown) => {
            findings.extend(
                shown.warnings.iter().map(|warning| Finding::warning("config", warning, "correct the file, then `aexctl models reload`")),
            );
            let waiting = shown.settings.iter().filter(|setting| setting.waits_for_restart);
            let waits = |name: &str| {
                Finding::warning("config", format!("{name} has changed since the start"), "aexctl daemon stop, aexctl daemon start")
            };
            findings.extend(waiting.map(|setting| waits(&setting.name)));
            keys.extend(shown.keys.into_iter().map(|key| key.variable));
        }
        Err(failure) => findings.push(Finding::error("config", failure.message, "aexctl daemon status")),
    }
    match client.call::<ModelCheck>(&Nothing {}) {
        Ok(checked) => findings.extend(checked.findings),
        Err(failure) => findings.push(Finding::error("models", failure.message, "aexctl models check")),
    }
    // The last one: a reply that comes too late is nobody's then.
    findings.push(match client.call_within::<AuditRun>(&AuditQuery::default(), AUDIT) {
        Ok(audit) => ledger(&audit),
        Err(failure) => Finding::warning("ledger", failure.message, "aexctl audit"),
    });
    keys
}

fn health(name: &str, passed: bool, detail: &str) -> Finding {
    let fix = match name {
        PERMISSIONS => "correct the file, then `aexctl models reload`",
        "tools" => "correct mcp.json, then `aexctl models reload`",
        _ => "see the daemon's log, then restart it",
    };
    if passed { Finding::ok(name, detail) } else { Finding::error(name, detail, fix) }
}

fn port(status: &DaemonStatus) -> Finding {
    let fix = "aexctl daemon stop, aexctl daemon start; is a proxy or firewall in between?";
    match http::ask(&format!("{}/health", status.origin), "", None, PORT) {
        Ok(answer) if answer.status == 200 => Finding::ok("port", format!("{} answers", status.origin)),
        Ok(answer) => Finding::error("port", format!("{}/health answers {}", status.origin, answer.status), fix),
        Err(fault) => Finding::error("port", format!("{} does not answer: {fault}", status.origin), fix),
    }
}

/// Whether the wall clock went as the machine's own since the daemon started. No time server is needed for that.
fn clock_of(status: &DaemonStatus, now: Stamp) -> Finding {
    let uptime_us = i64::try_from(status.uptime_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
    let jump = now.since(status.started_at).saturating_sub(uptime_us);
    if jump.unsigned_abs() <= STEP_US.unsigned_abs() {
        let told = status.checks.iter().find(|check| check.name == "clock");
        let detail = told.map_or_else(|| "went steadily since the daemon started".to_owned(), |check| check.detail.clone());
        return set_clock(now).unwrap_or_else(|| Finding::ok("clock", detail));
    }
    let way = if jump < 0 { "back" } else { "ahead" };
    let detail = format!("the wall clock was set {way} by {} while the daemon ran", span(jump.unsigned_abs() / 1_000));
    Finding::warning("clock", detail, "periods of budgets follow the wall clock: keep it set by NTP, or set it before the daemon starts")
}

fn set_clock(now: Stamp) -> Option<Finding> {
    (now < EARLIEST)
        .then(|| Finding::error("clock", format!("it is {now} by the wall clock"), "set the clock: budgets and tokens depend on it"))
}

fn ledger(audit: &Audit) -> Finding {
    let broken: Vec<&str> = audit.invariants.iter().filter(|one| !one.passed).map(|one| one.name.name()).collect();
    if broken.is_empty() {
        return Finding::ok("ledger", format!("all {} invariants hold over {} events", audit.invariants.len(), grouped(audit.head_seq)));
    }
    let fix = if audit::only_orphans(audit) { "aexctl daemon start" } else { "aexctl audit" };
    Finding::error("ledger", format!("does not hold: {}", broken.join(", ")), fix)
}

/// What can be found without a daemon: its binary reads configuration and ledger. Only a running daemon knows which variables
/// of its environment hold keys, so that none is answered.
fn at_rest(context: &Context<'_>, findings: &mut Vec<Finding>) -> Vec<String> {
    findings.extend(set_clock(clock::wall()).or_else(|| Some(Finding::ok("clock", "is set"))));
    let mut command = aexd::command("check", context.home.as_deref());
    let said = aexd::output(command.stdin(Stdio::null())).and_then(|output| {
        serde_json::from_slice::<Checked>(&output.stdout).map_err(|fault| aexd::missing(Failure::new(format!("aexd check: {fault}"))))
    });
    match said {
        Ok(checked) => findings.extend(checked.findings),
        Err(failure) => findings.push(Finding::error("aexd", failure.message, failure.hint.unwrap_or_default())),
    }
    if context.paths.ledger.exists() && client::running_pid(&context.paths).is_none() {
        findings.push(match audit::offline_within(context, AUDIT) {
            Ok(Some(audit)) => ledger(&audit),
            Ok(None) => Finding::warning("ledger", format!("was not audited within {} s", AUDIT.as_secs()), "aexctl audit"),
            Err(failure) => Finding::error("ledger", failure.message, "aexctl audit"),
        });
    }
    Vec::new()
}

/// Whether the files are those of a whole machine.
const fn is_system(place: Place) -> bool {
    matches!(place, Place::System)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::check::Verdict;

    #[test]
    fn the_token_of_the_environment_is_taken_unless_it_is_empty() {
        let of = |value: &str| token_of(Some(OsString::from(value)));
        assert_eq!((of("aex_1"), of(" "), token_of(None)), (Some("aex_1".to_owned()), None, None));
    }

    #[test]
    fn a_clock_that_was_set_is_told_with_its_jump() {
        let status = DaemonStatus { uptime_ms: 60_000, ..super::super::daemon::sample() };
        let at = |seconds: i64| clock_of(&status, status.started_at.offset(seconds * 1_000_000));
        assert_eq!(at(62).verdict, Verdict::Ok);
        for (seconds, words) in [(3_660, "set ahead by 1h 0m"), (0, "set back by 1m 0s")] {
            let found = at(seconds);
            assert!(found.verdict == Verdict::Warning && found.detail.contains(words), "{found:?}");
        }
        assert_eq!(set_clock(Stamp::new(0)).map(|found| found.verdict), Some(Verdict::Error));
    }
}
