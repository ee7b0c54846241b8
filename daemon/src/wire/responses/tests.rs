//! Tests of `responses`.

use super::*;
use crate::wire::answer::Kept;
use crate::wire::dialect::{Dialect, Shape};
use crate::wire::edit::{Edits, edit};
use crate::wire::stream::{Ending, StreamEditor, UsageChunk};
use aex_core::ask::Ask;
use aex_core::usage::{Bucket, ToolName, Usage};
use bytes::Bytes;
use serde_json::Value;

fn ask(body: &str) -> Ask {
    read(body.as_bytes()).unwrap().ask
}

#[test]
fn the_known_fields_are_sorted() {
    assert!(KNOWN.is_sorted());
}

#[test]
fn a_request_is_read_for_what_a_decision_needs() {
    let body = r#"{"model":"m","stream":true,"instructions":"be","max_output_tokens":9,"temperature":0,"service_tier":"flex","foo":1,"store":false,
        "input":[{"role":"user","content":"abc"},{"type":"message","role":"user","content":[{"type":"input_text","text":"de"},
        {"type":"input_image","image_url":"x"},{"type":"input_file","file_id":"f"},{"type":"input_audio","input_audio":{}}]},
        {"type":"function_call","id":"fc_1","name":"f","arguments":"{}"},{"type":"function_call_output","output":"four"},
        {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"s"}],"encrypted_content":"xyz"}],
        "tools":[{"type":"function","name":"f"},{"type":"custom","name":"c"},{"type":"namespace","name":"n","tools":[{"type":"function","name":"g"},
        {"type":"custom","name":"h"}]},{"type":"web_search"},{"type":"mcp","server_label":"s"},{"type":"local_shell"},
        {"type":"shell","environment":{"type":"local"}},{"type":"shell"}],"tool_choice":"auto","parallel_tool_calls":true,"client_metadata":{}}"#;
    let expected = Ask {
        attachments: 1,
        audio_in: 1,
        body_bytes: count(body.len()),
        choices: 1,
        function_calling: true,
        hosted_tools: ["web_search", "mcp", "shell"].map(str::to_owned).to_vec(),
        images: 1,
        max_tokens: Some(9),
        messages: 6,
        model: "m".to_owned(),
        rewritten_tokens: 145,
        service_tier: Some("flex".to_owned()),
        stream: true,
        temperature: Some("0".to_owned()),
        text_chars: 2 + 3 + 2 + 4 + 1,
        tool_names: ["f", "c", "g", "h", "local_shell", "shell"].map(str::to_owned).to_vec(),
        tools: 9,
        unknown_fields: vec!["foo".to_owned()],
        ..Ask::default()
    };
    assert_eq!(ask(body), expected);
    let request = read(body.as_bytes()).unwrap();
    assert_eq!((request.refers, request.stores), (vec![], false));
}

#[test]
fn what_the_provider_has_stored_is_named_and_counts_as_what_bytes_do_not_show() {
    let body = r#"{"previous_response_id":"resp_1","input":[{"type":"item_reference","id":"msg_1"},{"id":"msg_2"},{"type":"reasoning","id":"rs_1","summary":[]},
        {"type":"web_search_call","id":"ws_1"},{"type":"image_generation_call","id":"ig_1"},{"type":"hologram"}]}"#;
    let request = read(body.as_bytes()).unwrap();
    let items = ["msg_1", "msg_2", "rs_1", "ws_1", "ig_1"].map(|id| Reference::Item(id.to_owned()));
    assert_eq!(request.refers, [&[Reference::Response("resp_1".to_owned())], items.as_slice()].concat());
    assert_eq!((request.ask.attachments, request.ask.images, request.stores), (6, 1, true));
    let many = format!(r#"{{"input":[{}]}}"#, vec![r#"{"id":"x"}"#; 1_025].join(","));
    assert!(read(many.as_bytes()).is_err());
}

