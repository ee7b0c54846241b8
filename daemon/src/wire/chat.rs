//! A chat request as its sender wrote it: the facts that a decision needs, and the places where a splice may go.
//!
//! Refuses what two readers could understand differently: keys that matter and stand twice, wrong types, odd numbers.
//! Must not: judge an ask, or forward anything.

use super::content::{self, Contents};
use super::json::{Fault, Kind, Number, Scanner};
use super::nfkc;
use super::text::Text;
use aex_core::ask::{Ask, NAMES_KEPT};
use std::ops::Range;

/// The largest output limit that a request may state, in tokens.
const MAX_TOKENS_CEILING: u64 = 1 << 31;
/// The most answers that one request may ask for: OpenAI's limit.
const MAX_CHOICES: u64 = 128;
/// The longest name of a model, in bytes.
const MAX_MODEL_NAME: usize = 256;
/// Bytes that are kept of a name which the client chose freely.
const NAME_BYTES_KEPT: usize = 128;

/// Top-level fields that are documented by OpenAI, Groq or the common servers of open models, and that cost nothing extra:
/// they pass, also under `strict`. Sorted.
const KNOWN: &[&str] = &[
    "citation_options",
    "disable_tool_validation",
    "documents",
    "exclude_domains",
    "frequency_penalty",
    "include_domains",
    "include_reasoning",
    "logit_bias",
    "logprobs",
    "metadata",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "reasoning_format",
    "response_format",
    "safety_identifier",
    "seed",
    "stop",
    "store",
    "temperature",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
];

/// A request that is no valid chat request: 400 `invalid_request_error`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Malformed {
    /// What is wrong with it.
    pub message: String,
    /// The field at fault.
    pub param: Option<String>,
}

impl Malformed {
    pub(super) fn field(param: impl Into<String>, what: &str) -> Malformed {
        let param = param.into();
        Malformed { message: format!("`{param}` {what}"), param: Some(param) }
    }
}

impl From<Fault> for Malformed {
    fn from(fault: Fault) -> Malformed {
        Malformed { message: format!("the body is not valid JSON: {fault}"), param: None }
    }
}

/// A chat request that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatRequest {
    /// What it asks for.
    pub ask: Ask,
    /// Where it may be edited.
    pub places: Places,
}

/// Offsets in the bytes of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Behind the opening brace: a member that is inserted here needs a comma behind it, for the object is never empty.
    pub first_member: usize,
    /// The model's name with its quotes.
    pub model: Option<Range<usize>>,
    /// The value of `max_tokens`, null included.
    pub max_tokens: Option<Range<usize>>,
    /// The value of `max_completion_tokens`, null included.
    pub max_completion_tokens: Option<Range<usize>>,
    /// `stream_options`.
    pub stream_options: Option<StreamOptions>,
}

/// The `stream_options` of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// Its value.
    pub span: Range<usize>,
    /// The value of `include_usage` in it.
    pub include_usage: Option<Range<usize>>,
    /// Whether that is `true`.
    pub asked: bool,
    /// Whether it has no members.
    pub empty: bool,
    /// Whether it is `null`.
    pub null: bool,
}

impl ChatRequest {
    /// Whether the client itself asked for usage in its stream: the usage chunk is its own then.
    #[must_use]
    pub fn asks_for_usage(&self) -> bool {
        self.places.stream_options.as_ref().is_some_and(|options| options.asked)
    }
}

/// Reads the body of a chat request, in one pass.
///
/// # Errors
/// When it is not JSON, or no chat request whose bounds can be told.
pub fn read(body: &[u8]) -> Result<ChatRequest, Malformed> {
    let mut scanner = Scanner::new(body)?;
    if scanner.kind()? != Kind::Object {
        return Err(Malformed { message: "the body is not a JSON object".to_owned(), param: None });
    }
    let mut open = scanner.object()?;
    let mut reader = Reader::new(body.len(), scanner.at());
    while let Some(key) = scanner.key(&mut open)? {
        reader.member(&key, &mut scanner)?;
    }
    scanner.finish()?;
    let mut request = reader.finish()?;
    if scanner.beyond_ascii() {
        request.ask.nfkc_extra_bytes = nfkc::extra_bytes(scanner.whole());
    }
    Ok(request)
}

