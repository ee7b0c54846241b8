//! The provider's own promises, over real sockets.

use serde_json::{Value, json};

use super::{At, Ended, How, KEY, Provider, Script, Usage};
use crate::client::{Answer, Connection, End, get, post_json, stream};

fn url(provider: &Provider) -> String {
    format!("{}/chat/completions", provider.base_url())
}

fn hello() -> Value {
    json!({"model": "m1-upstream", "messages": [{"role": "user", "content": "12345678"}]})
}

fn with(extra: &Value) -> Value {
    let mut body = hello();
    for (name, value) in extra.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

#[test]
fn a_plain_answer_reports_what_it_bills() {
    let provider = Provider::start();
    provider.script(Script { cached_tokens: 2, reasoning_tokens: 3, ..Script::tokens(7) });
    let answer = post_json(&url(&provider), KEY, &hello());
    assert_eq!(answer.status, 200, "{answer}");
    let usage = &answer.json()["usage"];
    let bill = &provider.wait_for_bills(1)[0];
    assert_eq!((bill.prompt_tokens, bill.cached_tokens, bill.completion_tokens, bill.ended), (5, 2, 10, Ended::Complete));
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(5), &json!(10)));
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 2);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 3);
    assert_eq!(provider.last_request().json()["model"], "m1-upstream");
}

#[test]
fn a_stream_says_the_same_text_and_its_usage_only_when_asked() {
    let provider = Provider::start();
    let plain = post_json(&url(&provider), KEY, &hello());
    let silent = stream(&url(&provider), KEY, &hello());
    assert_eq!((silent.content(), silent.end), (plain.content(), End::Complete));
    assert_eq!(silent.data().last().map(String::as_str), Some("[DONE]"));
    assert!(silent.chunks().iter().all(|chunk| chunk.get("usage").is_none()));
    let told = stream(&url(&provider), KEY, &with(&json!({"stream_options": {"include_usage": true}})));
    let last = told.chunks().pop().expect("a chunk");
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], plain.json()["usage"]);
    let bills = provider.wait_for_bills(3);
    assert!(bills.iter().all(|bill| bill.completion_tokens == bills[0].completion_tokens));
}

#[test]
fn a_message_reports_what_it_bills_whole_and_as_a_stream() {
    let provider = Provider::start();
    let url = format!("{}/v1/messages", provider.origin());
    let headers = [("x-api-key", KEY), ("anthropic-version", "2023-06-01")];
    for stream in [false, true] {
        provider.script(Script { cached_tokens: 2, written_tokens: 1, ..Script::tokens(7) });
        let body = with(&json!({"max_tokens": 9, "stream": stream}));
        let answer = crate::client::post_bytes(&url, &headers, body.to_string().as_bytes());
        let told = if stream { answer.chunks().into_iter().rev().nth(1).unwrap_or_default() } else { answer.json() };
        let usage = &told["usage"];
        let counts =
            ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"].map(|name| usage[name].as_u64());
        assert_eq!(counts, [Some(2), Some(2), Some(1), Some(7)], "{answer}");
    }
    let bills = provider.wait_for_bills(2);
    assert!(bills.iter().all(|bill| (bill.prompt_tokens, bill.cached_tokens, bill.written_tokens, bill.completion_tokens) == (5, 2, 1, 7)));
    // What the real one refuses.
    let refused = |headers: &[(&str, &str)], body: &Value| {
        let answer = crate::client::post_bytes(&url, headers, body.to_string().as_bytes());
        (answer.status, answer.json()["error"]["type"].clone())
    };
    assert_eq!(refused(&headers, &hello()), (400, json!("invalid_request_error")));
    assert_eq!(refused(&[("x-api-key", KEY)], &with(&json!({"max_tokens": 9}))), (400, json!("invalid_request_error")));
    assert_eq!(refused(&[("x-api-key", "sk")], &with(&json!({"max_tokens": 9}))), (401, json!("authentication_error")));
}

#[test]
fn odd_framing_leaves_the_content_equal() {
    let provider = Provider::start();
    let text = "Grüße, \"quoted\" \\ and\nlines";
    for script in [
        Script { split: Some(1), ..Script::answer(text) },
        Script { crlf: true, comments: true, split: Some(3), ..Script::answer(text) },
        Script { usage: Usage::Groq, padding: 100_000, ..Script::answer(text) },
    ] {
        provider.script(script);
        let answer = stream(&url(&provider), KEY, &hello());
        assert_eq!(answer.content(), text);
    }
}

#[test]
fn bad_requests_get_openais_error_and_no_bill() {
    let provider = Provider::start();
    let check = |body: Value, param: &str| {
        let answer = post_json(&url(&provider), KEY, &body);
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(param)), "{body}");
    };
    check(with(&json!({"messages": [{"role": "bad", "content": "x"}]})), "messages[0].role");
    check(with(&json!({"messages": "text"})), "messages");
    check(with(&json!({"stream_options": {"include_usage": true}})), "stream_options");
    check(with(&json!({"n": 0})), "n");
    check(with(&json!({"max_tokens": -1})), "max_tokens");
    assert_eq!(post_json(&url(&provider), KEY, &json!({"messages": []})).status, 400);
    assert_eq!(post_json(&url(&provider), "wrong", &hello()).code(), "invalid_api_key");
    assert!(provider.billed().is_empty());
}

