//! Names of tools that providers run.

use std::fmt;

/// The longest name, in bytes.
const LONGEST: usize = 32;

/// The name of a tool that a provider runs: 1 to 32 of `a-z`, `0-9`, `_`, `-` and `.`. Held in place, so that buckets stay plain values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ToolName {
    /// Zeros behind the name, which sort before every character of a longer one.
    bytes: [u8; LONGEST],
}

impl ToolName {
    /// A name as it is; `None` when it is none.
    #[must_use]
    pub fn new(name: &str) -> Option<ToolName> {
        let fits = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.');
        if name.is_empty() || !name.as_bytes().iter().all(fits) {
            return None;
        }
        let mut bytes = [0; LONGEST];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(ToolName { bytes })
    }

    /// The tool that a request calls by a type. Providers put previews and dates behind the name: `web_search_preview` and
    /// `web_search_preview_2025_03_11` of OpenAI, `web_search_20250305` of Anthropic are all `web_search`.
    #[must_use]
    pub fn of_type(kind: &str) -> Option<ToolName> {
        let mut name = kind;
        while let Some((front, last)) = name.rsplit_once('_')
            && !front.is_empty()
            && (last == "preview" || is_date(last))
        {
            name = front;
        }
        ToolName::new(name)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let end = self.bytes.iter().position(|byte| *byte == 0).unwrap_or(LONGEST);
        self.bytes.get(..end).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
    }
}

/// A date in one piece, or a part of one: 20250305, 2025, 03.
fn is_date(part: &str) -> bool {
    matches!(part.len(), 2 | 4 | 8) && part.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_tool_are_one_tool() {
        #[track_caller]
        fn check(kind: &str, name: Option<&str>) {
            assert_eq!(ToolName::of_type(kind).map(|name| name.to_string()).as_deref(), name, "{kind}");
        }
        check("web_search", Some("web_search"));
        check("web_search_preview", Some("web_search"));
        check("web_search_preview_2025_03_11", Some("web_search"));
        check("web_search_20250305", Some("web_search"));
        check("code_execution_20250825", Some("code_execution"));
        check("computer_use_preview", Some("computer_use"));
        check("mcp", Some("mcp"));
        check("modalities.image", Some("modalities.image"));
        // Whatever is left when the rest is taken for a date has a name still.
        check("20250305", Some("20250305"));
        check("_2025", Some("_2025"));
        check("", None);
        check("Web", None);
        check("a_name_that_is_longer_than_can_be_held", None);
    }

    #[test]
    fn names_sort_as_their_texts_do() {
        let names = ["a", "a.b", "a_b", "ab", "b", "exactly_thirty_two_bytes_of_name"];
        let made: Vec<ToolName> = names.iter().map(|name| ToolName::new(name).unwrap()).collect();
        assert!(made.is_sorted());
        assert_eq!(made.iter().map(ToolName::as_str).collect::<Vec<_>>(), names);
    }
}
