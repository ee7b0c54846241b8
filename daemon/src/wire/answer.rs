//! A chat answer, whole or one chunk of a stream, read in one pass: its model, its usage, an error, what it says.

use super::chat::shortened;
use super::edit::spliced;
use super::json::{Fault, Kind, Number, Scanner};
use super::{edit, usage};
use aex_core::usage::Usage;
use bytes::Bytes;
use std::ops::Range;

/// What a chat answer says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The value of `model` with its quotes.
    pub model_span: Option<Range<usize>>,
    /// Usage, when the provider reports one that can be understood.
    pub usage: Option<Usage>,
    /// Whether a usage object stands there, understood or not.
    pub has_usage: bool,
    /// Whether it is an error.
    pub is_error: bool,
    /// Whether `choices` is an empty list, as in a stream's usage chunk.
    pub no_choices: bool,
    /// Bytes of output in it: texts, refusals, reasoning, calls. An output token is at least one byte, unless it is hidden.
    pub relayed_output_bytes: u64,
    /// Choices that end in it, as bits by their index.
    pub finished: u128,
    /// The service tier that it names.
    pub service_tier: Option<String>,
    /// Whether the model's name differs from the one that the reader was given.
    pub foreign_model: bool,
}

/// Reads a plain answer; `None` when it is no JSON object.
#[must_use]
pub fn read(body: &[u8]) -> Option<Answer> {
    let mut scanner = Scanner::new(body).ok()?;
    if scanner.kind().ok()? != Kind::Object {
        return None;
    }
    read_object(&mut scanner, None).ok()
}

/// The answer under the name of the model that the client used.
#[must_use]
pub fn splice_model(body: &Bytes, span: &Range<usize>, client_name: &str) -> Bytes {
    let name = edit::quoted(client_name);
    if body.get(span.clone()) == Some(name.as_bytes()) { body.clone() } else { spliced(body, &[(span.clone(), name)]) }
}

/// Reads an object that is the whole text. `client_model` is what `model` should say.
pub(super) fn read_object(scanner: &mut Scanner<'_>, client_model: Option<&str>) -> Result<Answer, Fault> {
    let mut answer = Answer::default();
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        match &*key.unescape() {
            "choices" => choices(scanner, &mut answer)?,
            "model" => {
                if scanner.kind()? == Kind::Text {
                    let model = scanner.text()?;
                    answer.foreign_model = client_model.is_some_and(|client| !model.is(client));
                    answer.model_span = Some(model.span());
                } else {
                    scanner.skip()?;
                }
            }
            "usage" => metered(scanner, &mut answer)?,
            "service_tier" => answer.service_tier = service_tier(scanner)?,
            "x_groq" => groq(scanner, &mut answer)?,
            "error" => {
                answer.is_error |= scanner.kind()? != Kind::Null;
                scanner.skip()?;
            }
            _ => scanner.pass()?,
        }
    }
    scanner.finish()?;
    if let (Some(usage), Some(tier)) = (&mut answer.usage, &answer.service_tier) {
        usage::tiered(usage, tier);
    }
    Ok(answer)
}

/// A name; of what is none, its text, which no tier is called.
fn service_tier(scanner: &mut Scanner<'_>) -> Result<Option<String>, Fault> {
    let name = match scanner.kind()? {
        Kind::Text => scanner.text()?.unescape().into_owned(),
        Kind::Null => {
            scanner.skip()?;
            return Ok(None);
        }
        _ => {
            let span = scanner.skip()?;
            scanner.whole().get(span).unwrap_or_default().to_owned()
        }
    };
    Ok(Some(shortened(&name)).filter(|name| !name.is_empty()))
}

fn metered(scanner: &mut Scanner<'_>, answer: &mut Answer) -> Result<(), Fault> {
    answer.has_usage |= scanner.kind()? == Kind::Object;
    if let Some(usage) = usage::chat(scanner)? {
        answer.usage = Some(usage);
    }
    Ok(())
}

/// Groq reports the usage of a stream in `x_groq.usage` of its last chunk.
fn groq(scanner: &mut Scanner<'_>, answer: &mut Answer) -> Result<(), Fault> {
    if scanner.kind()? != Kind::Object {
        scanner.skip()?;
        return Ok(());
    }
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        match &*key.unescape() {
            "usage" => {
                if let Some(usage) = usage::chat(scanner)? {
                    answer.usage = Some(usage);
                }
            }
            "error" => {
                answer.is_error |= scanner.kind()? != Kind::Null;
                scanner.skip()?;
            }
            _ => scanner.pass()?,
        }
    }
    Ok(())
}

fn choices(scanner: &mut Scanner<'_>, answer: &mut Answer) -> Result<(), Fault> {
    if scanner.kind()? != Kind::List {
        scanner.skip()?;
        return Ok(());
    }
    let mut list = scanner.list()?;
    answer.no_choices = true;
    while scanner.item(&mut list)? {
        answer.no_choices = false;
        if scanner.kind()? == Kind::Object { choice(scanner, answer)? } else { scanner.pass()? }
    }
    Ok(())
}

