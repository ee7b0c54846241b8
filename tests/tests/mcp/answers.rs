//! Answers to questions of servers: none but those that were asked for, and seen by whoever judges the call.

use aex_proto::value::Digest;
use aex_tests::ledger::until;
use aex_tests::mcp::{Mcp, NEWEST, said};
use aex_tests::workshop::Workshop;
use serde_json::{Value, json};

fn shop(effect: &str, allow: &Value) -> Workshop {
    let permissions = json!({"global_policy": "deny", "rules": [{"name": "all", "tool": "shop.*", "effect": effect}]});
    let more = json!({"args": ["--revision", NEWEST], "allow": allow, "log_tools": "full"});
    Workshop::with_server(&permissions, "", &more)
}

fn answered(tool: &str, name: &str, state: &Value) -> Value {
    let responses = json!({name: {"action": "accept", "content": {"path": "/etc/shadow"}}});
    json!({"name": tool, "arguments": {"as": "need", "path": "/public"}, "inputResponses": responses, "requestState": state})
}

/// The outcome of a call that is refused, in words.
#[track_caller]
fn refused(client: &Mcp, params: Value) -> String {
    let (is_error, text) = said(&client.result("tools/call", params));
    assert!(is_error && text.contains("takes no such answer"), "{text}");
    text
}

#[test]
fn a_server_that_may_not_ask_is_given_no_answers() {
    let shop = shop("allow", &json!({}));
    let client = Mcp::new(&shop.daemon, &shop.token, NEWEST);
    let why = "its configuration does not let it ask";
    assert!(refused(&client, answered("shop__do", "who", &json!("state"))).contains(why));
    assert!(refused(&client, answered("shop__do", "who", &Value::Null)).contains(why));
    for (method, mut params) in [("resources/read", json!({"uri": "aex://shop/memo:a"})), ("prompts/get", json!({"name": "shop__greet"}))] {
        params["requestState"] = json!("state");
        let told = client.ask(method, params);
        assert!(told["error"]["message"].as_str().is_some_and(|said| said.contains(why)), "{told}");
    }
    assert_eq!(shop.events("call.held"), Vec::<Value>::new());
    shop.is_sound();
}

#[test]
fn a_server_that_may_ask_is_given_what_it_asked_for_by_whom_it_asked() {
    let shop = shop("allow", &json!({"elicitation": true}));
    let client = Mcp::new(&shop.daemon, &shop.token, NEWEST);
    let why = "it did not ask for that, or long ago";
    assert!(refused(&client, answered("shop__do", "who", &json!("state"))).contains(why), "nothing was asked yet");
    let asked = client.result("tools/call", json!({"name": "shop__do", "arguments": {"as": "need"}}));
    assert_eq!((&asked["resultType"], &asked["requestState"]), (&json!("input_required"), &json!("state")), "{asked}");
    for (tool, name, state) in [
        ("shop__do", "who", json!("other")),
        ("shop__do", "who", Value::Null),
        ("shop__do", "path", json!("state")),
        ("shop__echo", "who", json!("state")),
    ] {
        assert!(refused(&client, answered(tool, name, &state)).contains(why), "{tool} {name} {state}");
    }
    let other = Mcp::new(&shop.daemon, &shop.daemon.agent("other", &[]), NEWEST);
    assert!(refused(&other, answered("shop__do", "who", &json!("state"))).contains(why), "another agent was not asked");
    let (is_error, text) = said(&client.result("tools/call", answered("shop__do", "who", &json!("state"))));
    assert!(!is_error && text.contains("/etc/shadow") && text.contains("state"), "{text}");
    // What it was given is told as whole as its arguments.
    let held = shop.events("call.held").pop().expect("a call");
    let (arguments, answers) = (&held["tool"]["arguments"], &held["tool"]["answers"]);
    let (arguments, text) = (arguments.as_str().expect("arguments"), answers["text"].as_str().expect("answers"));
    assert!(text.contains(r#""requestState":"state""#) && text.contains("/etc/shadow"), "{text}");
    assert_eq!(answers["digest"], Digest::of(text.as_bytes()).to_string());
    assert_eq!(held["input"], Digest::of(format!("{arguments}\n{text}").as_bytes()).to_string());
    shop.is_sound();
}

#[test]
fn a_person_who_is_asked_sees_the_answers() {
    let shop = shop("ask", &json!({"elicitation": true}));
    let client = Mcp::new(&shop.daemon, &shop.token, NEWEST);
    let approve = || shop.daemon.ctl(["approvals", "approve", &shop.asked()]).ok();
    let mut first = client.begin(1, "tools/call", json!({"name": "shop__do", "arguments": {"as": "need"}}));
    approve();
    assert_eq!(first.answer().expect("an answer").json()["result"]["resultType"], "input_required");
    let mut second = client.begin(2, "tools/call", answered("shop__do", "who", &json!("state")));
    let waits = shop.waiting(1)[0].clone();
    let shown = waits["answers"].as_str().unwrap_or_default();
    assert!(shown.contains("/etc/shadow") && shown.contains(r#""requestState":"state""#), "{waits}");
    assert!(shop.daemon.ctl(["approvals", "list"]).ok().stdout.contains("and answers its server {\"inputResponses\""), "{waits}");
    approve();
    assert!(said(&second.answer().expect("an answer").json()["result"]).1.contains("/etc/shadow"));
    until("both calls", || (shop.events("call.settled").len() == 2).then_some(()));
    shop.is_sound();
}
