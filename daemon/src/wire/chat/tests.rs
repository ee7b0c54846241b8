//! Tests of `chat`.

use super::*;
use aex_core::ask::Ask;
use aex_core::usage::ToolName;

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
        {"type":"file","file":{}},{"type":"input_audio","input_audio":{}}]},{"role":"assistant","content":null,"audio":{"id":"x"},"tool_calls":[{"function":{"arguments":"{}"}}]}],
        "tools":[{"function":{"name":"f"},"type":"function"},{"type":"custom","custom":{"name":"c"}},{"type":"web_search","x":1},{"type":"function"}],
        "functions":[{"name":"old"}],"tool_choice":"auto","prediction":{"type":"content","content":"12345"},"modalities":["text","audio"]}"#;
    let expected = Ask {
        attachments: 1,
        audio_in: 2,
        audio_out: true,
        body_bytes: body.len() as u64,
        choices: 3,
        function_calling: true,
        hosted_tools: vec!["web_search".to_owned()],
        images: 1,
        known_tool_tokens: 0,
        max_tokens: Some(9),
        messages: 3,
        model: "m".to_owned(),
        nfkc_extra_bytes: 0,
        prediction_bytes: 5,
        rewritten_tokens: 82,
        service_tier: Some("flex".to_owned()),
        stream: true,
        temperature: Some("0".to_owned()),
        text_chars: 6,
        tool_names: vec!["f".to_owned(), "c".to_owned(), "old".to_owned()],
        tools: 5,
        unknown_fields: vec!["foo".to_owned()],
        ..Ask::default()
    };
    assert_eq!(ask(body), expected);
}

