//! `aexctl completions`.

use crate::cli::Cli;
use crate::exit::{Exit, Failure};
use crate::view::View;
use clap::CommandFactory;
use clap_complete::Shell;

pub(super) fn run(view: View, shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "aexctl", &mut script);
    view.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}
