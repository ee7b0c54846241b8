//! Paths among arguments: what has to be asked of the file system, and what its answers mean.
//!
//! The file system may change between the answer and the call, and a tool's process may see another one: rules on paths keep an agent to
//! what it should do. What it can do is the sandbox's.

use std::collections::BTreeMap;

/// What a path is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Of {
    /// A call's argument: relative ones are below the server's folder.
    Argument,
    /// A rule's folder: absolute, or below the daemon's home when it begins with `~/`.
    Folder,
}

/// A path that a decision has to know the real place of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// What it is of.
    pub of: Of,
    /// As it is written.
    pub text: String,
}

/// Real places: absolute, without links, `.` and `..`. A path without one is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved(BTreeMap<Question, String>);

impl Resolved {
    /// Says where a path is.
    pub fn is_at(&mut self, question: Question, place: String) {
        self.0.insert(question, place);
    }

    pub(super) fn place(&self, of: Of, text: &str) -> Option<&str> {
        // A look-up needs an owned key; paths among arguments are few.
        self.0.get(&Question { of, text: text.to_owned() }).map(String::as_str)
    }
}

/// Why nobody can say which file a tool would take a text for; `None` for a plain path.
#[must_use]
pub fn oddity(text: &str) -> Option<&'static str> {
    let is_uri = || text.contains("://") || text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("file:"));
    match text {
        "" => Some("it is empty"),
        _ if text.chars().any(char::is_control) => Some("it has control characters"),
        _ if text.trim() != text => Some("it begins or ends with white space"),
        _ if text.starts_with('~') => Some("some programs take ~ for a home folder"),
        _ if is_uri() => Some("it is a URI"),
        _ => None,
    }
}

/// Whether a folder can stand in a rule.
pub(super) fn is_folder(text: &str) -> bool {
    let absolute = text.strip_prefix('~').unwrap_or(text);
    (absolute.starts_with('/') || text == "~") && !text.chars().any(char::is_control)
}

/// Whether a place is a folder or lies in it. Both are real places.
pub(super) fn is_in(place: &str, folder: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    place.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
