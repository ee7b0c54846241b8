//! What a request for a response says: a text, or a list of items, of which some only name what the provider has stored.

use super::tools;
use crate::wire::costly::asked_for;
use crate::wire::json::{Kind, Scanner};
use crate::wire::request::{Malformed, Reader, count};
use crate::wire::text::Text;
use aex_core::ask::Reference;

/// Items that are known, and the members of which one at least holds something when the item says all that it is: then its bytes bound
/// it. Without them it can only stand for what the provider has stored under its `id`. Items are those of the openai
/// Python SDK 3.52. Sorted.
const WHOLE: [(&str, &[&str]); 30] = [
    ("additional_tools", &["tools"]),
    ("apply_patch_call", &["operation"]),
    ("apply_patch_call_output", &["call_id"]),
    ("code_interpreter_call", &["code"]),
    ("compaction", &["encrypted_content"]),
    ("compaction_summary", &["encrypted_content"]),
    ("computer_call", &["action", "actions"]),
    ("computer_call_output", &["output"]),
    ("context_compaction", &["encrypted_content"]),
    ("custom_tool_call", &["name"]),
    ("custom_tool_call_output", &["output"]),
    ("file_search_call", &["queries"]),
    ("function_call", &["name"]),
    ("function_call_output", &["output"]),
    ("image_generation_call", &["result"]),
    ("local_shell_call", &["action"]),
    ("local_shell_call_output", &["output"]),
    ("mcp_approval_request", &["name"]),
    ("mcp_approval_response", &["approval_request_id"]),
    ("mcp_call", &["name"]),
    ("mcp_list_tools", &["error", "tools"]),
    ("message", &["content"]),
    ("program", &["call_id", "code"]),
    ("program_output", &["call_id", "output", "result"]),
    ("reasoning", &["encrypted_content"]),
    ("shell_call", &["action"]),
    ("shell_call_output", &["output"]),
    ("tool_search_call", &["arguments"]),
    ("tool_search_output", &["call_id", "tools"]),
    ("web_search_call", &["action"]),
];

/// Members that are looked at: each may stand once. Bits are by their places. Sorted.
const MEMBERS: [&str; 19] = [
    "action",
    "actions",
    "approval_request_id",
    "arguments",
    "call_id",
    "code",
    "content",
    "encrypted_content",
    "error",
    "id",
    "name",
    "operation",
    "output",
    "queries",
    "result",
    "role",
    "summary",
    "tools",
    "type",
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
    let mut tools = None;
    // Bits of the members that were met, and of those that hold anything.
    let (mut seen, mut held) = (0, 0);
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        let name = key.unescape();
        let bit = bit(&name);
        if seen & bit != 0 {
            return Err(Malformed::field(format!("input[{at}].{name}"), "stands twice"));
        }
        seen |= bit;
        let holds = match &*name {
            "type" => {
                kind = text(scanner, || format!("input[{at}].type"))?;
                kind.is_some()
            }
            "id" => {
                id = text(scanner, || format!("input[{at}].id"))?;
                id.is_some()
            }
            "content" | "output" | "summary" => said(reader, scanner, &format!("input[{at}].{name}"))?,
            "tools" => {
                // Whose they are, the type tells, which may stand behind them.
                let listed = scanner.skip()?;
                let listed = scanner.whole().get(listed).unwrap_or_default();
                tools = Some(listed);
                asked_for(&mut Scanner::new(listed.as_bytes())?, "tools")?
            }
            // Sealed by the provider: a text.
            "encrypted_content" => {
                let is_text = scanner.kind()? == Kind::Text;
                asked_for(scanner, &name)? && is_text
            }
            _ if bit != 0 => asked_for(scanner, &name)?,
            _ => {
                scanner.pass()?;
                false
            }
        };
        held |= if holds { bit } else { 0 };
    }
    let kind = kind.map(|kind| kind.unescape());
    // A message may leave its type out, and so may a reference.
    let kind = kind.as_deref().or((held & bit("role") != 0).then_some("message"));
    if let Some(listed) = tools.filter(|_| kind != Some("mcp_list_tools")) {
        tools::within(&mut Scanner::new(listed.as_bytes())?, &mut reader.ask, &format!("input[{at}].tools"))?;
    }
    let is_image = kind == Some("image_generation_call");
    reader.ask.images += u64::from(is_image);
    let known = kind.and_then(|kind| WHOLE.binary_search_by_key(&kind, |(name, _)| name).ok()).and_then(|at| WHOLE.get(at));
    if known.is_some_and(|(_, says)| id.is_none() || says.iter().any(|member| held & bit(member) != 0)) {
        return Ok(());
    }
    // It stands for something whose size does not show.
    reader.ask.attachments += u64::from(!is_image);
    match id {
        Some(id) => reader.refer(Reference::Item(id.unescape().into_owned())),
        None if matches!(kind, None | Some("item_reference")) => {
            Err(Malformed::field(format!("input[{at}]"), "must be a message, or an item with a `type` or an `id`"))
        }
        None => Ok(()),
    }
}

/// The bit of a member that is looked at; none of another.
fn bit(name: &str) -> u32 {
    MEMBERS.binary_search(&name).map_or(0, |place| 1 << place)
}

/// Counts a content or an output: a text, a part, or a list of parts. Tells whether it holds anything.
fn said(reader: &mut Reader, scanner: &mut Scanner<'_>, place: &str) -> Result<bool, Malformed> {
    Ok(match scanner.kind()? {
        Kind::Text => {
            let text = scanner.text()?;
            reader.ask.text_chars += count(text.chars());
            !text.raw.is_empty()
        }
        Kind::Object => {
            part(reader, scanner, place)?;
            true
        }
        Kind::List => {
            let mut any = false;
            let mut list = scanner.list()?;
            while scanner.item(&mut list)? {
                match scanner.kind()? {
                    Kind::Object => part(reader, scanner, place)?,
                    Kind::Text => reader.ask.text_chars += count(scanner.text()?.chars()),
                    _ => return Err(Malformed::field(place, "must hold parts")),
                }
                any = true;
            }
            any
        }
        Kind::Null => {
            scanner.pass()?;
            false
        }
        _ => return Err(Malformed::field(place, "must be a string or a list of parts")),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_searched_is_sorted() {
        assert!(WHOLE.is_sorted_by_key(|(kind, _)| *kind) && MEMBERS.is_sorted());
        assert!(WHOLE.iter().all(|(_, says)| says.iter().all(|member| bit(member) != 0)));
    }
}
