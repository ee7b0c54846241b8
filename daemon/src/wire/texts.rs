//! The texts of a request's prompt: what its model tokenises as it is said. A second look at a body that was read before, for the rare
//! call whose bytes do not fit its budget.
//!
//! All else stays with its bytes: names, roles, tools, arguments of calls, structure. Must not: check a request, or count a token.

use super::dialect::Dialect;
use super::json::{Fault, Kind, Scanner};
use super::text::Text;
use std::borrow::Cow;

/// Bytes of texts that are taken of one request; the rest stays with its bytes.
const MOST_BYTES: usize = 1 << 20;
/// A shorter text stays with its bytes: nothing is won, and there may be millions of them.
const FEWEST_BYTES: usize = 16;

/// A text of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told<'a> {
    /// As it stands in the body, between its quotes.
    pub written: &'a str,
    /// What it says.
    pub said: Cow<'a, str>,
}

impl Told<'_> {
    /// Bytes that it takes in the body, with its quotes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.written.len() + 2
    }
}

/// The texts of a request of a dialect, up to 1 MiB of them; none of Anthropic's, whose vocabulary is not public.
///
/// # Errors
/// When the body is not JSON.
pub fn texts(dialect: Dialect, body: &[u8]) -> Result<Vec<Told<'_>>, Fault> {
    let mut texts = Texts { found: Vec::new(), room: MOST_BYTES };
    let mut scanner = Scanner::new(body)?;
    match dialect {
        Dialect::Chat => members(&mut scanner, |key, scanner| match key.is("messages") {
            true => items(scanner, |scanner| {
                members(scanner, |key, scanner| if key.is("content") { texts.content(scanner) } else { scanner.pass() })
            }),
            false => scanner.pass(),
        }),
        Dialect::Completions => {
            members(&mut scanner, |key, scanner| if key.is("prompt") { texts.content(scanner) } else { scanner.pass() })
        }
        Dialect::Embeddings => members(&mut scanner, |key, scanner| if key.is("input") { texts.content(scanner) } else { scanner.pass() }),
        Dialect::Responses => members(&mut scanner, |key, scanner| match () {
            () if key.is("instructions") => texts.content(scanner),
            () if key.is("input") && scanner.kind()? == Kind::List => items(scanner, |scanner| texts.item(scanner)),
            () if key.is("input") => texts.content(scanner),
            () => scanner.pass(),
        }),
        Dialect::CountTokens | Dialect::Messages => Ok(()),
    }?;
    Ok(texts.found)
}

/// Calls `read` at the value of each member of an object; passes over any other value.
fn members<'a>(scanner: &mut Scanner<'a>, mut read: impl FnMut(&Text<'a>, &mut Scanner<'a>) -> Result<(), Fault>) -> Result<(), Fault> {
    if scanner.kind()? != Kind::Object {
        return scanner.pass();
    }
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        read(&key, scanner)?;
    }
    Ok(())
}

/// Calls `read` at each item of a list; passes over any other value.
fn items<'a>(scanner: &mut Scanner<'a>, mut read: impl FnMut(&mut Scanner<'a>) -> Result<(), Fault>) -> Result<(), Fault> {
    if scanner.kind()? != Kind::List {
        return scanner.pass();
    }
    let mut list = scanner.list()?;
    while scanner.item(&mut list)? {
        read(scanner)?;
    }
    Ok(())
}

struct Texts<'a> {
    found: Vec<Told<'a>>,
    room: usize,
}

impl<'a> Texts<'a> {
    /// A text, a part, or a list of either.
    fn content(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Fault> {
        match scanner.kind()? {
            Kind::List => items(scanner, |scanner| self.one(scanner)),
            _ => self.one(scanner),
        }
    }

    fn one(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Fault> {
        match scanner.kind()? {
            Kind::Text => self.text(scanner),
            _ => members(scanner, |key, scanner| match key.is("text") || key.is("refusal") {
                true if scanner.kind()? == Kind::Text => self.text(scanner),
                _ => scanner.pass(),
            }),
        }
    }

    /// An item of a response's input.
    fn item(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Fault> {
        members(scanner, |key, scanner| match key.is("content") || key.is("output") || key.is("summary") {
            true => self.content(scanner),
            false => scanner.pass(),
        })
    }

    fn text(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Fault> {
        let text = scanner.text()?;
        if text.raw.len() >= FEWEST_BYTES
            && let Some(room) = self.room.checked_sub(text.raw.len())
        {
            self.room = room;
            self.found.push(Told { written: text.raw, said: text.unescape() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(dialect: Dialect, body: &str, expected: &[&str]) {
        let found = texts(dialect, body.as_bytes()).unwrap();
        assert_eq!(found.iter().map(|told| &*told.said).collect::<Vec<_>>(), expected, "{body}");
        assert!(found.iter().all(|told| body.contains(&format!("\"{}\"", told.written))), "{body}");
        // A body that the dialect refuses would never come here.
        dialect.read(body.as_bytes()).unwrap();
    }

    const ONE: &str = "the first of texts";
    const TWO: &str = "the second of texts";

    #[test]
    fn a_prompt_is_its_texts_and_nothing_else() {
        check(
            Dialect::Chat,
            r#"{"model":"a name longer than most","messages":[{"role":"user","content":"the first of texts","name":"nobody counts names"},
            {"role":"user","content":[{"type":"text","text":"the second of texts"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAAAAAA"}}]},
            {"role":"assistant","content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{\"content\":\"not this one either\"}"}}]}],
            "tools":[{"type":"function","function":{"name":"f","description":"a description of a tool"}}]}"#,
            &[ONE, TWO],
        );
        check(Dialect::Completions, r#"{"prompt":"the first of texts","suffix":"the second of texts"}"#, &[ONE]);
        check(Dialect::Completions, r#"{"prompt":[[1,2,3],[4]]}"#, &[]);
        check(Dialect::Embeddings, r#"{"input":["the first of texts","the second of texts"]}"#, &[ONE, TWO]);
        check(
            Dialect::Responses,
            r#"{"instructions":"the first of texts","input":[{"role":"user","content":[{"type":"input_text","text":"the second of texts"}]},
            {"type":"function_call","call_id":"1","name":"f","arguments":"{\"some\":\"arguments\"}"},
            {"type":"function_call_output","call_id":"1","output":"the first of texts"}]}"#,
            &[ONE, TWO, ONE],
        );
        check(Dialect::Responses, r#"{"input":"the second of texts"}"#, &[TWO]);
        check(Dialect::Messages, r#"{"max_tokens":1,"messages":[{"role":"user","content":"the first of texts"}]}"#, &[]);
    }

    #[test]
    fn escapes_are_undone_and_their_bytes_counted_as_they_stand() {
        let body = r#"{"prompt":"tab\tand \u00e9 and \"quotes\""}"#;
        check(Dialect::Completions, body, &["tab\tand é and \"quotes\""]);
        assert_eq!(texts(Dialect::Completions, body.as_bytes()).unwrap()[0].bytes() + r#"{"prompt":}"#.len(), body.len());
    }

    #[test]
    fn short_texts_and_those_beyond_the_room_are_left_to_their_bytes() {
        check(Dialect::Embeddings, r#"{"input":["fifteen letters","sixteen  letters"]}"#, &["sixteen  letters"]);
        let (long, rest) = ("x".repeat(MOST_BYTES - 20), "y".repeat(20));
        check(Dialect::Embeddings, &format!(r#"{{"input":["{long}","{rest}z","{rest}"]}}"#), &[&long, &rest]);
    }
}
