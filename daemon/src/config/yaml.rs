//! YAML text into nodes that know their line. The only user of the YAML parser.
//!
//! Numbers and booleans keep their spelling, so that a price never passes through a float. Decides nothing about keys.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Error, NonFiniteFloatPolicy, Spanned};
use std::fmt;

/// A value and the line where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// An unquoted number or boolean, as it is spelled in the file.
    Literal(String),
    /// Any other text, quoted or not.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<Entry>),
}

/// One line of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: u64,
    pub(super) node: Node,
}

/// Why a text is no YAML, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) line: Option<u64>,
    pub(super) text: String,
}

/// Parses one document.
pub(super) fn parse(source: &str) -> Result<Node, SyntaxError> {
    let options = serde_yaml::options! {
        strict_booleans: true,
        with_snippet: false,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
    };
    let raw: Spanned<Raw> = serde_yaml::from_str_with_options(source, options).map_err(|error| syntax_error(&error))?;
    Ok(node(raw, source))
}

fn syntax_error(error: &Error) -> SyntaxError {
    let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
    let text = match error.without_snippet() {
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("duplicate key \"{key}\""),
        other => {
            let full = other.to_string();
            // The line stands before the text already.
            full.split_once(" at line ").map_or(full.clone(), |(text, _)| text.to_owned())
        }
    };
    SyntaxError { line, text }
}

fn node(raw: Spanned<Raw>, source: &str) -> Node {
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Text(text) => Value::Text(text),
        Raw::Literal(parsed) => {
            let span = raw.defined.span();
            let start = span.byte_offset().and_then(|offset| usize::try_from(offset).ok());
            let length = span.byte_len().and_then(|length| usize::try_from(length).ok());
            let spelled = start.zip(length).and_then(|(start, length)| source.get(start..start.checked_add(length)?));
            Value::Literal(spelled.map_or(parsed, |text| text.trim().to_owned()))
        }
        Raw::List(items) => Value::List(items.into_iter().map(|item| node(item, source)).collect()),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry { line: key.referenced.line(), key: key.value, node: node(value, source) })
                .collect(),
        ),
    };
    Node { line: raw.referenced.line(), value }
}

/// A node before its spelling is looked up in the source.
#[derive(Debug)]
enum Raw {
    Null,
    Literal(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Literal(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Literal(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Literal(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Literal(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Literal(value.to_string()))
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Raw, E> {
        // Replaced by its spelling; should that not be found, no number is read from this.
        Ok(Raw::Literal("a fraction".to_owned()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_bytes<E: serde::de::Error>(self, _bytes: &[u8]) -> Result<Raw, E> {
        Err(E::custom("binary values have no meaning here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries: Vec<(Spanned<String>, Spanned<Raw>)> = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Spanned<Raw>>()? {
            // The parser refuses duplicates already; a price must not depend on one of its settings.
            if entries.iter().any(|(known, _)| known.value == key.value) {
                return Err(A::Error::custom(format!("duplicate key \"{}\"", key.value)));
            }
            entries.push((key, value));
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A compact form: `key@line=value@line`.
    fn show(node: &Node) -> String {
        let value = match &node.value {
            Value::Null => "null".to_owned(),
            Value::Literal(text) => format!("`{text}`"),
            Value::Text(text) => format!("{text:?}"),
            Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
            Value::Map(entries) => {
                let entries = entries.iter().map(|entry| format!("{}@{}={}", entry.key, entry.line, show(&entry.node)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        };
        format!("{value}@{}", node.line)
    }

    #[track_caller]
    fn check(source: &str, expected: &str) {
        assert_eq!(parse(source).map(|node| show(&node)), Ok(expected.to_owned()), "{source}");
    }

    #[track_caller]
    fn refuse(source: &str, line: u64, expected: &str) {
        let error = parse(source).unwrap_err();
        assert_eq!((error.line, error.text.as_str()), (Some(line), expected), "{source}");
    }

    #[test]
    fn numbers_keep_their_spelling_and_nodes_their_line_and_order() {
        check("b: 0.1500\na: 50 # µ\n", "{b@1=`0.1500`@1, a@2=`50`@2}@1");
        check("x: \"0.15\"\ny: '7'\nz: true\n", "{x@1=\"0.15\"@1, y@2=\"7\"@2, z@3=`true`@3}@1");
        check("µ: é\nn: 1.10\n", "{µ@1=\"é\"@1, n@2=`1.10`@2}@1");
        check("a:\n  b: [1, off, ~]\nc:\n", "{a@1={b@2=[`1`@2, \"off\"@2, null@2]@2}@2, c@3=null@3}@1");
        check("3.5: x\n1: y\n", "{3.5@1=\"x\"@1, 1@2=\"y\"@2}@1");
        check("n: 18446744073709551616\ni: .inf\n", "{n@1=`18446744073709551616`@1, i@2=\".inf\"@2}@1");
        check("a: &p 0.25\nb: *p\n", "{a@1=`0.25`@1, b@2=`0.25`@2}@1");
        check("", "null@1");
    }

    #[test]
    fn what_is_ambiguous_is_refused_with_its_line() {
        refuse("a: 1\nb:\n  x: 1\n  x: 2\n", 4, "duplicate key \"x\"");
        refuse("a: 1\n b: 2\n", 2, "mapping values are not allowed in this context");
    }
}
