//! JSON as `serde_json` reads it: the judge of our own scanner, and it shares no code with it.
//!
//! Members keep their order and their bytes, and a name may stand twice. Numbers are not converted: `1e999` is JSON.

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A value and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doc<'a> {
    /// As it is written, without white space around it.
    pub raw: &'a str,
    /// What it is.
    pub node: Node<'a>,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node<'a> {
    /// `null`, `true`, `false` or a number.
    Word,
    /// A string, unescaped.
    Text(String),
    /// A list.
    List(Vec<Doc<'a>>),
    /// An object, in the order of its members.
    Map(Vec<(String, Doc<'a>)>),
}

/// Reads a text; `None` when it is not JSON.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Doc<'_>> {
    let raw: &RawValue = serde_json::from_str(std::str::from_utf8(bytes).ok()?).ok()?;
    doc(raw.get())
}

fn doc(raw: &str) -> Option<Doc<'_>> {
    let node = match raw.as_bytes().first()? {
        b'"' => Node::Text(serde_json::from_str(raw).ok()?),
        b'[' => {
            let items: Vec<&RawValue> = serde_json::Deserializer::from_str(raw).deserialize_seq(Items).ok()?;
            Node::List(items.into_iter().map(|item| doc(item.get())).collect::<Option<_>>()?)
        }
        b'{' => {
            let members: Vec<(String, &RawValue)> = serde_json::Deserializer::from_str(raw).deserialize_map(Members).ok()?;
            Node::Map(members.into_iter().map(|(name, value)| Some((name, doc(value.get())?))).collect::<Option<_>>()?)
        }
        _ => Node::Word,
    };
    Some(Doc { raw, node })
}

impl<'a> Doc<'a> {
    /// The members of an object; none of anything else.
    #[must_use]
    pub fn members(&self) -> &[(String, Doc<'a>)] {
        if let Node::Map(members) = &self.node { members } else { &[] }
    }

    /// The items of a list; none of anything else.
    #[must_use]
    pub fn items(&self) -> &[Doc<'a>] {
        if let Node::List(items) = &self.node { items } else { &[] }
    }

    /// Whether it is an object.
    #[must_use]
    pub const fn is_map(&self) -> bool {
        matches!(self.node, Node::Map(_))
    }

    /// The last member of a name, as most readers have it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Doc<'a>> {
        self.members().iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The text of a string.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Node::Text(text) = &self.node { Some(text) } else { None }
    }

    /// A number of digits alone; the largest when it is larger.
    #[must_use]
    pub fn natural(&self) -> Option<u64> {
        let is_digits = matches!(self.node, Node::Word) && self.raw.bytes().all(|byte| byte.is_ascii_digit());
        is_digits.then(|| self.raw.parse().unwrap_or(u64::MAX))
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.raw == "null"
    }
}

struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}
