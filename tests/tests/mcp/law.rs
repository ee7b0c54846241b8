//! Calls are calls: rates, kills, read-only tokens, the ledger.

use super::{LAW, house, house_with};
use aex_proto::value::Digest;
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger;
use aex_tests::mcp::{Mcp, NEWEST, registry, said};
use aex_tests::tools::{Gate, lives, wait_dead};
use serde_json::{Value, json};

#[test]
fn a_call_counts_in_the_rates_and_a_list_does_not() {
    let daemon = house();
    let client = Mcp::new(&daemon, &daemon.agent_with("slow", "1", 1, &[]), "2025-11-25");
    for _ in 0..3 {
        assert!(!client.tools().is_empty());
    }
    assert_eq!(client.call("old__echo", json!({"text": "first"})), (false, "first".to_owned()));
    let (is_error, text) = client.call("old__echo", json!({"text": "second"}));
    assert!(is_error && text.starts_with("Error: ") && text.contains("limit of 1 request per minute"), "{text}");
    assert!(!client.tools().is_empty());
    let events = ledger::events(&daemon);
    let of = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count();
    assert_eq!((of("call.held"), of("call.settled"), of("call.denied")), (1, 1, 1), "{events:?}");
}

#[test]
fn a_read_only_token_lists_and_calls_nothing() {
    let daemon = house();
    drop(daemon.agent("tame", &[]));
    let made = daemon.ctl(["token", "create", "tame", "--scope", "read-only", "--json"]).json();
    let client = Mcp::new(&daemon, made["token"].as_str().expect("a token"), NEWEST);
    assert_eq!(client.tools().len(), 5);
    let (is_error, text) = client.call("old__echo", json!({"text": "hello"}));
    assert!(is_error && text.starts_with("Error: This token is read-only"), "{text}");
    let read = client.ask("resources/read", json!({"uri": "aex://old/memo:a"}));
    assert!(read["error"]["message"].as_str().is_some_and(|said| said.contains("This token is read-only")), "{read}");
}

#[test]
fn a_killed_agent_s_call_ends_and_its_next_message_says_why() {
    let daemon = house();
    let client = Mcp::new(&daemon, &daemon.agent("wild", &[]), "2025-06-18");
    let gate = Gate::new();
    let mut hanging = client.begin(7, "tools/call", json!({"name": "old__hang", "arguments": {"ready": gate.path()}}));
    assert_eq!(std::fs::read_to_string(gate.path()).expect("the tool is called"), "ready\n");
    drop(daemon.ctl(["agent", "kill", "wild", "--reason", "enough"]).ok());
    let ended = hanging.answer().expect("an answer").json();
    let (is_error, text) = said(&ended["result"]);
    assert!(is_error && text.starts_with("Error: ") && text.contains("enough"), "{text}");
    let (is_error, text) = client.call("old__echo", json!({"text": "hello"}));
    assert!(is_error && text.contains("enough"), "{text}");
    let list = client.ask("tools/list", json!({}));
    assert!(list["error"]["message"].as_str().is_some_and(|said| said.contains("enough")), "{list}");
}

#[test]
fn a_server_of_one_run_or_agent_ends_with_it() {
    let mut servers: Value = serde_json::from_str(&registry(&[("own", "scripted-tool", &[])])).expect("mcp.json");
    servers["mcpServers"]["own"]["scope"] = json!("run");
    let config = Config::with_base_url("http://127.0.0.1:9/v1", "sk-nobody");
    let daemon = Daemon::start_with(config.permissions_json(LAW).mcp_json(&servers.to_string()));
    let pid = |token: &str| {
        let (is_error, text) = Mcp::new(&daemon, token, NEWEST).call("own__do", json!({"as": "pid"}));
        assert!(!is_error, "{text}");
        text.parse::<u32>().expect("a process number")
    };
    let of_agent = pid(&daemon.agent("bot", &[]));
    let mut control = daemon.control();
    let opened = control.call("run.open", &json!({"agent": "bot", "command": "test"})).expect("a run");
    let of_run = pid(opened["token"].as_str().expect("a token"));
    assert_ne!(of_agent, of_run);
    control.call("run.close", &json!({"run": opened["run"], "exit_status": 0})).expect("an end");
    wait_dead(&[of_run]);
    assert!(lives(of_agent), "the agent goes on");
    daemon.ctl(["agent", "kill", "bot", "--reason", "enough"]).ok();
    wait_dead(&[of_agent]);
}

#[test]
fn without_permissions_nothing_is_listed_or_called() {
    let daemon = house_with("no JSON");
    let client = Mcp::new(&daemon, &daemon.agent("tame", &[]), NEWEST);
    assert_eq!(client.tools(), Vec::<String>::new());
    let (is_error, text) = client.call("mock__calculate_sum", json!({"a": 1, "b": 2}));
    assert!(is_error && text.starts_with("Error: Tool `mock.calculate_sum` is denied: permissions.json cannot be used"), "{text}");
}

#[test]
fn a_server_that_fails_is_a_result_that_says_so() {
    let daemon = house();
    let client = Mcp::new(&daemon, &daemon.agent("wild", &[]), "2025-11-25");
    let missing = client.call("old__do", json!({}));
    assert!(missing.0 && missing.1.starts_with("Error: The tool server `old` refused the request: no tool do"), "{missing:?}");
}

#[test]
fn a_refusal_says_what_was_refused_as_a_call_does() {
    let daemon = house();
    let client = Mcp::new(&daemon, &daemon.agent("tame", &[]), NEWEST);
    assert!(client.call("old__echo", json!({"text": "forbidden"})).0);
    let denied = ledger::events(&daemon).into_iter().find(|event| event["kind"] == "call.denied").expect("a refusal");
    assert_eq!(denied["body"]["input"], Digest::of(br#"{"text":"forbidden"}"#).to_string(), "{denied}");
    ledger::quiet(&daemon);
    assert_eq!(daemon.ctl(["audit"]).code, 0);
}

#[test]
fn what_a_server_said_of_the_calls_of_others_is_for_administrators() {
    let daemon = house();
    let [one, other] = ["one", "other"].map(|name| Mcp::new(&daemon, &daemon.agent(name, &[]), "2025-11-25"));
    assert!(!one.call("old__do", json!({"as": "say", "text": "one reads /home/one/diary"})).0);
    let (is_error, text) = other.call("old__do", json!({"as": "exit", "code": 3}));
    assert!(is_error && text.contains("exited (code 3) during the call"), "{text}");
    assert!(!text.contains("diary") && text.contains("`aexctl tools logs old` shows what it said last"), "{text}");
    assert!(!one.call("old__do", json!({"as": "say", "text": "one reads /home/one/diary"})).0);
    let told = daemon.ctl(["tools", "call", "old.do", r#"{"as":"exit","code":3}"#, "--agent", "other"]);
    assert!(told.code != 0 && told.stderr.contains("it said last:\none reads /home/one/diary"), "{told:?}");
}
