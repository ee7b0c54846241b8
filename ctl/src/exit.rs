//! How the program ends: exit codes and what is said on the way out.

use aex_proto::rpc::{ErrorObject, Fault, Standard};
use std::process::ExitCode;

/// An exit code with a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked is done.
    Done,
    /// It failed.
    Failed,
    /// The command line is wrong.
    Usage,
    /// The daemon is not reachable.
    Unreachable,
    /// What was named does not exist.
    NotFound,
    /// It is not allowed.
    Denied,
    /// A bug of ours.
    Bug,
    /// `run` itself failed, as env(1) has it.
    RunFailed,
    /// The status of a command that was run.
    Command(u8),
}

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::NotFound => 4,
            Exit::Denied => 5,
            Exit::Bug => 70,
            Exit::RunFailed => 125,
            Exit::Command(status) => status,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why a command ended early. An empty message says nothing: the reader has closed the pipe, or all is said already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Failed, message: message.into(), hint: None }
    }

    pub(crate) const fn silent(exit: Exit) -> Failure {
        Failure { exit, message: String::new(), hint: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn with(self, exit: Exit) -> Failure {
        Failure { exit, ..self }
    }
}

impl From<ErrorObject> for Failure {
    fn from(error: ErrorObject) -> Failure {
        let exit = match error.which() {
            Some(Fault::NotFound | Fault::Gone) => Exit::NotFound,
            Some(Fault::Denied) => Exit::Denied,
            None if error.code == Standard::InvalidParams.code() => Exit::Usage,
            _ => Exit::Failed,
        };
        Failure { exit, message: error.message, hint: error.data.map(|data| data.hint) }
    }
}

/// Names what was attempted when an operation of the system fails.
pub(crate) trait Attempt<T> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> Attempt<T> for Result<T, E> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|fault| Failure::new(format!("cannot {}: {fault}", what())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_of_the_daemon_has_its_exit_code() {
        let code = |error: ErrorObject| Failure::from(error).exit.code();
        assert_eq!(code(ErrorObject::fault(Fault::NotFound, "x")), 4);
        assert_eq!(code(ErrorObject::fault(Fault::Gone, "x")), 4);
        assert_eq!(code(ErrorObject::fault(Fault::Denied, "x")), 5);
        assert_eq!(code(ErrorObject::fault(Fault::Conflict, "x")), 1);
        assert_eq!(code(ErrorObject::standard(Standard::InvalidParams, "x")), 2);
        assert_eq!(code(ErrorObject::standard(Standard::Internal, "x")), 1);
    }
}
