//! A chat answer, whole or one chunk of a stream, read in one pass: its model, its usage, an error, what it says.

use crate::wire::answer::{Answer, said_bytes, value_bytes};
use crate::wire::json::{Fault, Kind, Number, Scanner};
use crate::wire::said::{Field, Said};
use crate::wire::{answer, usage};

/// Reads an object that is the whole text. `client_model` is what `model` should say.
pub(in crate::wire) fn object(said: &mut Said, scanner: &mut Scanner<'_>, client_model: Option<&str>) -> Result<Answer, Fault> {
    answer::object(scanner, |answer, name, scanner| match name {
        "choices" => choices(said, scanner, answer),
        "model" => answer.model(scanner, client_model),
        "usage" => answer.usage(scanner, usage::chat),
        "service_tier" => answer.service_tier(scanner),
        "x_groq" => groq(scanner, answer),
        "error" => answer.error(scanner),
        _ => scanner.pass(),
    })
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
            "error" => answer.error(scanner)?,
            _ => scanner.pass()?,
        }
    }
    Ok(())
}

fn choices(said: &mut Said, scanner: &mut Scanner<'_>, answer: &mut Answer) -> Result<(), Fault> {
    if scanner.kind()? != Kind::List {
        scanner.skip()?;
        return Ok(());
    }
    let mut list = scanner.list()?;
    answer.no_choices = true;
    while scanner.item(&mut list)? {
        answer.no_choices = false;
        if scanner.kind()? == Kind::Object { choice(said, scanner, answer)? } else { scanner.pass()? }
    }
    Ok(())
}

fn choice(said: &mut Said, scanner: &mut Scanner<'_>, answer: &mut Answer) -> Result<(), Fault> {
    let since = said.since();
    let mut index = 0;
    let mut finished = false;
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        match &*key.unescape() {
            "delta" | "message" => message(said, scanner, answer)?,
            "index" if scanner.kind()? == Kind::Number => {
                if let Number::Natural(number) = scanner.number()? {
                    index = number;
                }
            }
            "finish_reason" => {
                finished = scanner.kind()? == Kind::Text;
                scanner.skip()?;
            }
            "text" => answer.say(said, Field::Text, scanner)?,
            _ => scanner.pass()?,
        }
    }
    said.of_choice(since, index);
    if finished {
        answer.finished |= u32::try_from(index).ok().and_then(|index| 1_u128.checked_shl(index)).unwrap_or(0);
    }
    Ok(())
}

/// Counts what a delta or a message says. A field that is not known counts as output too.
fn message(said: &mut Said, scanner: &mut Scanner<'_>, answer: &mut Answer) -> Result<(), Fault> {
    if scanner.kind()? != Kind::Object {
        scanner.skip()?;
        return Ok(());
    }
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        match &*key.unescape() {
            "role" | "annotations" => scanner.pass()?,
            "content" => answer.say(said, Field::Text, scanner)?,
            "reasoning_content" | "reasoning" => answer.say(said, Field::Reasoning, scanner)?,
            "refusal" => answer.say(said, Field::Refusal, scanner)?,
            "tool_calls" => calls(said, scanner, answer)?,
            "function_call" => answer.add(call_bytes(said, scanner)?),
            _ => answer.add(value_bytes(scanner)?),
        }
    }
    Ok(())
}

fn calls(said: &mut Said, scanner: &mut Scanner<'_>, answer: &mut Answer) -> Result<(), Fault> {
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
        let (since, mut index) = (said.since(), 0);
        let mut open = scanner.object()?;
        while let Some(key) = scanner.key(&mut open)? {
            match &*key.unescape() {
                "index" if scanner.kind()? == Kind::Number => {
                    if let Number::Natural(number) = scanner.number()? {
                        index = number;
                    }
                }
                "index" | "id" | "type" => scanner.pass()?,
                _ => answer.add(call_bytes(said, scanner)?),
            }
        }
        said.of_part(since, index);
    }
    Ok(())
}

/// Bytes of the name and the arguments of a call.
fn call_bytes(said: &mut Said, scanner: &mut Scanner<'_>) -> Result<usize, Fault> {
    if scanner.kind()? != Kind::Object {
        return value_bytes(scanner);
    }
    let mut bytes = 0;
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        bytes += match &*key.unescape() {
            "name" => said_bytes(said, Field::Name, scanner)?,
            "arguments" | "input" => said_bytes(said, Field::Arguments, scanner)?,
            _ => value_bytes(scanner)?,
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::super::answer::splice_model;
    use super::super::super::dialect::Dialect;
    use super::*;
    use aex_core::usage::Usage;
    use bytes::Bytes;

    fn read(body: &[u8]) -> Option<Answer> {
        Dialect::Chat.answer(body)
    }

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
