//! A request as its sender wrote it, in whatever dialect: the facts that a decision needs, and the places where a splice may go.
//!
//! Owns what the dialects' readers share. Refuses what two readers could understand differently: keys that matter and stand
//! twice, wrong types, odd numbers. Must not: judge an ask, or forward anything.

use super::content;
use super::costly::{Costly, asked_for, costly};
use super::hosted::HostedPlaces;
use super::json::{Fault, Kind, Number, Scanner};
use super::member::Member;
use super::nfkc;
use super::rewritten;
use super::text::Text;
use aex_core::ask::{Ask, NAMES_KEPT, Reference};
use std::ops::{Range, RangeInclusive};

/// The largest output limit that a request may state, in tokens.
const MAX_TOKENS_CEILING: u64 = 1 << 31;
/// The most answers that one request may ask for: OpenAI's limit.
const MAX_CHOICES: u64 = 128;
/// The longest name of a model, in bytes.
const MAX_MODEL_NAME: usize = 256;
/// Bytes of the longest governed field's name: `max_completion_tokens`, with room for others.
const LONGEST_FIELD: usize = 32;
/// Stored things that one request may name: each is looked up.
const MAX_REFERENCES: usize = 1_024;
/// The longest name of something stored, in bytes.
const MAX_REFERENCE_BYTES: usize = 256;
/// Begins the name of what a field asks for that is no tool.
pub(super) const FIELD: &str = "request/";
/// Bytes that are kept of a name which the client chose freely.
const NAME_BYTES_KEPT: usize = 128;

/// A request that is no valid request of its dialect: 400 `invalid_request_error`.
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

/// A request that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it asks for.
    pub ask: Ask,
    /// Where it may be edited.
    pub places: Places,
    /// What it names of what its provider has stored; the caller has to own each.
    pub refers: Vec<Reference>,
    /// The provider is to keep its answer.
    pub stores: bool,
}

/// Offsets in the bytes of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Behind the opening brace: a member that is inserted here needs a comma behind it, unless the object is empty.
    pub first_member: usize,
    /// The object has no member.
    pub is_empty: bool,
    /// The model's name with its quotes.
    pub model: Option<Range<usize>>,
    /// `max_tokens`, or the one field that another dialect has for it.
    pub max_tokens: Option<Limit>,
    /// Chat's `max_completion_tokens`.
    pub max_completion_tokens: Option<Limit>,
    /// The value of `stream`.
    pub stream: Option<Range<usize>>,
    /// The value of `temperature`, null included.
    pub temperature: Option<Range<usize>>,
    /// The value of `service_tier`, null included.
    pub service_tier: Option<Range<usize>>,
    /// `stream_options`.
    pub stream_options: Option<StreamOptions>,
    /// Tools that the provider runs.
    pub hosted: HostedPlaces,
}

/// An output limit of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its key with the quotes.
    pub key: Range<usize>,
    /// Its value.
    pub value: Range<usize>,
    /// What it says; `None` when it is null.
    pub tokens: Option<u64>,
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

impl Request {
    /// Whether the client itself asked for usage in its stream: the usage chunk is its own then.
    #[must_use]
    pub fn asks_for_usage(&self) -> bool {
        self.places.stream_options.as_ref().is_some_and(|options| options.asked)
    }
}

/// Reads the body of a request, in one pass.
///
/// # Errors
/// When it is not JSON, or no request whose bounds can be told.
pub(super) fn read<M: Member>(body: &[u8]) -> Result<Request, Malformed> {
    let mut scanner = Scanner::new(body)?;
    if scanner.kind()? != Kind::Object {
        return Err(Malformed { message: "the body is not a JSON object".to_owned(), param: None });
    }
    let mut open = scanner.object()?;
    let mut reader = Reader::new(body.len(), scanner.at());
    while let Some(key) = scanner.key(&mut open)? {
        reader.places.is_empty = false;
        reader.member::<M>(&key, &mut scanner)?;
    }
    scanner.finish()?;
    M::finish(&mut reader)?;
    let mut request = Request { ask: reader.ask, places: reader.places, refers: reader.refers, stores: reader.stores };
    if scanner.beyond_ascii() {
        request.ask.nfkc_extra_bytes = nfkc::extra_bytes(scanner.whole());
    }
    Ok(request)
}

