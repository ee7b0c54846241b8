//! Conditions on arguments: which of them a call meets, and which cannot be told.

use super::host::{HostPattern, UrlHost};
use super::path::{self, Of, Question, Resolved};
use super::spec::{ConditionSpec, Effect, Scalar};
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Largest program that a pattern may become, in bytes.
const MAX_REGEX: usize = 1 << 20;
/// Longest text of a condition that a decision repeats, in characters.
const SHOWN_CHARS: usize = 120;

/// The conditions of a rule, made ready.
#[derive(Clone, Debug)]
pub struct Conditions(Vec<Condition>);

/// How a call stands to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// It meets it.
    Met,
    /// It surely does not.
    Failed,
    /// It cannot be told.
    Unclear,
}

/// How a call stands to all conditions of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing<'c> {
    pub(super) failed: Vec<&'c str>,
    pub(super) unclear: Vec<&'c str>,
}

#[derive(Clone, Debug)]
struct Condition {
    tokens: Vec<Token>,
    tests: Vec<Test>,
    /// Of several values that a pointer means all have to hold, not one.
    for_all: bool,
    /// How a decision names it.
    text: String,
}

/// A step of a JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A member's name, or an item's number.
    Name(String),
    /// `*`: each member, each item.
    Each,
}

type Order = fn(Ordering) -> bool;

#[derive(Clone, Debug)]
enum Test {
    OneOf(Vec<Value>),
    Matches(Regex),
    /// How the argument has to stand to a number.
    Number(Order, f64),
    Present(bool),
    Under(Vec<String>),
    UrlHost(Vec<HostPattern>),
}

/// What a pointer leads to.
#[derive(Clone, Copy)]
enum Found<'v> {
    Value(&'v Value),
    Missing,
    /// There is a text or number where an object or a list should be: some programs parse what it holds.
    Odd,
}

impl Conditions {
    /// Makes the conditions of a rule ready.
    ///
    /// # Errors
    /// What is wrong with each that is: its pointer, its field where it is one, and what.
    pub fn new(effect: Effect, when: &BTreeMap<String, ConditionSpec>) -> Result<Conditions, Vec<(String, String)>> {
        let (mut all, mut flaws) = (Vec::new(), Vec::new());
        for (pointer, spec) in when {
            match Condition::new(effect, pointer, spec) {
                Ok(condition) => all.push(condition),
                Err(wrong) => flaws.extend(wrong.into_iter().map(|text| (pointer.clone(), text))),
            }
        }
        if flaws.is_empty() { Ok(Conditions(all)) } else { Err(flaws) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the file system has to be asked about some arguments.
    pub(super) fn ask_for_paths(&self) -> bool {
        self.0.iter().flat_map(|condition| &condition.tests).any(|test| matches!(test, Test::Under(_)))
    }

    /// Adds what has to be asked of the file system.
    pub(super) fn questions(&self, arguments: &Map<String, Value>, add: &mut impl FnMut(Question)) {
        for condition in &self.0 {
            let folders = condition.tests.iter().filter_map(|test| if let Test::Under(folders) = test { Some(folders) } else { None });
            for folders in folders {
                condition.each(arguments, &mut |found| {
                    if let Found::Value(Value::String(text)) = found
                        && path::oddity(text).is_none()
                    {
                        add(Question { of: Of::Argument, text: text.clone() });
                        folders.iter().for_each(|folder| add(Question { of: Of::Folder, text: folder.clone() }));
                    }
                });
            }
        }
    }

    /// How a call stands to them.
    pub(super) fn weigh(&self, arguments: &Map<String, Value>, resolved: &Resolved) -> Standing<'_> {
        let mut standing = Standing::default();
        for condition in &self.0 {
            match condition.held(arguments, resolved) {
                Held::Met => {}
                Held::Failed => standing.failed.push(&condition.text),
                Held::Unclear => standing.unclear.push(&condition.text),
            }
        }
        standing
    }
}

impl Condition {
    fn new(effect: Effect, pointer: &str, spec: &ConditionSpec) -> Result<Condition, Vec<String>> {
        let mut flaws = Vec::new();
        let tokens = parse_pointer(pointer).unwrap_or_else(|| {
            flaws.push("is no JSON pointer such as /path or /edits/*/path".to_owned());
            Vec::new()
        });
        let (mut tests, mut words) = (Vec::new(), Vec::new());
        let mut add = |word: String, test: Result<Test, String>| match test {
            Ok(test) => {
                words.push(word);
                tests.push(test);
            }
            Err(why) => flaws.push(why),
        };
        let ConditionSpec { above, below, equals, matches, max, min, one_of, present, under, url_host } = spec;
        let numbers: [(&str, &Option<Scalar>, Order); 4] = [
            ("above", above, Ordering::is_gt),
            ("below", below, Ordering::is_lt),
            ("max", max, Ordering::is_le),
            ("min", min, Ordering::is_ge),
        ];
        for (word, bound, order) in numbers {
            if let Some(bound) = bound {
                let test = bound.number().map(|bound| Test::Number(order, bound));
                add(format!("{word} {}", bound.0), test.map_err(|why| format!("{word}: {why}")));
            }
        }
        if let Some(value) = equals {
            add(format!("equals {}", value.0), value.value().map(|value| Test::OneOf(vec![value])).map_err(|why| format!("equals: {why}")));
        }
        if let Some(text) = matches {
            add(format!("matches {text}"), regex(effect, text).map(Test::Matches).map_err(|why| format!("matches: {why}")));
        }
        if !one_of.is_empty() {
            let values = one_of.iter().map(Scalar::value).collect::<Result<_, _>>().map(Test::OneOf);
            let texts: Vec<&str> = one_of.iter().map(|value| value.0.as_str()).collect();
            add(format!("one of {}", texts.join(", ")), values.map_err(|why| format!("one_of: {why}")));
        }
        if let Some(present) = present {
            add(if *present { "present" } else { "absent" }.to_owned(), Ok(Test::Present(*present)));
        }
        if !under.is_empty() {
            let wrong = under.iter().find(|folder| !path::is_folder(folder));
            let test = wrong.map_or_else(
                || Ok(Test::Under(under.clone())),
                |folder| Err(format!("under: `{folder}` is no absolute folder, and none below ~/")),
            );
            add(format!("under {}", under.join(" or ")), test);
        }
        if !url_host.is_empty() {
            let hosts = url_host.iter().map(|host| HostPattern::parse(host)).collect::<Result<_, _>>();
            add(format!("url_host {}", url_host.join(" or ")), hosts.map(Test::UrlHost).map_err(|why| format!("url_host: {why}")));
        }
        if *present == Some(false) && tests.len() > 1 {
            flaws.push("present: what is absent meets no other condition".to_owned());
        }
        if tests.is_empty() && flaws.is_empty() {
            flaws.push("asks for nothing".to_owned());
        }
        if !flaws.is_empty() {
            return Err(flaws);
        }
        let text: String = format!("{pointer} {}", words.join(" and ")).chars().take(SHOWN_CHARS).collect();
        Ok(Condition { tokens, tests, for_all: effect == Effect::Allow, text })
    }

