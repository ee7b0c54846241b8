//! The daemon's binary: where it is, and the commands that it does for us.

use crate::exit::{Attempt, Exit, Failure};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

/// `aexd VERB`, by the binary beside this one, else by the one in PATH. A home that the user named goes with it; where none is
/// named, aexd finds the same one in the same environment, and with it systemd's other folders.
pub(crate) fn command(verb: &str, home: Option<&Path>) -> Command {
    let mut command = Command::new(binary());
    command.arg(verb);
    if let Some(home) = home {
        command.arg("--home").arg(home);
    }
    command
}

fn binary() -> OsString {
    beside().map_or_else(|| OsString::from("aexd"), PathBuf::into_os_string)
}

fn beside() -> Option<PathBuf> {
    std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("aexd"))).filter(|path| path.is_file())
}

/// Its whole path, for others to start it by.
pub(crate) fn path() -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found = beside().or_else(|| std::env::split_paths(&search).map(|folder| folder.join("aexd")).find(|path| path.is_file()))?;
    std::path::absolute(found).ok()
}

/// Runs it to its end: stdout is kept, stderr goes to ours.
pub(crate) fn output(command: &mut Command) -> Result<Output, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stderr(Stdio::inherit()).output().attempt(|| format!("run {name}")).map_err(missing)
}

/// The usual reason why aexd cannot be run.
pub(crate) fn missing(failure: Failure) -> Failure {
    failure.hint("build or install aexd beside aexctl, or put it into PATH")
}

/// The exit code that passes a child's status on.
pub(crate) fn exit_of(status: ExitStatus) -> Exit {
    let signal = status.signal().map(|signal| signal.saturating_add(128));
    let code = status.code().or(signal).and_then(|code| u8::try_from(code).ok());
    Exit::Command(code.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aexd_is_told_the_home_only_when_the_user_named_one() {
        let words = |home: Option<&str>| {
            let command = command("init", home.map(Path::new));
            command.get_args().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(words(Some("/h")), ["init", "--home", "/h"]);
        assert_eq!(words(None), ["init"]);
    }
}