/// A request that is being read.
pub(super) struct Reader {
    pub(super) ask: Ask,
    pub(super) places: Places,
    /// What is named of what the provider has stored.
    refers: Vec<Reference>,
    /// The provider is to keep the answer.
    pub(super) stores: bool,
    /// Each choice says its prompt again.
    pub(super) echo: bool,
    /// Bytes of the prompt as it is written.
    pub(super) input_bytes: u64,
    /// Words that choose a price for the whole call, in the order in which a tier is named by them.
    pub(super) tiers: [Option<String>; 3],
    /// Governed members that were met, as bits by their numbers.
    seen: u64,
}

impl Reader {
    fn new(body_bytes: usize, first_member: usize) -> Reader {
        let ask = Ask { body_bytes: count(body_bytes), choices: 1, ..Ask::default() };
        Reader {
            ask,
            places: Places { first_member, is_empty: true, ..Places::default() },
            refers: Vec::new(),
            stores: false,
            echo: false,
            input_bytes: 0,
            tiers: [const { None }; 3],
            seen: 0,
        }
    }

    /// Whether a member was met.
    pub(super) fn has<M: Member>(&self, member: M) -> bool {
        self.seen & (1 << member.number()) != 0
    }

    /// Notes a name of something stored.
    pub(super) fn refer(&mut self, reference: Reference) -> Result<(), Malformed> {
        if self.refers.len() == MAX_REFERENCES {
            return Err(Malformed { message: format!("it names more than {MAX_REFERENCES} stored items"), param: None });
        }
        if reference.id().is_empty() || reference.id().len() > MAX_REFERENCE_BYTES {
            let message = format!("the name of a stored response or item must have 1 to {MAX_REFERENCE_BYTES} bytes");
            return Err(Malformed { message, param: None });
        }
        self.refers.push(reference);
        Ok(())
    }

    fn member<M: Member>(&mut self, key: &Text<'_>, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        let name = key.unescape();
        let Some(member) = M::of(&name) else { return self.other::<M>(key, &name, scanner) };
        if self.has(member) {
            return Err(Malformed::field(name, "stands twice"));
        }
        self.seen |= 1 << member.number();
        let start = scanner.at();
        member.read(self, key, scanner)?;
        self.ask.rewritten_tokens += rewritten::extra_in(&name, scanner.whole().get(start..scanner.at()));
        Ok(())
    }

    /// Counts a tool that the provider runs because a member, which has been read, asks for it.
    pub(super) fn tool_by_member(&mut self, tool: &str, key: &Text<'_>, scanner: &Scanner<'_>) {
        self.places.hosted.member(tool, key, scanner.at());
        self.ask.offer_hosted(tool.to_owned(), None);
    }

    /// Counts what the provider may choose or run because of a field that is no tool. It has a name that no list and no price has:
    /// without the field the request would be another one.
    pub(super) fn costly_field(&mut self, name: &str) {
        self.ask.offer_hosted(shortened(&format!("{FIELD}{name}")), None);
    }

