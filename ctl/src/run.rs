//! `aexctl run`: a command below an agent's budget.
//!
//! Owns the order of its life: open, start, watch, close. Must not: stand between the command and its terminal.

mod control;
mod environment;

pub(crate) use environment::{is_key, variables};

use crate::cli;
use crate::commands::Context;
use crate::exit::{Attempt, Exit, Failure};
use crate::signals::{Arrived, PASSED_ON, Signals};
use crate::tree::{self, Fall};
use crate::units::count;
use crate::{spawn, view::View};
use aex_proto::method::{RunClose as Close, RunOpen as Open};
use aex_proto::run::{RunClose, RunOpen, RunOpened, RunSummary};
use control::{Control, Told};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::ErrorKind;
use std::process::Command;

/// The status of a command that does not end although it was killed: 128 + KILL.
const KILLED: u8 = 137;

/// Opens a run, runs the command in it, and ends as the command ends.
pub(crate) fn run(context: &Context<'_>, flags: cli::Run) -> Result<Exit, Failure> {
    let attempt = || {
        // The command runs as our user, and must not read the keys that it was not given out of /proc/PID/environ or our memory.
        nix::sys::prctl::set_dumpable(false).attempt(|| "close this process to the command".to_owned())?;
        let mut client = context.connect()?;
        let opened = client.call::<Open>(&params(&flags))?;
        let signals = Signals::take(&PASSED_ON)?;
        nix::sys::prctl::set_child_subreaper(true).attempt(|| "become a subreaper".to_owned())?;
        match start(&flags, &opened, &signals) {
            Ok(child) => {
                let mut control = Control::start(client, &opened, flags.stop_on_budget, context.paths.clone())?;
                let status = watch(child, &signals, &mut control, *context.view)?;
                Ok((status, control.close(i32::from(status))))
            }
            Err(failure) => {
                client.call::<Close>(&RunClose { run: opened.run, exit_status: None }).ok();
                Err(failure)
            }
        }
    };
    let (status, summary) = attempt().map_err(|failure: Failure| match failure.exit {
        Exit::Command(_) => failure,
        _ => failure.with(Exit::RunFailed),
    })?;
    tell(*context.view, summary.as_ref());
    Ok(Exit::Command(status))
}

fn params(flags: &cli::Run) -> RunOpen {
    RunOpen {
        agent: flags.agent.clone(),
        budget_pico: flags.budget,
        rpm: flags.rpm,
        tpm: flags.tpm,
        ttl_ms: flags.ttl,
        stop_on_budget: flags.stop_on_budget,
        command: flags.command.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default(),
    }
}

fn start(flags: &cli::Run, opened: &RunOpened, signals: &Signals) -> Result<Pid, Failure> {
    let Some((program, arguments)) = flags.command.split_first() else { return Err(Failure::new("there is no command")) };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment::of(program, std::env::vars_os(), opened));
    let child = spawn::with_mask(&mut command, signals.before()).spawn().map_err(|fault| {
        // As env(1): 127 when there is no such command, 126 when it cannot be executed.
        let status = if fault.kind() == ErrorKind::NotFound { 127 } else { 126 };
        let failure = Failure::new(format!("cannot run {}: {fault}", program.to_string_lossy())).with(Exit::Command(status));
        let is_line = status == 127 && program.to_string_lossy().contains(' ');
        if is_line { failure.hint("quote no command line as a whole, or have a shell read it: aexctl run -- sh -c '…'") } else { failure }
    })?;
    i32::try_from(child.id()).map(Pid::from_raw).attempt(|| "read the command's process id".to_owned())
}

