//! Requests: what our scanner takes, `serde_json` takes with the same meaning, and an edit changes the members that it is to change.

use crate::dice::Dice;
use crate::doc::{self, Doc};
use crate::engine::halves;
use crate::made;
use aex_core::ask::NAMES_KEPT;
use aexd::wire::dialect::Dialect;
use aexd::wire::edit::{Edits, LimitField, edit, quoted};
use aexd::wire::request::Request;
use aexd::wire::texts::{Told, texts};
use bytes::Bytes;
use std::collections::BTreeMap;

const DIALECTS: &[Dialect] =
    &[Dialect::Chat, Dialect::Completions, Dialect::CountTokens, Dialect::Embeddings, Dialect::Messages, Dialect::Responses];
const MODELS: &[&str] = &["real", "m", "a\"b\\", "日本"];
/// The longest name that is kept whole: a longer one is shortened, and matches no tool.
const NAME_BYTES_KEPT: usize = 128;

/// Sixteen bytes of choices, and the body as it came.
pub fn check(bytes: &[u8]) {
    let (mut dice, body) = halves(bytes);
    let dialect = dice.pick(DIALECTS);
    hold(&mut dice, dialect, body);
}

/// A body that is made.
pub fn check_made(bytes: &[u8]) {
    let (mut choices, rest) = halves(bytes);
    let dialect = choices.pick(DIALECTS);
    let body = made::request(&mut Dice::new(rest), dialect);
    hold(&mut choices, dialect, body.as_bytes());
}

fn hold(dice: &mut Dice<'_>, dialect: Dialect, body: &[u8]) {
    let body = Bytes::copy_from_slice(body);
    let Ok(request) = dialect.read(&body) else { return };
    let doc = doc::parse(&body).expect("what is taken is JSON");
    same_meaning(dialect, &body, &doc, &request);
    same_texts(dialect, &body);

    let drops: Vec<&str> = ["web_search", "mcp", "file_search", "plugins", "mcp_servers"].into_iter().filter(|_| dice.once_in(2)).collect();
    let model = dice.pick(MODELS);
    let limit =
        dialect.limit_field(dice.pick(&[aex_core::price::MaxTokensField::MaxTokens, aex_core::price::MaxTokensField::MaxCompletionTokens]));
    let ceiling = dice.pick(&[7, 1, 4096, 1 << 31]);
    let edits = Edits {
        model: dice.once_in(2).then_some(model),
        max_tokens: limit.filter(|_| dice.once_in(2)).map(|field| (field, ceiling)),
        // A rule sets none where there is none to set.
        temperature: (governed(dialect).contains(&"temperature") && dice.once_in(4)).then_some("0.70"),
        no_stream: dice.once_in(4),
        service_tier: (dialect.has_service_tier() && dice.once_in(2)).then_some("default"),
        include_usage: dialect.has_usage_option() && dice.once_in(2),
        drop_tools: &drops,
        auto_choice: Some(dialect.auto_choice()),
    };
    let after = edit(&body, &request, &edits);
    let edited = doc::parse(&after).unwrap_or_else(|| panic!("{edits:?}\n{}\nbecame no JSON:\n{}", show(&body), show(&after)));
    if let Err(why) = intended(dialect, &doc, &edited, &edits) {
        panic!("{why}\n{edits:?}\n{}\nbecame\n{}", show(&body), show(&after));
    }
    let again = dialect.read(&after).unwrap_or_else(|fault| panic!("{fault}: {}", show(&after)));
    assert_eq!(edit(&after, &again, &edits), after, "an edit changes nothing the second time: {edits:?}");
    assert_eq!(edit(&body, &request, &Edits::default()).as_ptr(), body.as_ptr(), "without an intention the same buffer goes on");
}