/// What an agent whose answers are not stored sends back.
#[test]
fn an_item_that_brings_its_content_names_nothing() {
    let row = |item: &str, images: u64| {
        let request = read(format!(r#"{{"store":false,"input":[{item}]}}"#).as_bytes()).unwrap();
        assert_eq!((request.refers, request.ask.attachments, request.ask.images), (vec![], 0, images), "{item}");
    };
    row(r#"{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":""}]}"#, 0);
    row(r#"{"id":"rs_1","type":"reasoning","summary":[],"encrypted_content":"gAAA"}"#, 0);
    row(r#"{"id":"cmp_1","type":"compaction","encrypted_content":"gAAA"}"#, 0);
    row(r#"{"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search","query":"x"}}"#, 0);
    row(r#"{"id":"fs_1","type":"file_search_call","queries":["x"],"results":null}"#, 0);
    row(r#"{"id":"ci_1","type":"code_interpreter_call","code":"1","container_id":"c","outputs":null}"#, 0);
    row(r#"{"id":"ig_1","type":"image_generation_call","result":"aGk="}"#, 1);
    row(r#"{"id":"fc_1","type":"function_call","call_id":"c","name":"f","arguments":""}"#, 0);
    row(r#"{"id":"fco_1","type":"function_call_output","call_id":"c","output":"o"}"#, 0);
    row(r#"{"id":"ap_1","type":"apply_patch_call_output","call_id":"c","status":"completed"}"#, 0);
    row(r#"{"id":"mcpl_1","type":"mcp_list_tools","server_label":"s","tools":[],"error":"no"}"#, 0);
    // Without a name there is nothing to find.
    row(r#"{"type":"function_call_output","call_id":"c","output":""}"#, 0);
    row(r#"{"role":"user","content":""}"#, 0);
}

/// A provider that finds an item by its name would show another agent's.
#[test]
fn an_item_whose_content_is_empty_is_a_reference() {
    for item in [
        r#"{"type":"reasoning","id":"x","summary":[],"encrypted_content":""}"#,
        r#"{"type":"reasoning","id":"x","summary":[{"type":"summary_text","text":"s"}],"encrypted_content":{"a":1}}"#,
        r#"{"type":"message","role":"user","id":"x"}"#,
        r#"{"role":"user","id":"x","content":[]}"#,
        r#"{"type":"message","role":"user","id":"x","content":null,"encrypted_content":"y"}"#,
        r#"{"type":"function_call","id":"x"}"#,
        r#"{"type":"function_call","id":"x","name":"","action":{"a":1}}"#,
        r#"{"type":"web_search_call","id":"x","action":{},"encrypted_content":"y"}"#,
        r#"{"type":"compaction","id":"x","encrypted_content":null}"#,
        r#"{"type":"mcp_list_tools","id":"x","tools":[ ]}"#,
        r#"{"type":"hologram","id":"x","content":"y"}"#,
    ] {
        let request = read(format!(r#"{{"input":[{item}]}}"#).as_bytes()).unwrap();
        assert_eq!((request.refers, request.ask.attachments), (vec![Reference::Item("x".to_owned())], 1), "{item}");
    }
}

/// They have no type, and the provider runs them through the tool `mcp`.
#[test]
fn listed_tools_of_an_mcp_server_pass() {
    for item in [
        r#"{"id":"mcpl_1","type":"mcp_list_tools","server_label":"s","tools":[{"name":"a","input_schema":{"type":"object"}}]}"#,
        r#"{"tools":[{"name":"a","type":5}],"id":"mcpl_1","type":"mcp_list_tools"}"#,
    ] {
        let request = read(format!(r#"{{"input":[{item}]}}"#).as_bytes()).unwrap();
        assert_eq!((request.refers, request.ask.tools), (vec![], 0), "{item}");
    }
}

#[test]
fn absent_and_null_mean_the_same() {
    let bare = ask("{}");
    let nulls = ask(
        r#"{"input":null,"instructions":null,"stream":null,"stream_options":null,"max_output_tokens":null,"tools":null,"tool_choice":null,"service_tier":null,
        "temperature":null,"previous_response_id":null,"conversation":null,"prompt":null,"background":null,"store":null,"moderation":null,
        "context_management":null}"#,
    );
    assert_eq!(Ask { body_bytes: 0, ..bare }, Ask { body_bytes: 0, ..nulls });
    assert!(read(br#"{"background":false,"store":null}"#).unwrap().stores);
}

#[test]
fn what_hides_its_price_is_told() {
    for (body, tool) in [
        (r#"{"prompt":{"id":"pmpt_1"}}"#, "stored/prompt"),
        (r#"{"moderation":{"model":"m"}}"#, "request/moderation"),
        (r#"{"context_management":[{"type":"compaction"}]}"#, "request/context_management"),
        (r#"{"tools":[{"type":"file_search"}]}"#, "file_search"),
        (r#"{"tools":[{"type":"tool_search"}]}"#, "tool_search"),
        (r#"{"tools":[{"type":"namespace","name":"n","tools":[{"type":"web_search"}]}]}"#, "nested/web_search"),
        (r#"{"input":[{"type":"additional_tools","role":"developer","tools":[{"type":"code_interpreter"}]}]}"#, "nested/code_interpreter"),
        (r#"{"input":[{"tools":[{"type":"web_search"}],"type":"tool_search_output"}]}"#, "nested/web_search"),
        (r#"{"models":["a"]}"#, "request/models"),
    ] {
        assert_eq!(ask(body).hosted_tools, [tool], "{body}");
    }
}

/// Codex lists `web_search` with every call.
#[test]
fn a_tool_of_the_provider_can_be_taken_out_of_the_list() {
    let body = Bytes::from_static(br#"{"model":"m","input":"a","tools":[{"type":"function","name":"f"},{"type":"web_search"}],"tool_choice":"auto","max_tool_calls":3}"#);
    let request = read(&body).unwrap();
    assert_eq!((request.ask.tools, request.ask.max_tool_calls), (2, Some(3)));
    let edits = Edits { drop_tools: &["web_search"], ..Edits::default() };
    let left = r#"{"model":"m","input":"a","tools":[{"type":"function","name":"f"}],"tool_choice":"auto","max_tool_calls":3}"#;
    assert_eq!(edit(&body, &request, &edits), left);
}

#[test]
fn what_no_bound_can_be_told_of_is_refused() {
    for (body, param) in [
        (r#"{"background":true}"#, Some("background")),
        (r#"{"background":"yes"}"#, Some("background")),
        (r#"{"conversation":"conv_1"}"#, Some("conversation")),
        (r#"{"conversation":{"id":"conv_1"}}"#, Some("conversation")),
        (r#"{"input":5}"#, Some("input")),
        (r#"{"input":["a"]}"#, Some("input[0]")),
        (r#"{"input":[{"role":"user","content":5}]}"#, Some("input[0].content")),
        (r#"{"input":[{"role":"user","content":"a","content":"b"}]}"#, Some("input[0].content")),
        (r#"{"input":[{"role":"user","content":[5]}]}"#, Some("input[0].content")),
        (r#"{"input":[{"type":5}]}"#, Some("input[0].type")),
        (r#"{"input":[{}]}"#, Some("input[0]")),
        (r#"{"input":[{"type":"item_reference"}]}"#, Some("input[0]")),
        (r#"{"instructions":5}"#, Some("instructions")),
        (r#"{"previous_response_id":5}"#, Some("previous_response_id")),
        (r#"{"previous_response_id":""}"#, None),
        (r#"{"max_output_tokens":0}"#, Some("max_output_tokens")),
        (r#"{"Max_Output_Tokens":5}"#, Some("Max_Output_Tokens")),
        (r#"{"store":1}"#, Some("store")),
        (r#"{"input":[{"type":"additional_tools","tools":[{"name":"f"}]}]}"#, Some("input[0].tools[0].type")),
        (r#"{"input":[{"type":"web_search_call","action":{},"action":{"a":1}}]}"#, Some("input[0].action")),
        (r#"{"tools":[{"name":"f"}]}"#, Some("tools[0].type")),
        (r#"{"tools":[{"type":"namespace","name":"n","tools":[{"name":"f"}]}]}"#, Some("tools[0].tools[0].type")),
        (r#"{"tools":[{"type":"function","name":"f","name":"g"}]}"#, Some("tools[0].name")),
        (r#"{"stream_options":{}}"#, Some("stream_options")),
        (r#"{"input":"a","input":"b"}"#, Some("input")),
        ("[]", None),
        (r#"{"input":"\ud800"}"#, None),
    ] {
        assert_eq!(read(body.as_bytes()).map_err(|fault| fault.param), Err(param.map(str::to_owned)), "{body}");
    }
}

#[test]
fn codex_is_known_by_the_name_it_gives_itself() {
    for (name, shape) in [(None, Shape::OpenAi), (Some("codex_exec"), Shape::Codex), (Some("Codex"), Shape::OpenAi)] {
        assert_eq!(Dialect::Responses.shape(name), shape);
        assert_eq!(Dialect::Chat.shape(name), Shape::OpenAi);
    }
}

const USAGE: &str = r#"{"input_tokens":100,"input_tokens_details":{"cached_tokens":40,"cache_write_tokens":20,"cache_write_tokens_details":{"ttl_30m_tokens":20,"ttl_12h_tokens":0}},
    "output_tokens":30,"output_tokens_details":{"reasoning_tokens":25},"total_tokens":130}"#;

fn usage() -> Usage {
    let mut usage = Usage::text(40, 30);
    usage.add(Bucket::CachedInput, 40);
    usage.add(Bucket::CacheWrite30m, 20);
    usage
}

fn quantities(usage: Option<Usage>) -> Vec<(Bucket, u64)> {
    usage.map(|usage| usage.quantities).unwrap_or_default()
}

#[test]
fn a_plain_answer_is_metered_and_its_names_are_kept() {
    let body = format!(
        r#"{{"id":"resp_1","object":"response","created_at":7,"status":"completed","error":null,"model":"real","output":[{{"id":"rs_1","type":"reasoning","summary":[]}},
        {{"id":"fc_1","type":"function_call","status":"completed","call_id":"call_1","name":"ff","arguments":"{{}}"}}],"usage":{USAGE},
        "tool_usage":{{"image_gen":{{"input_tokens":0}},"web_search":{{"num_requests":2}}}},"metadata":{{"model":"x"}}}}"#
    );
    let answer = Dialect::Responses.answer(body.as_bytes()).unwrap();
    let mut used = usage();
    used.add(Bucket::Tool(ToolName::new("web_search").unwrap()), 2);
    assert_eq!(quantities(answer.usage), used.quantities);
    assert_eq!(answer.relayed_output_bytes, 2 + 2 + count("[]".len()));
    let items = vec!["rs_1".to_owned(), "fc_1".to_owned()];
    assert_eq!(answer.kept, Some(Box::new(Kept { id: "resp_1".to_owned(), items, created_at: 7 })));
    assert_eq!(answer.model_span.and_then(|span| body.get(span)), Some("\"real\""));
    assert!(!answer.is_error);
    assert!(Dialect::Responses.answer(br#"{"error":{"message":"no"}}"#).unwrap().is_error);
}

/// A stream of a provider, its model as it is named there.
fn stream(last: &str, usage: &str) -> String {
    let usage = usage.replace("\n    ", "");
    let events = [
        r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","created_at":7,"model":"real","status":"in_progress","output":[],"usage":null,"error":null}}"#.to_owned(),
        r#"{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"fc_1","type":"function_call","name":"ff","arguments":""}}"#.to_owned(),
        r#"{"type":"response.function_call_arguments.delta","sequence_number":2,"item_id":"fc_1","delta":"{\"model\":\"real\"}","obfuscation":"xxxx"}"#.to_owned(),
        r#"{"type":"response.output_item.done","sequence_number":3,"output_index":0,"item":{"id":"fc_1","type":"function_call","name":"ff","arguments":"{}"}}"#.to_owned(),
        format!(r#"{{"type":"{last}","sequence_number":4,"response":{{"id":"resp_1","model":"real","output":[{{"id":"fc_1","name":"ff"}}],"usage":{usage}}}}}"#),
    ];
    events
        .iter()
        .map(|data| format!("event: {}\ndata: {data}\n\n", serde_json::from_str::<Value>(data).unwrap()["type"].as_str().unwrap()))
        .collect()
}

#[test]
fn a_stream_is_the_providers_but_for_the_model_and_ends_with_its_last_event() {
    for last in ["response.completed", "response.incomplete"] {
        let sent = stream(last, USAGE);
        let mut editor = StreamEditor::new(Dialect::Responses, "mine", 1, UsageChunk::Pass);
        let relay = editor.push(Bytes::from(sent.clone()));
        assert_eq!(relay.fault, None);
        assert_eq!(relay.bytes, sent.replace(r#""model":"real""#, r#""model":"mine""#));
        assert!(editor.meter().done);
        let Ending { complete, meter, .. } = editor.finish();
        assert!(complete);
        assert_eq!((quantities(meter.usage), meter.relayed_output_bytes, meter.next_sequence), (usage().quantities, 2 + 20, 5));
        assert_eq!(meter.kept.map(|kept| (kept.id, kept.items)), Some(("resp_1".to_owned(), vec!["fc_1".to_owned()])));
    }
}

#[test]
fn a_stream_that_fails_or_breaks_off_is_not_whole_and_knows_where_it_was() {
    let run = |sent: &str| {
        let mut editor = StreamEditor::new(Dialect::Responses, "mine", 1, UsageChunk::Pass);
        assert_eq!(editor.push(Bytes::from(sent.to_owned())).fault, None);
        editor.finish()
    };
    let failed = run(&stream("response.failed", "null"));
    assert_eq!((failed.complete, failed.meter.done, failed.meter.provider_error, failed.meter.usage), (true, true, true, None));
    let whole = stream("response.completed", USAGE);
    let cut: String = whole.split_inclusive("\n\n").take(3).collect();
    let broken = run(&cut);
    assert_eq!((broken.complete, broken.meter.next_sequence, broken.meter.relayed_output_bytes), (false, 3, 22));
    assert_eq!(broken.meter.kept.map(|kept| (kept.id, kept.created_at)), Some(("resp_1".to_owned(), 7)));
    let error = run(&format!(
        "{cut}event: error\ndata: {{\"type\":\"error\",\"code\":\"server_error\",\"message\":\"no\",\"sequence_number\":3}}\n\n"
    ));
    assert_eq!((error.complete, error.meter.provider_error), (false, true));
}

/// What the last event of a stream leaves out of its list of items was told by the events before it.
#[test]
fn items_of_a_stream_count_whether_its_last_event_lists_them_or_not() {
    let search = ToolName::new("web_search").unwrap();
    let item = |event: &str, id: &str, kind: &str| {
        format!("data: {{\"type\":\"response.output_item.{event}\",\"item\":{{\"id\":\"{id}\",\"type\":\"{kind}\"}}}}\n\n")
    };
    let last = |output: &str| {
        let usage = USAGE.replace("\n    ", "");
        format!(
            "data: {{\"type\":\"response.completed\",\"response\":{{\"id\":\"resp_1\",\"created_at\":7,\"output\":{output},\"usage\":{usage}}}}}\n\n"
        )
    };
    #[track_caller]
    fn check(sent: &str, search: ToolName, calls: u64, is_told: bool, items: &[&str]) {
        let mut editor = StreamEditor::new(Dialect::Responses, "mine", 1, UsageChunk::Pass);
        assert_eq!(editor.push(Bytes::from(sent.to_owned())).fault, None);
        let meter = editor.finish().meter;
        let used = meter.usage.unwrap();
        assert_eq!((used.get(Bucket::Tool(search)), used.told.contains(&search)), (calls, is_told), "{sent}");
        let kept = meter.kept.unwrap();
        assert_eq!((kept.id.as_str(), kept.created_at), ("resp_1", 7), "{sent}");
        assert_eq!(kept.items, items, "{sent}");
    }
    let (one, two) = (item("done", "ws_1", "web_search_call"), item("done", "ws_2", "web_search_call"));
    let said = item("done", "msg_1", "message");
    check(&[&*one, &two, &said, &last("[]")].concat(), search, 2, true, &["ws_1", "ws_2", "msg_1"]);
    check(&[&*said, &last("[]")].concat(), search, 0, true, &["msg_1"]);
    // Listed again, they count once; and the list may have more than the events.
    let listed = r#"[{"id":"ws_1","type":"web_search_call"},{"id":"ws_3","type":"web_search_call"}]"#;
    check(&[&*one, &two, &last(listed)].concat(), search, 2, true, &["ws_1", "ws_2", "ws_3"]);
    check(&[&*one, &last(listed)].concat(), search, 2, true, &["ws_1", "ws_3"]);
    // No item was seen, or one that never came to its end: nobody knows how many there were.
    check(&last("[]"), search, 0, false, &[]);
    let begun = item("added", "ws_1", "web_search_call");
    check(&[&*begun, &last("[]")].concat(), search, 1, false, &[]);
    check(&[&*begun, &one, &last("[]")].concat(), search, 1, true, &["ws_1"]);
    check(&[&*begun, &last(r#"[{"id":"msg_1","type":"message"}]"#)].concat(), search, 1, true, &["msg_1"]);
}

#[test]
fn a_whole_response_becomes_events_that_say_the_same() {
    let body = format!(
        r#"{{"id":"resp_1","object":"response","status":"completed","model":"mine","output":[{{"id":"msg_1","type":"message","role":"assistant","content":[
        {{"type":"output_text","text":"four","annotations":[]}}]}},{{"id":"fc_1","type":"function_call","name":"ff","call_id":"c","arguments":"{{}}"}}],"usage":{USAGE}}}"#
    );
    let events = Dialect::Responses.as_stream(body.as_bytes(), false).unwrap();
    let text = std::str::from_utf8(&events).unwrap();
    let data: Vec<Value> =
        text.split("\n\n").filter_map(|event| event.split_once("data: ")).map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
    let kinds: Vec<&str> = data.iter().filter_map(|event| event["type"].as_str()).collect();
    let message =
        ["output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done", "output_item.done"];
    let call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"];
    let expected: Vec<String> = [["created", "in_progress"].as_slice(), &message, &call, &["completed"]]
        .concat()
        .iter()
        .map(|kind| format!("response.{kind}"))
        .collect();
    assert_eq!(kinds, expected);
    assert!(data.iter().enumerate().all(|(at, event)| event["sequence_number"] == at));
    assert_eq!(data.last().unwrap()["response"], serde_json::from_str::<Value>(&body).unwrap());
    let mut editor = StreamEditor::new(Dialect::Responses, "mine", 1, UsageChunk::Pass);
    assert!(editor.push(events).fault.is_none());
    let Ending { complete, meter, .. } = editor.finish();
    assert_eq!((complete, quantities(meter.usage), meter.relayed_output_bytes), (true, usage().quantities, 4 + 2 + 2));
    for body in ["[]", "{}", r#"{"error":{}}"#, "<html>"] {
        assert_eq!(Dialect::Responses.as_stream(body.as_bytes(), true), None);
    }
}

#[test]
fn a_tool_has_one_name() {
    let read = |tool: &str| read(format!(r#"{{"input":"a","tools":[{tool}]}}"#).as_bytes());
    for tool in
        [r#"{"type":"function","function":{"name":"shell"},"name":"ok"}"#, r#"{"type":"function","name":"ok","function":{"name":"shell"}}"#]
    {
        assert!(read(tool).unwrap_err().message.contains("names the tool a second time"), "{tool}");
    }
    let same = read(r#"{"type":"function","function":{"name":"ok"},"name":"ok"}"#).unwrap();
    assert_eq!(same.ask.tool_names, ["ok"]);
}