/// Top-level fields whose second occurrence is refused. Numbers are bits of [`Reader::seen`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Model,
    Messages,
    Stream,
    StreamOptions,
    MaxTokens,
    MaxCompletionTokens,
    N,
    Tools,
    Functions,
    ToolChoice,
    FunctionCall,
    ServiceTier,
    Prediction,
    Modalities,
    Audio,
    WebSearchOptions,
    CompoundCustom,
    SearchSettings,
}

impl Field {
    fn of(name: &str) -> Option<Field> {
        Some(match name {
            "model" => Field::Model,
            "messages" => Field::Messages,
            "stream" => Field::Stream,
            "stream_options" => Field::StreamOptions,
            "max_tokens" => Field::MaxTokens,
            "max_completion_tokens" => Field::MaxCompletionTokens,
            "n" => Field::N,
            "tools" => Field::Tools,
            "functions" => Field::Functions,
            "tool_choice" => Field::ToolChoice,
            "function_call" => Field::FunctionCall,
            "service_tier" => Field::ServiceTier,
            "prediction" => Field::Prediction,
            "modalities" => Field::Modalities,
            "audio" => Field::Audio,
            "web_search_options" => Field::WebSearchOptions,
            "compound_custom" => Field::CompoundCustom,
            "search_settings" => Field::SearchSettings,
            _ => return None,
        })
    }
}

struct Reader {
    ask: Ask,
    places: Places,
    seen: u32,
}

impl Reader {
    fn new(body_bytes: usize, first_member: usize) -> Reader {
        let ask = Ask { body_bytes: count(body_bytes), choices: 1, ..Ask::default() };
        Reader { ask, places: Places { first_member, ..Places::default() }, seen: 0 }
    }

    fn member(&mut self, key: &Text<'_>, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        let name = key.unescape();
        let Some(field) = Field::of(&name) else {
            if KNOWN.binary_search(&&*name).is_err() {
                keep(&mut self.ask.unknown_fields, &name);
            }
            scanner.skip()?;
            return Ok(());
        };
        if self.seen & (1 << field as u32) != 0 {
            return Err(Malformed::field(name, "stands twice"));
        }
        self.seen |= 1 << field as u32;
        match field {
            Field::Model => self.model(scanner)?,
            Field::Messages => self.messages(scanner)?,
            Field::Stream => self.ask.stream = flag(scanner, "stream")?.unwrap_or(false),
            Field::StreamOptions => self.places.stream_options = Some(stream_options(scanner)?),
            Field::MaxTokens => self.places.max_tokens = Some(self.max_tokens(scanner, "max_tokens")?),
            Field::MaxCompletionTokens => self.places.max_completion_tokens = Some(self.max_tokens(scanner, "max_completion_tokens")?),
            Field::N => self.choices(scanner)?,
            Field::Tools => content::tools(scanner, &mut self.ask)?,
            Field::Functions => content::functions(scanner, &mut self.ask)?,
            Field::ToolChoice | Field::FunctionCall => self.ask.function_calling |= stated(scanner)?,
            Field::ServiceTier => self.service_tier(scanner)?,
            Field::Prediction => self.ask.prediction_bytes = content::prediction(scanner)?,
            Field::Modalities => content::modalities(scanner, &mut self.ask)?,
            Field::Audio => self.ask.audio_out |= stated(scanner)?,
            Field::WebSearchOptions => self.hosted(scanner, "web_search")?,
            // Groq's compound systems run tools by themselves, which these two set up.
            Field::CompoundCustom => self.hosted(scanner, "compound_custom")?,
            Field::SearchSettings => self.hosted(scanner, "search_settings")?,
        }
        Ok(())
    }

