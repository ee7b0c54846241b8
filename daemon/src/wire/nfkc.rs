//! How much longer NFKC makes the texts of a request: a model may normalise before it counts tokens, and a few characters
//! become many (U+FDFA: 3 bytes become 33).

use super::text::unescape;
use memchr::{memchr, memchr2, memmem};
use unicode_normalization::char::decompose_compatible;
use unicode_normalization::{IsNormalized, is_nfkc_quick};

/// Bytes that NFKC adds at most, summed over the strings of a text that was scanned as valid JSON. A string that it shortens counts
/// as zero.
pub(super) fn extra_bytes(body: &str) -> u64 {
    let mut sum = 0_u64;
    let mut rest = body;
    while let Some(open) = memchr(b'"', rest.as_bytes()) {
        let text = rest.get(open + 1..).unwrap_or_default();
        let end = string_end(text.as_bytes());
        sum = sum.saturating_add(extra(text.get(..end).unwrap_or_default()));
        rest = text.get(end + 1..).unwrap_or_default();
    }
    sum
}

fn extra(raw: &str) -> u64 {
    let escapes = memmem::find(raw.as_bytes(), b"\\u").is_some();
    // Other escapes become control characters or themselves, which NFKC leaves alone: no copy is needed.
    if !escapes {
        return if is_nfkc_quick(beyond_ascii(raw).filter(|letter| !stable(*letter))) == IsNormalized::Yes {
            0
        } else {
            grown(raw, raw.len())
        };
    }
    grown(&unescape(raw), raw.len())
}

/// The characters of a text that are not ASCII, passing over the others eight by eight.
fn beyond_ascii(text: &str) -> impl Iterator<Item = char> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let bytes = rest.as_bytes();
        let mut plain = 0;
        while bytes.get(plain..).and_then(<[u8]>::first_chunk).is_some_and(|word: &[u8; 8]| word.is_ascii()) {
            plain += 8;
        }
        plain += bytes.get(plain..)?.iter().position(|byte| !byte.is_ascii())?;
        let mut letters = rest.get(plain..)?.chars();
        let letter = letters.next();
        rest = letters.as_str();
        letter
    })
}

/// Common characters that NFKC never changes and that never combine, as ASCII does: the crate's tables take twenty times as long to say so.
/// Taking them out of a text can only make the check more careful.
fn stable(letter: char) -> bool {
    matches!(letter,
        '\u{c0}'..='\u{ff}'
        | '\u{391}'..='\u{3a1}' | '\u{3a3}'..='\u{3c9}'
        | '\u{400}'..='\u{482}' | '\u{48a}'..='\u{4ff}'
        | '\u{5d0}'..='\u{5ea}' | '\u{620}'..='\u{64a}'
        | '\u{2013}'..='\u{2014}' | '\u{2018}'..='\u{201e}' | '\u{2022}' | '\u{2190}'..='\u{21ff}' | '\u{2500}'..='\u{25ff}'
        | '\u{3001}'..='\u{3002}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}'
        | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{1f300}'..='\u{1f6ff}')
}

/// Counts the characters decomposed: putting them in order adds no byte, and composing them again takes some away. Normalising
/// itself takes twelve times as long for 10 MB of U+FDFA.
fn grown(text: &str, written: usize) -> u64 {
    let most: usize = text.chars().map(decomposed_bytes).sum();
    u64::try_from(most.saturating_sub(written)).unwrap_or(u64::MAX)
}

fn decomposed_bytes(letter: char) -> usize {
    match letter {
        '\0'..='\x7f' => 1,
        // Ideographs stay as they are; a syllable of Hangul is always composed again.
        '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' => 3,
        _ => {
            let mut bytes = 0;
            decompose_compatible(letter, |part| bytes += part.len_utf8());
            bytes
        }
    }
}

/// The closing quote of a string.
fn string_end(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        at += found;
        if text.get(at) == Some(&b'"') {
            return at;
        }
        at += 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

    #[test]
    fn stable_characters_are_stable() {
        use unicode_normalization::char::canonical_combining_class;
        for letter in ('\0'..=char::MAX).filter(|letter| letter.is_ascii() || stable(*letter)) {
            assert_eq!((is_nfkc_quick([letter].into_iter()), canonical_combining_class(letter)), (IsNormalized::Yes, 0), "{letter:?}");
            assert!([letter].into_iter().nfkc().eq([letter]), "{letter:?}");
        }
    }

    #[test]
    fn composing_never_adds_a_byte() {
        for letter in '\0'..=char::MAX {
            let decomposed: usize = [letter].into_iter().nfd().map(char::len_utf8).sum();
            let composes = [letter].into_iter().nfc().eq([letter]);
            assert!(!composes || letter.len_utf8() <= decomposed, "{letter:?}");
        }
    }

    fn letter() -> impl Strategy<Value = char> {
        let range = prop::sample::select(vec![
            ('a', 'f'),
            ('\u{c0}', '\u{ff}'),
            ('\u{300}', '\u{345}'),
            ('\u{900}', '\u{9ff}'),
            ('\u{1100}', '\u{11ff}'),
            ('\u{1e00}', '\u{1fff}'),
            ('\u{ac00}', '\u{ac40}'),
            ('\u{fb00}', '\u{fdff}'),
            ('\u{ff00}', '\u{ffef}'),
            ('\0', char::MAX),
        ]);
        range.prop_flat_map(|(first, last)| proptest::char::range(first, last))
    }

    proptest! {
        #[test]
        fn no_text_grows_beyond_what_is_counted(letters in prop::collection::vec(letter(), 0..12)) {
            let text: String = letters.into_iter().filter(|letter| !matches!(letter, '"' | '\\')).collect();
            let normal = text.nfkc().map(char::len_utf8).sum::<usize>();
            let counted = extra_bytes(&format!("\"{text}\""));
            prop_assert!(normal <= text.len() + usize::try_from(counted).unwrap());
        }
    }

    #[test]
    fn only_what_grows_counts() {
        assert_eq!(extra_bytes(r#"{"a":"plain \n text","b":["\u0041"]}"#), 0);
        assert_eq!(extra_bytes("{\"a\":\"ünïcödé 漢字\"}"), 0);
        assert_eq!(extra_bytes("{\"a\":\"\u{fdfa}\"}"), 30);
        assert_eq!(extra_bytes(r#"{"a":"\ufdfa","b":"\"\ufdfa"}"#), 27 + 26);
        assert_eq!(extra_bytes("{\"\u{fdfa}\":\"ﬀ\"}"), 30);
    }
}