/// Waits for the command. Signals that were sent to us alone are passed on; when the run is ended from elsewhere, its whole
/// process tree is brought down.
fn watch(child: Pid, signals: &Signals, control: &mut Control, view: View) -> Result<u8, Failure> {
    let mut status = None;
    let mut fall: Option<Fall> = None;
    loop {
        signals.wait(Some(control.wake()), fall.as_ref().map(Fall::next_look))?;
        for signal in signals.arrived()? {
            if signal == Arrived::Child {
                status = status.or(tree::reap(child));
            } else if let Some(signal) = passed_on(signal, status) {
                kill(child, signal).ok();
            }
        }
        for told in control.told() {
            match told {
                Told::Ended(why) => {
                    view.note(&format!("aex: the run was ended: {why}"));
                    fall.get_or_insert_with(Fall::begin);
                }
                Told::Lost => view.note("aex: the daemon is gone; calls fail until it is back"),
                Told::Back { moved: None } => view.note("aex: the daemon is back"),
                Told::Back { moved: Some(origin) } => {
                    view.note(&format!("aex: the daemon is back, but listens on {origin}: this command's calls cannot reach it"));
                }
            }
        }
        let fallen = fall.as_mut().is_none_or(Fall::look);
        // A signal of a child may be merged with another's; reaping again costs one system call.
        status = status.or_else(|| tree::reap(child));
        if let (Some(status), true) = (status, fallen) {
            return Ok(status);
        }
        let left = fall.as_ref().map(Fall::outlived_by).unwrap_or_default();
        if !left.is_empty() {
            let left: Vec<String> = left.iter().map(ToString::to_string).collect();
            view.note(&format!("aex: still there although they were killed: processes {}", left.join(", ")));
            return Ok(status.unwrap_or(KILLED));
        }
    }
}

/// What the command is to get of a signal. Once it was reaped, its process id may be another process's.
const fn passed_on(arrived: Arrived, status: Option<u8>) -> Option<Signal> {
    match (arrived, status) {
        (Arrived::SentToUs(signal), None) => Some(signal),
        _ => None,
    }
}

fn tell(view: View, summary: Option<&RunSummary>) {
    match summary {
        None => view.note("aex: no summary: the daemon is not reachable"),
        Some(summary) if view.is_json() => view.note(&serde_json::to_string(summary).unwrap_or_default()),
        Some(summary) => view.note(&text(summary)),
    }
}

fn text(summary: &RunSummary) -> String {
    let kinds = [(summary.estimated, "estimated"), (summary.worst_case, "worst case")];
    let kinds: Vec<String> = kinds.into_iter().filter(|(calls, _)| *calls > 0).map(|(calls, kind)| format!("{calls} {kind}")).collect();
    let about = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
    let (calls, tokens) = (count(summary.calls, "call"), count(summary.tokens, "token"));
    format!("aex: {calls}, {tokens}, {}{about}, {} denied", summary.cost_pico, summary.denials)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::run::RunId;
    use aex_proto::value::{AccountId, Pico};

    #[test]
    fn the_summary_is_one_line() {
        let summary = RunSummary {
            run: RunId::new(AccountId::new(9)),
            agent: "bot".to_owned(),
            calls: 12,
            tokens: 3456,
            input_tokens: 3000,
            output_tokens: 456,
            cost_pico: Pico::new(12_300_000_000),
            cost_usd: "0.0123".to_owned(),
            estimated: 0,
            worst_case: 0,
            denials: 1,
            ended: None,
        };
        assert_eq!(text(&summary), "aex: 12 calls, 3,456 tokens, $0.0123, 1 denied");
        let with = |estimated, worst_case| text(&RunSummary { estimated, worst_case, ..summary.clone() });
        assert_eq!(with(1, 0), "aex: 12 calls, 3,456 tokens, $0.0123 (1 estimated), 1 denied");
        assert_eq!(with(0, 1), "aex: 12 calls, 3,456 tokens, $0.0123 (1 worst case), 1 denied");
        assert_eq!(with(1, 2), "aex: 12 calls, 3,456 tokens, $0.0123 (1 estimated, 2 worst case), 1 denied");
    }

    #[test]
    fn a_signal_is_passed_on_only_while_the_command_was_not_reaped() {
        let sent = Arrived::SentToUs(Signal::SIGTERM);
        assert_eq!((passed_on(sent, None), passed_on(sent, Some(0))), (Some(Signal::SIGTERM), None));
        assert_eq!((passed_on(Arrived::FromTerminal(Signal::SIGINT), None), passed_on(Arrived::Child, None)), (None, None));
    }

    #[test]
    fn the_daemon_gets_the_commands_name_and_none_of_its_arguments() {
        use clap::Parser;
        let cli = cli::Cli::try_parse_from(["aexctl", "run", "--", "curl", "-H", "authorization: secret"]);
        let cli::Command::Run(flags) = cli.unwrap_or_else(|fault| unreachable!("{fault}")).command else { unreachable!("it is a run") };
        assert_eq!(params(&flags).command, "curl");
    }
}