    fn model(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        if scanner.kind()? != Kind::Text {
            return Err(Malformed::field("model", "must be a string"));
        }
        let model = scanner.text()?;
        let name = model.unescape();
        if name.len() > MAX_MODEL_NAME {
            return Err(Malformed::field("model", &format!("must be at most {MAX_MODEL_NAME} bytes long")));
        }
        self.places.model = Some(model.span());
        self.ask.model = name.into_owned();
        Ok(())
    }

    fn messages(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        let Contents { messages, chars, images, attachments } = content::messages(scanner)?;
        self.ask.messages = messages;
        self.ask.text_chars = chars;
        self.ask.images = images;
        self.ask.attachments = attachments;
        Ok(())
    }

    fn max_tokens(&mut self, scanner: &mut Scanner<'_>, name: &str) -> Result<Range<usize>, Malformed> {
        let (limit, span) = natural(scanner, name, MAX_TOKENS_CEILING)?;
        self.ask.max_tokens = self.ask.max_tokens.max(limit);
        Ok(span)
    }

    fn choices(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        self.ask.choices = natural(scanner, "n", MAX_CHOICES)?.0.unwrap_or(1);
        Ok(())
    }

    fn service_tier(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        self.ask.service_tier = match scanner.kind()? {
            Kind::Text => Some(shortened(&scanner.text()?.unescape())),
            Kind::Null => {
                scanner.skip()?;
                None
            }
            _ => return Err(Malformed::field("service_tier", "must be a string")),
        };
        Ok(())
    }

    fn hosted(&mut self, scanner: &mut Scanner<'_>, tool: &str) -> Result<(), Malformed> {
        if stated(scanner)? {
            content::offer_hosted(&mut self.ask, tool);
        }
        Ok(())
    }

    fn finish(self) -> Result<ChatRequest, Malformed> {
        let Reader { ask, places, seen } = self;
        if seen & (1 << Field::Messages as u32) == 0 {
            return Err(Malformed::field("messages", "is missing"));
        }
        if !ask.stream && places.stream_options.as_ref().is_some_and(|options| !options.null) {
            return Err(Malformed::field("stream_options", "is only allowed when `stream` is true"));
        }
        Ok(ChatRequest { ask, places })
    }
}

fn stream_options(scanner: &mut Scanner<'_>) -> Result<StreamOptions, Malformed> {
    let kind = scanner.kind()?;
    let start = scanner.at();
    let mut options = StreamOptions { span: start..start, include_usage: None, asked: false, empty: true, null: kind == Kind::Null };
    match kind {
        Kind::Null => options.span = scanner.skip()?,
        Kind::Object => {
            let mut open = scanner.object()?;
            while let Some(key) = scanner.key(&mut open)? {
                options.empty = false;
                if !key.is("include_usage") {
                    scanner.skip()?;
                    continue;
                }
                if options.include_usage.is_some() {
                    return Err(Malformed::field("stream_options.include_usage", "stands twice"));
                }
                scanner.kind()?;
                let value = scanner.at();
                options.asked = flag(scanner, "stream_options.include_usage")?.unwrap_or(false);
                options.include_usage = Some(value..scanner.at());
            }
            options.span = start..scanner.at();
        }
        _ => return Err(Malformed::field("stream_options", "must be an object")),
    }
    Ok(options)
}

/// A natural number of at least one and at most `ceiling`, or null, with its span.
fn natural(scanner: &mut Scanner<'_>, name: &str, ceiling: u64) -> Result<(Option<u64>, Range<usize>), Malformed> {
    let kind = scanner.kind()?;
    let start = scanner.at();
    let number = match kind {
        Kind::Null => {
            scanner.skip()?;
            None
        }
        Kind::Number => match scanner.number()? {
            Number::Natural(number) if number > ceiling => return Err(Malformed::field(name, &format!("is too large: at most {ceiling}"))),
            Number::Natural(number) if number > 0 => Some(number),
            _ => return Err(Malformed::field(name, "must be an integer of at least 1")),
        },
        _ => return Err(Malformed::field(name, "must be an integer")),
    };
    Ok((number, start..scanner.at()))
}

