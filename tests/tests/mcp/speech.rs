//! What is spoken: every revision gets the same tools and the same answers, each in its own form.

use super::house;
use aex_tests::ledger;
use aex_tests::mcp::{Mcp, NEWEST, REVISIONS};
use serde_json::{Value, json};

#[test]
fn each_revision_lists_and_calls_servers_of_old_and_new_ones() {
    let daemon = house();
    let token = daemon.agent("tame", &[]);
    for revision in REVISIONS {
        let client = Mcp::new(&daemon, &token, revision);
        opens(&client, revision);
        let names = client.tools();
        // In one order, whichever server was faster; what the agent may never call is not there.
        assert_eq!(names, ["mock__calculate_sum", "new__do", "new__echo", "old__do", "old__echo"], "{revision}");
        assert_eq!(client.call("mock__calculate_sum", json!({"a": 2, "b": 3})), (false, "The sum is 5".to_owned()), "{revision}");
        for tool in ["old__echo", "new__echo"] {
            let answer = client.result("tools/call", json!({"name": tool, "arguments": {"text": "hello"}}));
            assert_eq!(answer["content"], json!([{"type": "text", "text": "hello"}]), "{revision} {tool}");
            // Only the newest revision has it, whatever the server speaks.
            let kind = if revision == NEWEST { json!("complete") } else { Value::Null };
            assert_eq!(answer["resultType"], kind, "{revision} {tool}");
        }
        let (is_error, text) = client.call("old__hang", json!({}));
        assert!(is_error && text.starts_with("Error: Tool `old.hang` is denied by rule `no hanging` of permissions.json:"), "{text}");
        assert!(text.contains("(nobody waits)") && text.contains("(request "), "{text}");
        let (is_error, text) = client.call("new__echo", json!({"text": "forbidden"}));
        assert!(is_error && text.starts_with("Error: Tool `new.echo` is denied by rule `one word` of permissions.json:"), "{text}");
        let unknown = client.ask("tools/call", json!({"name": "mock__nothing", "arguments": {}}));
        assert_eq!(unknown["error"]["code"], -32602, "{unknown}");
        let said = unknown["error"]["message"].as_str().expect("a message");
        assert!(said.contains("mock__nothing") && said.contains("(request "), "{said}");
    }
}

/// The handshake, or what there is in place of it.
#[track_caller]
fn opens(client: &Mcp, revision: &str) {
    if revision == NEWEST {
        let told = client.result("server/discover", json!({}));
        assert_eq!(told["supportedVersions"], json!(REVISIONS), "{told}");
        assert_eq!(told["capabilities"]["tools"], json!({"listChanged": true}), "{told}");
        let ping = client.post(&client.message(1, "ping", json!({})), &[]);
        assert_eq!((ping.status, &ping.json()["error"]["code"]), (404, &json!(-32601)), "{ping}");
        return;
    }
    let hello = json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}});
    let told = client.result("initialize", hello);
    assert_eq!((&told["protocolVersion"], &told["serverInfo"]["name"]), (&json!(revision), &json!("aexd")), "{told}");
    assert_eq!(told["capabilities"]["tools"], json!({"listChanged": true}), "{told}");
    let ready = client.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}), &[]);
    assert_eq!((ready.status, ready.text().as_str()), (202, ""), "{ready}");
    assert_eq!(client.result("ping", json!({})), json!({}), "{revision}");
}

#[test]
fn an_unknown_revision_is_answered_with_the_newest_that_has_a_handshake() {
    let daemon = house();
    let client = Mcp::new(&daemon, &daemon.agent("tame", &[]), "2024-11-05");
    let hello = json!({"protocolVersion": "2031-01-01", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}});
    assert_eq!(client.result("initialize", hello)["protocolVersion"], "2025-11-25");
}

#[test]
fn a_list_is_private_and_names_servers() {
    let daemon = house();
    let client = Mcp::new(&daemon, &daemon.agent("tame", &[]), NEWEST);
    let listed = client.result("tools/list", json!({}));
    assert_eq!((&listed["cacheScope"], &listed["ttlMs"]), (&json!("private"), &json!(30_000)), "{listed}");
    let sum = &listed["tools"][0];
    assert_eq!(sum["title"], "mock: calculate_sum", "{sum}");
    assert_eq!(sum["inputSchema"]["required"], json!(["a", "b"]), "{sum}");
}

#[test]
fn results_pass_as_they_are_and_names_may_have_their_earlier_forms() {
    let daemon = house();
    let client = Mcp::new(&daemon, &daemon.agent("tame", &[]), NEWEST);
    for name in ["mock__calculate_sum", "mock.calculate_sum", "calculate_sum"] {
        assert_eq!(client.call(name, json!({"a": 1, "b": 1})), (false, "The sum is 2".to_owned()), "{name}");
    }
    let hidden = client.ask("tools/call", json!({"name": "new__link", "arguments": {}}));
    assert_eq!(hidden["error"]["code"], -32602, "what a server does not list is not called: {hidden}");
    let link = client.result("tools/call", json!({"name": "new__do", "arguments": {"as": "link"}}));
    assert_eq!(link["content"][0]["uri"], "aex://new/memo:a", "what a result names can be read: {link}");
}

#[test]
fn a_tool_whose_name_has_to_be_shortened_is_called_by_the_name_that_the_list_has() {
    let daemon = house();
    let client = Mcp::new(&daemon, &daemon.agent("tame", &[]), "2025-11-25");
    for own in ["dotted.name", &"long".repeat(25)] {
        assert_eq!(client.call("old__do", json!({"as": "add", "tool": own})), (false, "added".to_owned()));
        let find = || client.tools().into_iter().find(|name| name.len() > 12 && name.starts_with(&format!("old__{}", own.split_at(4).0)));
        let name = ledger::until("the new tool is listed", find);
        assert!(name.len() <= 64 && !name.contains('.'), "{name}");
        // The scripted tool does nothing by that name; that it is asked shows that it is meant.
        let (is_error, text) = client.call(&name, json!({}));
        assert!(is_error && text.starts_with(&format!("Error: The tool server `old` refused the request: no tool {own}")), "{text}");
    }
}