fn choice(scanner: &mut Scanner<'_>, answer: &mut Answer) -> Result<(), Fault> {
    let mut index = 0;
    let mut finished = false;
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        match &*key.unescape() {
            "delta" | "message" => said(scanner, answer)?,
            "index" if scanner.kind()? == Kind::Number => {
                if let Number::Natural(number) = scanner.number()? {
                    index = number;
                }
            }
            "finish_reason" => {
                finished = scanner.kind()? == Kind::Text;
                scanner.skip()?;
            }
            "text" => add(answer, value_bytes(scanner)?),
            _ => scanner.pass()?,
        }
    }
    if finished {
        answer.finished |= u32::try_from(index).ok().and_then(|index| 1_u128.checked_shl(index)).unwrap_or(0);
    }
    Ok(())
}

/// Counts what a delta or a message says. A field that is not known counts as output too.
fn said(scanner: &mut Scanner<'_>, answer: &mut Answer) -> Result<(), Fault> {
    if scanner.kind()? != Kind::Object {
        scanner.skip()?;
        return Ok(());
    }
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        match &*key.unescape() {
            "role" | "annotations" => scanner.pass()?,
            "tool_calls" => calls(scanner, answer)?,
            "function_call" => add(answer, call_bytes(scanner)?),
            _ => add(answer, value_bytes(scanner)?),
        }
    }
    Ok(())
}

fn calls(scanner: &mut Scanner<'_>, answer: &mut Answer) -> Result<(), Fault> {
    if scanner.kind()? != Kind::List {
        scanner.skip()?;
        return Ok(());
    }
    let mut list = scanner.list()?;
    while scanner.item(&mut list)? {
        if scanner.kind()? != Kind::Object {
            scanner.skip()?;
            continue;
        }
        let mut open = scanner.object()?;
        while let Some(key) = scanner.key(&mut open)? {
            match &*key.unescape() {
                "index" | "id" | "type" => scanner.pass()?,
                _ => add(answer, call_bytes(scanner)?),
            }
        }
    }
    Ok(())
}

/// Bytes of the name and the arguments of a call.
fn call_bytes(scanner: &mut Scanner<'_>) -> Result<usize, Fault> {
    if scanner.kind()? != Kind::Object {
        return value_bytes(scanner);
    }
    let mut bytes = 0;
    let mut open = scanner.object()?;
    while scanner.key(&mut open)?.is_some() {
        bytes += value_bytes(scanner)?;
    }
    Ok(bytes)
}

/// Bytes of a value as it is written: a string without its quotes, nothing for null, all of anything else.
fn value_bytes(scanner: &mut Scanner<'_>) -> Result<usize, Fault> {
    match scanner.kind()? {
        Kind::Text => Ok(scanner.text()?.raw.len()),
        Kind::Null => scanner.skip().map(|_| 0),
        _ => Ok(scanner.skip()?.len()),
    }
}

fn add(answer: &mut Answer, bytes: usize) {
    answer.relayed_output_bytes = answer.relayed_output_bytes.saturating_add(super::chat::count(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_in_one_pass() {
        let body = Bytes::from_static(
            br#"{"id":"x","model":"real","choices":[{"index":0,"message":{"role":"assistant","content":"four","tool_calls":[{"id":"1","type":"function",
            "function":{"name":"ff","arguments":"{}"}}],"refusal":null},"logprobs":{"content":["long"]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
        );
        let answer = read(&body).unwrap();
        assert_eq!(answer.usage, Some(Usage::text(1, 2)));
        assert_eq!(answer.relayed_output_bytes, 8);
        assert_eq!(answer.finished, 1);
        assert!(!answer.is_error);
        let span = answer.model_span.unwrap();
        let named = splice_model(&body, &span, "mine");
        assert_eq!(read(&named).unwrap().model_span.map(|span| named.slice(span)), Some(Bytes::from_static(b"\"mine\"")));
        assert_eq!(splice_model(&body, &span, "real").as_ptr(), body.as_ptr());
    }

    #[test]
    fn the_tier_of_an_answer_is_told_with_its_usage_wherever_it_stands() {
        let told = |tier: &str| {
            let usage = r#""usage":{"prompt_tokens":1,"completion_tokens":2}"#;
            let [before, after] = [format!("{{{tier},{usage}}}"), format!("{{{usage},{tier}}}")]
                .map(|body| read(body.as_bytes()).unwrap().usage.unwrap().tier);
            assert_eq!(before, after);
            before
        };
        for (tier, wanted) in [
            ("null", None),
            ("\"\"", None),
            ("\"default\"", Some("default")),
            ("\"on_demand\"", Some("on_demand")),
            ("\"priority\"", Some("priority")),
            ("5", Some("5")),
        ] {
            assert_eq!(told(&format!(r#""service_tier":{tier}"#)).as_deref(), wanted);
        }
    }

    #[test]
    fn an_error_and_what_is_no_answer_are_told() {
        assert!(read(br#"{"error":{"message":"no"}}"#).unwrap().is_error);
        assert!(!read(br#"{"error":null}"#).unwrap().is_error);
        assert_eq!(read(br#"{"x_groq":{"usage":{"prompt_tokens":1,"completion_tokens":2}}}"#).unwrap().usage, Some(Usage::text(1, 2)));
        for garbage in [b"<html>".as_slice(), b"", b"[]", b"{", b"{} {}", b"\xff"] {
            assert_eq!(read(garbage), None);
        }
    }
}
