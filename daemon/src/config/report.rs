//! Reads typed values out of nodes and collects what is wrong with a file, all of it, with file, line, key and expectation.
//!
//! Knows no key of any file.

use super::json;
use super::yaml::{self, Entry, Node, Value};
use aex_core::jsonc;
use std::fmt;

/// Longest piece of a file that a message repeats.
const SHOWN_CHARS: usize = 60;

/// One thing that is wrong, or that a user should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as its users call it; or a variable, when it came from the environment.
    pub file: String,
    /// The line, when it is about one.
    pub line: Option<u64>,
    /// What it is about and what was expected.
    pub text: String,
}

/// A problem that does not stop the start.
pub type Warning = Problem;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.text),
            None => write!(f, "{}: {}", self.file, self.text),
        }
    }
}

/// What to do with a key that has no meaning.
#[derive(Clone, Copy)]
pub(super) enum Unknown {
    Warn,
    Refuse,
}

/// What was found in one file.
pub(super) struct Report {
    file: String,
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
}

impl Report {
    pub(super) fn new(file: impl Into<String>) -> Report {
        Report { file: file.into(), errors: Vec::new(), warnings: Vec::new() }
    }

    /// The file, as its users call it.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Parses the file; what is no YAML is an error of the report.
    pub(super) fn parse(&mut self, source: &str) -> Option<Node> {
        match yaml::parse(source.strip_prefix('\u{feff}').unwrap_or(source)) {
            Ok(node) => Some(node),
            Err(error) => {
                self.errors.push(self.problem(error.line, &error.text));
                None
            }
        }
    }

    /// Parses the file; what is no JSON, and keys that stand twice, are errors of the report.
    pub(super) fn parse_json(&mut self, source: &str) -> Option<Node> {
        match json::parse(source.strip_prefix('\u{feff}').unwrap_or(source)) {
            Ok(node) => Some(node),
            Err(errors) => {
                errors.iter().for_each(|error| self.errors.push(self.problem(error.line, &error.text)));
                None
            }
        }
    }

    /// The same, of JSON with comments and commas behind the last item.
    pub(super) fn parse_jsonc(&mut self, source: &str) -> Option<Node> {
        self.parse_json(&jsonc::plain(source).json)
    }

    /// One line, whatever a key of the file holds: it goes to terminals and logs.
    fn problem(&self, line: Option<u64>, text: &str) -> Problem {
        let mut shown = String::with_capacity(text.len());
        for letter in text.chars() {
            if letter.is_control() { shown.extend(letter.escape_default()) } else { shown.push(letter) }
        }
        Problem { file: self.file.clone(), line, text: shown }
    }

    pub(super) fn refuse(&mut self, line: u64, text: String) {
        self.errors.push(self.problem(Some(line), &text));
    }

    pub(super) fn warn(&mut self, line: u64, text: String) {
        self.warnings.push(self.problem(Some(line), &text));
    }

    /// Refuses a value, saying what was expected in its place.
    pub(super) fn expected(&mut self, field: &Field<'_>, what: &str) {
        self.refuse(field.line, format!("{}: expected {what}, found {}", field.key, found(field.node)));
    }

    pub(super) fn section<'a>(&mut self, field: &Field<'a>) -> Option<Section<'a>> {
        match &field.node.value {
            Value::Map(entries) => Some(Section { key: field.key.clone(), line: field.line, entries, known: Vec::new() }),
            _ => {
                self.expected(field, "a mapping");
                None
            }
        }
    }

    pub(super) fn text(&mut self, field: &Field<'_>) -> Option<String> {
        match &field.node.value {
            Value::Text(text) | Value::Literal(text) if !text.trim().is_empty() => Some(text.clone()),
            _ => {
                self.expected(field, "text");
                None
            }
        }
    }

    pub(super) fn whole(&mut self, field: &Field<'_>, least: u64) -> Option<u64> {
        let number = number(field.node).and_then(|text| text.parse().ok()).filter(|number| *number >= least);
        if number.is_none() {
            self.expected(field, &format!("a whole number ≥ {least}"));
        }
        number
    }

    /// Bytes, or a number with KiB, MiB or GiB; from 1 KiB to 1 TiB.
    pub(super) fn size(&mut self, field: &Field<'_>) -> Option<u64> {
        let bytes = number(field.node).and_then(|text| {
            let (digits, unit) = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)]
                .into_iter()
                .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
                .unwrap_or((text, 1));
            digits.trim().parse::<u64>().ok()?.checked_mul(unit)
        });
        let bytes = bytes.filter(|bytes| (1 << 10..=1 << 40).contains(bytes));
        if bytes.is_none() {
            self.expected(field, "a size such as 33554432 or 32MiB, at least 1KiB");
        }
        bytes
    }

    pub(super) fn flag(&mut self, field: &Field<'_>) -> Option<bool> {
        match &field.node.value {
            Value::Literal(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Value::Literal(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => {
                self.expected(field, "true or false");
                None
            }
        }
    }

    /// One of several words.
    pub(super) fn word<T: Copy>(&mut self, field: &Field<'_>, words: &[(&str, T)]) -> Option<T> {
        let chosen = match &field.node.value {
            Value::Text(text) => words.iter().find(|(word, _)| word == text).map(|(_, meaning)| *meaning),
            _ => None,
        };
        if chosen.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.expected(field, &names.join(" or "));
        }
        chosen
    }

    pub(super) fn texts(&mut self, field: &Field<'_>) -> Option<Vec<String>> {
        let Value::List(items) = &field.node.value else {
            self.expected(field, "a list of texts");
            return None;
        };
        let items = items.iter().map(|node| Field { key: field.key.clone(), line: node.line, node });
        items.map(|item| self.text(&item)).collect()
    }
}

