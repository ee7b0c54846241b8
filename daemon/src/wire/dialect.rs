//! The dialects: which paths each serves, where its provider serves it, and who reads its requests, answers and streams.
//!
//! One exhaustive `match` for each concern, one wire file for each dialect: a new one is a variant here, and the compiler shows
//! the rest. Must not: read a byte itself.

use super::answer::Answer;
use super::edit::LimitField;
use super::json::{Fault, Kind, Scanner};
use super::request::{Malformed, Request};
use super::said::Said;
use super::{chat, completions, embeddings, messages, responses, unstream};
use aex_core::decision::Protocol;
use aex_core::price::MaxTokensField;
use bytes::Bytes;

/// What a governed call speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's legacy completions.
    Completions,
    /// Anthropic's count of a message's tokens: free.
    CountTokens,
    /// OpenAI's embeddings.
    Embeddings,
    /// Anthropic's messages.
    Messages,
    /// OpenAI's responses.
    Responses,
}

/// What the events of one stream have told, where later ones only add to it.
#[derive(Debug, Default)]
pub(super) struct Told {
    messages: messages::answer::Told,
    responses: responses::answer::Told,
    /// What the model said.
    pub(super) said: Said,
}

/// Whose errors a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{"error":{"message","type","param","code"}}`.
    OpenAi,
    /// The same to Codex, which posts a call that was answered 402 five times more, and gives up at once on a 429
    /// `insufficient_quota` (measured with Codex 0.169). Other clients show the 402, and repeat the 429.
    Codex,
    /// `{"type":"error","error":{"type","message"},"request_id"}`.
    Anthropic,
}

impl Shape {
    /// The shape of what is said about a path, whether it is served or not.
    #[must_use]
    pub fn at(path: &str) -> Shape {
        let is_below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_below("/v1/messages") || is_below("/messages") { Shape::Anthropic } else { Shape::OpenAi }
    }
}

/// The place of a stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPath {
    /// Its name.
    pub id: String,
    /// What of it.
    pub rest: StoredPart,
}

/// What of a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredPart {
    /// Itself.
    Whole,
    /// What was asked.
    InputItems,
    /// Its end, when it is still being made.
    Cancel,
}

impl StoredPart {
    /// Its path behind the name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            StoredPart::Whole => "",
            StoredPart::InputItems => "/input_items",
            StoredPart::Cancel => "/cancel",
        }
    }

    /// The methods that it takes.
    #[must_use]
    pub const fn methods(self) -> &'static str {
        match self {
            StoredPart::Whole => "GET, DELETE",
            StoredPart::InputItems => "GET",
            StoredPart::Cancel => "POST",
        }
    }
}

impl StoredPath {
    /// The stored response at a path. Names of other letters than those that providers use are nobody's.
    #[must_use]
    pub fn at(path: &str) -> Option<StoredPath> {
        let rest = path.strip_prefix("/openai").unwrap_or(path).strip_prefix("/v1/responses/")?;
        let (id, rest) = rest.split_once('/').map_or((rest, ""), |(id, rest)| (id, rest));
        let rest = match rest {
            "" if !path.ends_with('/') => StoredPart::Whole,
            "input_items" => StoredPart::InputItems,
            "cancel" => StoredPart::Cancel,
            _ => return None,
        };
        // Paths of the API itself that are not served.
        let is_own = matches!(id, "compact" | "input_tokens");
        let is_name = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        (is_name && !is_own).then(|| StoredPath { id: id.to_owned(), rest })
    }
}

impl Dialect {
    /// The dialect that is spoken at a path. OpenAI's are served below `/openai` too, where Groq's clients look for them.
    #[must_use]
    pub fn at(path: &str) -> Option<Dialect> {
        match path.strip_prefix("/openai").unwrap_or(path) {
            "/v1/chat/completions" => Some(Dialect::Chat),
            "/v1/completions" => Some(Dialect::Completions),
            "/v1/embeddings" => Some(Dialect::Embeddings),
            // Below `/openai` they are nobody's.
            // A base URL that ends in /v1 is what some clients of Anthropic take for granted, whatever they are given.
            "/v1/messages" | "/messages" if !path.starts_with("/openai") => Some(Dialect::Messages),
            "/v1/messages/count_tokens" | "/messages/count_tokens" if !path.starts_with("/openai") => Some(Dialect::CountTokens),
            "/v1/responses" => Some(Dialect::Responses),
            _ => None,
        }
    }

