//! What a test can ask of the scripted provider. Pure data: one JSON form for tests in Rust, for Python and for `/_ctl`.
//!
//! Chunks are counted in content chunks: "after 2" means after the role chunk and two chunks of content (or of tool arguments). A
//! plain answer counts its pieces of `split` bytes.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How the provider treats one call. `Script::default()` is the truthful provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Answers this status instead of a completion; below 400 `body` replaces the truthful body and the call is billed.
    pub status: Option<u16>,
    /// The body for `status`; a fitting OpenAI error object when absent.
    pub body: Option<String>,
    /// Added to the answer's head, replacing equal names.
    pub headers: Vec<(String, String)>,
    /// Waits this long before the head.
    pub delay_ms: u64,
    /// Waits this long before the head, in microseconds; added to `delay_ms`.
    pub delay_us: u64,
    /// Keeps the head back until `release`.
    pub hold_head: bool,
    /// Stops after so many chunks until `release`.
    pub hold_after: Option<usize>,
    /// Waits between two chunks.
    pub chunk_delay_us: u64,
    /// Ends the answer early.
    pub cut: Option<Cut>,
    /// Sends these bytes instead of a truthful body, under the truthful content type.
    pub garbage: Option<String>,
    /// Sends an error object inside the 200 stream after so many chunks, and ends.
    pub error_after: Option<usize>,
    /// What the answer says about tokens; the bill is always the truth.
    pub usage: Usage,
    /// Prompt tokens that came from the cache, at most all of them.
    pub cached_tokens: u64,
    /// Prompt tokens that were written to the cache, at most the rest of them; messages only.
    pub written_tokens: u64,
    /// Hidden tokens, counted within the completion's.
    pub reasoning_tokens: u64,
    /// Writes the body in pieces of so many bytes, each a chunk of its own.
    pub split: Option<usize>,
    /// Ends lines with CR LF.
    pub crlf: bool,
    /// Puts a comment line before each event.
    pub comments: bool,
    /// The model named in the answer; the request's when absent.
    pub model: Option<String>,
    /// Added to the answer's object and to every chunk.
    pub extra: Map<String, Value>,
    /// The text to answer; a fixed sentence when absent.
    pub answer: Option<String>,
    /// Answers exactly so many tokens, unless the request's limit is smaller; beats `answer`.
    pub output_tokens: Option<usize>,
    /// Pads a plain answer, or the finish chunk, with an unknown field of so many bytes.
    pub padding: usize,
}

/// An early end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Cut {
    /// Where.
    pub at: At,
    /// How.
    pub how: How,
}

/// Where an answer is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// Before the first byte of the head.
    Head,
    /// After so many chunks.
    Chunk(usize),
}

/// How an answer is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// RST.
    Reset,
    /// FIN without the end of the HTTP message.
    Close,
    /// The HTTP message ends well, only the rest of the stream and `[DONE]` are missing. At the head it is a `Close`.
    Finish,
}

/// What an answer says about tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Usage {
    /// The truth; in a stream only when it was asked for.
    #[default]
    Truth,
    /// None at all.
    Missing,
    /// All counts zero.
    Zero,
    /// The truth in `x_groq.usage` of the finish chunk, asked or not; a plain answer carries both.
    Groq,
    /// This value.
    Raw(Value),
}

impl Script {
    /// Answers `status` with OpenAI's error object for it.
    #[must_use]
    pub fn error(status: u16) -> Self {
        Self { status: Some(status), ..Self::default() }
    }

    /// Keeps the head back until `release`.
    #[must_use]
    pub fn hold() -> Self {
        Self { hold_head: true, ..Self::default() }
    }

    /// Stops after so many chunks until `release`.
    #[must_use]
    pub fn hold_after(chunks: usize) -> Self {
        Self { hold_after: Some(chunks), ..Self::default() }
    }

    /// Answers exactly so many tokens, unless the request's limit is smaller.
    #[must_use]
    pub fn tokens(count: usize) -> Self {
        Self { output_tokens: Some(count), ..Self::default() }
    }

    /// Answers this text.
    #[must_use]
    pub fn answer(text: &str) -> Self {
        Self { answer: Some(text.to_owned()), ..Self::default() }
    }

    /// Cuts the answer.
    #[must_use]
    pub fn cut(at: At, how: How) -> Self {
        Self { cut: Some(Cut { at, how }), ..Self::default() }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A message to `POST /_ctl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// For the next call that has no script yet.
    Next(Box<Script>),
    /// For every call without a script of its own, from now on.
    Always(Box<Script>),
    /// Lets go what is held and arrived before.
    Release,
    /// Forgets requests, bills and scripts.
    Forget,
    /// Answers when so many requests arrived since the start or the last `forget`.
    WaitForRequests(u64),
    /// Answers when so many bills ended.
    WaitForBills(usize),
}