fn flag(scanner: &mut Scanner<'_>, name: &str) -> Result<Option<bool>, Malformed> {
    let kind = scanner.kind()?;
    let flag = match kind {
        Kind::True => Some(true),
        Kind::False => Some(false),
        Kind::Null => None,
        _ => return Err(Malformed::field(name, "must be true or false")),
    };
    scanner.skip()?;
    Ok(flag)
}

/// Skips a value and tells whether it is anything but null.
pub(super) fn stated(scanner: &mut Scanner<'_>) -> Result<bool, Fault> {
    let stated = scanner.kind()? != Kind::Null;
    scanner.skip()?;
    Ok(stated)
}

/// Adds a name to a list of an ask, which stays short whatever the client sends.
pub(super) fn keep(names: &mut Vec<String>, name: &str) {
    if names.len() < NAMES_KEPT {
        names.push(shortened(name));
    }
}

/// A name, cut when it is too long to be kept; the mark at its end keeps it from equalling a listed one.
pub(super) fn shortened(name: &str) -> String {
    if name.len() <= NAME_BYTES_KEPT {
        return name.to_owned();
    }
    let mut cut = (0..=NAME_BYTES_KEPT).rev().find_map(|end| name.get(..end)).unwrap_or_default().to_owned();
    cut.push('…');
    cut
}