    /// Hands over each thing that the pointer leads to; one at least, unless a `*` meets nothing.
    fn each<'v>(&self, arguments: &'v Map<String, Value>, take: &mut impl FnMut(Found<'v>)) {
        match self.tokens.split_first() {
            Some((Token::Name(name), rest)) => follow(arguments.get(name), rest, take),
            Some((Token::Each, rest)) => arguments.values().for_each(|value| follow(Some(value), rest, take)),
            None => take(Found::Missing),
        }
    }

    fn held(&self, arguments: &Map<String, Value>, resolved: &Resolved) -> Held {
        let (mut met, mut unclear, mut failed) = (false, false, false);
        self.each(arguments, &mut |found| match self.tests(found, resolved) {
            Held::Met => met = true,
            Held::Unclear => unclear = true,
            Held::Failed => failed = true,
        });
        match (met, unclear, failed) {
            (_, true, false) if self.for_all => Held::Unclear,
            (true, false, false) => Held::Met,
            (true, _, _) if !self.for_all => Held::Met,
            (false, true, _) if !self.for_all => Held::Unclear,
            _ => Held::Failed,
        }
    }

    /// What surely fails decides, whatever is not known of the rest.
    fn tests(&self, found: Found<'_>, resolved: &Resolved) -> Held {
        let mut all = Held::Met;
        for test in &self.tests {
            match test.held(found, resolved) {
                Held::Failed => return Held::Failed,
                Held::Unclear => all = Held::Unclear,
                Held::Met => {}
            }
        }
        all
    }
}

fn follow<'v>(value: Option<&'v Value>, tokens: &[Token], take: &mut impl FnMut(Found<'v>)) {
    let Some(value) = value else { return take(Found::Missing) };
    let Some((token, rest)) = tokens.split_first() else { return take(Found::Value(value)) };
    match (token, value) {
        (Token::Name(name), Value::Object(members)) => follow(members.get(name), rest, take),
        (Token::Name(name), Value::Array(items)) => match index(name) {
            Some(at) => follow(items.get(at), rest, take),
            None => take(Found::Odd),
        },
        (Token::Each, Value::Object(members)) => members.values().for_each(|value| follow(Some(value), rest, take)),
        (Token::Each, Value::Array(items)) => items.iter().for_each(|value| follow(Some(value), rest, take)),
        (_, Value::Null) => take(Found::Missing),
        _ => take(Found::Odd),
    }
}

/// An item's number as RFC 6901 writes it: without leading zeros.
fn index(token: &str) -> Option<usize> {
    let is_number = token == "0" || !token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| token.parse().ok()).flatten()
}

