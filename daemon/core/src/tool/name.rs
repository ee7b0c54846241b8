//! What a tool is called: by its server and its own name here, by one name among agents.

use aex_proto::value::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest name that agents see, in characters: what the providers' APIs take for a function.
pub const MAX_WIRE: usize = 64;
/// Longest name of a server, so that the name of a tool has room behind it.
const MAX_SERVER: usize = 48;
/// Longest name that a server may give its tool, in bytes: twice the 128 characters that MCP 2025-11-25 recommends.
const MAX_TOOL: usize = 256;
/// What stands between the two in a name for agents.
const BETWEEN: &str = "__";
/// Hexadecimal digits of a shortened name.
const HASH_DIGITS: usize = 10;

/// A tool of a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolName {
    /// The server, as mcp.json has it.
    pub server: String,
    /// The tool, as its server calls it.
    pub tool: String,
}

/// Why there is no such tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// The server's.
    #[error("a server has 1 to 48 of A-Z a-z 0-9 - _ without two _ in a row")]
    Server,
    /// The tool's.
    #[error("a tool has 1 to 256 bytes without control characters")]
    Tool,
}

impl ToolName {
    /// A name that was checked.
    ///
    /// # Errors
    /// When no server or tool can have it.
    pub fn new(server: &str, tool: &str) -> Result<ToolName, BadName> {
        if server.is_empty() || server.len() > MAX_SERVER || !server.bytes().all(is_plain) || server.contains(BETWEEN) {
            return Err(BadName::Server);
        }
        if tool.is_empty() || tool.len() > MAX_TOOL || tool.chars().any(char::is_control) {
            return Err(BadName::Tool);
        }
        Ok(ToolName { server: server.to_owned(), tool: tool.to_owned() })
    }

    /// Reads `SERVER.TOOL`, as command lines have it: a server has no dot, a tool may have some.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<ToolName, BadName> {
        let (server, tool) = text.split_once('.').ok_or(BadName::Server)?;
        ToolName::new(server, tool)
    }

    /// The name for agents: `server__tool`, of at most [`MAX_WIRE`] of `A-Z a-z 0-9 - _`. A name that is longer, has other characters, or could
    /// be that of another server's tool gets ten hexadecimal digits of a SHA-256 over both names in place of its end. It is looked up in a
    /// table, never split; a table has to look for two tools of one name all the same, for a server may call its tool whatever it likes.
    #[must_use]
    pub fn wire(&self) -> String {
        let ToolName { server, tool } = self;
        let plain = format!("{server}{BETWEEN}{tool}");
        // A server's own last `_` and a tool's first one would be told apart by nobody.
        if plain.len() <= MAX_WIRE && plain.bytes().all(is_plain) && !server.ends_with('_') {
            return plain;
        }
        let digest = Digest::of(format!("{server}\0{tool}").as_bytes()).to_string();
        let room = MAX_WIRE.saturating_sub(HASH_DIGITS).saturating_sub(1);
        let plain_or_line = |letter: char| if u8::try_from(letter).is_ok_and(is_plain) { letter } else { '_' };
        let mut name: String = plain.chars().map(plain_or_line).take(room).collect();
        name.push('_');
        name.extend(digest.chars().take(HASH_DIGITS));
        name
    }

    /// Whether a name for agents may be one that was shortened: what stands behind the server's name may then be no name of a tool, and only a
    /// table tells.
    #[must_use]
    pub fn may_be_short(wire: &str) -> bool {
        let mut end = wire.bytes().rev();
        let is_digits = end.by_ref().take(HASH_DIGITS).filter(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count() == HASH_DIGITS;
        is_digits && end.next() == Some(b'_')
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.server, self.tool)
    }
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}
