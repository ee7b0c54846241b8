//! An answer as a test looks at it: head, body, events of a stream, and how it ended. No I/O.

use serde_json::Value;

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By its length, its last chunk, or the end of a connection that promised no length.
    Complete,
    /// Before that.
    Broken,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 200.
    pub status: u16,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// Without the transfer's framing.
    pub body: Vec<u8>,
    /// Whether all of it came.
    pub end: End,
}

impl Answer {
    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as JSON; fails the test when it isn't.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|fault| panic!("{fault} in {self}"))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// `error.code` of an OpenAI error body; empty when there is none.
    #[must_use]
    pub fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// What follows `data:` in each line of a stream, `[DONE]` included.
    #[must_use]
    pub fn data(&self) -> Vec<String> {
        let text = self.text();
        text.lines().filter_map(data_of).map(str::to_owned).collect()
    }

    /// The chunks of a stream as JSON, without `[DONE]`.
    #[must_use]
    #[track_caller]
    pub fn chunks(&self) -> Vec<Value> {
        let lines = self.data();
        let chunks = lines.iter().filter(|line| *line != "[DONE]");
        chunks.map(|line| serde_json::from_str(line).unwrap_or_else(|fault| panic!("{fault} in {line}"))).collect()
    }

    /// The text of the first choice, of a stream or of a plain answer.
    #[must_use]
    #[track_caller]
    pub fn content(&self) -> String {
        if self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
            let chunks = self.chunks();
            return chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        }
        self.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} {:?} {:?}: {}", self.status, self.end, self.headers, self.text())
    }
}

pub(super) fn data_of(line: &str) -> Option<&str> {
    line.strip_prefix("data:").map(str::trim)
}

pub(super) fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(held, _)| held.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}