#[test]
fn limits_choices_tools_and_schemas_are_honoured() {
    let provider = Provider::start();
    let ask = |extra: Value| -> Answer { post_json(&url(&provider), KEY, &with(&extra)) };
    let short = ask(json!({"max_tokens": 2, "n": 3})).json();
    assert_eq!((&short["choices"][2]["finish_reason"], &short["usage"]["completion_tokens"]), (&json!("length"), &json!(6)));

    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}});
    let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": parameters}}]);
    let called = ask(json!({"tools": tools})).json();
    let call = &called["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!((&call["name"], &call["arguments"]), (&json!("weather"), &json!(r#"{"city":"text","days":1}"#)));
    let messages = json!([{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "1", "content": "sunny"}]);
    assert_eq!(ask(json!({"tools": tools, "messages": messages})).json()["choices"][0]["finish_reason"], "stop");
    let streamed = stream(&url(&provider), KEY, &with(&json!({"tools": tools}))).chunks();
    let arguments = |chunk: &Value| chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str().map(str::to_owned);
    assert_eq!(streamed.iter().filter_map(arguments).collect::<String>(), r#"{"city":"text","days":1}"#);

    let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": parameters}});
    assert_eq!(ask(json!({"response_format": format})).content(), r#"{"city":"text","days":1}"#);
}

#[test]
fn a_hold_lasts_until_its_release() {
    let provider = Provider::start();
    provider.script(Script { hold_head: true, ..Script::hold_after(2) });
    let mut connection = Connection::open(&provider.origin());
    connection.post_json("/v1/chat/completions", KEY, &with(&json!({"stream": true})));
    provider.wait_for_requests(1);
    assert_eq!(provider.bills()[0].ended, Ended::Open);
    provider.release();
    assert_eq!(connection.head().expect("a head").status, 200);
    for _ in 0..3 {
        connection.next_data().expect("role and two chunks").expect("no end");
    }
    provider.release();
    while connection.next_data().expect("the rest").is_some() {}
    assert_eq!(provider.wait_for_bills(1)[0].ended, Ended::Complete);
}

#[test]
fn a_client_that_leaves_is_billed_for_what_was_produced() {
    let provider = Provider::start();
    provider.script(Script::hold_after(2));
    let mut connection = Connection::open(&provider.origin());
    connection.post_json("/v1/chat/completions", KEY, &with(&json!({"stream": true})));
    connection.head().expect("a head");
    for _ in 0..3 {
        connection.next_data().expect("role and two chunks").expect("no end");
    }
    connection.close();
    let bill = provider.wait_for_bills(1).remove(0);
    assert_eq!((bill.ended, bill.completion_tokens), (Ended::CutByClient, 2));
}

#[test]
fn each_cut_is_seen_as_such_and_billed_to_its_chunk() {
    let provider = Provider::start();
    for (how, end) in [(How::Reset, End::Broken), (How::Close, End::Broken), (How::Finish, End::Complete)] {
        provider.forget();
        provider.script(Script::cut(At::Chunk(2), how));
        let answer = stream(&url(&provider), KEY, &hello());
        assert_eq!((answer.end, answer.data().len()), (end, 3), "{how:?}: {answer}");
        let bill = provider.wait_for_bills(1).remove(0);
        assert_eq!((bill.ended, bill.completion_tokens), (Ended::CutByProvider, 2));
        provider.script(Script { split: Some(10), ..Script::cut(At::Chunk(2), how) });
        assert_eq!(post_json(&url(&provider), KEY, &hello()).body.len(), 20);
    }
    for how in [How::Reset, How::Close] {
        provider.script(Script::cut(At::Head, how));
        let mut connection = Connection::open(&provider.origin());
        connection.post_json("/v1/chat/completions", KEY, &hello());
        let fault = connection.head().expect_err("no head");
        assert_eq!(fault.kind() == std::io::ErrorKind::ConnectionReset, how == How::Reset, "{fault}");
    }
}

#[test]
fn errors_and_garbage_come_on_command() {
    let provider = Provider::start();
    provider.script(Script::error(429).header("retry-after", "7"));
    let refused = post_json(&url(&provider), KEY, &hello());
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("7")));
    assert!(provider.billed().is_empty());
    provider.script(Script { error_after: Some(1), ..Script::default() });
    let broken = stream(&url(&provider), KEY, &hello());
    assert_eq!(broken.chunks().last().expect("a chunk")["error"]["type"], "server_error");
    provider.script(Script { garbage: Some("<html>".to_owned()), ..Script::default() });
    assert_eq!(stream(&url(&provider), KEY, &hello()).text(), "<html>");
}

#[test]
fn it_is_scripted_over_http_and_comes_back_after_a_stop() {
    let mut provider = Provider::start();
    let control = format!("{}/_ctl", provider.origin());
    assert_eq!(post_json(&control, "", &json!({"next": {"status": 503}})).status, 200);
    assert_eq!(post_json(&control, "", &json!({"next": {"typo": 1}})).status, 400);
    assert_eq!(post_json(&url(&provider), KEY, &hello()).status, 503);
    assert_eq!(post_json(&control, "", &json!({"wait_for_bills": 1})).status, 200);
    assert_eq!(get(&format!("{}/_bills", provider.origin()), "").json()[0]["ended"], "refused");
    provider.stop();
    std::net::TcpStream::connect(provider.address()).expect_err("refused");
    provider.restart();
    assert_eq!(get(&format!("{}/models", provider.base_url()), KEY).json()["data"][0]["id"], "m1-upstream");
    assert_eq!(post_json(&control, "", &json!("forget")).status, 200);
    assert!(provider.bills().is_empty());
}
