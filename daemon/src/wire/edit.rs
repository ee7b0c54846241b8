//! Splices into a request: only the intended bytes change, and without an intention the same buffer goes on.

use super::chat::{ChatRequest, Places, StreamOptions};
use aex_core::price::MaxTokensField;
use bytes::Bytes;
use std::ops::Range;

/// What shall be different in the request that is sent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits<'a> {
    /// The provider's name of the model.
    pub model: Option<&'a str>,
    /// An output limit, where the request states none.
    pub max_tokens: Option<(MaxTokensField, u64)>,
    /// A stream shall report its usage. Ignored in a request for no stream.
    pub include_usage: bool,
}

/// A range of the original and what stands there instead; an empty range is a place of insertion.
type Splice = (Range<usize>, String);

/// The request with its edits.
#[must_use]
pub fn edit(body: &Bytes, request: &ChatRequest, edits: &Edits<'_>) -> Bytes {
    let Places { first_member, .. } = request.places;
    let mut splices: Vec<Splice> = Vec::new();
    let mut inserted = String::new();
    if let Some(model) = edits.model.filter(|model| request.places.model.is_none() || *model != request.ask.model) {
        member(&mut splices, &mut inserted, "model", request.places.model.as_ref(), quoted(model));
    }
    if let Some((field, limit)) = edits.max_tokens {
        let span = match field {
            MaxTokensField::MaxTokens => request.places.max_tokens.as_ref(),
            MaxTokensField::MaxCompletionTokens => request.places.max_completion_tokens.as_ref(),
        };
        member(&mut splices, &mut inserted, field.name(), span, limit.to_string());
    }
    if edits.include_usage && request.ask.stream {
        ask_for_usage(&mut splices, &mut inserted, request.places.stream_options.as_ref());
    }
    if !inserted.is_empty() {
        splices.push((first_member..first_member, inserted));
    }
    if splices.is_empty() {
        return body.clone();
    }
    splices.sort_unstable_by_key(|(span, _)| span.start);
    spliced(body, &splices)
}

/// Replaces the value of a member, or inserts the member.
fn member(splices: &mut Vec<Splice>, inserted: &mut String, name: &str, span: Option<&Range<usize>>, value: String) {
    match span {
        Some(span) => splices.push((span.clone(), value)),
        None => inserted.extend(["\"", name, "\":", &value, ","]),
    }
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
    use super::super::chat;
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
        let same = edit(&body, &request, &Edits { model: Some("m"), max_tokens: None, include_usage: true });
        assert_eq!(same.as_ptr(), body.as_ptr());
        assert!(request.asks_for_usage());
    }

    #[test]
    fn only_the_intended_bytes_change() {
        let edits = Edits { model: Some("a\"b"), max_tokens: Some((MaxTokensField::MaxTokens, 7)), include_usage: true };
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

    fn object() -> impl Strategy<Value = Map<String, Value>> {
        let value = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            Just(json!({"model": ["x"]}))
        ];
        let others = prop::collection::btree_map("[a-z]{0,4}é?x", value, 0..4);
        let model = prop_oneof![Just(None), any::<String>().prop_map(Some)];
        let options = prop_oneof![
            Just(None),
            Just(Some(Value::Null)),
            Just(Some(json!({}))),
            any::<bool>().prop_map(|asked| Some(json!({"a": 1, "include_usage": asked, "z": {}})))
        ];
        (others, model, options, any::<Option<bool>>()).prop_map(|(others, model, options, limit)| {
            let mut object: Map<String, Value> = others.into_iter().collect();
            object.insert("messages".to_owned(), json!([{"role": "user", "content": "ü \\ \""}]));
            object.insert("stream".to_owned(), json!(true));
            object.extend(model.map(|model| ("model".to_owned(), json!(model.chars().take(60).collect::<String>()))));
            object.extend(options.map(|options| ("stream_options".to_owned(), options)));
            object.extend(limit.map(|stated| ("max_tokens".to_owned(), if stated { json!(5) } else { Value::Null })));
            object
        })
    }

    proptest! {
        #[test]
        fn an_edit_changes_the_intended_members_and_no_other(original in object(), model in any::<String>(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&original) } else { serde_json::to_string(&original) }.unwrap();
            let limit = original.get("max_tokens").is_none_or(Value::is_null).then_some((MaxTokensField::MaxTokens, 9));
            let after: Map<String, Value> = serde_json::from_str(&edited(&text, &Edits { model: Some(&model), max_tokens: limit, include_usage: true })).unwrap();
            let mut expected = original;
            expected.insert("model".to_owned(), json!(model));
            if limit.is_some() {
                expected.insert("max_tokens".to_owned(), json!(9));
            }
            let options = expected.entry("stream_options").or_insert(Value::Null);
            if options.is_null() {
                *options = json!({});
            }
            options["include_usage"] = json!(true);
            prop_assert_eq!(after, expected);
        }
    }
}
