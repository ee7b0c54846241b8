//! Splices into a request: only the intended bytes change, and without an intention the same buffer goes on.

use super::request::{Limit, Places, Request, StreamOptions};
use aex_core::price::MaxTokensField;
use bytes::Bytes;
use std::ops::Range;

/// The field in which a request states its output limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitField {
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`: chat's newer name.
    MaxCompletionTokens,
    /// `max_output_tokens`, of responses.
    MaxOutputTokens,
}

impl LimitField {
    /// The field of a chat request.
    #[must_use]
    pub const fn of_chat(field: MaxTokensField) -> LimitField {
        match field {
            MaxTokensField::MaxTokens => LimitField::MaxTokens,
            MaxTokensField::MaxCompletionTokens => LimitField::MaxCompletionTokens,
        }
    }

    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            LimitField::MaxTokens => MaxTokensField::MaxTokens.name(),
            LimitField::MaxCompletionTokens => MaxTokensField::MaxCompletionTokens.name(),
            LimitField::MaxOutputTokens => "max_output_tokens",
        }
    }
}

/// What shall be different in the request that is sent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits<'a> {
    /// The provider's name of the model.
    pub model: Option<&'a str>,
    /// Where the model reads its output limit, and the most that may stand there: what the request states in the other field
    /// moves there, for some providers refuse the field that the model does not read, and others ignore it.
    pub max_tokens: Option<(LimitField, u64)>,
    /// The temperature instead of the one that the request states.
    pub temperature: Option<&'a str>,
    /// The answer is asked for whole, whatever the request says.
    pub no_stream: bool,
    /// The service tier, where the request leaves it to the provider.
    pub service_tier: Option<&'a str>,
    /// A stream shall report its usage. Ignored in a request for no stream.
    pub include_usage: bool,
    /// Tools that the provider would run and that are taken out, by the types that the request gives them.
    pub drop_tools: &'a [&'a str],
    /// The choice of a tool that leaves it to the model, in JSON; `"auto"` when nothing is said.
    pub auto_choice: Option<&'a str>,
}

/// A range of the original and what stands there instead; an empty range is a place of insertion.
pub(super) type Splice = (Range<usize>, String);

/// The request with its edits.
#[must_use]
pub fn edit(body: &Bytes, request: &Request, edits: &Edits<'_>) -> Bytes {
    let places = &request.places;
    let mut splices: Vec<Splice> = Vec::new();
    let mut inserted = String::new();
    let mut removed: Vec<Range<usize>> = Vec::new();
    if let Some(model) = edits.model.filter(|model| places.model.is_none() || *model != request.ask.model) {
        member(&mut splices, &mut inserted, "model", places.model.as_ref(), quoted(model));
    }
    if let Some((field, ceiling)) = edits.max_tokens {
        removed.extend(limit_output(&mut splices, &mut inserted, places, field, ceiling));
    }
    if let Some(tier) = edits.service_tier.filter(|_| matches!(request.ask.service_tier.as_deref(), None | Some("auto"))) {
        member(&mut splices, &mut inserted, "service_tier", places.service_tier.as_ref(), quoted(tier));
    }
    if let Some(temperature) = edits.temperature {
        member(&mut splices, &mut inserted, "temperature", places.temperature.as_ref(), temperature.to_owned());
    }
    if edits.no_stream {
        splices.extend(places.stream.clone().map(|span| (span, "false".to_owned())));
        // Options of a stream are refused without one.
        splices.extend(places.stream_options.as_ref().map(|options| (options.span.clone(), "null".to_owned())));
    } else if edits.include_usage && request.ask.stream {
        ask_for_usage(&mut splices, &mut inserted, places.stream_options.as_ref());
    }
    if !edits.drop_tools.is_empty() {
        removed.extend(places.hosted.take_out(body, edits.drop_tools, edits.auto_choice.unwrap_or("\"auto\""), &mut splices));
    }
    // All at once: members that go and are neighbours share a comma.
    let removed = removals(body, removed);
    let leaves_none = removed.iter().any(|(span, _)| is_alone(body, span));
    splices.extend(removed);
    if !inserted.is_empty() {
        if places.is_empty || leaves_none {
            // Nothing stands behind the last comma.
            inserted.pop();
        }
        splices.push((places.first_member..places.first_member, inserted));
    }
    if splices.is_empty() {
        return body.clone();
    }
    // An insertion comes before what is edited at its place.
    splices.sort_unstable_by_key(|(span, _)| (span.start, span.end));
    spliced(body, &splices)
}

/// Replaces the value of a member, or inserts the member.
fn member(splices: &mut Vec<Splice>, inserted: &mut String, name: &str, span: Option<&Range<usize>>, value: String) {
    match span {
        Some(span) => splices.push((span.clone(), value)),
        None => inserted.extend(["\"", name, "\":", &value, ","]),
    }
}

/// The limit stands in one field, the one that the model reads. Gives the member that goes.
fn limit_output(
    splices: &mut Vec<Splice>,
    inserted: &mut String,
    places: &Places,
    field: LimitField,
    ceiling: u64,
) -> Option<Range<usize>> {
    let (own, other) = match field {
        LimitField::MaxTokens | LimitField::MaxOutputTokens => (&places.max_tokens, &places.max_completion_tokens),
        LimitField::MaxCompletionTokens => (&places.max_completion_tokens, &places.max_tokens),
    };
    let other = other.as_ref().filter(|other| other.tokens.is_some());
    let stated = own.as_ref().and_then(|own| own.tokens).or(other.and_then(|other| other.tokens));
    let tokens = stated.map_or(ceiling, |stated| stated.min(ceiling));
    let mut set = |limit: &Limit| {
        if limit.tokens != Some(tokens) {
            splices.push((limit.value.clone(), tokens.to_string()));
        }
    };
    match (own, other) {
        (Some(own), None) => set(own),
        (Some(own), Some(other)) => {
            set(own);
            return Some(other.key.start..other.value.end);
        }
        (None, Some(other)) => {
            set(other);
            splices.push((other.key.clone(), quoted(field.name())));
        }
        (None, None) => inserted.extend(["\"", field.name(), "\":", &tokens.to_string(), ","]),
    }
    None
}

/// What takes members out of an object, or elements out of a list, with one comma for each, as long as one is left.
pub(super) fn removals(body: &[u8], mut spans: Vec<Range<usize>>) -> Vec<Splice> {
    spans.sort_unstable_by_key(|span| span.start);
    let mut runs: Vec<Range<usize>> = Vec::new();
    for span in spans {
        match runs.last_mut() {
            // Neighbours go in one piece, so that none takes the other's comma.
            Some(run) if between(body, run.end, span.start).eq(b",".iter()) => run.end = span.end,
            _ => runs.push(span),
        }
    }
    runs.into_iter().map(|run| (with_comma(body, &run), String::new())).collect()
}

/// Whether what is taken out took no comma along: it was all there was.
fn is_alone(body: &[u8], removed: &Range<usize>) -> bool {
    let taken = body.get(removed.clone()).unwrap_or_default();
    taken.first() != Some(&b',') && taken.last() != Some(&b',')
}

/// The bytes between two places that are no white space.
fn between(body: &[u8], from: usize, to: usize) -> impl Iterator<Item = &u8> {
    body.get(from..to).unwrap_or_default().iter().filter(|byte| !byte.is_ascii_whitespace())
}

/// A span and the comma behind it; before it, when it is the last.
fn with_comma(body: &[u8], span: &Range<usize>) -> Range<usize> {
    let behind = body.get(span.end..).unwrap_or_default();
    let space = behind.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    if behind.get(space) == Some(&b',') {
        return span.start..span.end + space + 1;
    }
    let before = body.get(..span.start).unwrap_or_default();
    let space = before.iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count();
    let comma = before.len().checked_sub(space + 1).filter(|at| before.get(*at) == Some(&b','));
    comma.unwrap_or(span.start)..span.end
}

fn ask_for_usage(splices: &mut Vec<Splice>, inserted: &mut String, options: Option<&StreamOptions>) {
    const MEMBER: &str = "\"include_usage\":true";
    match options {
        None => inserted.extend(["\"stream_options\":{", MEMBER, "},"]),
        Some(StreamOptions { asked: true, .. }) => {}
        Some(StreamOptions { null: true, span, .. }) => splices.push((span.clone(), format!("{{{MEMBER}}}"))),
        Some(StreamOptions { include_usage: Some(value), .. }) => splices.push((value.clone(), "true".to_owned())),
        Some(StreamOptions { span, empty, .. }) => {
            let inside = span.start + 1;
            splices.push((inside..inside, format!("{MEMBER}{}", if *empty { "" } else { "," })));
        }
    }
}

/// A text as a JSON string, quotes included.
#[must_use]
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The bytes with splices applied, which are sorted and do not overlap.
pub(super) fn spliced<S: AsRef<[u8]>>(bytes: &[u8], splices: &[(Range<usize>, S)]) -> Bytes {
    let added: usize = splices.iter().map(|(_, text)| text.as_ref().len()).sum();
    let mut edited = Vec::with_capacity(bytes.len() + added);
    let mut from = 0;
    for (span, text) in splices {
        edited.extend_from_slice(bytes.get(from..span.start).unwrap_or_default());
        edited.extend_from_slice(text.as_ref());
        from = span.end;
    }
    edited.extend_from_slice(bytes.get(from..).unwrap_or_default());
    Bytes::from(edited)
}

#[cfg(test)]
mod tests {
    use super::super::{chat, completions};
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    fn edited(body: &str, edits: &Edits<'_>) -> String {
        let body = Bytes::from(body.to_owned());
        let request = chat::read(&body).unwrap();
        String::from_utf8(edit(&body, &request, edits).to_vec()).unwrap()
    }

    #[test]
    fn without_an_intention_the_same_buffer_goes_on() {
        let body = Bytes::from_static(br#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#);
        let request = chat::read(&body).unwrap();
        let same = edit(&body, &request, &Edits { model: Some("m"), include_usage: true, ..Edits::default() });
        assert_eq!(same.as_ptr(), body.as_ptr());
        assert!(request.asks_for_usage());
    }

    #[test]
    fn only_the_intended_bytes_change() {
        let edits = Edits { model: Some("a\"b"), max_tokens: Some((LimitField::MaxTokens, 7)), include_usage: true, ..Edits::default() };
        let row = |body: &str, expected: &str| assert_eq!(edited(body, &edits), expected);
        row(
            r#"{ "model" : "m", "stream":true,"messages":[] }"#,
            r#"{"max_tokens":7,"stream_options":{"include_usage":true}, "model" : "a\"b", "stream":true,"messages":[] }"#,
        );
        row(r#"{"messages":[]}"#, r#"{"model":"a\"b","max_tokens":7,"messages":[]}"#);
        row(
            r#"{"max_tokens":null,"model":"","messages":[],"stream_options":null,"stream":true}"#,
            r#"{"max_tokens":7,"model":"a\"b","messages":[],"stream_options":{"include_usage":true},"stream":true}"#,
        );
        row(
            r#"{"max_tokens":null,"model":"m","messages":[],"stream_options":{ "x":1},"stream":true}"#,
            r#"{"max_tokens":7,"model":"a\"b","messages":[],"stream_options":{"include_usage":true, "x":1},"stream":true}"#,
        );
        row(
            r#"{"max_tokens":null,"model":"m","messages":[],"stream_options":{"include_usage": false },"stream":true}"#,
            r#"{"max_tokens":7,"model":"a\"b","messages":[],"stream_options":{"include_usage": true },"stream":true}"#,
        );
    }

    #[test]
    fn members_are_inserted_into_an_empty_object_too() {
        let body = Bytes::from_static(b"{ }");
        let request = completions::read(&body).unwrap();
        let edits = Edits { model: Some("m"), max_tokens: Some((LimitField::MaxTokens, 7)), ..Edits::default() };
        assert_eq!(edit(&body, &request, &edits), br#"{"model":"m","max_tokens":7 }"#.as_slice());
    }

    #[test]
    fn the_output_limit_stands_where_the_model_reads_it_and_nowhere_else() {
        let row = |field, body: &str, expected: &str| {
            let edits = Edits { max_tokens: Some((field, 7)), ..Edits::default() };
            assert_eq!(edited(body, &edits), expected);
        };
        let older = |body: &str, expected: &str| row(LimitField::MaxTokens, body, expected);
        older(r#"{"max_tokens":5,"messages":[]}"#, r#"{"max_tokens":5,"messages":[]}"#);
        older(r#"{"max_tokens":9,"messages":[]}"#, r#"{"max_tokens":7,"messages":[]}"#);
        older(r#"{"messages":[], "max_completion_tokens" : 5}"#, r#"{"messages":[], "max_tokens" : 5}"#);
        older(r#"{"messages":[],"max_completion\u005ftokens":9}"#, r#"{"messages":[],"max_tokens":7}"#);
        older(r#"{"max_completion_tokens":5 , "max_tokens":3,"messages":[]}"#, r#"{ "max_tokens":3,"messages":[]}"#);
        older(r#"{"max_tokens":9,"messages":[] , "max_completion_tokens":5 }"#, r#"{"max_tokens":7,"messages":[]  }"#);
        older(r#"{"max_completion_tokens":5,"messages":[],"max_tokens":null}"#, r#"{"messages":[],"max_tokens":5}"#);
        older(r#"{"max_completion_tokens":null,"messages":[]}"#, r#"{"max_tokens":7,"max_completion_tokens":null,"messages":[]}"#);
        let newer = |body: &str, expected: &str| row(LimitField::MaxCompletionTokens, body, expected);
        newer(r#"{"max_tokens":5,"messages":[]}"#, r#"{"max_completion_tokens":5,"messages":[]}"#);
        newer(r#"{"max_tokens":5,"max_completion_tokens":6,"messages":[]}"#, r#"{"max_completion_tokens":6,"messages":[]}"#);
        // The first member goes, and another is inserted in its place.
        let edits = Edits { model: Some("m"), max_tokens: Some((LimitField::MaxTokens, 7)), ..Edits::default() };
        assert_eq!(
            edited(r#"{"max_completion_tokens":5,"max_tokens":3,"messages":[]}"#, &edits),
            r#"{"model":"m","max_tokens":3,"messages":[]}"#
        );
    }

    #[test]
    fn a_tier_is_named_only_where_the_request_leaves_it_open() {
        let row = |body: &str, expected: &str| {
            assert_eq!(edited(body, &Edits { service_tier: Some("default"), ..Edits::default() }), expected);
        };
        row(r#"{"messages":[]}"#, r#"{"service_tier":"default","messages":[]}"#);
        row(r#"{"messages":[],"service_tier": null}"#, r#"{"messages":[],"service_tier": "default"}"#);
        row(r#"{"messages":[],"service_tier": "auto" }"#, r#"{"messages":[],"service_tier": "default" }"#);
        row(r#"{"messages":[],"service_tier":"flex"}"#, r#"{"messages":[],"service_tier":"flex"}"#);
    }

    #[test]
    fn a_limit_sets_the_temperature_and_takes_the_stream_with_its_options_away() {
        let row = |body: &str, expected: &str| {
            let edits = Edits { temperature: Some("0.70"), no_stream: true, include_usage: true, ..Edits::default() };
            assert_eq!(edited(body, &edits), expected);
        };
        row(
            r#"{"messages":[],"temperature": 2e0 ,"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"messages":[],"temperature": 0.70 ,"stream":false,"stream_options":null}"#,
        );
        row(r#"{"stream": true,"messages":[]}"#, r#"{"temperature":0.70,"stream": false,"messages":[]}"#);
    }

    fn object() -> impl Strategy<Value = Vec<(String, Value)>> {
        let value = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            Just(json!({"model": ["x"]}))
        ];
        let others = prop::collection::btree_map("[a-z]{0,4}é?x", value, 0..4);
        let model = prop_oneof![Just(None), any::<String>().prop_map(|name| Some(json!(name.chars().take(60).collect::<String>())))];
        let options = prop_oneof![
            Just(None),
            Just(Some(Value::Null)),
            Just(Some(json!({}))),
            any::<bool>().prop_map(|asked| Some(json!({"a": 1, "include_usage": asked, "z": {}})))
        ];
        let limit = || prop_oneof![Just(None), Just(Some(Value::Null)), (1..20).prop_map(|tokens| Some(json!(tokens)))];
        let tier = prop::sample::select(vec![None, Some(Value::Null), Some(json!("auto")), Some(json!("default"))]);
        let members = (others, model, options, limit(), limit(), tier).prop_map(|(others, model, options, older, newer, tier)| {
            let mut members: Vec<(String, Value)> = others.into_iter().collect();
            members.push(("messages".to_owned(), json!([{"role": "user", "content": "ü \\ \""}])));
            members.push(("stream".to_owned(), json!(true)));
            let optional = [
                ("model", model),
                ("stream_options", options),
                ("max_tokens", older),
                ("max_completion_tokens", newer),
                ("service_tier", tier),
            ];
            members.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
            members
        });
        members.prop_shuffle()
    }

    /// What an edit shall do, said with a map.
    fn expect(mut object: Map<String, Value>, model: &str, field: LimitField, ceiling: u64) -> Map<String, Value> {
        object.insert("model".to_owned(), json!(model));
        let other = match field {
            LimitField::MaxTokens => LimitField::MaxCompletionTokens,
            LimitField::MaxCompletionTokens | LimitField::MaxOutputTokens => LimitField::MaxTokens,
        };
        let stated = |name: &str| object.get(name).and_then(Value::as_u64);
        let tokens = stated(field.name()).or(stated(other.name())).unwrap_or(ceiling).min(ceiling);
        object.insert(field.name().to_owned(), json!(tokens));
        if object.get(other.name()).is_some_and(Value::is_u64) {
            object.remove(other.name());
        }
        object.insert("service_tier".to_owned(), json!("default"));
        let options = object.entry("stream_options").or_insert(Value::Null);
        if options.is_null() {
            *options = json!({});
        }
        options["include_usage"] = json!(true);
        object
    }

    proptest! {
        #[test]
        fn an_edit_changes_the_intended_members_and_no_other(
            members in object(),
            model in any::<String>(),
            spaces in prop::sample::select(vec!["", " ", "\n\t"]),
            newer in any::<bool>(),
            ceiling in 1..20_u64,
        ) {
            let field = if newer { LimitField::MaxCompletionTokens } else { LimitField::MaxTokens };
            let written: Vec<String> = members.iter().map(|(name, value)| format!("{spaces}{}{spaces}:{spaces}{value}{spaces}", quoted(name))).collect();
            let edits = Edits { model: Some(&model), max_tokens: Some((field, ceiling)), service_tier: Some("default"), include_usage: true, ..Edits::default() };
            let after: Map<String, Value> = serde_json::from_str(&edited(&format!("{{{}}}", written.join(",")), &edits)).unwrap();
            prop_assert_eq!(after, expect(members.into_iter().collect(), &model, field, ceiling));
        }
    }
}
