//! The endpoints that the provider serves, and how each writes an answer.

use http::HeaderMap;
use serde_json::Value;

use super::chat::{self, Answer, Call, Refusal};
use super::messages;
use super::render::Renderer;
use super::responses;
use super::script::Script;
use super::texts;

/// An endpoint that is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    Chat,
    Completions,
    Embeddings,
    Messages,
    Responses,
}

impl Api {
    pub(super) fn at(path: &str) -> Option<Self> {
        let ends = |end: &str| path.ends_with(end);
        match () {
            () if ends("/chat/completions") => Some(Self::Chat),
            () if ends("/completions") => Some(Self::Completions),
            () if ends("/embeddings") => Some(Self::Embeddings),
            () if ends("/messages") => Some(Self::Messages),
            () if ends("/responses") => Some(Self::Responses),
            () => None,
        }
    }

    /// Checks headers and body.
    pub(super) fn check(self, headers: &HeaderMap, body: &[u8]) -> Result<Call, Refusal> {
        let unparsable = "We could not parse the JSON body of your request.";
        let body: Value = serde_json::from_slice(body).map_err(|_| Refusal::new(400, unparsable, None, None))?;
        match self {
            Self::Messages => messages::check(body, headers).and_then(messages::limited),
            Self::Chat => chat::check(body),
            Self::Completions => texts::completions(body),
            Self::Embeddings => texts::embeddings(body),
            Self::Responses => responses::check(body),
        }
    }

    pub(super) fn voice<'a>(self, call: &'a Call, answer: &'a Answer, script: &'a Script, seq: u64) -> Box<dyn Voice + Send + Sync + 'a> {
        match self {
            Self::Chat => Box::new(Renderer::new(call, answer, script, seq)),
            Self::Completions => Box::new(texts::Completion::new(call, answer, script, seq)),
            Self::Embeddings => Box::new(texts::Vectors::new(call, answer, script, seq)),
            Self::Messages => Box::new(messages::Message::new(call, answer, script, seq)),
            Self::Responses => Box::new(responses::Response::new(call, answer, script, seq)),
        }
    }

    /// A refusal as its clients know it.
    pub(super) fn shaped(self, refusal: Refusal) -> Refusal {
        if self == Self::Messages { refusal.in_anthropics_shape() } else { refusal }
    }
}

/// How an endpoint writes an answer, whole or event by event. What it has nothing for is empty.
pub(super) trait Voice {
    /// The answer to a call without `stream`.
    fn plain(&self) -> Vec<u8>;
    /// What comes before a choice's pieces.
    fn role(&self, choice: u64) -> Vec<u8>;
    /// One piece of a choice, by its number.
    fn piece(&self, choice: u64, index: usize) -> Vec<u8>;
    /// What ends a choice.
    fn finish(&self, choice: u64) -> Vec<u8>;
    /// The usage chunk, when it was asked for and the script doesn't keep it back.
    fn usage_chunk(&self) -> Vec<u8>;
    /// What ends a stream.
    fn done(&self) -> Vec<u8>;
    /// An error in mid-stream.
    fn error(&self) -> Vec<u8>;
}
