//! The benchmark's program: the whole of it, or one of its processes. `tests/bench` builds and starts it.

use std::io::stdout;
use std::process::ExitCode;

use aex_tests::bench::{Load, Options, Shape, drive, run, serve};
use clap::{Parser, Subcommand};

/// Measures aexd against the mock provider alone, and against nginx where it is installed. Judges no time.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Only the mock provider
    Mock {
        /// Port to listen on; 0 takes a free one
        #[arg(long, default_value_t = 0)]
        port: u16,
        #[command(flatten)]
        shape: Shape,
    },
    /// Only the load; prints one line of JSON
    Driver(Load),
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    match cli.part {
        None => return Ok(if run(&cli.options)? { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Some(Part::Mock { port, shape }) => serve(port, shape, stdout())?,
        Some(Part::Driver(load)) => serde_json::to_writer(stdout(), &drive(load)?)?,
    }
    Ok(ExitCode::SUCCESS)
}