/// What is tokenised says what `serde_json` reads there, and takes no byte twice.
fn same_texts(dialect: Dialect, body: &[u8]) {
    let texts = texts(dialect, body).expect("what was taken is read again");
    for text in &texts {
        let said: String = serde_json::from_str(&format!("\"{}\"", text.written)).expect("a text of JSON");
        assert_eq!(said, text.said);
    }
    assert!(texts.iter().map(Told::bytes).sum::<usize>() <= body.len(), "{}", show(body));
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Members that decide, by dialect: each may stand once, and under its own name only.
const fn governed(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Chat => &[
            "model",
            "messages",
            "stream",
            "stream_options",
            "max_tokens",
            "max_completion_tokens",
            "n",
            "best_of",
            "tools",
            "functions",
            "tool_choice",
            "function_call",
            "service_tier",
            "prediction",
            "modalities",
            "audio",
            "temperature",
        ],
        Dialect::Completions => {
            &["model", "prompt", "stream", "stream_options", "max_tokens", "n", "best_of", "echo", "service_tier", "temperature"]
        }
        Dialect::Embeddings => &["model", "input", "service_tier"],
        Dialect::Responses => &[
            "model",
            "input",
            "instructions",
            "stream",
            "stream_options",
            "max_output_tokens",
            "tools",
            "tool_choice",
            "max_tool_calls",
            "service_tier",
            "temperature",
            "previous_response_id",
            "conversation",
            "prompt",
            "background",
            "store",
            "moderation",
            "context_management",
        ],
        Dialect::CountTokens | Dialect::Messages => &[
            "model",
            "messages",
            "system",
            "stream",
            "max_tokens",
            "tools",
            "tool_choice",
            "service_tier",
            "speed",
            "inference_geo",
            "temperature",
            "mcp_servers",
            "container",
            "context_management",
            "compaction",
            "thread",
            "cache_control",
        ],
    }
}

fn same_meaning(dialect: Dialect, body: &[u8], doc: &Doc<'_>, request: &Request) {
    assert!(doc.is_map(), "what is taken is an object");
    let ask = &request.ask;
    let names = governed(dialect);
    for name in names {
        let times = doc
            .members()
            .iter()
            .filter(|(known, _)| known.to_lowercase() == **name || known.to_uppercase().to_lowercase() == **name)
            .count();
        assert!(times <= 1, "{name} stands {times} times in {}", show(body));
        assert_eq!(times, doc.members().iter().filter(|(known, _)| known == name).count(), "{name} is written otherwise in {}", show(body));
    }
    let get = |name: &str| names.contains(&name).then(|| doc.get(name)).flatten();
    let natural = |name: &str| get(name).and_then(Doc::natural);
    assert_eq!(ask.body_bytes, body.len() as u64);
    assert_eq!(Some(ask.model.as_str()), get("model").map_or(Some(""), Doc::text), "model");
    assert_eq!(ask.stream, get("stream").is_some_and(|stream| stream.raw == "true"), "stream");
    if dialect != Dialect::Embeddings {
        assert_eq!(ask.max_tokens, natural("max_tokens").max(natural("max_completion_tokens")).max(natural("max_output_tokens")), "limit");
    }
    let is_number = |doc: &&Doc<'_>| !doc.is_null();
    assert_eq!(ask.temperature.as_deref(), get("temperature").filter(is_number).map(|number| number.raw), "temperature");
    let choices = natural("n").unwrap_or(1).max(natural("best_of").unwrap_or(1));
    assert_eq!(ask.choices, if dialect == Dialect::Completions { choices * ask.messages.max(1) } else { choices }, "choices");
    if matches!(dialect, Dialect::Chat | Dialect::Completions | Dialect::Embeddings | Dialect::Responses) {
        let tier = get("service_tier").and_then(Doc::text).filter(|tier| tier.len() <= NAME_BYTES_KEPT);
        assert_eq!(ask.service_tier.as_deref().filter(|tier| !tier.ends_with('…')), tier.filter(|tier| !tier.ends_with('…')), "tier");
    }
    if matches!(dialect, Dialect::Chat | Dialect::Messages | Dialect::CountTokens) {
        assert_eq!(ask.messages, get("messages").map_or(0, |list| list.items().len() as u64), "messages");
        let added = ask.hosted_tools.len() as u64;
        assert!(ask.tools >= get("tools").map_or(0, |list| list.items().len() as u64), "tools: {} with {added} hosted", ask.tools);
    }
    let asks = get("stream_options").and_then(|options| options.get("include_usage")).is_some_and(|flag| flag.raw == "true");
    assert_eq!(request.asks_for_usage(), asks, "include_usage");
    let span = request.places.model.clone().and_then(|span| body.get(span));
    assert_eq!(span, get("model").map(|model| model.raw.as_bytes()), "the place of the model");
}

