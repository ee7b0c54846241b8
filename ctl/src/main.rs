//! aexctl, the client of aexd: parse, run, exit code.
//!
//! Owns the command line and its output. Must not: touch the ledger, decide anything about a call.

mod aexd;
mod cli;
mod client;
mod clock;
mod commands;
mod demo;
mod exit;
mod http;
mod run;
mod signals;
mod spawn;
mod tree;
mod units;
mod view;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(fault) => return view::usage(&fault),
    };
    let view = view::View::new(cli.global.json, cli.global.no_color);
    match commands::run(cli, &view) {
        Ok(code) => code.into(),
        Err(failure) => {
            view.failure(&failure);
            failure.exit.into()
        }
    }
}
