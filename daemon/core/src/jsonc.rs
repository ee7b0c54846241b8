//! JSON as people write it into the files of editors: with comments, and with commas behind the last item.
//!
//! Blanks out what JSON does not have, byte for byte, so that lines and places of the rest stay what they were. Must not: judge the rest.

use std::ops::Range;

/// A text without what JSON does not have, as long as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    /// The text, JSON if the rest of it is.
    pub json: String,
    /// Where comments stood, in bytes, in their order. One that ends with its line has no line end.
    pub comments: Vec<Range<usize>>,
    /// Where commas stood behind a last item, in bytes.
    pub commas: Vec<usize>,
}

/// What the scan is in.
#[derive(Clone, Copy)]
enum In {
    Json,
    Text { escaped: bool },
    Line(usize),
    Block { from: usize, starred: bool },
}

/// Takes `//` and `/* */` comments and commas before a closing bracket out. A comment that does not end is left for whoever parses the rest.
#[must_use]
pub fn plain(source: &str) -> Plain {
    let mut out = source.as_bytes().to_vec();
    let (mut comments, mut commas) = (Vec::new(), Vec::new());
    let mut state = In::Json;
    // The last byte that counts, and where a comma stands that nothing has followed yet.
    let (mut last, mut comma) = (b'{', None);
    let mut bytes = source.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        state = match state {
            In::Text { escaped: true } => In::Text { escaped: false },
            In::Text { .. } if byte == b'\\' => In::Text { escaped: true },
            In::Text { .. } if byte == b'"' => In::Json,
            In::Line(from) if byte == b'\n' => {
                comments.push(from..at);
                In::Json
            }
            In::Block { from, starred: true } if byte == b'/' => {
                comments.push(from..at.saturating_add(1));
                In::Json
            }
            In::Block { from, .. } => In::Block { from, starred: byte == b'*' },
            In::Text { .. } | In::Line(_) => state,
            In::Json => match (byte, bytes.peek().map(|(_, next)| *next)) {
                (b'/', Some(b'/')) => In::Line(at),
                (b'/', Some(b'*')) => {
                    // The star that opens it does not close it, too.
                    bytes.next();
                    In::Block { from: at, starred: false }
                }
                _ => {
                    if matches!(byte, b'}' | b']') {
                        commas.extend(comma);
                    }
                    if !byte.is_ascii_whitespace() {
                        // `[,]` is no list with one comma too many.
                        comma = (byte == b',' && !matches!(last, b'{' | b'[' | b',' | b':')).then_some(at);
                        last = byte;
                    }
                    if byte == b'"' { In::Text { escaped: false } } else { In::Json }
                }
            },
        };
    }
    if let In::Line(from) = state {
        comments.push(from..source.len());
    }
    for place in comments.iter().cloned().chain(commas.iter().map(|at| *at..at.saturating_add(1))) {
        let blanks = out.get_mut(place).unwrap_or_default();
        blanks.iter_mut().filter(|byte| !matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    }
    // Whole characters were replaced by single bytes.
    let json = String::from_utf8(out).unwrap_or_else(|_| source.to_owned());
    Plain { json, comments, commas }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(source: &str, json: &str) {
        let found = plain(source);
        assert_eq!(found.json, json, "{source}");
        assert_eq!(found.json.len(), source.len(), "{source}");
    }

    #[test]
    fn comments_and_last_commas_go_and_all_else_stays_where_it_is() {
        check("{\"a\": 1} // é\n", "{\"a\": 1}      \n");
        check("/* a\n * b\r\n **/[1]", "    \n    \r\n    [1]");
        check("[1, 2,]", "[1, 2 ]");
        check("{\"a\": [1,\n], // ,\n}", "{\"a\": [1 \n]      \n}");
        check("[1, /* , */ ]", "[1          ]");
        check("/**/1", "    1");
        check("[1] //", "[1]   ");
        // What stands in a text is no comment, and what is no JSON either stays wrong.
        for source in ["{\"a\": \"// \\\" /* ,] \\\\\"}", "[,]", "{,}", "[1,,]", "[1,2", "/* a", "/ 1", "[1,] /*/ 2", "\"a", "{\"a\":,}"] {
            let wrong = source.replace("[1,]", "[1 ]");
            check(source, &wrong);
        }
    }

    #[test]
    fn it_says_where_they_stood() {
        let found = plain("[1,/*a*/]//b");
        assert_eq!((found.comments, found.commas), (vec![3..8, 9..12], vec![2]));
    }

    proptest! {
        #[test]
        fn json_stays_as_it_is(text in any::<String>(), numbers in prop::collection::vec(any::<i32>(), 0..4)) {
            let json = serde_json::json!({"text": text, "/*": numbers, "//": {",": [[], {}]}}).to_string();
            prop_assert_eq!(plain(&json), Plain { json: json.clone(), comments: vec![], commas: vec![] });
        }

        #[test]
        fn nothing_is_longer_or_shorter_and_lines_stay(source in "[\\[\\]{}:,\"\\\\ /*\n\ra1\u{e9}]{0,40}") {
            let found = plain(&source);
            prop_assert_eq!(found.json.len(), source.len());
            let lines = |text: &str| text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect::<Vec<_>>();
            prop_assert_eq!(lines(&found.json), lines(&source));
        }
    }
}