/// What an edit shall do, said with a list of members.
fn intended(dialect: Dialect, before: &Doc<'_>, after: &Doc<'_>, edits: &Edits<'_>) -> Result<(), String> {
    let mut wanted = Wanted::of(before);
    if let Some(model) = edits.model
        && before.get("model").and_then(Doc::text) != Some(model)
    {
        wanted.set("model", quoted(model));
    }
    if let Some((field, ceiling)) = edits.max_tokens {
        let other = match field {
            LimitField::MaxTokens | LimitField::MaxOutputTokens => LimitField::MaxCompletionTokens,
            LimitField::MaxCompletionTokens => LimitField::MaxTokens,
        };
        let stated = |field: LimitField| if governed(dialect).contains(&field.name()) { before.get(field.name())?.natural() } else { None };
        let tokens = stated(field).or(stated(other)).unwrap_or(ceiling).min(ceiling).to_string();
        if before.get(field.name()).is_none() && stated(other).is_some() {
            wanted.rename(other.name(), field.name());
        } else if stated(other).is_some() {
            wanted.remove(other.name());
        }
        wanted.set(field.name(), tokens);
    }
    if let Some(tier) = edits.service_tier
        && before.get("service_tier").is_none_or(|stated| stated.is_null() || stated.text() == Some("auto"))
    {
        wanted.set("service_tier", quoted(tier));
    }
    if let Some(temperature) = edits.temperature {
        wanted.set("temperature", temperature.to_owned());
    }
    let streams = before.get("stream").is_some_and(|stream| stream.raw == "true");
    if edits.no_stream {
        if governed(dialect).contains(&"stream") && before.get("stream").is_some() {
            wanted.set("stream", "false".to_owned());
        }
        if governed(dialect).contains(&"stream_options") && before.get("stream_options").is_some() {
            wanted.set("stream_options", "null".to_owned());
        }
    } else if edits.include_usage && streams {
        let options = after.get("stream_options").ok_or("no stream_options")?;
        if options.get("include_usage").map(|flag| flag.raw) != Some("true") {
            return Err("no usage is asked for".to_owned());
        }
        let others = |doc: Option<&Doc<'_>>| -> Vec<(String, String)> {
            let members = doc.into_iter().flat_map(Doc::members).filter(|(name, _)| name != "include_usage");
            members.map(|(name, value)| (name.clone(), value.raw.to_owned())).collect()
        };
        if others(before.get("stream_options")) != others(Some(options)) {
            return Err("other stream_options changed".to_owned());
        }
        wanted.set("stream_options", options.raw.to_owned());
    }
    drop_tools(dialect, before, edits, &mut wanted);
    wanted.judge(after)
}

/// The members that shall be there: those of before in their order, and behind the brace those that are new.
struct Wanted {
    members: Vec<(String, String)>,
    /// Some of `tools` are gone: its value is what is left of its elements.
    is_cut: bool,
    new: BTreeMap<String, String>,
}

impl Wanted {
    fn of(doc: &Doc<'_>) -> Wanted {
        Wanted {
            members: doc.members().iter().map(|(name, value)| (name.clone(), value.raw.to_owned())).collect(),
            is_cut: false,
            new: BTreeMap::new(),
        }
    }

