//! Programs of ours: where they lie, and one run to its end under a deadline.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::PATIENCE;

/// How `aexctl`, or a daemon that did not start, ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; 128 + N after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output as JSON; fails the test when it isn't, or when the command failed.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|fault| panic!("{fault} in {self:?}"))
    }

    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

/// Runs a command to its end, with a deadline.
#[track_caller]
pub fn output(mut command: Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let shown = format!("{command:?}");
    let child = command.spawn().unwrap_or_else(|fault| panic!("start {shown}: {fault}"));
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    let (sender, ended) = channel();
    drop(std::thread::spawn(move || sender.send(child.wait_with_output()).is_ok()));
    let output = match ended.recv_timeout(3 * PATIENCE) {
        Ok(output) => output.unwrap_or_else(|fault| panic!("read from {shown}: {fault}")),
        Err(_) => {
            // It may end at this very moment.
            let _ = kill(pid, Signal::SIGKILL).is_ok();
            panic!("{shown} did not end within {:?}", 3 * PATIENCE);
        }
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output { code: code(output.status), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Where a program of ours lies.
#[must_use]
#[track_caller]
pub fn binary(program: &str) -> PathBuf {
    let folder = std::env::var_os("AEX_BIN_DIR").map_or_else(
        || {
            // target/PROFILE/deps/TEST
            let test = std::env::current_exe().expect("the running test has a path");
            test.ancestors().nth(2).expect("the target folder").to_owned()
        },
        PathBuf::from,
    );
    let path = folder.join(program);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace` first", path.display());
    path
}

pub(super) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