/// RFC 6901, and `*`. The whole of the arguments cannot be meant.
fn parse_pointer(pointer: &str) -> Option<Vec<Token>> {
    let token = |text: &str| {
        if text == "*" {
            return Some(Token::Each);
        }
        // `~` stands before 0 or 1 alone.
        let escapes = text.split('~').skip(1).all(|behind| behind.starts_with(['0', '1']));
        escapes.then(|| Token::Name(text.replace("~1", "/").replace("~0", "~")))
    };
    pointer.strip_prefix('/')?.split('/').map(token).collect()
}

/// Whoever allows means the whole text, whoever denies any part of it.
fn regex(effect: Effect, text: &str) -> Result<Regex, String> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(MAX_REGEX).build();
    // Alone first: a pattern with an odd bracket could end the group that is put round it.
    let part = build(text).map_err(|error| words(&error))?;
    if effect != Effect::Allow {
        return Ok(part);
    }
    build(&format!(r"\A(?:{text})\z")).map_err(|error| words(&error))
}

/// The last line says what is wrong, those before draw it.
fn words(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

impl Test {
    fn held(&self, found: Found<'_>, resolved: &Resolved) -> Held {
        if let Test::Present(wanted) = self {
            return match found {
                Found::Value(_) => sure(*wanted),
                Found::Missing => sure(!*wanted),
                Found::Odd => Held::Unclear,
            };
        }
        let value = match found {
            Found::Value(value) => value,
            Found::Missing => return Held::Failed,
            Found::Odd => return Held::Unclear,
        };
        match (self, value) {
            (Test::OneOf(wanted), value) => one_of(wanted, value),
            // What a tool takes it for when nothing is said.
            (_, Value::Null) => Held::Failed,
            (Test::Matches(regex), Value::String(text)) => sure(regex.is_match(text)),
            (Test::Number(order, bound), Value::Number(number)) => compare(number, *bound, *order),
            (Test::Under(folders), Value::String(text)) => under(folders, text, resolved),
            (Test::UrlHost(hosts), Value::String(text)) => {
                UrlHost::of(text).map_or(Held::Unclear, |url| sure(hosts.iter().any(|host| host.fits(&url))))
            }
            // Some programs take "5" for 5.
            _ => Held::Unclear,
        }
    }
}

const fn sure(holds: bool) -> Held {
    if holds { Held::Met } else { Held::Failed }
}

/// As doubles: bounds are far from where two whole numbers are one double, so the order stays right.
fn compare(number: &serde_json::Number, bound: f64, holds: Order) -> Held {
    let order = number.as_f64().and_then(|number| number.partial_cmp(&bound));
    order.map_or(Held::Unclear, |order| sure(holds(order)))
}

fn one_of(wanted: &[Value], value: &Value) -> Held {
    let equal = |wanted: &Value| match (wanted, value) {
        (Value::Number(wanted), Value::Number(found)) => wanted.as_f64() == found.as_f64(),
        _ => wanted == value,
    };
    if wanted.iter().any(equal) {
        return Held::Met;
    }
    // Some programs take "true" for true. Nothing is taken for null, nor null for anything but nothing.
    let is_same_kind = |wanted: &Value| {
        matches!(
            (wanted, value),
            (Value::Bool(_), Value::Bool(_))
                | (Value::Number(_), Value::Number(_))
                | (Value::String(_), Value::String(_))
                | (Value::Null, _)
        )
    };
    sure_unless(value.is_null() || wanted.iter().all(is_same_kind))
}

const fn sure_unless(known: bool) -> Held {
    if known { Held::Failed } else { Held::Unclear }
}

fn under(folders: &[String], text: &str, resolved: &Resolved) -> Held {
    let place = if path::oddity(text).is_none() { resolved.place(Of::Argument, text) } else { None };
    let Some(place) = place else { return Held::Unclear };
    let mut known = true;
    for folder in folders {
        match resolved.place(Of::Folder, folder) {
            Some(folder) if path::is_in(place, folder) => return Held::Met,
            Some(_) => {}
            None => known = false,
        }
    }
    sure_unless(known)
}
