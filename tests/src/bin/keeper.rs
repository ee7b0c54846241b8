//! Starts a stage as the daemon does, for tests that kill the daemon: the plan comes on standard input as JSON, the report goes to standard
//! error as a line, the tool has this program's standard output.

#![expect(clippy::print_stderr, reason = "the report is its interface")]

use aexd::tools::sandbox::{Plan, stage};
use std::io::Read;
use std::path::Path;
use std::process::{ExitCode, Stdio};

fn main() -> anyhow::Result<ExitCode> {
    let program = std::env::args().nth(1).ok_or_else(|| anyhow::anyhow!("expected the path of aexd"))?;
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let plan: Plan = serde_json::from_str(&text)?;
    let mut stage = stage(Path::new(&program), &plan)?;
    let mut child = stage.command.stdin(Stdio::null()).stdout(Stdio::inherit()).stderr(Stdio::null()).spawn()?;
    drop(stage.command);
    eprintln!("{}", serde_json::to_string(&stage.report.read().map_err(anyhow::Error::from)?)?);
    child.wait()?;
    Ok(ExitCode::SUCCESS)
}
