//! The only place that prints: data on stdout, all else on stderr. A closed pipe ends the program quietly.

use crate::exit::{Exit, Failure};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use tabled::builder::Builder;
use tabled::settings::Style;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    json: bool,
    paint: Paint,
}

/// Colour, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    colour: bool,
}

impl Paint {
    /// No colour.
    #[cfg(test)]
    pub(crate) const PLAIN: Paint = Paint { colour: false };

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }

    pub(crate) fn strong(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }
}

impl View {
    pub(crate) fn new(json: bool, no_color: bool) -> View {
        let wanted = !no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        View { json, paint: Paint { colour: wanted && io::stdout().is_terminal() } }
    }

    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// A reply: as JSON, or as text for a person.
    pub(crate) fn show<T: Serialize>(self, reply: &T, text: impl FnOnce(Paint) -> String) -> Result<(), Failure> {
        if !self.json {
            return self.line(&text(self.paint));
        }
        let json =
            serde_json::to_string_pretty(reply).map_err(|fault| Failure::new(format!("the reply has no JSON: {fault}")).with(Exit::Bug))?;
        self.line(&json)
    }

    /// One of many replies that follow each other: one line of JSON, or text.
    pub(crate) fn stream<T: Serialize>(self, reply: &T, text: impl FnOnce(Paint) -> String) -> Result<(), Failure> {
        if !self.json {
            return self.line(&text(self.paint));
        }
        let json = serde_json::to_string(reply).map_err(|fault| Failure::new(format!("the reply has no JSON: {fault}")).with(Exit::Bug))?;
        self.line(&json)
    }

    /// A text on stdout, its last line ended.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        written(out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
    }

    /// What a person would type next, before it is done.
    pub(crate) fn prompt(self, command: &str) -> Result<(), Failure> {
        self.line(&format!("\n{}", self.paint.strong(&format!("$ {command}"))))
    }

    /// A remark on stdout that is not the matter itself.
    pub(crate) fn remark(self, text: &str) -> Result<(), Failure> {
        self.line(&self.paint.faint(text))
    }

    /// Data on stdout as it is.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        written(out.write_all(bytes).and_then(|()| out.flush()))
    }

    /// A remark on stderr.
    pub(crate) fn note(self, text: &str) {
        // Nobody is left to be told when stderr is closed.
        writeln!(io::stderr().lock(), "{text}").ok();
    }

    /// A failure on stderr: what went wrong and what to do next.
    pub(crate) fn failure(self, failure: &Failure) {
        if !failure.message.is_empty() {
            self.note(&format!("error: {}", failure.message));
        }
        if let Some(hint) = &failure.hint {
            self.note(&format!("hint: {hint}"));
        }
    }
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|fault| match fault.kind() {
        io::ErrorKind::BrokenPipe => Failure::silent(Exit::Done),
        _ => Failure::new(format!("cannot write to stdout: {fault}")),
    })
}

/// Help, version or what is wrong with the command line, as clap words it.
pub(crate) fn usage(fault: &clap::Error) -> ExitCode {
    fault.print().ok();
    if fault.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
}

/// A table with a head.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut builder = Builder::default();
    builder.push_record(head);
    for row in rows {
        builder.push_record(row);
    }
    let text = builder.build().with(Style::psql()).to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_readable_without_colour_and_has_no_trailing_space() {
        let text = table(["Name", "Budget"], [["a".to_owned(), "$5.00".to_owned()], ["longer".to_owned(), "-".to_owned()]]);
        assert_eq!(text, " Name   | Budget\n--------+--------\n a      | $5.00\n longer | -");
        assert_eq!(Paint::PLAIN.bad("FAIL"), "FAIL");
    }

    #[test]
    fn a_closed_pipe_is_quiet_and_a_full_disk_is_not() {
        assert_eq!(written(Err(io::ErrorKind::BrokenPipe.into())), Err(Failure::silent(Exit::Done)));
        assert_eq!(written(Err(io::ErrorKind::StorageFull.into())).map_err(|failure| failure.exit), Err(Exit::Failed));
    }
}
