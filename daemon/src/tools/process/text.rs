//! What a tool wrote, made fit for a terminal and a log: no control characters, no secrets, no endless lines.

use super::super::boundary;

/// The longest line that is kept, in bytes.
pub(super) const MAX_LINE: usize = 4 << 10;
/// A secret shorter than this is not looked for: it would take ordinary words out.
const SHORTEST: usize = 4;
const HIDDEN: &str = "***";

/// The values that must not be kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Hidden(Vec<String>);

impl Hidden {
    /// Each line of each value, the longest first.
    pub(super) fn new<'a>(values: impl Iterator<Item = &'a str>) -> Hidden {
        let lines = values.flat_map(str::lines).map(str::trim).filter(|line| line.len() >= SHORTEST);
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.len()));
        lines.dedup();
        Hidden(lines)
    }

    /// A line as it is kept.
    pub(super) fn clean(&self, line: &[u8]) -> String {
        let mut text = plain(&String::from_utf8_lossy(line));
        for secret in &self.0 {
            if text.contains(secret) {
                text = text.replace(secret, HIDDEN);
            }
        }
        if text.len() > MAX_LINE {
            text.truncate(boundary(&text, MAX_LINE));
            text.push('…');
        }
        text
    }
}

/// A text that others wrote, fit for one line of a terminal.
#[must_use]
pub fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|letter| if letter.is_whitespace() { ' ' } else { letter }).collect();
    plain(&spaced).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Text without control characters and without the sequences of a terminal (ECMA-48: CSI, OSC and the other strings, single escapes).
fn plain(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => skip(&mut letters),
            '\u{9b}' => skip_csi(&mut letters),
            '\t' => kept.push(' '),
            // Marks that turn the direction of text, or take no place, hide what is there.
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {}
            letter if letter.is_control() => {}
            letter => kept.push(letter),
        }
    }
    kept
}

fn skip(letters: &mut std::str::Chars<'_>) {
    match letters.next() {
        Some('[') => skip_csi(letters),
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(letter) = letters.next() {
                match letter {
                    '\u{7}' | '\u{9c}' => return,
                    '\u{1b}' => {
                        letters.next();
                        return;
                    }
                    _ => {}
                }
            }
        }
        // A single escape has intermediate bytes before its final one.
        Some(' '..='/') => {
            letters.next();
        }
        Some(_) | None => {}
    }
}

fn skip_csi(letters: &mut std::str::Chars<'_>) {
    for letter in letters.by_ref() {
        if ('@'..='~').contains(&letter) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, kept: &str) {
        let hidden = Hidden::new(["sk-abcdef", "line one\nline two", "abc", ""].into_iter());
        assert_eq!(hidden.clean(line.as_bytes()), kept, "{line:?}");
    }

    #[test]
    fn what_is_kept_moves_no_cursor_and_holds_no_secret() {
        check("started\r", "started");
        check("\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}end", "red end");
        check("\u{1b}]52;c;aGk=\u{1b}\\clip", "clip");
        check("\u{1b}(Bx\u{9b}2Jy\u{8}\u{0}", "xy");
        check("a\u{202e}b\u{200b}c", "abc");
        check("key sk-abcdef!", "key ***!");
        check("sk-\u{1b}[0mabcdef", "***");
        check("line two of it", "*** of it");
        check("abc stays: it is short", "abc stays: it is short");
        assert_eq!(one_line("  Adds\n\ttwo \u{1b}[2Jnumbers\u{202e}.\r\n"), "Adds two numbers.");
        let long = "é".repeat(MAX_LINE);
        let kept = Hidden::default().clean(long.as_bytes());
        assert!(kept.len() <= MAX_LINE + "…".len() && kept.ends_with("é…"), "{}", kept.len());
    }
}
