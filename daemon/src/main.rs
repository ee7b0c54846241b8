//! `aexd`: flags, then the library, then the exit code.

use aexd::command::Command;
use clap::Parser;
use std::process::ExitCode;

/// A local-first execution kernel for AI agents.
///
/// The daemon between your agents and what they can spend: an OpenAI-compatible proxy with budgets, rates, policies and a
/// ledger. It is run by `aexctl daemon start` or by systemd.
#[derive(Debug, Parser)]
#[command(name = "aexd", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    Cli::parse().command.run()
}
