//! Answers of Anthropic's API, whole or event by event: the model's name, what was used, an error, how much was said.

use crate::wire::answer::{Answer, object, said_bytes, value_bytes};
use crate::wire::json::{Fault, Kind, Number, Scanner};
use crate::wire::said::{Field, Said};
use crate::wire::usage::Messages;

/// What the events of one stream have told: each reports a part, and a later one replaces an earlier.
#[derive(Clone, Debug, Default)]
pub(in crate::wire) struct Told {
    counted: Messages,
    /// Bytes of the running block's thinking. One that is not shown is as long as its signature, which holds it encrypted.
    thinking: usize,
    /// Thinking runs whose signature has not come: what of it is not shown is not told yet.
    unsigned: bool,
}

/// Reads a whole answer: a message, or an error.
pub(in crate::wire) fn message(scanner: &mut Scanner<'_>) -> Result<Answer, Fault> {
    let (mut told, mut said) = (Told::default(), Said::default());
    let mut answer = object(scanner, |answer, name, scanner| match name {
        "error" => answer.error(scanner),
        "type" => kind(scanner).map(|kind| answer.is_error |= kind == "error"),
        _ => member(&mut told, &mut said, answer, name, scanner, None),
    })?;
    answer.usage = told.counted.usage().filter(|_| answer.has_usage);
    answer.has_unread_usage &= answer.usage.is_none();
    Ok(answer)
}

/// Reads the payload of an event. `client_model` is what the model should be called.
pub(in crate::wire) fn event(told: &mut Told, said: &mut Said, scanner: &mut Scanner<'_>, client_model: &str) -> Result<Answer, Fault> {
    let since = said.since();
    let mut index = 0;
    let mut stops = false;
    let mut answer = object(scanner, |answer, name, scanner| match name {
        "type" => {
            match &*kind(scanner)? {
                "message_stop" => answer.ends = true,
                "error" => answer.is_error = true,
                _ => {}
            }
            Ok(())
        }
        "error" => answer.error(scanner),
        "message" => each(scanner, |name, scanner| member(told, said, answer, name, scanner, Some(client_model))),
        "index" if scanner.kind()? == Kind::Number => {
            if let Number::Natural(number) = scanner.number()? {
                index = number;
            }
            Ok(())
        }
        "content_block" => {
            (told.thinking, told.unsigned) = (0, false);
            block(told, said, answer, scanner)?;
            answer.is_hiding = Some(told.unsigned);
            Ok(())
        }
        "delta" => {
            stops = block(told, said, answer, scanner)?;
            answer.is_hiding = Some(told.unsigned);
            Ok(())
        }
        "usage" => {
            let ((), tells) = answer.usage_object(scanner, |scanner| told.counted.read(scanner))?;
            answer.has_unread_usage |= tells;
            Ok(())
        }
        _ => scanner.pass(),
    })?;
    said.of_part(since, index);
    if answer.has_usage {
        answer.usage = told.counted.usage();
        answer.has_unread_usage &= answer.usage.is_none();
        // `message_start` counts the input and a first token of output; of several `message_delta` the one with the reason to
        // stop is the last.
        answer.usage_goes_on = !stops;
    }
    Ok(answer)
}

/// A member of a message.
fn member(
    told: &mut Told,
    said: &mut Said,
    answer: &mut Answer,
    name: &str,
    scanner: &mut Scanner<'_>,
    client_model: Option<&str>,
) -> Result<(), Fault> {
    match name {
        "model" => answer.model(scanner, client_model),
        "usage" => {
            let ((), tells) = answer.usage_object(scanner, |scanner| told.counted.read(scanner))?;
            answer.has_unread_usage |= tells;
            Ok(())
        }
        "content" if scanner.kind()? == Kind::List => {
            let mut list = scanner.list()?;
            while scanner.item(&mut list)? {
                told.thinking = 0;
                block(told, said, answer, scanner)?;
            }
            Ok(())
        }
        _ => scanner.pass(),
    }
}

/// Counts what a block, or a delta of one, says. A member that is not known counts as output too. `true` when a reason to stop
/// stands there.
fn block(told: &mut Told, said: &mut Said, answer: &mut Answer, scanner: &mut Scanner<'_>) -> Result<bool, Fault> {
    let since = said.since();
    let mut output = 0;
    let mut stops = false;
    let mut is_result = false;
    let (mut thinks, mut is_signed) = (false, false);
    each(scanner, |name, scanner| {
        match name {
            "type" => {
                let kind = kind(scanner)?;
                is_result = kind.ends_with("_result");
                thinks = kind == "thinking";
            }
            "id" | "tool_use_id" | "citations" | "citation" | "caller" | "container" | "stop_sequence" | "stop_details" => {
                scanner.pass()?;
            }
            "stop_reason" => {
                stops |= scanner.kind()? == Kind::Text;
                scanner.pass()?;
            }
            "thinking" => {
                let bytes = said_bytes(said, Field::Reasoning, scanner)?;
                told.thinking += bytes;
                output += bytes;
            }
            "signature" => {
                let bytes = value_bytes(scanner)?;
                is_signed = bytes > 0;
                output += bytes.saturating_sub(told.thinking);
                told.thinking = told.thinking.max(bytes);
            }
            // A block begins with an input that is empty.
            "input" => output += value_bytes(scanner).map(|bytes| if bytes == "{}".len() { 0 } else { bytes })?,
            "text" => output += said_bytes(said, Field::Text, scanner)?,
            "name" => output += said_bytes(said, Field::Name, scanner)?,
            "partial_json" => output += said_bytes(said, Field::Arguments, scanner)?,
            _ => output += value_bytes(scanner)?,
        }
        Ok(())
    })?;
    told.unsigned = (told.unsigned || thinks) && !is_signed;
    // What a tool of the provider found was not written by the model.
    if is_result {
        said.drop_pieces(since);
    } else {
        answer.add(output);
    }
    Ok(stops)
}

/// Calls `read` at each member of the object at the scanner's place; passes anything else.
fn each(scanner: &mut Scanner<'_>, mut read: impl FnMut(&str, &mut Scanner<'_>) -> Result<(), Fault>) -> Result<(), Fault> {
    if scanner.kind()? != Kind::Object {
        return scanner.pass();
    }
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        read(&key.unescape(), scanner)?;
    }
    Ok(())
}

/// A type; empty when it is no text.
fn kind<'a>(scanner: &mut Scanner<'a>) -> Result<std::borrow::Cow<'a, str>, Fault> {
    if scanner.kind()? == Kind::Text {
        return Ok(scanner.text()?.unescape());
    }
    scanner.pass()?;
    Ok("".into())
}
