//! A pattern of names, made ready: the plain ones cost a comparison.

use crate::policy::glob;

/// What [`glob`] says, sorted by what it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// `*`.
    Any,
    /// Without a `*` or `?`.
    Exact(String),
    /// One `*`, at the end.
    Prefix(String),
    /// Any other.
    Glob(String),
}

impl Pattern {
    pub(super) fn new(text: &str) -> Pattern {
        let is_literal = |text: &str| !text.contains(['*', '?']);
        match text.strip_suffix('*') {
            Some("") => Pattern::Any,
            Some(prefix) if is_literal(prefix) => Pattern::Prefix(prefix.to_owned()),
            None if is_literal(text) => Pattern::Exact(text.to_owned()),
            _ => Pattern::Glob(text.to_owned()),
        }
    }

    pub(super) fn fits(&self, name: &str) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Exact(text) => text == name,
            Pattern::Prefix(prefix) => name.starts_with(prefix.as_str()),
            Pattern::Glob(pattern) => glob::fits(pattern, name),
        }
    }

    /// The one name that fits.
    pub(super) fn exact(&self) -> Option<&str> {
        match self {
            Pattern::Exact(text) => Some(text),
            _ => None,
        }
    }
}

pub(super) fn all(texts: &[String]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::new(text)).collect()
}

/// Whether one of them fits; without any, every name does.
pub(super) fn one_fits(patterns: &[Pattern], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.fits(name))
}
