//! Resources and prompts: under the same law, as tools that are named `resources/read` and `prompts/get`.

use super::{house, house_with};
use aex_tests::ledger;
use aex_tests::mcp::{Mcp, NEWEST, REVISIONS};
use serde_json::{Value, json};

#[test]
fn resources_are_read_by_the_names_that_lists_have() {
    let daemon = house();
    let token = daemon.agent("tame", &[]);
    for revision in REVISIONS {
        let client = Mcp::new(&daemon, &token, revision);
        let listed = client.result("resources/list", json!({}));
        let uris: Vec<&str> = listed["resources"].as_array().expect("resources").iter().filter_map(|one| one["uri"].as_str()).collect();
        assert_eq!(uris, ["aex://new/memo:a", "aex://old/memo:a"], "{revision}");
        assert_eq!(listed["resources"][0]["title"], "new: a");
        let patterns = client.result("resources/templates/list", json!({}));
        assert_eq!(patterns["resourceTemplates"][1]["uriTemplate"], "aex://old/memo:{name}", "{revision}");
        for uri in ["aex://new/memo:a", "aex://old/memo:b"] {
            let read = client.result("resources/read", json!({"uri": uri}));
            let own = uri.split_once("/memo").map(|(_, rest)| format!("memo{rest}")).expect("a URI");
            assert_eq!(read["contents"], json!([{"uri": uri, "text": format!("content of \"{own}\"")}]), "{revision}");
        }
        let code = if revision == NEWEST { -32602 } else { -32002 };
        assert_eq!(client.ask("resources/read", json!({"uri": "memo:a"}))["error"]["code"], code, "{revision}");
    }
    let held: Vec<Value> = ledger::events(&daemon).into_iter().filter(|event| event["kind"] == "call.held").collect();
    assert!(held.iter().any(|event| event.to_string().contains("resources/read")), "{held:?}");
}

#[test]
fn prompts_are_got_by_the_names_that_lists_have() {
    let daemon = house();
    let token = daemon.agent("tame", &[]);
    for revision in REVISIONS {
        let client = Mcp::new(&daemon, &token, revision);
        let listed = client.result("prompts/list", json!({}));
        let prompts = listed["prompts"].as_array().expect("prompts");
        let names: Vec<&str> = prompts.iter().filter_map(|one| one["name"].as_str()).collect();
        assert_eq!((names.len(), names.contains(&"new__greet"), names.contains(&"old__greet")), (4, true, true), "{revision}: {names:?}");
        let odd = prompts.iter().find(|one| one["title"] == "say it loud").expect("a name that has to be shortened");
        let odd = odd["name"].as_str().expect("a name");
        assert!(odd.starts_with("new__say_it_loud_"), "{odd}");
        let got = client.result("prompts/get", json!({"name": odd}));
        assert_eq!(got["messages"][0]["content"]["text"], r#""say it loud" null"#, "{revision}");
        assert_eq!(got["messages"][1]["content"]["uri"], "aex://new/memo:a", "{revision}: what a prompt names can be read");
        let got = client.result("prompts/get", json!({"name": "old__greet", "arguments": {"who": "you"}}));
        assert_eq!(got["messages"][0]["content"]["text"], r#""greet" {"who":"you"}"#, "{revision}");
        assert_eq!(client.ask("prompts/get", json!({"name": "nobody__greet"}))["error"]["code"], -32602, "{revision}");
    }
}

#[test]
fn a_tool_s_permission_is_none_for_resources_and_prompts() {
    let law = r#"{"global_policy": "deny", "rules": [
        {"effect": "allow", "tool": "echo"},
        {"effect": "allow", "tool": "new.resources/read", "when": {"/uri": {"equals": "memo:a"}}},
        {"effect": "allow", "tool": "old.prompts/get", "when": {"/name": {"equals": "greet"}}}
    ]}"#;
    let daemon = house_with(law);
    let client = Mcp::new(&daemon, &daemon.agent("tame", &[]), "2025-06-18");
    assert_eq!(client.tools(), ["new__echo", "old__echo"]);
    let resources = client.result("resources/list", json!({}));
    assert_eq!(resources["resources"].as_array().map(Vec::len), Some(1), "{resources}");
    assert_eq!(client.result("resources/read", json!({"uri": "aex://new/memo:a"}))["contents"][0]["uri"], "aex://new/memo:a");
    let denied = |method: &str, params: Value, tool: &str| {
        let told = client.ask(method, params);
        let message = told["error"]["message"].as_str().unwrap_or_else(|| panic!("{told}"));
        assert!(message.starts_with(&format!("Error: Tool `{tool}` is denied")) && message.contains("permissions.json"), "{message}");
    };
    denied("resources/read", json!({"uri": "aex://new/memo:b"}), "new.resources/read");
    denied("resources/read", json!({"uri": "aex://old/memo:a"}), "old.resources/read");
    denied("prompts/get", json!({"name": "new__greet"}), "new.prompts/get");
    assert_eq!(client.result("prompts/get", json!({"name": "old__greet"}))["messages"].as_array().map(Vec::len), Some(2));
    let prompts = client.result("prompts/list", json!({}));
    assert!(
        prompts["prompts"]
            .as_array()
            .expect("prompts")
            .iter()
            .all(|one| one["name"].as_str().is_some_and(|name| name.starts_with("old__")))
    );
}
