//! What a request for a response says: a text, or a list of items, of which some only name what the provider has stored.

use super::tools;
use crate::wire::json::{Kind, Scanner};
use crate::wire::request::{Malformed, Reader, count};
use crate::wire::text::Text;
use aex_core::ask::Reference;

/// Items that say all that they are: their bytes bound them.
const WHOLE: [&str; 22] = [
    "additional_tools",
    "apply_patch_call",
    "apply_patch_call_output",
    "computer_call",
    "computer_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "function_call",
    "function_call_output",
    "local_shell_call",
    "local_shell_call_output",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "mcp_list_tools",
    "message",
    "program",
    "program_output",
    "shell_call",
    "shell_call_output",
    "tool_search_call",
    "tool_search_output",
];

/// Reads `input`.
pub(super) fn input(reader: &mut Reader, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
    match scanner.kind()? {
        Kind::Text => {
            reader.ask.messages += 1;
            reader.ask.text_chars += count(scanner.text()?.chars());
        }
        Kind::Null => scanner.pass()?,
        Kind::List => {
            let mut list = scanner.list()?;
            let mut at = 0_u32;
            while scanner.item(&mut list)? {
                if scanner.kind()? != Kind::Object {
                    return Err(Malformed::field(format!("input[{at}]"), "must be an object"));
                }
                item(reader, scanner, at)?;
                reader.ask.messages += 1;
                at = at.saturating_add(1);
            }
        }
        _ => return Err(Malformed::field("input", "must be a string or a list of items")),
    }
    Ok(())
}

fn item(reader: &mut Reader, scanner: &mut Scanner<'_>, at: u32) -> Result<(), Malformed> {
    let (mut kind, mut id): (Option<Text<'_>>, Option<Text<'_>>) = (None, None);
    let (mut has_role, mut is_sealed) = (false, false);
    // Bits of the members that are read here: each may stand once.
    let mut seen = 0_u8;
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        let name = key.unescape();
        let bit = match &*name {
            "type" => 1,
            "id" => 2,
            "content" => 4,
            "output" => 8,
            "summary" => 16,
            "tools" => 32,
            "encrypted_content" => 64,
            _ => 0,
        };
        if seen & bit != 0 {
            return Err(Malformed::field(format!("input[{at}].{name}"), "stands twice"));
        }
        seen |= bit;
        match &*name {
            "type" => kind = text(scanner, || format!("input[{at}].type"))?,
            "id" => id = text(scanner, || format!("input[{at}].id"))?,
            "content" | "output" | "summary" => said(reader, scanner, &format!("input[{at}].{name}"))?,
            "tools" => tools::within(scanner, &mut reader.ask, &format!("input[{at}].tools"))?,
            "role" => {
                has_role = true;
                scanner.pass()?;
            }
            "encrypted_content" => {
                is_sealed = scanner.kind()? == Kind::Text;
                scanner.pass()?;
            }
            _ => scanner.pass()?,
        }
    }
    let kind = kind.map(|kind| kind.unescape());
    let is_whole = match kind.as_deref() {
        // A message may leave its type out, and so may a reference.
        None => has_role,
        Some("reasoning") => is_sealed,
        Some(kind) => WHOLE.contains(&kind),
    };
    if is_whole {
        return Ok(());
    }
    // It stands for something whose size does not show.
    let is_image = kind.as_deref() == Some("image_generation_call");
    let hidden = if is_image { &mut reader.ask.images } else { &mut reader.ask.attachments };
    *hidden += 1;
    match id {
        Some(id) => reader.refer(Reference::Item(id.unescape().into_owned())),
        None if matches!(kind.as_deref(), None | Some("item_reference")) => {
            Err(Malformed::field(format!("input[{at}]"), "must be a message, or an item with a `type` or an `id`"))
        }
        None => Ok(()),
    }
}

/// Counts a content or an output: a text, a part, or a list of parts.
fn said(reader: &mut Reader, scanner: &mut Scanner<'_>, place: &str) -> Result<(), Malformed> {
    match scanner.kind()? {
        Kind::Text => reader.ask.text_chars += count(scanner.text()?.chars()),
        Kind::Object => part(reader, scanner, place)?,
        Kind::List => {
            let mut list = scanner.list()?;
            while scanner.item(&mut list)? {
                match scanner.kind()? {
                    Kind::Object => part(reader, scanner, place)?,
                    Kind::Text => reader.ask.text_chars += count(scanner.text()?.chars()),
                    _ => return Err(Malformed::field(place, "must hold parts")),
                }
            }
        }
        Kind::Null => scanner.pass()?,
        _ => return Err(Malformed::field(place, "must be a string or a list of parts")),
    }
    Ok(())
}

fn part(reader: &mut Reader, scanner: &mut Scanner<'_>, place: &str) -> Result<(), Malformed> {
    let mut kind: Option<Text<'_>> = None;
    let mut texts = 0_u32;
    let (mut image, mut audio) = (false, false);
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        if key.is("type") {
            if kind.is_some() {
                return Err(Malformed::field(format!("{place}[].type"), "stands twice"));
            }
            kind = text(scanner, || format!("{place}[].type"))?;
        } else if (key.is("text") || key.is("refusal")) && scanner.kind()? == Kind::Text {
            texts += 1;
            if texts > 1 {
                return Err(Malformed::field(format!("{place}[].text"), "stands twice"));
            }
            reader.ask.text_chars += count(scanner.text()?.chars());
        } else {
            image |= key.is("image_url");
            audio |= key.is("input_audio") || key.is("audio_url");
            scanner.pass()?;
        }
    }
    let kind = kind.map(|kind| kind.unescape());
    let kind = kind.as_deref();
    image |= matches!(kind, Some("input_image" | "computer_screenshot" | "image_url" | "image" | "output_image"));
    audio |= matches!(kind, Some("input_audio" | "audio" | "audio_url" | "output_audio"));
    // Outputs of a shell and logs of calls have no type, or one of their own; their texts are their bytes.
    let shown = match kind {
        Some("input_text" | "output_text" | "text" | "refusal" | "summary_text" | "reasoning_text") => true,
        None => texts > 0,
        Some(_) => false,
    };
    let ask = &mut reader.ask;
    ask.images += u64::from(image);
    ask.audio_in += u64::from(audio);
    ask.attachments += u64::from(!(image || audio || shown || is_shell_output(place, kind)));
    Ok(())
}

/// What a shell of the client printed: `{outcome, stdout, stderr}` without a type.
fn is_shell_output(place: &str, kind: Option<&str>) -> bool {
    kind.is_none() && place.ends_with(".output")
}

fn text<'a>(scanner: &mut Scanner<'a>, place: impl Fn() -> String) -> Result<Option<Text<'a>>, Malformed> {
    match scanner.kind()? {
        Kind::Text => Ok(Some(scanner.text()?)),
        Kind::Null => {
            scanner.pass()?;
            Ok(None)
        }
        _ => Err(Malformed::field(place(), "must be a string")),
    }
}
