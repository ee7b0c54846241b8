//! A plain call does not go through the SDK's service, and is answered as that answers it.

use aex_tests::client::Answer;
use aex_tests::mcp::{Mcp, NEWEST, REVISIONS};
use aex_tests::workshop::Workshop;
use serde_json::{Value, json};

/// What this client accepts stands in two headers: that is the SDK's to read.
const IN_DOUBT: (&str, &str) = ("accept", "text/html;q=0.1");

/// All that a client sees of an answer, but for the number and the time of its request.
fn seen(answer: &Answer) -> String {
    let id = answer.header("x-aex-request-id").expect("the number of the request").to_owned();
    let mut headers = answer.headers.clone();
    headers.retain(|(name, _)| name != "date");
    headers.sort();
    format!("{} {headers:?} {}", answer.status, answer.text()).replace(&id, "REQUEST")
}

fn calls() -> Vec<Value> {
    let of = |tool: &str, arguments: Value| json!({"name": tool, "arguments": arguments});
    let act = |what: &str| of("shop__do", json!({"as": what}));
    let mut flat = json!({"name": "shop__echo"});
    let mut calls = vec![flat.clone()];
    flat["arguments"] = Value::Null;
    calls.extend([
        flat,
        of("shop__echo", json!({"text": "hello \u{1f980}"})),
        of("shop.echo", json!({"text": "its other name"})),
        of("shop__echo", json!({"text": "forbidden"})),
        of("shop__echo", json!([])),
        of("shop__nothing", json!({})),
        of("nowhere", json!({})),
        json!({"arguments": {}}),
        json!({"name": 5}),
        of("shop__do", json!({"as": "structured", "bytes": 20})),
        act("link"),
        act("need"),
        act("wrong_shape"),
        act("no such thing"),
        json!({"name": "shop__echo", "arguments": {"text": "as a task"}, "task": {"ttl": 1}}),
        json!({"name": "shop__echo", "arguments": {"text": "traced"}, "_meta": {"traceparent": "00-1-2-01"}}),
    ]);
    calls
}

#[test]
fn a_plain_call_is_answered_as_the_sdk_answers_it() {
    let rules = json!([
        {"name": "all", "tool": "shop.*", "effect": "allow"},
        {"name": "one word", "tool": "shop.echo", "effect": "deny", "when": {"/text": {"equals": "forbidden"}}},
    ]);
    let more = json!({"args": ["--revision", NEWEST], "allow": {"elicitation": true}});
    let shop = Workshop::with_server(&json!({"global_policy": "deny", "rules": rules}), "", &more);
    for revision in REVISIONS {
        let client = Mcp::new(&shop.daemon, &shop.token, revision);
        for params in calls() {
            for id in [json!(7), json!("seven")] {
                let mut message = client.message(0, "tools/call", params.clone());
                message["id"] = id;
                let [plain, doubtful] = [&[][..], &[IN_DOUBT]].map(|more| seen(&client.post(&message, more)));
                assert_eq!(plain, doubtful, "{revision} {message}");
            }
        }
    }
    // Refusals of the account as a whole.
    shop.daemon.ctl(["agent", "pause", "bot"]).ok();
    for revision in REVISIONS {
        let client = Mcp::new(&shop.daemon, &shop.token, revision);
        let message = client.message(1, "tools/call", json!({"name": "shop__echo", "arguments": {}}));
        let [plain, doubtful] = [&[][..], &[IN_DOUBT]].map(|more| seen(&client.post(&message, more)));
        assert_eq!(plain, doubtful, "{revision}");
        assert!(plain.contains("paused"), "{plain}");
    }
    shop.is_sound();
}

#[test]
fn messages_that_are_not_as_they_should_be_are_refused_however_near_to_a_plain_call() {
    let shop = Workshop::open(&json!({"global_policy": "allow"}), "");
    let client = Mcp::new(&shop.daemon, &shop.token, NEWEST);
    let call = client.message(1, "tools/call", json!({"name": "shop__echo", "arguments": {"text": "hello"}}));
    let with = |path: &str, value: Value| {
        let mut changed = call.clone();
        *changed.pointer_mut(path).expect("a part of the message") = value;
        changed
    };
    let version = "/params/_meta/io.modelcontextprotocol~1protocolVersion";
    let capabilities = "/params/_meta/io.modelcontextprotocol~1clientCapabilities";
    let refused = |what: &str, message: &Value, more: &[(&str, &str)], code: i64| {
        let answer = client.post(message, more);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!(code)), "{what}: {answer}");
    };
    refused("two methods in the head", &call, &[("mcp-method", "tools/list")], -32020);
    refused("two names in the head", &call, &[("mcp-name", "shop__do")], -32020);
    refused("another revision in the body", &with(version, json!("2025-11-25")), &[], -32020);
    refused("none", &with(version, Value::Null), &[], -32602);
    refused("capabilities that are none", &with(capabilities, json!("all")), &[], -32602);
    assert_eq!(shop.events("call.held"), Vec::<Value>::new());
    assert_eq!(client.post(&call, &[]).json()["result"]["resultType"], "complete");
    shop.is_sound();
}