    /// A member whose place in the request does not matter.
    fn other<M: Member>(&mut self, key: &Text<'_>, name: &str, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        if let Some(costly) = costly(name) {
            if asked_for(scanner, name)? {
                match costly {
                    Costly::Tool(tool) => self.tool_by_member(&shortened(tool), key, scanner),
                    Costly::Field => self.costly_field(name),
                }
            }
            return Ok(());
        }
        if let Some(meant) = misspelt::<M>(name) {
            return Err(Malformed::field(name, &format!("must be written `{meant}`")));
        }
        if M::KNOWN.binary_search(&name).is_err() {
            keep(&mut self.ask.unknown_fields, name);
        }
        match name {
            "cache_control" => content::cache_control(scanner)?.iter().for_each(|lifetime| self.ask.write_cache(lifetime)),
            "parallel_tool_calls" => {
                scanner.skip()?;
                self.places.hosted.dependent(key, scanner.at());
            }
            _ => scanner.pass()?,
        }
        Ok(())
    }

    pub(super) fn stream(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        scanner.kind()?;
        let start = scanner.at();
        self.ask.stream = flag(scanner, "stream")?.unwrap_or(false);
        self.places.stream = Some(start..scanner.at());
        Ok(())
    }

    pub(super) fn stream_options(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        self.places.stream_options = Some(stream_options(scanner)?);
        Ok(())
    }

    /// OpenAI refuses options of a stream without one.
    pub(super) fn no_options_without_stream(&self) -> Result<(), Malformed> {
        if !self.ask.stream && self.places.stream_options.as_ref().is_some_and(|options| !options.null) {
            return Err(Malformed::field("stream_options", "is only allowed when `stream` is true"));
        }
        Ok(())
    }

    pub(super) fn model(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
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

    /// Reads an output limit of at least `least`.
    pub(super) fn limit(&mut self, scanner: &mut Scanner<'_>, key: &Text<'_>, name: &str, least: u64) -> Result<Limit, Malformed> {
        let (tokens, value) = natural(scanner, name, least..=MAX_TOKENS_CEILING)?;
        self.ask.max_tokens = self.ask.max_tokens.max(tokens);
        Ok(Limit { key: key.span(), value, tokens })
    }

    /// Reads how many answers are drawn, which are billed whether they are sent or not: the most that any field says.
    pub(super) fn choices(&mut self, scanner: &mut Scanner<'_>, name: &str) -> Result<(), Malformed> {
        self.ask.choices = self.ask.choices.max(natural(scanner, name, 1..=MAX_CHOICES)?.0.unwrap_or(1));
        Ok(())
    }

    /// Kept as it is written: a limit may compare it, and an audit has to compare the same.
    pub(super) fn temperature(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        let kind = scanner.kind()?;
        if !matches!(kind, Kind::Number | Kind::Null) {
            return Err(Malformed::field("temperature", "must be a number"));
        }
        let span = scanner.skip()?;
        if kind == Kind::Number {
            let text = scanner.whole().get(span.clone()).unwrap_or_default();
            if text.len() > LONGEST_FIELD {
                return Err(Malformed::field("temperature", "has too many digits"));
            }
            self.ask.temperature = Some(text.to_owned());
        }
        self.places.temperature = Some(span);
        Ok(())
    }

    /// How hard an OpenAI model is to think: `none` is not at all.
    pub(super) fn effort(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        if scanner.kind()? == Kind::Text {
            self.ask.hidden_tokens = (&*scanner.text()?.unescape() == "none").then_some(0);
            return Ok(());
        }
        Ok(scanner.pass()?)
    }

    /// Once all is read: a field that is not known here (`reasoning`, `enable_thinking` …) may turn on what [`Reader::effort`] found off.
    pub(super) fn doubt_effort(&mut self) {
        self.ask.hidden_tokens = self.ask.hidden_tokens.filter(|_| self.ask.unknown_fields.is_empty());
    }

    pub(super) fn service_tier(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        let kind = scanner.kind()?;
        let start = scanner.at();
        self.ask.service_tier = match kind {
            Kind::Text => Some(shortened(&scanner.text()?.unescape())),
            Kind::Null => {
                scanner.skip()?;
                None
            }
            _ => return Err(Malformed::field("service_tier", "must be a string")),
        };
        self.places.service_tier = Some(start..scanner.at());
        Ok(())
    }
}

/// The governed field that a name is but for its letters' case: servers written in Go (ollama among them) read it as that one.
fn misspelt<M: Member>(name: &str) -> Option<String> {
    if name.len() > 2 * LONGEST_FIELD {
        return None;
    }
    // Both ways, so that U+017F and U+212A fold as Go folds them.
    let folded = name.to_uppercase().to_lowercase();
    (folded != name && (M::of(&folded).is_some() || costly(&folded).is_some())).then_some(folded)
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

/// A natural number within a range, or null, with its span.
pub(super) fn natural(scanner: &mut Scanner<'_>, name: &str, range: RangeInclusive<u64>) -> Result<(Option<u64>, Range<usize>), Malformed> {
    let (least, most) = (range.start(), range.end());
    let kind = scanner.kind()?;
    let start = scanner.at();
    let number = match kind {
        Kind::Null => {
            scanner.skip()?;
            None
        }
        Kind::Number => match scanner.number()? {
            Number::Natural(number) if number > *most => return Err(Malformed::field(name, &format!("is too large: at most {most}"))),
            Number::Natural(number) if number >= *least => Some(number),
            _ => return Err(Malformed::field(name, &format!("must be an integer of at least {least}"))),
        },
        _ => return Err(Malformed::field(name, "must be an integer")),
    };
    Ok((number, start..scanner.at()))
}

pub(super) fn flag(scanner: &mut Scanner<'_>, name: &str) -> Result<Option<bool>, Malformed> {
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
