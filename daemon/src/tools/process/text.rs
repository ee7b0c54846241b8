//! What a tool wrote, made fit for a terminal and a log: no control characters, no sequences of a terminal.

/// A text that others wrote, fit for one line of a terminal.
#[must_use]
pub fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|letter| if letter.is_whitespace() { ' ' } else { letter }).collect();
    plain(&spaced).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Text without control characters and without the sequences of a terminal (ECMA-48: CSI, OSC and the other strings, single escapes).
pub(super) fn plain(text: &str) -> String {
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
        assert_eq!(plain(line), kept, "{line:?}");
    }

    #[test]
    fn what_is_kept_moves_no_cursor() {
        check("started\r", "started");
        check("\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}end", "red end");
        check("\u{1b}]52;c;aGk=\u{1b}\\clip", "clip");
        check("\u{1b}(Bx\u{9b}2Jy\u{8}\u{0}", "xy");
        check("a\u{202e}b\u{200b}c", "abc");
        assert_eq!(one_line("  Adds\n\ttwo \u{1b}[2Jnumbers\u{202e}.\r\n"), "Adds two numbers.");
    }
}
