//! `aexctl init`: the daemon's binary writes files and ledger.

use super::Context;
use crate::exit::{Exit, Failure};
use crate::{aexd, view::View};
use aex_core::paths::Paths;
use std::path::PathBuf;
use std::process::Stdio;

/// `import_aex`: whether to import, and from where when that was said.
pub(super) fn run(context: &Context<'_>, import_aex: Option<&Option<PathBuf>>) -> Result<Exit, Failure> {
    let mut command = aexd::command("init", context.home.as_deref());
    if let Some(path) = import_aex {
        command.arg("--import-aex").args(path);
    }
    if context.view.is_json() {
        command.arg("--json");
    }
    let output = aexd::output(command.stdin(Stdio::null()))?;
    print(*context.view, &output.stdout)?;
    Ok(aexd::exit_of(output.status))
}

/// Whether there is nothing to start yet.
pub(super) fn is_fresh(paths: &Paths) -> bool {
    !paths.config_dir.join("models.yaml").exists() || !paths.ledger.exists()
}

/// Initialises a home before its first start; what it says is printed unless a reply in JSON follows.
pub(super) fn first(context: &Context<'_>) -> Result<(), Failure> {
    let output = aexd::output(aexd::command("init", context.home.as_deref()).arg("--before-start").stdin(Stdio::null()))?;
    if !context.view.is_json() {
        print(*context.view, &output.stdout)?;
    }
    if output.status.success() { Ok(()) } else { Err(Failure::silent(aexd::exit_of(output.status))) }
}

fn print(view: View, stdout: &[u8]) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(stdout);
    let text = text.trim_end();
    if text.is_empty() { Ok(()) } else { view.line(text) }
}