#[test]
fn thinking_is_off_when_nothing_may_turn_it_on_again() {
    let hidden = |more: &str| ask(&format!(r#"{{"messages":[]{more}}}"#)).hidden_tokens;
    assert_eq!((hidden(r#","reasoning_effort":"none""#), hidden(r#","reasoning_effort":"low""#)), (Some(0), None));
    for more in [r#""reasoning":{"effort":"high"}"#, r#""enable_thinking":true"#, r#""extra_body":{"google":{}}"#] {
        assert_eq!(hidden(&format!(r#","reasoning_effort":"none",{more}"#)), None, "{more}");
        assert_eq!(hidden(&format!(r#",{more},"reasoning_effort":"none""#)), None, "{more}");
    }
}

#[test]
fn how_often_a_tool_may_be_used_stands_once() {
    let read =
        |uses: &str| read(format!(r#"{{"messages":[],"tools":[{{"type":"web_search",{uses}}}]}}"#).as_bytes()).map_err(|fault| fault.param);
    let twice = Err(Some("tools[0].max_uses".to_owned()));
    assert_eq!(read(r#""max_uses":1,"max_uses":null"#).map(drop), twice);
    assert_eq!(read(r#""max_uses":1000,"max\u005fuses":1"#).map(drop), twice);
    assert!(read(r#""max_uses":null"#).is_ok() && read(r#""max_uses":3"#).is_ok());
}

#[test]
fn absent_and_null_mean_the_same() {
    let bare = ask(r#"{"messages":[]}"#);
    let nulls = ask(
        r#"{"messages":[],"stream":null,"stream_options":null,"n":null,"max_tokens":null,"max_completion_tokens":null,"tools":null,"functions":null,
        "tool_choice":null,"function_call":null,"service_tier":null,"prediction":null,"modalities":null,"audio":null,"web_search_options":null,
        "models":[ ],"plugins":null,"enable_search":false,"route":"","provider":{ }}"#,
    );
    assert_eq!(Ask { body_bytes: 0, ..bare }, Ask { body_bytes: 0, ..nulls });
}

/// Drawn choices are billed, whether they are sent or not.
#[test]
fn choices_are_the_larger_of_n_and_best_of() {
    for (members, choices) in
        [(r#""n":2"#, 2), (r#""best_of":5"#, 5), (r#""best_of":5,"n":2"#, 5), (r#""n":4,"best_of":2"#, 4), (r#""n":4,"best_of":null"#, 4)]
    {
        let ask = ask(&format!(r#"{{"messages":[],{members}}}"#));
        assert_eq!((ask.choices, ask.unknown_fields), (choices, vec![]), "{members}");
    }
}

#[test]
fn what_hides_its_price_is_told() {
    assert_eq!(ask(r#"{"messages":[],"web_search_options":{}}"#).hosted_tools, ["web_search"]);
    assert_eq!(ask(r#"{"messages":[],"modalities":["image"]}"#).hosted_tools, ["modalities.image"]);
    // What is no tool has a name that no list and no price has: without it the request would be another one.
    for field in [
        r#""models":["a"]"#,
        r#""route":"fallback""#,
        r#""provider":{"order":["x"]}"#,
        r#""preset":"p""#,
        r#""fallbacks":["b"]"#,
        r#""compound_custom":{"models":{}}"#,
        r#""deferred":true"#,
    ] {
        let ask = ask(&format!(r#"{{{field},"messages":[]}}"#));
        let name = format!("request/{}", field.split('"').nth(1).unwrap());
        assert_eq!(ToolName::of_type(&name), None);
        assert_eq!((ask.hosted_tools.as_slice(), ask.tools, ask.unknown_fields.len()), ([name].as_slice(), 1, 0), "{field}");
    }
    for field in [
        r#""plugins":[{"id":"web"}]"#,
        r#""search_parameters":{}"#,
        r#""enable_search":true"#,
        r#""search_options":{"forced_search":true}"#,
        r#""search_settings":{"country":"x"}"#,
        r#""search_mode":"academic""#,
        r#""data_sources":[{}]"#,
    ] {
        let ask = ask(&format!(r#"{{{field},"messages":[]}}"#));
        let name = field.split('"').nth(1).unwrap();
        assert_eq!((ask.hosted_tools.as_slice(), ask.tools, ask.unknown_fields.len()), ([name.to_owned()].as_slice(), 1, 0), "{field}");
    }
    assert_eq!(ask(r#"{"messages":[{"content":[{"type":"text","text":"","image_url":{}}]}]}"#).images, 1);
    assert_eq!(ask(r#"{"messages":[{"content":[{"type":"text","text":"","input_audio":{}}]}]}"#).audio_in, 1);
    assert_eq!(ask("{\"messages\":[{\"content\":\"\u{fdfa}\"}]}").nfkc_extra_bytes, 30);
    assert_eq!(ask(r#"{"messages":[{"c\u006fntent":"four"}]}"#).text_chars, 4);
}

/// Fields of one provider, whose size the bytes do not show: the model's context bounds them.
#[test]
fn what_a_provider_finds_beyond_the_bytes_is_an_attachment() {
    let attachments = |body: &str| ask(body).attachments;
    let cached = r#"{"extra_body":{"google":{"thinking_config":{},"cached_content":"cachedContents/1"}},"messages":[]}"#;
    assert_eq!((attachments(cached), ask(cached).unknown_fields), (1, vec!["extra_body".to_owned()]));
    assert_eq!(attachments(r#"{"messages":[{"content":[{"type":"file"}]}],"extra_body":{"google":{"cachedContent":"c"}}}"#), 2);
    assert_eq!(attachments(r#"{"messages":[{"content":"a","images":["aGk="]},{"content":"b","images":["aGk="]}]}"#), 2);
    for body in [
        r#"{"messages":[{"content":"a","images":[]}],"extra_body":null}"#,
        r#"{"messages":[{"content":"a","images":null}],"extra_body":{"google":{"cached_content":null}}}"#,
        r#"{"messages":[],"extra_body":{"google":5,"cached_content":{}}}"#,
    ] {
        assert_eq!(attachments(body), 0, "{body}");
    }
}

#[test]
fn a_name_is_kept_short_and_equals_no_other() {
    let long = "x".repeat(1000);
    let kept = &ask(&format!(r#"{{"messages":[],"{long}":1}}"#)).unknown_fields;
    assert_eq!(kept, &["x".repeat(128) + "…"]);
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
    refused(&format!(r#"{{"messages":[],"x":{}{}}}"#, "[".repeat(127), "]".repeat(127)), None, "levels");
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
    for name in ["Max_Tokens", "MAX_TOKENS", "max_to\u{212a}ens", "max_token\u{17f}"] {
        refused(&format!(r#"{{"messages":[],"max_tokens":1,"{name}":900}}"#), Some(name), "must be written `max_tokens`");
    }
    refused(r#"{"messages":[],"N":9}"#, Some("N"), "must be written `n`");
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
    refused(r#"{"messages":[],"best_of":129}"#, Some("best_of"), "too large");
    refused(r#"{"messages":[],"n":2,"Best_Of":100}"#, Some("Best_Of"), "must be written `best_of`");
    refused(r#"{"messages":[],"tools":[{}]}"#, Some("tools[0].type"), "missing");
    refused(r#"{"messages":[],"tools":[{"type":"function","type":"custom"}]}"#, Some("tools[0].type"), "twice");
    refused(r#"{"messages":[],"tools":[{"type":"function","function":{"name":"a","name":"b"}}]}"#, Some("tools[0].function.name"), "twice");
    refused(r#"{"messages":[],"functions":{}}"#, Some("functions"), "list");
    assert!(read(b"{\"messages\":[{\"content\":\"\xff\"}]}").is_err());
}
