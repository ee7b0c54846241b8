//! The arguments of a call: a JSON object that means the same to every program.
//!
//! What is judged is what is sent: a text that two parsers could read in two ways is refused before anything looks at it.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Levels of nesting, the object of all arguments included.
pub const MAX_DEPTH: usize = 64;
/// Longest text of all arguments.
pub const MAX_BYTES: usize = 4 << 20;
/// How the keys begin by which `serde_json`, with some of its features, passes raw texts and numbers on: its parsers take an object with one
/// for the value that is written in it, so that a tool could see another one than was judged (`serde_json::value::RawValue`).
const RESERVED: &str = "$serde_json::private::";
/// Longest piece of a text that an error repeats, in characters.
const SHOWN_CHARS: usize = 60;

/// The checked arguments of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments(Map<String, Value>);

/// Why arguments are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Larger than [`MAX_BYTES`].
    #[error("the arguments have {0} bytes; at most {MAX_BYTES} are taken")]
    TooLarge(usize),
    /// Deeper than [`MAX_DEPTH`].
    #[error("the arguments are nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    /// Some programs take the first one, some the last one.
    #[error("the key \"{0}\" stands twice in an object")]
    Duplicate(String),
    /// Some programs take an object with this key for the JSON text that it holds.
    #[error("the key \"{0}\" means something else to some programs")]
    Reserved(String),
    /// A whole number that no 64 bits hold: programs round it, each in its own way.
    #[error("the number {0} does not fit 64 bits")]
    Number(String),
    /// Not an object.
    #[error("arguments are a JSON object such as {{\"path\": \"/data\"}}")]
    NoObject,
    /// Not JSON.
    #[error("no JSON: {0}")]
    Syntax(String),
}

impl Arguments {
    /// Reads a text.
    ///
    /// # Errors
    /// Why it cannot be taken.
    pub fn parse(text: &str) -> Result<Arguments, Malformed> {
        if text.len() > MAX_BYTES {
            return Err(Malformed::TooLarge(text.len()));
        }
        let fault = std::cell::RefCell::new(None);
        let mut reader = serde_json::Deserializer::from_str(text);
        let read = Strict { depth: 0, fault: &fault }.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
        let value = read.map_err(|error| fault.take().unwrap_or_else(|| Malformed::Syntax(error.to_string())))?;
        // It is JSON, so a number is what begins with a digit outside of strings.
        if let Some(number) = too_long(text) {
            return Err(Malformed::Number(shown(number)));
        }
        match value {
            Value::Object(map) => Ok(Arguments(map)),
            _ => Err(Malformed::NoObject),
        }
    }

    /// Takes what a parser made of a text already; whoever reads the text itself calls [`Arguments::parse`], which sees more.
    ///
    /// # Errors
    /// When they are too deep, or have a key that is not taken.
    pub fn from_map(map: Map<String, Value>) -> Result<Arguments, Malformed> {
        look(&map, MAX_DEPTH).map(|()| Arguments(map))
    }

    /// The arguments by name.
    #[must_use]
    pub const fn map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The same, to be sent.
    #[must_use]
    pub fn into_map(self) -> Map<String, Value> {
        self.0
    }
}

/// Looks through the members of an object that may have so many levels.
fn look(members: &Map<String, Value>, levels: usize) -> Result<(), Malformed> {
    let below = levels.checked_sub(1).ok_or(Malformed::TooDeep)?;
    if let Some(key) = members.keys().find(|key| key.starts_with(RESERVED)) {
        return Err(Malformed::Reserved(shown(key)));
    }
    members.values().try_for_each(|value| look_at(value, below))
}

fn look_at(value: &Value, levels: usize) -> Result<(), Malformed> {
    match value {
        Value::Object(members) => look(members, levels),
        Value::Array(items) => {
            let below = levels.checked_sub(1).ok_or(Malformed::TooDeep)?;
            items.iter().try_for_each(|item| look_at(item, below))
        }
        _ => Ok(()),
    }
}

/// The first whole number of a JSON text that neither `i64` nor `u64` holds.
fn too_long(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = behind_string(bytes, at.saturating_add(1)),
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let length = bytes.iter().skip(at).take_while(is_part).count();
                let end = at.saturating_add(length);
                let number = text.get(at..end)?;
                let is_whole = !number.contains(['.', 'e', 'E']);
                if is_whole && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                    return Some(number);
                }
                at = end;
            }
            _ => at = at.saturating_add(1),
        }
    }
    None
}

fn behind_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at = at.saturating_add(2),
            b'"' => return at.saturating_add(1),
            _ => at = at.saturating_add(1),
        }
    }
    at
}

fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// A value of which each key stands once, and that is no deeper than allowed. What is wrong beyond JSON's grammar is left in `fault`.
#[derive(Clone, Copy)]
struct Strict<'f> {
    /// Levels round it.
    depth: usize,
    fault: &'f std::cell::RefCell<Option<Malformed>>,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(self.refuse(Malformed::TooDeep));
        }
        Ok(Strict { depth: self.depth.saturating_add(1), ..self })
    }

    fn refuse<E: serde::de::Error>(self, why: Malformed) -> E {
        let error = E::custom(&why);
        self.fault.replace(Some(why));
        error
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let below = self.deeper::<A::Error>()?;
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(below)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let below = self.deeper::<A::Error>()?;
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(self.refuse(Malformed::Duplicate(shown(&key))));
            }
            if key.starts_with(RESERVED) {
                return Err(self.refuse(Malformed::Reserved(shown(&key))));
            }
            let value = members.next_value_seed(below)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn refuse(text: &str, wanted: &str) {
        assert_eq!(Arguments::parse(text).map_err(|why| why.to_string()), Err(wanted.to_owned()), "{text}");
    }

    #[test]
    fn what_two_programs_could_read_in_two_ways_is_refused() {
        refuse(r#"{"path": "/a", "path": "/b"}"#, "the key \"path\" stands twice in an object");
        // The same key, spelled in two ways.
        refuse(r#"{"path": "/a", "p\u0061th": "/b"}"#, "the key \"path\" stands twice in an object");
        refuse(r#"{"a": [{"x": 1, "x": 1}]}"#, "the key \"x\" stands twice in an object");
        for key in ["$serde_json::private::RawValue", "$serde_json::private::Number"] {
            let wanted = format!("the key \"{key}\" means something else to some programs");
            refuse(&format!(r#"{{"{key}": "[1]"}}"#), &wanted);
            refuse(&format!(r#"{{"a": [{{"{}": "[1]"}}]}}"#, key.replace('$', "\\u0024")), &wanted);
            let map = |value: Value| Map::from_iter([("a".to_owned(), value)]);
            let within = Value::Array(vec![Value::Object(Map::from_iter([(key.to_owned(), Value::from("[1]"))]))]);
            assert_eq!(Arguments::from_map(map(within)).map_err(|why| why.to_string()), Err(wanted));
        }
        refuse(r#"{"n": 18446744073709551616}"#, "the number 18446744073709551616 does not fit 64 bits");
        refuse(r#"{"s": "\"9", "n": [-9223372036854775809]}"#, "the number -9223372036854775809 does not fit 64 bits");
        refuse(r#"{"n": 1e999}"#, "no JSON: number out of range at line 1 column 11");
        refuse("[1]", "arguments are a JSON object such as {\"path\": \"/data\"}");
        refuse("{} {}", "no JSON: trailing characters at line 1 column 4");
        assert!(matches!(Arguments::parse(r#"{"s": "\ud800"}"#), Err(Malformed::Syntax(_))));
        assert!(matches!(Arguments::parse("{\"n\": NaN}"), Err(Malformed::Syntax(_))));
        assert!(matches!(Arguments::parse(""), Err(Malformed::Syntax(_))));
    }

    #[test]
    fn arguments_have_a_depth_and_a_size() {
        let nested = |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
        let deepest = nested(MAX_DEPTH - 1);
        let parsed = Arguments::parse(&deepest).unwrap();
        assert_eq!(Arguments::from_map(parsed.clone().into_map()), Ok(parsed));
        assert_eq!(Arguments::parse(&nested(MAX_DEPTH)), Err(Malformed::TooDeep));
        let Value::Object(deeper) = serde_json::from_str(&nested(MAX_DEPTH)).unwrap() else { panic!("no object") };
        assert_eq!(Arguments::from_map(deeper), Err(Malformed::TooDeep));
        // Far beyond what a stack could take.
        assert_eq!(Arguments::parse(&nested(100_000)), Err(Malformed::TooDeep));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_BYTES));
        assert_eq!(Arguments::parse(&long), Err(Malformed::TooLarge(MAX_BYTES + 8)));
    }

    fn value() -> impl Strategy<Value = Value> {
        let number = prop_oneof![any::<i64>().prop_map(Value::from), any::<u64>().prop_map(Value::from), (-1e9..1e9).prop_map(Value::from)];
        let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number, any::<String>().prop_map(Value::from)];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let map = prop::collection::vec((any::<String>(), inner.clone()), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                map.prop_map(|map| Value::Object(map.into_iter().collect()))
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_taken_is_what_every_parser_reads(value in prop::collection::vec((any::<String>(), value()), 0..4)) {
            let map: Map<String, Value> = value.into_iter().collect();
            let text = serde_json::to_string_pretty(&map).unwrap();
            let plain: Map<String, Value> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(Arguments::parse(&text), Ok(Arguments(plain)));
        }

        #[test]
        fn no_text_is_taken_that_a_plain_parser_refuses(text in "[\\[\\]{}:,\"\\\\ 0-9eE.+\\-atrufnl\u{7f}]{0,24}") {
            if Arguments::parse(&text).is_ok() {
                prop_assert!(serde_json::from_str::<Map<String, Value>>(&text).is_ok());
            }
        }
    }
}
