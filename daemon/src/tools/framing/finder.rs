//! Whose a message is that is too long to keep: finds the top-level `id` of JSON that passes by byte by byte.

use rmcp::model::RequestId;

/// An id, or a key that could be `id` or `method`, is no longer than this.
const MAX_TOKEN: usize = 64;

/// Looks at a message as it passes.
#[derive(Debug, Default)]
pub(super) struct Finder {
    depth: u32,
    in_string: bool,
    is_escaped: bool,
    place: Place,
    token: Vec<u8>,
    id: Option<RequestId>,
    is_request: bool,
}

/// Where in the outermost object it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Elsewhere,
    Key,
    Id,
}

/// Whose a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The answer to this request.
    Answer(RequestId),
    /// A request or a notification of the server's own.
    Server,
    /// That did not show.
    Unknown,
}

impl Finder {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.step(*byte);
        }
    }

    pub(super) fn whose(&self) -> Whose {
        match (&self.id, self.is_request) {
            (_, true) => Whose::Server,
            (Some(id), false) => Whose::Answer(id.clone()),
            (None, false) => Whose::Unknown,
        }
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            self.keep(byte);
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.keep(byte);
            }
            b'{' | b'[' => {
                self.depth = self.depth.saturating_add(1);
                self.token.clear();
                self.place = if self.depth == 1 && byte == b'{' { Place::Key } else { Place::Elsewhere };
            }
            b'}' | b']' => {
                self.end_value();
                self.depth = self.depth.saturating_sub(1);
            }
            b',' if self.depth == 1 => {
                self.end_value();
                self.place = Place::Key;
            }
            b':' if self.depth == 1 && self.place == Place::Key => {
                self.is_request |= self.token == b"\"method\"";
                self.place = if self.token == b"\"id\"" { Place::Id } else { Place::Elsewhere };
                self.token.clear();
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => self.keep(byte),
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.depth == 1 && self.place != Place::Elsewhere && self.token.len() < MAX_TOKEN {
            self.token.push(byte);
        }
    }

    fn end_value(&mut self) {
        if self.depth == 1 && self.place == Place::Id {
            self.id = serde_json::from_slice(&self.token).ok();
        }
        self.token.clear();
        self.place = Place::Elsewhere;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, whose: Whose) {
        let mut finder = Finder::default();
        finder.feed(text.as_bytes());
        assert_eq!(finder.whose(), whose, "{text}");
    }

    #[test]
    fn the_id_of_a_message_is_that_of_its_outermost_object() {
        let answer = |id: i64| Whose::Answer(RequestId::Number(id));
        check(r#"{"jsonrpc":"2.0","id":5,"result":{"text":"aa"#, answer(5));
        check(r#"{"result":{"id":1,"content":[{"id":2}]},"jsonrpc":"2.0","id":7}"#, answer(7));
        check(r#"{"result":{"text":"\"},\"id\":9"},"id" : "x" }"#, Whose::Answer(RequestId::String("x".into())));
        check(r#"{"error":{"data":"{\"id\":3}"},"id":4}"#, answer(4));
        check(r#"{"method":"notifications/message","params":{"id":3}}"#, Whose::Server);
        check(r#"{"id":3,"method":"sampling/createMessage"}"#, Whose::Server);
        check(r#"{"result":{"text":"aaaa"#, Whose::Unknown);
        check(r#"[{"id":3,"result":{}}]"#, Whose::Unknown);
        check(r#"{"id":5"#, Whose::Unknown);
        check(r#""id":5,"#, Whose::Unknown);
        check("aaaaaaaa", Whose::Unknown);
    }
}
