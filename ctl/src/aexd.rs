//! The daemon's binary: where it is, and the commands that it does for us.

use crate::exit::{Attempt, Exit, Failure};
use aex_core::paths::Paths;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};

/// `aexd VERB --home HOME`, by the binary beside this one, else by the one in PATH.
pub(crate) fn command(verb: &str, paths: &Paths) -> Command {
    let mut command = Command::new(binary());
    command.arg(verb).arg("--home").arg(&paths.home);
    command
}

fn binary() -> OsString {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("aexd"))).filter(|path: &PathBuf| path.is_file());
    beside.map_or_else(|| OsString::from("aexd"), PathBuf::into_os_string)
}

/// Runs it to its end: stdout is kept, stderr goes to ours.
pub(crate) fn output(command: &mut Command) -> Result<Output, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let hint = "build or install aexd beside aexctl, or put it into PATH";
    command.stderr(Stdio::inherit()).output().attempt(|| format!("run {name}")).map_err(|failure| failure.hint(hint))
}

/// The exit code that passes a child's status on.
pub(crate) fn exit_of(status: ExitStatus) -> Exit {
    let signal = status.signal().map(|signal| signal.saturating_add(128));
    let code = status.code().or(signal).and_then(|code| u8::try_from(code).ok());
    Exit::Command(code.unwrap_or(1))
}
