//! Values that must be in nothing that is kept or told: they are found however a program spells them.
//!
//! Found are a value itself and what escapes of JSON and percent-encoding make of it, once or several times. What a program turns into
//! something else (base64, a hash) is not found.

use super::super::boundary;
use super::text::{one_line, plain};
use serde_json::Value;

/// The longest text that is kept, in bytes.
const MAX_TEXT: usize = 4 << 10;
/// A secret shorter than this is not looked for: it would take ordinary words out.
const SHORTEST: usize = 4;
const HIDDEN: &str = "***";
/// Backslashes before a letter that are looked behind: what four rounds of JSON make of one.
const MAX_BACKSLASHES: usize = 15;
/// Rounds of percent-encoding that are undone.
const MAX_ROUNDS: usize = 4;

/// The values.
#[derive(Debug, Default)]
pub(in crate::tools) struct Hidden(Vec<Vec<char>>);

impl Hidden {
    /// Each line of each value, the longest first.
    pub(in crate::tools) fn new<'a>(values: impl Iterator<Item = &'a str>) -> Hidden {
        let lines = values.flat_map(str::lines).map(str::trim).filter(|line| line.len() >= SHORTEST);
        let mut lines: Vec<Vec<char>> = lines.map(|line| line.chars().collect()).collect();
        lines.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        lines.dedup();
        Hidden(lines)
    }

    /// A line that a program wrote, as it is kept.
    pub(in crate::tools) fn line(&self, line: &[u8]) -> String {
        // Sequences of a terminal may stand within a value, and so may what such a sequence is made of.
        bounded(self.without(&plain(&self.without(&String::from_utf8_lossy(line)))))
    }

    /// A text of a server, or with one in it, fit for one line of a log, a terminal and a person.
    pub(in crate::tools) fn said(&self, text: &str) -> String {
        bounded(self.without(&one_line(&self.without(text))))
    }

    /// The same text without the values.
    fn without(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            text = replaced(text, secret);
        }
        text
    }

    /// Data of a server without the values.
    pub(in crate::tools) fn data(&self, data: Value) -> Value {
        match data {
            Value::String(text) => Value::String(self.without(&text)),
            Value::Array(values) => values.into_iter().map(|value| self.data(value)).collect(),
            Value::Object(fields) => fields.into_iter().map(|(name, value)| (self.without(&name), self.data(value))).collect(),
            other => other,
        }
    }
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(boundary(&text, MAX_TEXT));
        text.push('…');
    }
    text
}

fn replaced(text: String, secret: &[char]) -> String {
    let mut kept = String::new();
    let (mut rest, mut found) = (text.as_str(), false);
    while let Some(letter) = rest.chars().next() {
        if let Some(length) = spelled(rest, secret) {
            kept.push_str(HIDDEN);
            rest = rest.get(length..).unwrap_or_default();
            found = true;
        } else {
            kept.push(letter);
            rest = rest.get(letter.len_utf8()..).unwrap_or_default();
        }
    }
    if found { kept } else { text }
}

/// How many bytes at the beginning of a text spell the secret.
fn spelled(text: &str, secret: &[char]) -> Option<usize> {
    let first = text.chars().next()?;
    if secret.first() != Some(&first) && !matches!(first, '\\' | '%' | '+') {
        return None;
    }
    let mut ends = vec![0];
    for letter in secret {
        let mut next = Vec::new();
        for end in ends {
            next_ends(text, end, *letter, &mut next);
        }
        next.sort_unstable();
        next.dedup();
        ends = next;
        if ends.is_empty() {
            return None;
        }
    }
    ends.pop()
}

/// Where a letter may end that begins here, in each way to spell it.
fn next_ends(text: &str, from: usize, letter: char, ends: &mut Vec<usize>) {
    let Some(rest) = text.get(from..) else { return };
    let mut push = |left: &str| ends.push(text.len().saturating_sub(left.len()));
    if let Some(left) = rest.strip_prefix(letter) {
        push(left);
    }
    // Forms write a blank so.
    if letter == ' '
        && let Some(left) = rest.strip_prefix('+')
    {
        push(left);
    }
    // JSON, also as text within JSON: each round puts more backslashes before it.
    let mut escaped = rest;
    for _ in 0..MAX_BACKSLASHES {
        let Some(behind) = escaped.strip_prefix('\\') else { break };
        escaped = behind;
    }
    if escaped.len() < rest.len() {
        let short = match letter {
            '\t' => 't',
            '\u{8}' => 'b',
            '\u{c}' => 'f',
            other => other,
        };
        escaped.strip_prefix(short).into_iter().chain(units(escaped, letter)).for_each(&mut push);
    }
    percent(rest, letter, &mut push);
}

