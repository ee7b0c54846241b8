//! Streams: any cutting gives the same bytes and the same meter, and the bytes are the provider's but for the model's name and the usage
//! chunk that the client did not ask for. Texts that are kept are no more than the output. The judge reads the whole stream at once, by rules of its own.

use crate::dice::Dice;
use crate::doc::{self, Doc};
use crate::engine::halves;
use aexd::wire::dialect::Dialect;
use aexd::wire::edit::quoted;
use aexd::wire::stream::{Ending, StreamEditor, UsageChunk};
use bytes::Bytes;

const DIALECTS: &[Dialect] = &[Dialect::Chat, Dialect::Completions, Dialect::Messages, Dialect::Responses];

/// Sixteen bytes of choices, and the stream as it came.
pub fn check(bytes: &[u8]) {
    let (mut dice, body) = halves(bytes);
    hold(&mut dice, body);
}

/// A stream that is made: lines of events, with all that the format allows between them.
pub fn check_made(bytes: &[u8]) {
    const PIECES: &[&str] = &[
        "data: {\"model\":\"real\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"é\"}}]}",
        "data:{\"model\":\"mine\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}",
        "data: {\"model\":\"re\\u0061l\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}",
        "data: [DONE]",
        "data: {\"choices\":[{\"index\":1,\"finish_reason\":\"length\",\"delta\":{\"content\":\"ab\"}}],",
        "data:  \"model\" : \"real\" }",
        "data: {\"type\":\"message_start\",\"message\":{\"model\":\"real\",\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}",
        "data: {\"type\":\"message_stop\"}",
        "data: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"model\":\"real\",\"usage\":null},\"sequence_number\":0}",
        "data: {\"type\":\"response.completed\",\"response\":{\"model\":\"real\",\"usage\":{\"input_tokens\":3,\"output_tokens\":2}}}",
        "data: {\"error\":{\"message\":\"x\"}}",
        "data",
        "data:",
        ": comment",
        "event: message_start",
        "event: error",
        "event",
        "id: 7",
        "retry",
        "\u{feff}data: 1",
        "{",
        "data: nope",
        "",
    ];
    const ENDS: &[&str] = &["\n", "\r\n", "\r", "\n\n", "\r\n\r\n", "\r\r", "\n\r"];
    let (mut choices, rest) = halves(bytes);
    let mut dice = Dice::new(rest);
    let mut stream = String::new();
    while !dice.is_over() && stream.len() < 4096 {
        stream.push_str(dice.pick(PIECES));
        stream.push_str(if dice.once_in(16) { "" } else { dice.pick(ENDS) });
    }
    hold(&mut choices, stream.as_bytes());
}

/// Events of a response that nothing follows.
const LAST_OF_RESPONSES: [&str; 3] = ["response.completed", "response.failed", "response.incomplete"];

/// What came of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    bytes: Vec<u8>,
    ending: Ending,
}

fn hold(dice: &mut Dice<'_>, body: &[u8]) {
    let dialect = dice.pick(DIALECTS);
    let client = dice.pick(&["mine", "real", "a\"b", "日本", ""]);
    let chunk = dice.pick(&[UsageChunk::Strip, UsageChunk::Pass]);
    let choices = dice.pick(&[1, 2, 0, 128]);
    let editor = || StreamEditor::new(dialect, client, choices, chunk).keeping_texts();
    let whole = run(editor(), &[body]);
    let single: Vec<&[u8]> = body.chunks(1).collect();
    assert_eq!(whole, run(editor(), &single), "byte by byte");
    let cut = dice.cut(body);
    assert_eq!(whole, run(editor(), &cut), "cut");

    let wanted = Wanted::of(dialect, client, chunk, body);
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let sent = [whole.bytes.as_slice(), &whole.ending.tail].concat();
    // Behind half an event stands a blank line, so that the error event is none of it.
    let sent = if whole.ending.complete { sent.as_slice() } else { sent.strip_suffix(b"\n\n".as_slice()).unwrap_or(&sent) };
    let full = wanted.bytes.as_slice();
    let full = if whole.ending.complete { full } else { full.strip_suffix(b"\n\n".as_slice()).unwrap_or(full) };
    assert_eq!(shown(sent), shown(full), "the client's bytes");
    assert_eq!(sent, full);
    assert_eq!(whole.ending.fault.is_some(), wanted.is_fault, "fault: {:?}", whole.ending);
    assert!(whole.ending.meter.relayed_output_bytes <= body.len() as u64, "no more output than bytes");
    let texts = whole.ending.said.texts();
    assert!(texts.iter().all(|text| text.text.len() as u64 <= text.bytes), "no text is longer than its bytes");
    let said = texts.iter().map(|text| text.bytes).sum::<u64>();
    assert!(said <= whole.ending.meter.relayed_output_bytes, "no more texts than output");
    let silent = run(StreamEditor::new(dialect, client, choices, chunk), &[body]);
    assert!(silent.bytes == whole.bytes && silent.ending.meter == whole.ending.meter, "keeping texts changes nothing else");
    assert!(!whole.ending.complete || whole.ending.fault.is_none());
}

fn run(mut editor: StreamEditor, frames: &[&[u8]]) -> Told {
    let mut bytes = Vec::new();
    for frame in frames {
        let relay = editor.push(Bytes::copy_from_slice(frame));
        bytes.extend_from_slice(&relay.bytes);
    }
    Told { bytes, ending: editor.finish() }
}

/// What the client shall get, read from the whole stream at once.
struct Wanted {
    bytes: Vec<u8>,
    is_fault: bool,
}

/// An event, and the bytes of its `data` lines.
struct Event {
    from: usize,
    to: usize,
    data: Vec<(usize, usize)>,
}

