//! Changes the text of an mcp.json: only what was asked for; all else keeps its bytes, its order and its comments.
//!
//! Takes texts that were read without an error, and gives texts to be read before they are written. Must not: know what an entry means.

use aex_core::jsonc::{self, Plain};
use std::ops::Range;

/// The key of all servers.
const SERVERS: &str = "mcpServers";

/// Why a text was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditFault {
    /// The name is taken.
    #[error("mcp.json has a server `{0}` already")]
    Exists(String),
    /// Nothing has the name.
    #[error("mcp.json has no server `{0}`")]
    NotFound(String),
    /// A comment would go with it.
    #[error("mcp.json has a comment within `{0}`, which would be lost: change the file by hand, then `aexctl models reload`")]
    Comment(String),
    /// Its form is not what this module knows.
    #[error("mcp.json cannot be changed here: change the file by hand, then `aexctl models reload`")]
    Form,
}

/// A member of an object, in bytes.
struct Member {
    key: String,
    /// From its key's quote on.
    start: usize,
    value: Range<usize>,
}

/// An object: what is in it, and where it ends.
struct Object {
    members: Vec<Member>,
    /// Where its closing brace is.
    close: usize,
}

/// A text with its places.
struct Text<'t> {
    source: &'t str,
    plain: Plain,
}

/// One text in place of another.
struct Splice {
    place: Range<usize>,
    text: String,
}

/// Adds a server: `entry` is its JSON, on lines of its own. Without a source, or in an empty one, the file begins with it.
///
/// # Errors
/// When the name is taken.
pub fn add(source: Option<&str>, name: &str, entry: &str) -> Result<String, EditFault> {
    let member = |indent: &str| format!("{}: {}", quoted(name), entry.replace('\n', &format!("\n{indent}")));
    let Some(source) = source.filter(|source| !source.trim_start_matches('\u{feff}').trim().is_empty()) else {
        return Ok(format!("{{\n  {}: {{\n    {}\n  }}\n}}\n", quoted(SERVERS), member("    ")));
    };
    let text = Text::new(source);
    let top = text.top()?;
    let Some(servers) = top.members.iter().find(|member| member.key == SERVERS) else {
        let body = format!("{{\n    {}\n  }}", member("    "));
        return Ok(text.with(text.appended(&top, "  ", &format!("{}: {body}", quoted(SERVERS)))));
    };
    let servers = text.object(servers.value.start).ok_or(EditFault::Form)?;
    if servers.members.iter().any(|member| member.key == name) {
        return Err(EditFault::Exists(name.to_owned()));
    }
    let indent = servers.members.first().and_then(|first| text.indent(first.start)).unwrap_or("    ");
    Ok(text.with(text.appended(&servers, indent, &member(indent))))
}

/// Takes a server out.
///
/// # Errors
/// When there is none of that name, or a comment would be lost.
pub fn remove(source: &str, name: &str) -> Result<String, EditFault> {
    let text = Text::new(source);
    let servers = text.servers()?;
    let at = servers.members.iter().position(|member| member.key == name).ok_or_else(|| EditFault::NotFound(name.to_owned()))?;
    let member = servers.members.get(at).ok_or(EditFault::Form)?;
    // From the end of what stands before it, so that no empty line stays.
    let before = source.get(..member.start).unwrap_or_default().trim_end().len();
    let begin = if text.plain.comments.iter().any(|comment| comment.end == before) { member.start } else { before };
    let comma = text.comma_behind(member.value.end);
    let place = begin..comma.map_or(member.value.end, |comma| comma.saturating_add(1));
    if text.plain.comments.iter().any(|comment| comment.start < place.end && place.start < comment.end) {
        return Err(EditFault::Comment(name.to_owned()));
    }
    let mut splices = vec![Splice { place, text: String::new() }];
    // The last one leaves a comma behind the one before it.
    if comma.is_none()
        && let Some(left) = at.checked_sub(1).and_then(|before| text.comma_behind(servers.members.get(before)?.value.end))
    {
        splices = vec![
            Splice { place: left..left.saturating_add(1), text: String::new() },
            Splice { place: begin.max(left.saturating_add(1))..member.value.end, text: String::new() },
        ];
    }
    Ok(text.with(splices))
}

