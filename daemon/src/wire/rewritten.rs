//! How much longer the JSON of tools and schemas becomes where a provider writes it anew: templates put it into the prompt with white space
//! and escapes of their own (`json.dumps` of Python, `tojson` of Jinja with an indent), and a token more than a byte each is possible then.

use super::request::count;

/// Tokens that go before each part of a list or an object, at most: a line's end, white space, and a last blank that joins no number.
const BEFORE_PART: u64 = 3;
/// Levels of nesting, of four blanks each, whose white space takes one more: common vocabularies have tokens of at least 32 blanks.
const LEVELS_PER_TOKEN: u64 = 8;
/// Digits that a number with an exponent may get: Python writes out what is below 1e16, and `.0` behind it.
const WRITTEN_OUT: u64 = 18;
/// `\uXXXX`, for each unit of UTF-16.
const ESCAPE: u64 = 6;

/// Members whose JSON a provider may write anew into the prompt.
const REWRITTEN: [&str; 3] = ["tools", "functions", "response_format"];

/// Tokens beyond the bytes of a request's member, at most.
pub(super) fn extra_in(member: &str, json: Option<&str>) -> u64 {
    json.filter(|_| REWRITTEN.contains(&member)).map_or(0, extra_tokens)
}

/// The same of any text that was scanned as valid JSON.
fn extra_tokens(json: &str) -> u64 {
    let (mut sum, mut depth, mut last) = (0_u64, 0_u64, ' ');
    let mut letters = json.chars();
    while let Some(letter) = letters.next() {
        let before_part = BEFORE_PART + depth / LEVELS_PER_TOKEN;
        sum = sum.saturating_add(match letter {
            '"' => in_string(&mut letters),
            '{' | '[' => {
                depth = depth.saturating_add(1);
                before_part
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                before_part
            }
            ',' => before_part,
            ':' => 1,
            'e' | 'E' if last.is_ascii_digit() => WRITTEN_OUT,
            _ => 0,
        });
        last = letter;
    }
    sum
}

/// What a string takes more when all beyond ASCII is escaped; behind its closing quote afterwards.
fn in_string(letters: &mut std::str::Chars<'_>) -> u64 {
    let mut sum = 0_u64;
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => drop(letters.next()),
            '\0'..='\x7f' => {}
            _ => sum = sum.saturating_add(ESCAPE * count(letter.len_utf16()) - count(letter.len_utf8())),
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Serialize;
    use serde_json::Value;

    /// Tokens of a text, at most: one for each byte but for white space, which is taken in runs that leave the last blank alone.
    fn tokens(text: &str) -> u64 {
        let mut sum = 0;
        let mut blanks = 0_u64;
        for byte in text.bytes() {
            if byte == b' ' {
                blanks += 1;
                continue;
            }
            sum += blanks.saturating_sub(1).div_ceil(4 * LEVELS_PER_TOKEN) + u64::from(blanks > 0) + 1;
            blanks = 0;
        }
        sum
    }

    fn indented(value: &Value) -> String {
        let mut out = Vec::new();
        let style = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, style)).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<i16>().prop_map(Value::from), "[!-~]{0,6}".prop_map(Value::from)];
        leaf.prop_recursive(12, 60, 5, |inner| {
            let map = prop::collection::vec(("[a-z]{0,3}", inner.clone()), 0..5);
            prop_oneof![
                prop::collection::vec(inner, 0..5).prop_map(Value::from),
                map.prop_map(|map| Value::Object(map.into_iter().collect()))
            ]
        })
    }

    proptest! {
        #[test]
        fn no_indented_text_has_more_tokens(value in value()) {
            let text = value.to_string();
            let tokens = tokens(&indented(&value));
            prop_assert!(tokens <= count(text.len()) + extra_tokens(&text), "{text}: {tokens}");
        }
    }

    #[test]
    fn what_a_provider_may_add_is_counted() {
        // As `[\n    1,\n    1\n]`: a line's end, and blanks before a digit of which the last stands alone.
        assert_eq!(extra_tokens("[1,1]"), 9);
        assert_eq!(extra_tokens(r#"{"a":"b, c: [d]"}"#), 7);
        assert_eq!(extra_tokens(r#""\"é""#), 4);
        assert_eq!(extra_tokens("\"\u{1f980}\""), 8);
        assert_eq!(extra_tokens("1e15"), 18);
        assert_eq!(extra_tokens("true"), 0);
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(extra_tokens(&deep) > 200 * 8, "white space that one token does not hold");
    }
}
