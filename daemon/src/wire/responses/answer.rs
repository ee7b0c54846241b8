//! A response, whole or an event of its stream, read in one pass: its name, its model, its usage, an error, what it says.

use crate::wire::answer::{self, Answer, said_bytes, value_bytes};
use crate::wire::json::{Fault, Kind, Number, Scanner};
use crate::wire::said::{Field, Said};
use crate::wire::usage::{self, HostedTools};
use aex_core::usage::Usage;

/// What the events of one stream have told of items: the list in the last event may be empty (ChatGPT's backend for Codex), or leave some out.
#[derive(Debug, Default)]
pub(in crate::wire) struct Told {
    begun: Items,
    done: Items,
}

/// Items at one of their two events.
#[derive(Debug, Default)]
struct Items {
    count: u64,
    tools: HostedTools,
}

impl Items {
    fn add(&mut self, kind: &str) {
        self.count = self.count.saturating_add(1);
        self.tools.item(kind);
    }
}

impl Told {
    /// Adds the calls of tools. Where all items that began came to their end, those are all calls; otherwise there may be more.
    fn add_to(&self, usage: &mut Usage) {
        let told = usage.told.clone();
        [&self.begun, &self.done].into_iter().for_each(|items| items.tools.clone().add_to(usage));
        if self.done.count > 0 && self.begun.count <= self.done.count {
            let mut all = HostedTools::default();
            all.all_items_seen();
            all.add_to(usage);
        } else {
            usage.told = told;
        }
    }
}

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
    let mut is_empty = true;
    while scanner.item(&mut list)? {
        is_empty = false;
        if scanner.kind()? != Kind::Object {
            scanner.pass()?;
            continue;
        }
        let mut open = scanner.object()?;
        while let Some(key) = scanner.key(&mut open)? {
            match &*key.unescape() {
                "id" if scanner.kind()? == Kind::Text => {
                    let id = scanner.text()?.unescape().into_owned();
                    answer.kept.get_or_insert_default().add_item(id);
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
    // In a stream an empty list is told of responses with items, too.
    if output == Output::Counts || !is_empty {
        answer.tools.all_items_seen();
    }
    Ok(())
}

/// Reads an event of a stream.
pub(in crate::wire) fn event(told: &mut Told, said: &mut Said, scanner: &mut Scanner<'_>, client_model: &str) -> Result<Answer, Fault> {
    let since = said.since();
    let (mut output, mut part) = (0, 0);
    let mut kind = Event::Other;
    let mut item = Item::default();
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
            "delta" => answer.say(said, Field::Text, scanner)?,
            "output_index" if scanner.kind()? == Kind::Number => {
                if let Number::Natural(number) = scanner.number()? {
                    output = number;
                }
            }
            "content_index" | "summary_index" if scanner.kind()? == Kind::Number => {
                if let Number::Natural(number) = scanner.number()? {
                    part = number;
                }
            }
            "item" if scanner.kind()? == Kind::Object => {
                item = Item::read(said, scanner)?;
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
        Event::ItemAdded => {
            answer.add(item.name_bytes);
            told.begun.add(&item.kind);
        }
        Event::ItemDone => {
            told.done.add(&item.kind);
            item.id.into_iter().for_each(|id| answer.kept.get_or_insert_default().add_item(id));
        }
        Event::Delta(_) | Event::Other => {}
    }
    said.of_choice(since, output);
    said.of_part(since, part);
    match kind {
        Event::Delta(field) => said.are(since, field),
        Event::ItemAdded => {}
        _ => said.drop_pieces(since),
    }
    if let Some(usage) = &mut answer.usage {
        told.add_to(usage);
    }
    Ok(answer)
}

/// An item that an event is about.
#[derive(Default)]
struct Item {
    id: Option<String>,
    kind: String,
    /// The size of the name of what it calls.
    name_bytes: usize,
}

impl Item {
    fn read(said: &mut Said, scanner: &mut Scanner<'_>) -> Result<Item, Fault> {
        let mut item = Item::default();
        let mut open = scanner.object()?;
        while let Some(key) = scanner.key(&mut open)? {
            match &*key.unescape() {
                "id" if scanner.kind()? == Kind::Text => item.id = Some(scanner.text()?.unescape().into_owned()),
                "type" if scanner.kind()? == Kind::Text => item.kind = scanner.text()?.unescape().into_owned(),
                "name" => item.name_bytes = said_bytes(said, Field::Name, scanner)?,
                _ => scanner.pass()?,
            }
        }
        Ok(item)
    }
}

/// Events that mean something to a meter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Last,
    Failed,
    Error,
    ItemAdded,
    ItemDone,
    /// A piece of a text. Sound and pictures come in such events, too, which are `Other`.
    Delta(Field),
    Other,
}

impl Event {
    fn of(name: &str) -> Event {
        match name {
            "response.completed" | "response.incomplete" => Event::Last,
            "response.failed" => Event::Failed,
            "error" => Event::Error,
            "response.output_item.added" => Event::ItemAdded,
            "response.output_item.done" => Event::ItemDone,
            "response.output_text.delta" => Event::Delta(Field::Text),
            "response.refusal.delta" => Event::Delta(Field::Refusal),
            "response.reasoning_text.delta" => Event::Delta(Field::Reasoning),
            "response.reasoning_summary_text.delta" => Event::Delta(Field::Summary),
            "response.function_call_arguments.delta"
            | "response.custom_tool_call_input.delta"
            | "response.mcp_call_arguments.delta"
            | "response.code_interpreter_call_code.delta" => Event::Delta(Field::Arguments),
            _ => Event::Other,
        }
    }
}