    fn set(&mut self, name: &str, raw: String) {
        match self.members.iter_mut().find(|(known, _)| known == name) {
            Some((_, value)) => *value = raw,
            None => drop(self.new.insert(name.to_owned(), raw)),
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.members.iter_mut().filter(|(name, _)| name == from).for_each(|(name, _)| to.clone_into(name));
    }

    fn remove(&mut self, name: &str) {
        self.members.retain(|(known, _)| known != name);
    }

    /// A list of tools of which some are gone, as its elements alone: which spaces stay between them is not promised.
    fn comparable(&self, name: &str, raw: &str) -> String {
        let is_cut = name == "tools" && self.is_cut;
        let elements = doc::parse(raw.as_bytes()).filter(|_| is_cut);
        elements.map_or_else(|| raw.to_owned(), |list| list.items().iter().map(|tool| tool.raw).collect::<Vec<_>>().join(","))
    }

    fn judge(&self, after: &Doc<'_>) -> Result<(), String> {
        let found: Vec<(String, String)> = after.members().iter().map(|(name, value)| (name.clone(), value.raw.to_owned())).collect();
        let (new, rest) = found.split_at_checked(self.new.len()).ok_or("members are missing")?;
        if !new.iter().all(|(name, raw)| self.new.get(name) == Some(raw)) {
            return Err(format!("inserted {new:?}, wanted {:?}", self.new));
        }
        let rest: Vec<(String, String)> = rest.iter().map(|(name, raw)| (name.clone(), self.comparable(name, raw))).collect();
        if rest == self.members { Ok(()) } else { Err(format!("left {rest:?}, wanted {:?}", self.members)) }
    }
}

fn drop_tools(dialect: Dialect, before: &Doc<'_>, edits: &Edits<'_>, wanted: &mut Wanted) {
    let goes = |kind: &str| edits.drop_tools.contains(&kind);
    let own = governed(dialect);
    let asked = |doc: &Doc<'_>, name: &str| match doc.raw {
        "null" | "false" | "\"\"" => false,
        _ if doc.raw.starts_with('[') => !doc.items().is_empty(),
        _ if doc.is_map() => !doc.members().is_empty() || matches!(name, "web_search_options" | "search_parameters"),
        _ => true,
    };
    let costly = |name: &str, value: &Doc<'_>| match name {
        "web_search_options" if asked(value, name) => Some("web_search"),
        "plugins" if asked(value, name) => Some("plugins"),
        "mcp_servers" if own.contains(&name) && asked(value, name) => Some("mcp_servers"),
        _ => None,
    };
    let at_most = before.members().iter().filter(|(name, value)| costly(name, value).is_some()).count();
    assert!(at_most <= NAMES_KEPT, "the corpus has no such request");
    // A name may stand twice, and ask for something once only.
    for (name, value) in before.members().iter().filter(|(name, value)| costly(name, value).is_some_and(goes)) {
        wanted.members.retain(|(known, raw)| !(known == name && raw == value.raw));
    }
    if own.contains(&"tools") {
        let tools = before.get("tools");
        let items = tools.map(Doc::items).unwrap_or_default();
        let kept: Vec<&Doc<'_>> = items.iter().filter(|tool| !tool.get("type").and_then(Doc::text).is_some_and(goes)).collect();
        if kept.is_empty() && !items.is_empty() {
            ["tools", "tool_choice", "parallel_tool_calls"].iter().for_each(|name| wanted.remove(name));
        } else {
            if kept.len() < items.len() {
                wanted.is_cut = true;
                wanted.set("tools", kept.iter().map(|tool| tool.raw).collect::<Vec<_>>().join(","));
            }
            // Anthropic's choices call a tool by its name.
            let is_named = matches!(dialect, Dialect::CountTokens | Dialect::Messages);
            let gone = items.iter().filter(|tool| is_named && tool.get("type").and_then(Doc::text).is_some_and(goes));
            let names: Vec<&str> = gone.filter_map(|tool| tool.get("name").and_then(Doc::text)).collect();
            if before.get("tool_choice").is_some_and(|choice| chooses(choice, goes, &names)) {
                wanted.set("tool_choice", dialect.auto_choice().to_owned());
            }
        }
    }
}

/// Whether a choice is of a tool that goes: by its type, or by one of the names.
fn chooses(choice: &Doc<'_>, goes: impl Fn(&str) -> bool, names: &[&str]) -> bool {
    let last = |member: &str| {
        let mut found = choice.members().iter().filter(|(name, _)| name == member).filter_map(|(_, value)| value.text());
        found.next_back()
    };
    match last("type") {
        Some("function" | "custom") | None => false,
        Some("tool") => goes("tool") || last("name").is_some_and(|name| names.contains(&name)),
        Some(kind) => goes(kind),
    }
}
