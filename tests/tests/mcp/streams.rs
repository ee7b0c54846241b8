//! What comes beside an answer, and what ends a call before it: progress, cancellation, changes of the lists.

use super::{LAW, house};
use aex_tests::client::Connection;
use aex_tests::ledger;
use aex_tests::mcp::{Mcp, NEWEST, REVISIONS, said};
use aex_tests::tools::Gate;
use serde_json::{Value, json};

#[test]
fn progress_comes_before_the_answer_in_a_stream() {
    let daemon = house();
    let token = daemon.agent("tame", &[]);
    for revision in REVISIONS {
        let client = Mcp::new(&daemon, &token, revision);
        let wanted = json!({"name": "old__do", "arguments": {"as": "progress", "steps": 2}, "_meta": {"progressToken": "p-1"}});
        let mut stream = client.stream(5, "tools/call", wanted);
        assert_eq!((stream.head.status, stream.head.header("content-type")), (200, Some("text/event-stream")), "{revision}");
        for step in 1..=2 {
            let told = stream.message().expect("a step");
            assert_eq!((&told["method"], &told["params"]["progressToken"]), (&json!("notifications/progress"), &json!("p-1")), "{told}");
            assert_eq!(told["params"]["message"], format!("step {step}"), "{told}");
            assert_eq!(
                (told["params"]["progress"].as_f64(), told["params"]["total"].as_f64()),
                (Some(f64::from(step)), Some(2.0)),
                "{told}"
            );
        }
        let answer = stream.message().expect("the answer");
        assert_eq!((&answer["id"], said(&answer["result"])), (&json!(5), (false, "done".to_owned())), "{answer}");
        assert_eq!(stream.message(), None, "{revision}");
        // Nobody wants to hear of it: an answer alone.
        let quiet = client.result("tools/call", json!({"name": "old__do", "arguments": {"as": "progress", "steps": 2}}));
        assert_eq!(said(&quiet), (false, "done".to_owned()), "{revision}");
    }
}

/// A call that hangs, and its connection.
fn hanging(client: &Mcp, id: u64) -> Connection {
    let gate = Gate::new();
    let wanted = json!({"name": "old__hang", "arguments": {"ready": gate.path()}});
    let connection = client.begin(id, "tools/call", wanted);
    assert_eq!(std::fs::read_to_string(gate.path()).expect("the tool is called"), "ready\n");
    connection
}

/// Waits until the tool has heard of so many cancellations.
fn heard(client: &Mcp, count: usize) {
    ledger::until("the tool hears of the cancellation", || {
        let told = client.call("old__do", json!({"as": "cancelled"}));
        (told == (false, count.to_string())).then_some(())
    });
}

#[test]
fn a_cancelled_call_is_cancelled_at_its_server() {
    let daemon = house();
    let token = daemon.agent("wild", &[]);
    let client = Mcp::new(&daemon, &token, "2025-06-18");
    let mut call = hanging(&client, 41);
    let cancel = |id: u64| json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id, "reason": "late"}});
    // Another agent's call of that number is not meant.
    let other = Mcp::new(&daemon, &daemon.agent("tame", &[]), "2025-06-18");
    for (client, id) in [(&other, 41), (&client, 42), (&client, 41)] {
        assert_eq!(client.post(&cancel(id), &[]).status, 202);
    }
    let ended = call.answer().expect("an answer").json();
    let (is_error, text) = said(&ended["result"]);
    assert!(is_error && text.starts_with("Error: the call of `old__hang` was cancelled."), "{text}");
    heard(&client, 1);
    let outcomes: Vec<Value> = ledger::events(&daemon).into_iter().filter(|event| event["kind"] == "call.settled").collect();
    assert!(outcomes.iter().any(|event| event.to_string().contains("client_left")), "{outcomes:?}");
}

#[test]
fn who_leaves_does_not_want_the_answer_any_more() {
    let daemon = house();
    let token = daemon.agent("wild", &[]);
    for (number, revision) in ["2025-06-18", NEWEST].into_iter().enumerate() {
        let client = Mcp::new(&daemon, &token, revision);
        hanging(&client, 1).close();
        heard(&client, number * 2 + 1);
        let wanted = json!({
            "name": "old__do",
            "arguments": {"as": "progress", "steps": 1, "hang": true},
            "_meta": {"progressToken": 3},
        });
        let mut stream = client.stream(1, "tools/call", wanted);
        assert_eq!(stream.message().expect("a step")["method"], "notifications/progress");
        stream.close();
        heard(&client, number * 2 + 2);
    }
}

#[test]
fn changes_are_told_to_who_listens() {
    let mut daemon = house();
    let token = daemon.agent("wild", &[]);
    let newest = Mcp::new(&daemon, &token, NEWEST);
    let older = Mcp::new(&daemon, &token, "2025-11-25");
    assert!(!newest.tools().contains(&"old__extra".to_owned()));
    let mut listening = newest.stream(9, "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    let opened = listening.message().expect("the acknowledgement");
    assert_eq!(opened["method"], "notifications/subscriptions/acknowledged", "{opened}");
    assert_eq!(opened["params"]["notifications"], json!({"toolsListChanged": true}), "{opened}");
    let mut stream = older.listen();
    assert_eq!((stream.head.status, stream.head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(older.call("old__do", json!({"as": "add", "tool": "extra"})), (false, "added".to_owned()));
    let told = listening.message().expect("a change");
    assert_eq!(told["method"], "notifications/tools/list_changed", "{told}");
    assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 9, "{told}");
    for list in ["tools", "prompts", "resources"] {
        assert_eq!(stream.message(), Some(json!({"jsonrpc": "2.0", "method": format!("notifications/{list}/list_changed")})));
    }
    assert!(newest.tools().contains(&"old__extra".to_owned()));

    // Other permissions, another list.
    let law = LAW.replace("tame", "wild");
    std::fs::write(daemon.home().join("config/permissions.json"), law).expect("write permissions.json");
    daemon.rpc("model.reload", &json!({}));
    assert_eq!(listening.message().expect("a change")["method"], "notifications/tools/list_changed");
    assert_eq!(stream.message().expect("a change")["method"], "notifications/tools/list_changed");
    assert!(!newest.tools().contains(&"old__hang".to_owned()));

    // The daemon's end does not wait for them.
    daemon.stop();
    let last = std::iter::from_fn(|| listening.message()).last().expect("the end of the subscription");
    assert_eq!((&last["id"], last["error"].is_null()), (&json!(9), true), "{last}");
    assert_eq!(std::iter::from_fn(|| stream.message()).find(|told| told["method"].is_null()), None);
}

#[test]
fn who_is_killed_hears_nothing_more() {
    let daemon = house();
    let client = Mcp::new(&daemon, &daemon.agent("wild", &[]), "2025-06-18");
    let mut stream = client.listen();
    assert_eq!(stream.head.status, 200);
    let _ = daemon.ctl(["agent", "kill", "wild"]).ok();
    assert_eq!(stream.message(), None);
    assert_eq!(client.listen().head.status, 403);
}