pub(super) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(body: &str) -> Ask {
        read(body.as_bytes()).unwrap().ask
    }

    #[test]
    fn the_known_fields_are_sorted() {
        assert!(KNOWN.is_sorted());
    }

    #[test]
    fn a_request_is_read_for_what_a_decision_needs() {
        let body = r#"{"model":"m","stream":true,"n":3,"max_tokens":5,"max_completion_tokens":9,"service_tier":"flex","temperature":0,"foo":1,
            "messages":[{"role":"system","content":"h\u00e9\n"},{"role":"user","content":[{"type":"text","text":"abc"},{"image_url":{},"type":"image_url"},
            {"type":"file","file":{}}]},{"role":"assistant","content":null,"audio":{"id":"x"},"tool_calls":[{"function":{"arguments":"{}"}}]}],
            "tools":[{"function":{"name":"f"},"type":"function"},{"type":"custom","custom":{"name":"c"}},{"type":"web_search","x":1},{"type":"function"}],
            "functions":[{"name":"old"}],"tool_choice":"auto","prediction":{"type":"content","content":"12345"},"modalities":["text","audio"]}"#;
        let expected = Ask {
            attachments: 2,
            audio_out: true,
            body_bytes: body.len() as u64,
            choices: 3,
            function_calling: true,
            hosted_tools: vec!["web_search".to_owned()],
            images: 1,
            max_tokens: Some(9),
            messages: 3,
            model: "m".to_owned(),
            nfkc_extra_bytes: 0,
            prediction_bytes: 5,
            service_tier: Some("flex".to_owned()),
            stream: true,
            text_chars: 6,
            tool_names: vec!["f".to_owned(), "c".to_owned(), "old".to_owned()],
            tools: 5,
            unknown_fields: vec!["foo".to_owned()],
        };
        assert_eq!(ask(body), expected);
    }

    #[test]
    fn absent_and_null_mean_the_same() {
        let bare = ask(r#"{"messages":[]}"#);
        let nulls = ask(
            r#"{"messages":[],"stream":null,"stream_options":null,"n":null,"max_tokens":null,"max_completion_tokens":null,"tools":null,"functions":null,
            "tool_choice":null,"function_call":null,"service_tier":null,"prediction":null,"modalities":null,"audio":null,"web_search_options":null}"#,
        );
        assert_eq!(Ask { body_bytes: 0, ..bare }, Ask { body_bytes: 0, ..nulls });
    }

    #[test]
    fn what_hides_its_price_is_told() {
        assert_eq!(ask(r#"{"messages":[],"web_search_options":{}}"#).hosted_tools, ["web_search"]);
        assert_eq!(ask(r#"{"messages":[],"modalities":["image"]}"#).hosted_tools, ["modalities.image"]);
        assert_eq!(ask(r#"{"messages":[{"content":[{"type":"text","text":"","image_url":{}}]}]}"#).images, 1);
        assert_eq!(ask("{\"messages\":[{\"content\":\"\u{fdfa}\"}]}").nfkc_extra_bytes, 30);
        assert_eq!(ask(r#"{"messages":[{"c\u006fntent":"four"}]}"#).text_chars, 4);
    }

    #[test]
    fn a_name_is_kept_short_and_equals_no_other() {
        let long = "x".repeat(1000);
        let kept = &ask(&format!(r#"{{"messages":[],"{long}":1}}"#)).unknown_fields;
        assert_eq!(kept, &["x".repeat(NAME_BYTES_KEPT) + "…"]);
    }

    #[track_caller]
    fn refused(body: &str, param: Option<&str>, says: &str) {
        let malformed = read(body.as_bytes()).unwrap_err();
        assert_eq!(malformed.param.as_deref(), param, "{malformed}");
        assert!(malformed.message.contains(says), "{malformed}");
    }

    #[test]
    fn malformed_requests_are_refused_by_field() {
        refused("", None, "ends early");
        refused("[]", None, "not a JSON object");
        refused(r#"{"messages":[]"#, None, "ends early");
        refused(r#"{"messages":[],"x":NaN}"#, None, "expected a value");
        refused(&format!(r#"{{"messages":[],"x":{}{}}}"#, "[".repeat(100), "]".repeat(100)), None, "levels");
        refused(r#"{"model":"m"}"#, Some("messages"), "missing");
        refused(r#"{"messages":{}}"#, Some("messages"), "list");
        refused(r#"{"messages":[1]}"#, Some("messages[0]"), "object");
        refused(r#"{"messages":[{},{"content":5}]}"#, Some("messages[1].content"), "string");
        refused(r#"{"messages":[{"content":"a","content":"b"}]}"#, Some("messages[0].content"), "twice");
        refused(r#"{"messages":[{"content":["a"]}]}"#, Some("messages[0].content"), "objects");
        refused(r#"{"messages":[{"content":[{"type":"text","type":"image_url"}]}]}"#, Some("messages[0].content[].type"), "twice");
        refused(r#"{"messages":[],"model":null}"#, Some("model"), "string");
        refused(r#"{"messages":[],"model":"a","mod\u0065l":"b"}"#, Some("model"), "twice");
        refused(r#"{"messages":[],"messages":[]}"#, Some("messages"), "twice");
        refused(r#"{"messages":[],"stream":"yes"}"#, Some("stream"), "true or false");
        refused(r#"{"messages":[],"stream_options":{"include_usage":true}}"#, Some("stream_options"), "`stream` is true");
        refused(r#"{"messages":[],"stream":true,"stream_options":[]}"#, Some("stream_options"), "object");
        refused(
            r#"{"messages":[],"stream":true,"stream_options":{"include_usage":false,"include_usage":true}}"#,
            Some("stream_options.include_usage"),
            "twice",
        );
        for limit in ["0", "-1", "1.5", "1e3", "\"7\"", "99999999999999999999"] {
            refused(&format!(r#"{{"messages":[],"max_tokens":{limit}}}"#), Some("max_tokens"), "`max_tokens`");
        }
        refused(r#"{"messages":[],"max_completion_tokens":2147483649}"#, Some("max_completion_tokens"), "too large");
        refused(r#"{"messages":[],"n":0}"#, Some("n"), "at least 1");
        refused(r#"{"messages":[],"n":1000000000}"#, Some("n"), "too large");
        refused(r#"{"messages":[],"tools":[{}]}"#, Some("tools[0].type"), "missing");
        refused(r#"{"messages":[],"tools":[{"type":"function","type":"custom"}]}"#, Some("tools[0].type"), "twice");
        refused(
            r#"{"messages":[],"tools":[{"type":"function","function":{"name":"a","name":"b"}}]}"#,
            Some("tools[0].function.name"),
            "twice",
        );
        refused(r#"{"messages":[],"functions":{}}"#, Some("functions"), "list");
        assert!(read(b"{\"messages\":[{\"content\":\"\xff\"}]}").is_err());
    }
}