    /// Its path behind a provider's base URL.
    #[must_use]
    pub const fn endpoint(self) -> &'static str {
        match self {
            Dialect::Chat => "/chat/completions",
            Dialect::Completions => "/completions",
            Dialect::CountTokens => "/messages/count_tokens",
            Dialect::Embeddings => "/embeddings",
            Dialect::Messages => "/messages",
            Dialect::Responses => "/responses",
        }
    }

    /// Whose API it is part of.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        match self {
            Dialect::Chat | Dialect::Completions | Dialect::Embeddings | Dialect::Responses => Protocol::OpenAi,
            Dialect::CountTokens | Dialect::Messages => Protocol::Anthropic,
        }
    }

    /// Whether its calls cost nothing.
    #[must_use]
    pub const fn is_free(self) -> bool {
        match self {
            Dialect::Chat | Dialect::Completions | Dialect::Embeddings | Dialect::Messages | Dialect::Responses => false,
            Dialect::CountTokens => true,
        }
    }

    /// Whose errors its clients read. `originator` is the header by which a client names itself to OpenAI.
    #[must_use]
    pub fn shape(self, originator: Option<&str>) -> Shape {
        match self {
            Dialect::Chat | Dialect::Completions | Dialect::Embeddings => Shape::OpenAi,
            Dialect::CountTokens | Dialect::Messages => Shape::Anthropic,
            Dialect::Responses if originator.is_some_and(|name| name.starts_with("codex_")) => Shape::Codex,
            Dialect::Responses => Shape::OpenAi,
        }
    }

    /// What it calls a field of chat.
    #[must_use]
    pub fn field(self, chat: &str) -> &str {
        match (self, chat) {
            (Dialect::Completions, "messages") => "prompt",
            (Dialect::Embeddings | Dialect::Responses, "messages") => "input",
            (Dialect::Responses, "max_tokens") => "max_output_tokens",
            _ => chat,
        }
    }

    /// Reads the body of a request.
    ///
    /// # Errors
    /// When it is not JSON, or no request whose bounds can be told.
    pub fn read(self, body: &[u8]) -> Result<Request, Malformed> {
        match self {
            Dialect::Chat => chat::read(body),
            Dialect::Completions => completions::read(body),
            Dialect::CountTokens => messages::read_countable(body),
            Dialect::Embeddings => embeddings::read(body),
            Dialect::Messages => messages::read(body),
            Dialect::Responses => responses::read(body),
        }
    }

    /// Where a model of this dialect reads its output limit; `chat` is where it does so in chat. `None`: it has no output.
    #[must_use]
    pub const fn limit_field(self, chat: MaxTokensField) -> Option<LimitField> {
        match self {
            Dialect::Chat => Some(LimitField::of_chat(chat)),
            Dialect::Completions | Dialect::Messages => Some(LimitField::MaxTokens),
            Dialect::CountTokens | Dialect::Embeddings => None,
            Dialect::Responses => Some(LimitField::MaxOutputTokens),
        }
    }

    /// Whether its streams report their usage only when `stream_options` asks for it.
    #[must_use]
    pub const fn has_usage_option(self) -> bool {
        match self {
            Dialect::Chat | Dialect::Completions => true,
            Dialect::CountTokens | Dialect::Embeddings | Dialect::Messages | Dialect::Responses => false,
        }
    }

    /// Whether a request may name a service tier: others refuse the field.
    #[must_use]
    pub const fn has_service_tier(self) -> bool {
        match self {
            Dialect::Chat | Dialect::Responses => true,
            // Anthropic's own field knows other tiers.
            Dialect::Completions | Dialect::CountTokens | Dialect::Embeddings | Dialect::Messages => false,
        }
    }

    /// The choice of a tool that leaves it to the model, in JSON.
    #[must_use]
    pub const fn auto_choice(self) -> &'static str {
        match self {
            Dialect::Chat | Dialect::Completions | Dialect::Embeddings | Dialect::Responses => "\"auto\"",
            Dialect::CountTokens | Dialect::Messages => r#"{"type":"auto"}"#,
        }
    }

    /// Whether an event of its streams is known for the last report of usage, wherever the stream ends behind it.
    #[must_use]
    pub const fn tells_last_usage(self) -> bool {
        match self {
            Dialect::Chat | Dialect::Completions | Dialect::Embeddings | Dialect::Responses => false,
            Dialect::CountTokens | Dialect::Messages => true,
        }
    }

    /// Reads a plain answer; `None` when it is no JSON object.
    #[must_use]
    pub fn answer(self, body: &[u8]) -> Option<Answer> {
        let mut scanner = Scanner::new(body).ok()?;
        if scanner.kind().ok()? != Kind::Object {
            return None;
        }
        match self {
            Dialect::Chat | Dialect::Completions => chat::answer::object(&mut Said::default(), &mut scanner, None),
            Dialect::CountTokens | Dialect::Messages => messages::answer::message(&mut scanner),
            Dialect::Embeddings => embeddings::answer(&mut scanner, None),
            Dialect::Responses => responses::answer::object(&mut scanner, None),
        }
        .ok()
    }

    /// Reads the payload of an event of a stream, an object. `client_model` is what its model should be called; `told` is what the
    /// events before it told.
    pub(super) fn event(self, told: &mut Told, scanner: &mut Scanner<'_>, client_model: &str) -> Result<Answer, Fault> {
        let Told { messages, responses, said } = told;
        match self {
            Dialect::Chat | Dialect::Completions => chat::answer::object(said, scanner, Some(client_model)),
            Dialect::CountTokens | Dialect::Messages => messages::answer::event(messages, said, scanner, client_model),
            Dialect::Embeddings => embeddings::answer(scanner, Some(client_model)),
            Dialect::Responses => responses::answer::event(responses, said, scanner, client_model),
        }
    }

    /// The events of a stream that says what a whole answer says; `None` when that is no answer of this dialect.
    #[must_use]
    pub fn as_stream(self, body: &[u8], with_usage: bool) -> Option<Bytes> {
        match self {
            Dialect::Chat => unstream::chat(body, with_usage),
            Dialect::Completions => unstream::completions(body, with_usage),
            Dialect::CountTokens | Dialect::Embeddings => None,
            Dialect::Messages => messages::unstream::as_stream(body),
            Dialect::Responses => responses::unstream::as_stream(body),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_dialect_and_nothing_near_it_has_any() {
        let row = |path, dialect| assert_eq!(Dialect::at(path), dialect, "{path}");
        row("/v1/chat/completions", Some(Dialect::Chat));
        row("/openai/v1/chat/completions", Some(Dialect::Chat));
        row("/v1/completions", Some(Dialect::Completions));
        row("/openai/v1/responses", Some(Dialect::Responses));
        row("/openai/v1/embeddings", Some(Dialect::Embeddings));
        row("/v1/messages", Some(Dialect::Messages));
        row("/v1/messages/count_tokens", Some(Dialect::CountTokens));
        row("/messages", Some(Dialect::Messages));
        row("/messages/count_tokens", Some(Dialect::CountTokens));
        row("/openai/messages", None);
        row("/openai/v1/messages", None);
        row("/v1/messages/batches", None);
        for path in ["/v1/chat/completions/", "/chat/completions", "/openai/openai/v1/chat/completions", "/openaiv1/chat/completions", ""] {
            row(path, None);
        }
    }

    #[test]
    fn a_stored_response_has_a_place_by_its_plain_name_only() {
        let row = |path: &str, expected: Option<(&str, StoredPart)>| {
            assert_eq!(StoredPath::at(path).as_ref().map(|place| (place.id.as_str(), place.rest)), expected, "{path}");
        };
        row("/v1/responses/resp_1", Some(("resp_1", StoredPart::Whole)));
        row("/openai/v1/responses/resp-1/input_items", Some(("resp-1", StoredPart::InputItems)));
        row("/v1/responses/resp_1/cancel", Some(("resp_1", StoredPart::Cancel)));
        for path in [
            "/v1/responses",
            "/v1/responses/",
            "/v1/responses/a/",
            "/v1/responses/../models",
            "/v1/responses/%2e%2e",
            "/v1/responses/a/b",
            "/v1/responses/a/cancel/b",
            "/v1/responses/compact",
            "/v1/responses/input_tokens",
            "/v1/responsesx/a",
        ] {
            row(path, None);
        }
    }

    #[test]
    fn what_is_said_about_a_path_has_the_shape_of_its_api() {
        for (path, shape) in [
            ("/v1/messages", Shape::Anthropic),
            ("/v1/messages/batches", Shape::Anthropic),
            ("/messages", Shape::Anthropic),
            ("/v1/messagesx", Shape::OpenAi),
            ("/v1/chat/completions", Shape::OpenAi),
            ("/", Shape::OpenAi),
        ] {
            assert_eq!(Shape::at(path), shape, "{path}");
        }
    }
}
