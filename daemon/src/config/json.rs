//! JSON text into the same nodes as YAML's: values that know their line, numbers as they are spelled.
//!
//! serde_json says whether a text is JSON and what an escape means; this walks the text once more for what it does not tell: the lines, and
//! keys that stand twice. Decides nothing about keys.

use super::yaml::{Entry, Node, SyntaxError, Value};

/// Levels of nesting that a configuration may have.
const MAX_DEPTH: usize = 64;

/// Parses one document.
///
/// # Errors
/// That it is no JSON; or each key that stands twice.
pub(super) fn parse(source: &str) -> Result<Node, Vec<SyntaxError>> {
    if let Err(error) = serde_json::from_str::<serde_json::Value>(source) {
        return Err(vec![fault(&error)]);
    }
    let mut walk = Walk { rest: source, line: 1, wrong: Vec::new() };
    let node = walk.value(0);
    match node {
        Some(node) if walk.wrong.is_empty() => Ok(node),
        // Every cause is told where it is found; a walk that ended without one has lost its way.
        _ if walk.wrong.is_empty() => Err(vec![SyntaxError { line: Some(walk.line), text: "cannot be read".to_owned() }]),
        _ => Err(walk.wrong),
    }
}

fn fault(error: &serde_json::Error) -> SyntaxError {
    let full = error.to_string();
    let line = u64::try_from(error.line()).ok().filter(|line| *line > 0);
    // The line stands before the text already.
    SyntaxError { line, text: format!("no JSON: {}", full.rsplit_once(" at line ").map_or(full.as_str(), |(text, _)| text)) }
}

/// What is left of a text that is JSON.
struct Walk<'s> {
    rest: &'s str,
    line: u64,
    wrong: Vec<SyntaxError>,
}

impl<'s> Walk<'s> {
    fn value(&mut self, depth: usize) -> Option<Node> {
        self.skip_blanks();
        let line = self.line;
        if depth >= MAX_DEPTH {
            self.refuse(line, format!("nested more than {MAX_DEPTH} levels deep"));
            return None;
        }
        let value = match self.rest.as_bytes().first()? {
            b'{' => Value::Map(self.members(depth)?),
            b'[' => Value::List(self.items(depth)?),
            b'"' => Value::Text(self.string()?),
            _ => match self.word() {
                "null" => Value::Null,
                word => Value::Literal(word.to_owned()),
            },
        };
        Some(Node { line, value })
    }