impl Wanted {
    fn of(dialect: Dialect, client: &str, chunk: UsageChunk, body: &[u8]) -> Wanted {
        let mut wanted = Wanted { bytes: Vec::new(), is_fault: false };
        let (mut done, mut read) = (0, 0);
        for event in events(body) {
            wanted.bytes.extend_from_slice(&body[done..event.from]);
            let lines: Vec<&[u8]> = event.data.iter().map(|(from, to)| &body[*from..*to]).collect();
            let payload = lines.join(&b'\n');
            let own = &body[event.from..event.to];
            done = event.to;
            match payload.trim_ascii() {
                b"" => {
                    wanted.bytes.extend_from_slice(own);
                    continue;
                }
                b"[DONE]" => {
                    wanted.bytes.extend_from_slice(own);
                    wanted.is_fault = read == 0;
                    return wanted;
                }
                _ => {}
            }
            let Some(doc) = doc::parse(&payload).filter(|doc| doc.depth() <= aexd::wire::json::MAX_DEPTH) else {
                wanted.is_fault = true;
                return wanted;
            };
            if !doc.is_map() {
                wanted.bytes.extend_from_slice(own);
                continue;
            }
            read += 1;
            if chunk == UsageChunk::Strip && is_usage_chunk(dialect, &doc) {
                continue;
            }
            match model(dialect, &doc).filter(|model| model.text() != Some(client)) {
                Some(model) => {
                    // A string has no line end: it lies in one line, and the lines before it are whole.
                    let mut from = model.raw.as_ptr() as usize - doc.raw.as_ptr() as usize + lead(&payload);
                    let (start, _) = event
                        .data
                        .iter()
                        .find(|(start, end)| {
                            let length = end - start;
                            let is_here = from + model.raw.len() <= length;
                            from -= if is_here { 0 } else { length + 1 };
                            is_here
                        })
                        .expect("a line");
                    let at = start + from;
                    wanted.bytes.extend_from_slice(&body[event.from..at]);
                    wanted.bytes.extend_from_slice(quoted(client).as_bytes());
                    wanted.bytes.extend_from_slice(&body[at + model.raw.len()..event.to]);
                }
                None => wanted.bytes.extend_from_slice(own),
            }
            if is_last(dialect, &doc) {
                return wanted;
            }
        }
        wanted.bytes.extend_from_slice(&body[done..]);
        wanted.is_fault = read == 0;
        wanted
    }
}

/// White space before a value.
fn lead(payload: &[u8]) -> usize {
    payload.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

fn is_usage_chunk(dialect: Dialect, doc: &Doc<'_>) -> bool {
    let chat = matches!(dialect, Dialect::Chat | Dialect::Completions);
    let members = || doc.members().iter();
    let choices = members().rev().find(|(name, value)| name == "choices" && value.raw.starts_with('['));
    let usage = members().any(|(name, value)| name == "usage" && value.is_map());
    let errors = members().any(|(name, value)| name == "error" && !value.is_null())
        || members()
            .filter(|(name, _)| name == "x_groq")
            .flat_map(|(_, groq)| groq.members())
            .any(|(name, value)| name == "error" && !value.is_null());
    chat && usage && !errors && choices.is_some_and(|(_, value)| value.items().is_empty())
}

/// Whether nothing may follow an event.
fn is_last(dialect: Dialect, doc: &Doc<'_>) -> bool {
    // Of a name that is said twice any word counts.
    let mut kinds = doc.members().iter().filter(|(name, _)| name == "type").filter_map(|(_, value)| value.text());
    match dialect {
        Dialect::Messages | Dialect::CountTokens => kinds.any(|kind| kind == "message_stop"),
        Dialect::Responses => kinds.next_back().is_some_and(|kind| LAST_OF_RESPONSES.contains(&kind)),
        Dialect::Chat | Dialect::Completions | Dialect::Embeddings => false,
    }
}

/// The model's name as the dialect has it.
fn model<'a, 'b>(dialect: Dialect, doc: &'b Doc<'a>) -> Option<&'b Doc<'a>> {
    let last = |doc: &'b Doc<'a>| {
        doc.members().iter().rev().find(|(name, value)| name == "model" && value.text().is_some()).map(|(_, value)| value)
    };
    let holder = match dialect {
        Dialect::Messages => Some("message"),
        Dialect::Responses => Some("response"),
        _ => None,
    };
    if let Some(holder) = holder {
        doc.members().iter().rev().filter(|(name, _)| name == holder).find_map(|(_, held)| last(held))
    } else {
        last(doc)
    }
}

/// Events by WHATWG HTML, "Interpreting an event stream", and what stands between them left out.
fn events(body: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut open: Option<Event> = None;
    let mut at = 0;
    while at < body.len() {
        let end = body[at..].iter().position(|byte| matches!(byte, b'\n' | b'\r')).map_or(body.len(), |found| at + found);
        let next = match body.get(end..) {
            Some([b'\r', b'\n', ..]) => end + 2,
            Some([_, ..]) => end + 1,
            _ => end,
        };
        let from = if at == 0 && body.starts_with(b"\xef\xbb\xbf") { 3 } else { at };
        let line = &body[from..end.max(from)];
        if line.is_empty() {
            events.extend(open.take().map(|event| Event { to: next, ..event }));
        } else if line[0] != b':' {
            let event = open.get_or_insert(Event { from: at, to: 0, data: Vec::new() });
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            if &line[..colon] == b"data" {
                let value = (from + colon + 1).min(end);
                event.data.push((if body.get(value) == Some(&b' ') && value < end { value + 1 } else { value }, end));
            }
        }
        at = next;
    }
    events.extend(open.map(|event| Event { to: body.len(), ..event }));
    events
}