/// What is left behind `uXXXX`, one or a pair of surrogates.
fn units(text: &str, letter: char) -> Option<&str> {
    let mut left = text;
    for (number, unit) in letter.encode_utf16(&mut [0; 2]).iter().enumerate() {
        let behind = if number == 0 { left } else { left.strip_prefix('\\')?.trim_start_matches('\\') };
        left = hex(behind.strip_prefix('u')?, &format!("{unit:04x}"))?;
    }
    Some(left)
}

/// Tells what is left behind the bytes of a letter as `%XX`. Encoded again, a `%` is `%25`, and of that one itself each round may be the last.
fn percent<'a>(text: &'a str, letter: char, push: &mut impl FnMut(&'a str)) {
    let mut left = text;
    for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
        let Some(behind) = left.strip_prefix('%') else { return };
        left = behind;
        for _ in 1..MAX_ROUNDS {
            let Some(again) = left.strip_prefix("25") else { break };
            if letter == '%' {
                push(again);
            }
            left = again;
        }
        let Some(behind) = hex(left, &format!("{byte:02x}")) else { return };
        left = behind;
    }
    push(left);
}

/// What is left behind these hexadecimal digits, written small or large.
fn hex<'a>(text: &'a str, digits: &str) -> Option<&'a str> {
    let (head, left) = text.split_at_checked(digits.len())?;
    head.eq_ignore_ascii_case(digits).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[track_caller]
    fn check(line: &str, kept: &str) {
        let hidden = Hidden::new(["sk-abcdef", "line one\nline two", "abc", "", "q\"uo\\te", "tab\there", "grün 😀%25"].into_iter());
        assert_eq!(hidden.line(line.as_bytes()), kept, "{line:?}");
        assert_eq!(hidden.said(line), one_line(kept), "{line:?}");
    }

    #[test]
    fn what_is_kept_holds_no_secret() {
        check("key sk-abcdef!", "key ***!");
        check("sk-\u{1b}[0mabcdef", "***");
        check("line two of it", "*** of it");
        check("abc stays: it is short", "abc stays: it is short");
        check("tab\there", "***");
        let long = "é".repeat(MAX_TEXT);
        let kept = Hidden::default().line(long.as_bytes());
        assert!(kept.len() <= MAX_TEXT + "…".len() && kept.ends_with("é…"), "{}", kept.len());
    }

    #[test]
    fn a_secret_is_found_however_it_is_spelled() {
        check(r#"{"token":"q\"uo\\te"}"#, r#"{"token":"***"}"#);
        check(r#""{\"token\":\"q\\\"uo\\\\te\"}""#, r#""{\"token\":\"***\"}""#);
        check(r#"q"uo\te as it is"#, "*** as it is");
        check(r#"{"t":"tab\there"}"#, r#"{"t":"***"}"#);
        check(r#"{"t":"gr\u00fcn \uD83D\ude00%25"}"#, r#"{"t":"***"}"#);
        check(r"\u0073k-abcdef", "***");
        check("?q=q%22uo%5Cte&x", "?q=***&x");
        check("?q=q%2522uo%255cte&x", "?q=***&x");
        check("gr%C3%BCn+%f0%9f%98%80%2525", "***");
        check("%73%6B-abcde", "%73%6B-abcde");
    }

    #[test]
    fn a_text_of_a_server_is_one_line_and_its_data_hold_no_secret() {
        let hidden = Hidden::new(["sk abcdef"].into_iter());
        assert_eq!(hidden.said("\u{1b}[31mno\nFORGED sk\n abcdef \u{1b}]0;title\u{7}"), "no FORGED ***");
        let data = json!({"sk abcdef": ["a\nsk%20abcdef", 1], "b": null});
        assert_eq!(hidden.data(data), json!({"***": ["a\n***", 1], "b": null}));
    }

    proptest! {
        #[test]
        fn no_spelling_gets_through(secret in "\\PC{4,12}", before in "[a-z]{0,4}", after in "[a-z]{0,4}") {
            let secret = secret.trim();
            prop_assume!(secret.len() >= SHORTEST && plain(secret) == secret);
            let hidden = Hidden::new([secret].into_iter());
            let json = serde_json::to_string(secret).unwrap();
            let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
            for spelled in [secret.to_owned(), json.get(1..json.len() - 1).unwrap_or_default().to_owned(), percent] {
                let kept = hidden.line(format!("{before}{spelled}{after}").as_bytes());
                prop_assert!(kept.contains(HIDDEN), "{secret:?} as {spelled:?}: {kept:?}");
            }
        }
    }
}