impl Report {
    /// One text, or a list of them.
    pub(super) fn names(&mut self, field: &Field<'_>) -> Option<Vec<String>> {
        match &field.node.value {
            Value::Text(_) | Value::Literal(_) => self.text(field).map(|text| vec![text]),
            _ => self.texts(field),
        }
    }
}

/// The text of a scalar.
pub(super) fn number(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Literal(text) | Value::Text(text) => Some(text),
        _ => None,
    }
}

fn found(node: &Node) -> String {
    let shorten = |text: &str| text.chars().take(SHOWN_CHARS).collect::<String>();
    match &node.value {
        Value::Null => "nothing".to_owned(),
        Value::Literal(text) => shorten(text),
        Value::Text(text) => format!("\"{}\"", shorten(text).escape_debug()),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    }
}

/// A value with the path of its key, such as `models.gpt.limits.max_tokens`.
pub(super) struct Field<'a> {
    pub(super) key: String,
    pub(super) line: u64,
    pub(super) node: &'a Node,
}

/// A mapping of which each known key is asked for once.
pub(super) struct Section<'a> {
    pub(super) key: String,
    pub(super) line: u64,
    entries: &'a [Entry],
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The whole document; an empty one is an empty mapping.
    pub(super) fn document(node: &'a Node, report: &mut Report) -> Option<Section<'a>> {
        let entries = match &node.value {
            Value::Null => &[],
            Value::Map(entries) => entries.as_slice(),
            _ => {
                report.refuse(node.line, format!("expected a mapping, found {}", found(node)));
                return None;
            }
        };
        Some(Section { key: String::new(), line: 1, entries, known: Vec::new() })
    }

    /// A key's value; `None` when it is absent or empty.
    pub(super) fn get(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.known.push(name);
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        if entry.node.value == Value::Null { None } else { Some(self.field(entry)) }
    }

    /// A key's value, though it may be null; `None` when it is absent.
    pub(super) fn get_even_null(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.known.push(name);
        self.entries.iter().find(|entry| entry.key == name).map(|entry| self.field(entry))
    }

    /// Refuses nulls but in the keys that may have one: what is empty in YAML was left out, what is null in JSON was written.
    pub(super) fn refuse_nulls(&self, but: &[&str], report: &mut Report) {
        let nulls = self.entries.iter().filter(|entry| entry.node.value == Value::Null && !but.contains(&entry.key.as_str()));
        nulls.for_each(|entry| report.refuse(entry.line, format!("{}: null means nothing here; leave the key out", self.path(&entry.key))));
    }

    /// A key's value, whose absence is an error.
    pub(super) fn require(&mut self, name: &'static str, what: &str, report: &mut Report) -> Option<Field<'a>> {
        let field = self.get(name);
        if field.is_none() {
            report.refuse(self.line_of(name), format!("{}: expected {what}, found nothing", self.path(name)));
        }
        field
    }

    /// Reports a key that is not there when all others were asked for: one of those that nobody asked for may be meant.
    pub(super) fn lacks(&self, name: &str, what: &str, report: &mut Report) {
        let unknown: Vec<&str> = self.entries.iter().map(|entry| entry.key.as_str()).filter(|key| !self.known.contains(key)).collect();
        let instead = if unknown.is_empty() { String::new() } else { format!("; not known are {}", unknown.join(", ")) };
        report.refuse(self.line_of(name), format!("{}: expected {what}, found nothing{instead}", self.path(name)));
    }

    fn line_of(&self, name: &str) -> u64 {
        self.entries.iter().find(|entry| entry.key == name).map_or(self.line, |entry| entry.line)
    }

    /// All entries, in the order of the file: for mappings whose keys are names.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'a str, Field<'a>)> {
        self.entries.iter().map(|entry| (entry.key.as_str(), self.field(entry)))
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self, unknown: Unknown, report: &mut Report) {
        for entry in self.entries.iter().filter(|entry| !self.known.contains(&entry.key.as_str())) {
            let path = self.path(&entry.key);
            match unknown {
                Unknown::Warn => report.warn(entry.line, format!("{path}: unknown key, ignored")),
                Unknown::Refuse => report.refuse(entry.line, format!("{path}: unknown key; known are {}", self.known.join(", "))),
            }
        }
    }

    fn field(&self, entry: &'a Entry) -> Field<'a> {
        // A mapping or list begins on the line below its key, a scalar mostly on the same.
        let line = if matches!(entry.node.value, Value::Map(_) | Value::List(_) | Value::Null) { entry.line } else { entry.node.line };
        Field { key: self.path(&entry.key), line, node: &entry.node }
    }

    fn path(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) }
    }
}