/// Switches a server on or off, in the word that its entry has for it.
///
/// # Errors
/// When there is none of that name.
pub fn set_enabled(source: &str, name: &str, enabled: bool) -> Result<String, EditFault> {
    let text = Text::new(source);
    let servers = text.servers()?;
    let member = servers.members.iter().find(|member| member.key == name).ok_or_else(|| EditFault::NotFound(name.to_owned()))?;
    let entry = text.object(member.value.start).ok_or(EditFault::Form)?;
    let said = entry.members.iter().filter_map(|member| {
        let word = match member.key.as_str() {
            "enabled" => enabled,
            "disabled" => !enabled,
            _ => return None,
        };
        Some(Splice { place: member.value.clone(), text: word.to_string() })
    });
    let mut splices: Vec<Splice> = said.collect();
    if splices.is_empty() && !enabled {
        let indent = entry.members.first().and_then(|first| text.indent(first.start));
        let disabled = "\"disabled\": true";
        splices = match (indent, entry.members.last()) {
            (Some(indent), _) => text.appended(&entry, indent, disabled),
            // All of it on one line stays on one line.
            (None, Some(last)) => {
                let behind = text.comma_behind(last.value.end).map_or(last.value.end, |comma| comma.saturating_add(1));
                let comma = if behind == last.value.end { "," } else { "" };
                vec![Splice { place: behind..behind, text: format!("{comma} {disabled}") }]
            }
            (None, None) => return Err(EditFault::Form),
        };
    }
    Ok(text.with(splices))
}

impl<'t> Text<'t> {
    fn new(source: &'t str) -> Text<'t> {
        Text { source, plain: jsonc::plain(source) }
    }

    fn top(&self) -> Result<Object, EditFault> {
        let start = self.plain.json.find('{').ok_or(EditFault::Form)?;
        self.object(start).ok_or(EditFault::Form)
    }

    fn servers(&self) -> Result<Object, EditFault> {
        let top = self.top()?;
        let Some(servers) = top.members.iter().find(|member| member.key == SERVERS) else {
            return Ok(Object { members: Vec::new(), close: top.close });
        };
        self.object(servers.value.start).ok_or(EditFault::Form)
    }

    /// The object that begins there.
    fn object(&self, start: usize) -> Option<Object> {
        let json = self.plain.json.as_bytes();
        let mut at = blanks(json, start.checked_add(1)?);
        if json.get(start) != Some(&b'{') {
            return None;
        }
        let mut members = Vec::new();
        while *json.get(at)? != b'}' {
            let name = at..value_end(json, at)?;
            let key = serde_json::from_str(self.plain.json.get(name.clone())?).ok()?;
            let colon = blanks(json, name.end);
            let from = blanks(json, colon.checked_add(1)?);
            let value = from..value_end(json, from)?;
            at = blanks(json, value.end);
            if json.get(at) == Some(&b',') {
                at = blanks(json, at.checked_add(1)?);
            }
            members.push(Member { key, start: name.start, value });
        }
        Some(Object { members, close: at })
    }

    /// The comma behind a value, also one that JSON does not have.
    fn comma_behind(&self, end: usize) -> Option<usize> {
        let next = blanks(self.plain.json.as_bytes(), end);
        if self.plain.json.as_bytes().get(next) == Some(&b',') {
            return Some(next);
        }
        self.plain.commas.iter().copied().find(|comma| (end..next).contains(comma))
    }

    /// What stands before something on its line, when that is blank.
    fn indent(&self, at: usize) -> Option<&'t str> {
        let before = self.source.get(..at)?;
        let line = before.get(before.rfind('\n')?.checked_add(1)?..)?;
        line.bytes().all(|byte| byte == b' ' || byte == b'\t').then_some(line)
    }

    /// A member behind all others, on a line of its own.
    fn appended(&self, object: &Object, indent: &str, member: &str) -> Vec<Splice> {
        let end = self.source.get(..object.close).unwrap_or_default().trim_end().len();
        let mut splices = Vec::new();
        if let Some(last) = object.members.last()
            && self.comma_behind(last.value.end).is_none()
        {
            splices.push(Splice { place: last.value.end..last.value.end, text: ",".to_owned() });
        }
        // What closes the object goes on a line of its own, where it does not have one.
        let has_line = self.source.get(end..object.close).is_some_and(|blank| blank.contains('\n'));
        let outer = indent.strip_suffix("  ").or_else(|| indent.strip_suffix('\t')).unwrap_or_default();
        let behind = if has_line { String::new() } else { format!("\n{outer}") };
        splices.push(Splice { place: end..end, text: format!("\n{indent}{member}{behind}") });
        splices
    }

    /// The text with its splices, which are in order.
    fn with(&self, splices: Vec<Splice>) -> String {
        let (mut out, mut at) = (String::new(), 0);
        for Splice { place, text } in splices {
            out.push_str(self.source.get(at..place.start).unwrap_or_default());
            out.push_str(&text);
            at = place.end;
        }
        out.push_str(self.source.get(at..).unwrap_or_default());
        out
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn blanks(json: &[u8], from: usize) -> usize {
    let rest = json.get(from..).unwrap_or_default();
    from.saturating_add(rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count())
}

/// Where a value that begins there ends.
fn value_end(json: &[u8], start: usize) -> Option<usize> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (at, byte) in json.iter().enumerate().skip(start) {
        if in_text {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            in_text = !ends;
            if ends && depth == 0 {
                return at.checked_add(1);
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => depth = depth.checked_add(1)?,
            b'}' | b']' if depth > 0 => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return at.checked_add(1);
                }
            }
            b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
