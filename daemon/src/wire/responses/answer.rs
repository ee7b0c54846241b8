//! A response, whole or an event of its stream, read in one pass: its name, its model, its usage, an error, what it says.

use crate::wire::answer::{self, Answer, Kept, value_bytes};
use crate::wire::json::{Fault, Kind, Number, Scanner};
use crate::wire::usage;

/// Reads a plain answer.
pub(in crate::wire) fn object(scanner: &mut Scanner<'_>, client_model: Option<&str>) -> Result<Answer, Fault> {
    answer::object(scanner, |answer, name, scanner| member(answer, name, scanner, client_model, Output::Counts))
}

/// Whether what a response says is counted: in events it has been said before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    Counts,
    Repeats,
}

fn member(answer: &mut Answer, name: &str, scanner: &mut Scanner<'_>, client_model: Option<&str>, output: Output) -> Result<(), Fault> {
    match name {
        "id" if scanner.kind()? == Kind::Text => {
            let id = scanner.text()?.unescape().into_owned();
            answer.kept.get_or_insert_default().id = id;
            Ok(())
        }
        "created_at" if scanner.kind()? == Kind::Number => {
            if let Number::Natural(seconds) = scanner.number()? {
                answer.kept.get_or_insert_default().created_at = seconds;
            }
            Ok(())
        }
        "model" => answer.model(scanner, client_model),
        "usage" => answer.usage(scanner, usage::responses),
        "tool_usage" => answer.tools.tool_usage(scanner),
        "service_tier" => answer.service_tier(scanner),
        "error" => answer.error(scanner),
        "output" => items(answer, scanner, output),
        _ => scanner.pass(),
    }
}

fn items(answer: &mut Answer, scanner: &mut Scanner<'_>, output: Output) -> Result<(), Fault> {
    if scanner.kind()? != Kind::List {
        return scanner.pass();
    }
    let mut list = scanner.list()?;
    while scanner.item(&mut list)? {
        if scanner.kind()? != Kind::Object {
            scanner.pass()?;
            continue;
        }
        let mut open = scanner.object()?;
        while let Some(key) = scanner.key(&mut open)? {
            match &*key.unescape() {
                "id" if scanner.kind()? == Kind::Text => {
                    let id = scanner.text()?.unescape().into_owned();
                    keep(answer.kept.get_or_insert_default(), id);
                }
                "type" if scanner.kind()? == Kind::Text => {
                    let kind = scanner.text()?;
                    answer.tools.item(&kind.unescape());
                }
                "type" | "status" | "role" | "call_id" | "annotations" => scanner.pass()?,
                // A field that is not known counts as output too.
                _ if output == Output::Counts => {
                    let bytes = value_bytes(scanner)?;
                    answer.add(bytes);
                }
                _ => scanner.pass()?,
            }
        }
    }
    answer.tools.all_items_seen();
    Ok(())
}

fn keep(kept: &mut Kept, item: String) {
    if kept.items.len() < Kept::MOST_ITEMS {
        kept.items.push(item);
    }
}

/// Reads an event of a stream.
pub(in crate::wire) fn event(scanner: &mut Scanner<'_>, client_model: &str) -> Result<Answer, Fault> {
    let mut kind = Event::Other;
    let mut name_bytes = 0;
    let mut answer = answer::object(scanner, |answer, name, scanner| {
        match name {
            "type" if scanner.kind()? == Kind::Text => kind = Event::of(&scanner.text()?.unescape()),
            "sequence_number" if scanner.kind()? == Kind::Number => {
                if let Number::Natural(number) = scanner.number()? {
                    answer.sequence = Some(number);
                }
            }
            "response" if scanner.kind()? == Kind::Object => {
                let mut open = scanner.object()?;
                while let Some(key) = scanner.key(&mut open)? {
                    member(answer, &key.unescape(), scanner, Some(client_model), Output::Repeats)?;
                }
            }
            // Whatever grows is output: texts, refusals, reasoning, arguments, code.
            "delta" => {
                let bytes = value_bytes(scanner)?;
                answer.add(bytes);
            }
            "item" if scanner.kind()? == Kind::Object => {
                let mut open = scanner.object()?;
                while let Some(key) = scanner.key(&mut open)? {
                    if key.is("name") { name_bytes = value_bytes(scanner)? } else { scanner.pass()? }
                }
            }
            _ => scanner.pass()?,
        }
        Ok(())
    })?;
    match kind {
        Event::Last => answer.ends = true,
        Event::Failed => (answer.ends, answer.is_error) = (true, true),
        Event::Error => answer.is_error = true,
        // The name of a function that is called stands in no delta.
        Event::ItemAdded => answer.add(name_bytes),
        Event::Other => {}
    }
    Ok(answer)
}

/// Events that mean something to a meter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Last,
    Failed,
    Error,
    ItemAdded,
    Other,
}

impl Event {
    fn of(name: &str) -> Event {
        match name {
            "response.completed" | "response.incomplete" => Event::Last,
            "response.failed" => Event::Failed,
            "error" => Event::Error,
            "response.output_item.added" => Event::ItemAdded,
            _ => Event::Other,
        }
    }
}
