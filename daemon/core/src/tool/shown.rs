//! Texts that others wrote, for the eyes of a person who is to judge them.
//!
//! A terminal shows nothing in it but what stands there: controls, marks that turn the direction and letters that nobody sees are spelled
//! out as `\u{202e}`.

use std::fmt::Write;

/// Letters that show nothing, or change how others are shown: Unicode 16, general categories Cf, Zl and Zp, and those of
/// `Default_Ignorable_Code_Point`.
const UNSEEN: [(u32, u32); 16] = [
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x0600, 0x0605),
    (0x061C, 0x061C),
    (0x06DD, 0x06DD),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x2028, 0x202F),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFFB),
    (0xE0000, 0xE0FFF),
];

/// Whether a letter is not shown as it is.
fn is_unseen(letter: char) -> bool {
    let code = u32::from(letter);
    // Half-width Hangul and full-width signs stand between U+FFA0 and U+FFFB.
    letter.is_control() || UNSEEN.iter().any(|(from, to)| (*from..=*to).contains(&code)) && !(0xFFA1..=0xFFEF).contains(&code)
}

/// A text of at most so many bytes in which every letter can be seen, and whether it was cut.
#[must_use]
pub fn shown(text: &str, limit: usize) -> (String, bool) {
    let mut kept = String::with_capacity(text.len().min(limit));
    for letter in text.chars() {
        let before = kept.len();
        let spelled = match letter {
            '\n' => write!(kept, "\\n"),
            '\t' => write!(kept, "\\t"),
            '\r' => write!(kept, "\\r"),
            letter if is_unseen(letter) => write!(kept, "\\u{{{:x}}}", u32::from(letter)),
            letter => write!(kept, "{letter}"),
        };
        if spelled.is_err() || kept.len() > limit {
            kept.truncate(before);
            return (kept, true);
        }
    }
    (kept, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_unseen_reaches_a_terminal_and_a_cut_is_told() {
        let rows = [
            ("plain é 漢 ｱ 🙂", "plain é 漢 ｱ 🙂", false),
            ("a\u{1b}[2Jb\u{7}\u{7f}\u{9b}", "a\\u{1b}[2Jb\\u{7}\\u{7f}\\u{9b}", false),
            ("two\nlines\r\n\t", "two\\nlines\\r\\n\\t", false),
            ("rm\u{202e}txt.\u{200b}\u{feff}", "rm\\u{202e}txt.\\u{200b}\\u{feff}", false),
            ("\u{e0041}x\u{fe0f}", "\\u{e0041}x\\u{fe0f}", false),
            ("0123456789012345678901234567890123456789x", "0123456789012345678901234567890123456789", true),
        ];
        for (text, wanted, cut) in rows {
            assert_eq!(shown(text, 40), (wanted.to_owned(), cut), "{text:?}");
        }
        // A letter that is spelled out is not cut in the middle.
        assert_eq!(shown("ab\u{202e}", 8), ("ab".to_owned(), true));
    }
}
