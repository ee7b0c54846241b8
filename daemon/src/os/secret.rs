//! Provider keys in memory.

use std::fmt;

/// A provider's key. No Display, no Serialize; Debug hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a key; `None` when it is empty, which counts as not set.
    #[must_use]
    pub fn new(text: String) -> Option<Secret> {
        if text.is_empty() { None } else { Some(Secret(text)) }
    }

    /// The key itself. Callers: the one that puts it into a request to its provider.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_and_an_empty_one_is_none() {
        assert_eq!(Secret::new(String::new()), None);
        assert_eq!(format!("{:?}", Secret::new("sk-1".to_owned())), "Some(Secret(***))");
    }
}