    fn members(&mut self, depth: usize) -> Option<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut known = std::collections::BTreeMap::new();
        self.take("{")?;
        while !self.takes("}") {
            self.skip_blanks();
            let line = self.line;
            let key = self.string()?;
            self.take(":")?;
            let node = self.value(depth + 1)?;
            match known.get(&key) {
                Some(first) => self.refuse(line, format!("duplicate key \"{key}\", which stands in line {first} already")),
                None => drop(known.insert(key.clone(), line)),
            }
            entries.push(Entry { key, line, node });
            self.takes(",");
        }
        Some(entries)
    }

    fn items(&mut self, depth: usize) -> Option<Vec<Node>> {
        let mut items = Vec::new();
        self.take("[")?;
        while !self.takes("]") {
            items.push(self.value(depth + 1)?);
            self.takes(",");
        }
        Some(items)
    }

    fn string(&mut self) -> Option<String> {
        let mut escaped = false;
        let is_end = |(_, byte): &(usize, u8)| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        };
        let (end, _) = self.rest.bytes().enumerate().skip(1).find(is_end)?;
        let (spelled, rest) = self.rest.split_at_checked(end + 1)?;
        self.rest = rest;
        match serde_json::from_str(spelled) {
            Ok(text) => Some(text),
            Err(error) => {
                let fault = fault(&error);
                self.refuse(self.line, fault.text);
                None
            }
        }
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> &'s str {
        let is_end = |letter: char| matches!(letter, ',' | ']' | '}') || letter.is_ascii_whitespace();
        let (word, rest) = self.rest.split_at(self.rest.find(is_end).unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn take(&mut self, mark: &str) -> Option<()> {
        self.takes(mark).then_some(())
    }

    fn takes(&mut self, mark: &str) -> bool {
        self.skip_blanks();
        let rest = self.rest.strip_prefix(mark);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        let blanks = self.rest.len() - rest.len();
        let lines = self.rest.bytes().take(blanks).filter(|byte| *byte == b'\n').count();
        self.line += u64::try_from(lines).unwrap_or(0);
        self.rest = rest;
    }

    fn refuse(&mut self, line: u64, text: String) {
        self.wrong.push(SyntaxError { line: Some(line), text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What serde_json makes of the same text. Numbers are compared as they are spelled, by reading the spelling again.
    fn plain(node: &Node) -> serde_json::Value {
        match &node.value {
            Value::Null => serde_json::Value::Null,
            Value::Literal(text) => serde_json::from_str(text).unwrap(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(plain).collect(),
            Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), plain(&entry.node))).collect(),
        }
    }

    fn places(node: &Node, into: &mut Vec<String>) {
        match &node.value {
            Value::List(items) => items.iter().for_each(|item| places(item, into)),
            Value::Map(entries) => {
                for entry in entries {
                    into.push(format!("{}@{}:{}", entry.key, entry.line, entry.node.line));
                    places(&entry.node, into);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn every_value_knows_its_line_and_every_number_its_spelling() {
        let node = parse("\n{\"a\": 1.50,\r\n\t\"b\\u00e9\":\n  [true, {\"c\\\"}\": null\n}], \"d\":\"\\ud83d\\ude00\"}\n").unwrap();
        let mut found = Vec::new();
        places(&node, &mut found);
        assert_eq!(found, ["a@2:2", "bé@3:4", "c\"}@4:4", "d@5:5"]);
        let Value::Map(entries) = &node.value else { panic!("{node:?}") };
        assert_eq!(entries[0].node.value, Value::Literal("1.50".to_owned()));
        assert_eq!(entries[2].node.value, Value::Text("😀".to_owned()));
    }

    #[track_caller]
    fn refuse(source: &str, wanted: &[(u64, &str)]) {
        let found: Vec<(u64, String)> = parse(source).unwrap_err().into_iter().map(|error| (error.line.unwrap_or(0), error.text)).collect();
        let found: Vec<(u64, &str)> = found.iter().map(|(line, text)| (*line, text.as_str())).collect();
        assert_eq!(found, wanted, "{source}");
    }

    #[test]
    fn what_is_ambiguous_or_no_json_is_refused_with_its_line() {
        refuse(
            "{\"a\": 1,\n \"b\": {\"x\": 1,\n\"\\u0078\": 2},\n\"a\": 3}",
            &[(3, "duplicate key \"x\", which stands in line 2 already"), (4, "duplicate key \"a\", which stands in line 1 already")],
        );
        refuse("{\"a\": 1,\n}", &[(2, "no JSON: trailing comma")]);
        refuse("{\"a\": 1}\n// a comment", &[(2, "no JSON: trailing characters")]);
        refuse("{'a': 1}", &[(1, "no JSON: key must be a string")]);
        refuse("", &[(1, "no JSON: EOF while parsing a value")]);
        refuse("{\"a\":\n \"\\ud800\"}", &[(2, "no JSON: unexpected end of hex escape")]);
        refuse(&format!("{}1{}", "[".repeat(65), "]".repeat(65)), &[(1, "nested more than 64 levels deep")]);
        refuse(&"[".repeat(1_000_000), &[(1, "no JSON: recursion limit exceeded")]);
    }

    fn document() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            (-1e9..1e9).prop_map(serde_json::Value::from),
            any::<String>().prop_map(serde_json::Value::from),
            "[\\\\\"{}\\[\\],:\n]{0,6}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            let map = prop::collection::btree_map(any::<String>(), inner.clone(), 0..5);
            prop_oneof![
                prop::collection::vec(inner, 0..5).prop_map(serde_json::Value::from),
                map.prop_map(|map| serde_json::Value::Object(map.into_iter().collect()))
            ]
        })
    }

    proptest! {
        #[test]
        fn it_reads_what_serde_json_reads(value in document(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert_eq!(parse(&text).map(|node| plain(&node)), Ok(serde_json::from_str(&text).unwrap()));
        }

        #[test]
        fn it_takes_no_text_that_serde_json_refuses_and_never_panics(text in "[\\[\\]{}:,\"\\\\ 0-9eE.\\-atrufnl\\n\u{e9}]{0,32}") {
            if let Ok(node) = parse(&text) {
                prop_assert_eq!(plain(&node), serde_json::from_str::<serde_json::Value>(&text).unwrap());
            }
        }
    }
}
