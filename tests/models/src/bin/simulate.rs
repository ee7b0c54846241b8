//! Runs made-up histories of the daemon, one after the other, and says what they did; or which seed breaks a promise.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]
#![allow(clippy::disallowed_methods, reason = "how fast it is is told, never judged")]

use aex_models::simulation::{self, Report};
use clap::Parser;
use std::process::ExitCode;
use std::time::Instant;

/// Simulates histories of the daemon: admit, dispatch, settle, with crashes and power cuts.
#[derive(Parser)]
struct Cli {
    /// The first seed; with one history, the one to look at.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many histories.
    #[arg(long, default_value_t = 100_000)]
    histories: u64,
}

fn main() -> ExitCode {
    let Cli { seed, histories } = Cli::parse();
    let begun = Instant::now();
    let mut sum = Report::default();
    for seed in seed..seed.saturating_add(histories) {
        match simulation::run(seed, None) {
            Ok(report) => sum.add(&report),
            Err(broken) => {
                eprintln!("broken: {broken}");
                return ExitCode::FAILURE;
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("{histories} histories in {seconds:.1} s: {sum:?}");
    ExitCode::SUCCESS
}
