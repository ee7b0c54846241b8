//! Who gets in: the token, the page that asks, the form of a message.

use super::house;
use aex_tests::client::{fetch, post_bytes};
use aex_tests::ledger;
use aex_tests::mcp::{Mcp, NEWEST};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

const ACCEPT: (&str, &str) = ("accept", "application/json, text/event-stream");
const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn only_a_known_token_gets_in_and_the_refusal_says_so() {
    let daemon = house();
    let token = daemon.agent("tame", &[]);
    for bad in ["", "aex_agt_0000000000000000000000000000000000000000000", "none"] {
        let client = Mcp::new(&daemon, bad, NEWEST);
        let refused = client.post(&client.message(1, "tools/list", json!({})), &[]);
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{refused}");
        let told = refused.json();
        assert_eq!((&told["jsonrpc"], &told["id"]), (&json!("2.0"), &Value::Null), "{told}");
        let message = told["error"]["message"].as_str().expect("a message");
        assert!(message.contains("token") && message.contains("(request "), "{message}");
    }
    let client = Mcp::new(&daemon, "", "2025-06-18");
    let listed = client.post(&client.message(1, "tools/list", json!({})), &[("x-api-key", &token)]);
    assert_eq!((listed.status, listed.json()["result"]["tools"].as_array().map(Vec::len)), (200, Some(5)), "{listed}");
    assert!(listed.header("x-aex-request-id").is_some_and(|id| listed.header("x-request-id") == Some(id)), "{listed}");
}

#[test]
fn pages_of_other_origins_and_other_hosts_are_refused() {
    let daemon = house();
    let token = daemon.agent("tame", &[]);
    let client = Mcp::new(&daemon, &token, "2025-06-18");
    let list = client.message(1, "tools/list", json!({}));
    for (origin, status) in [
        ("http://localhost:3000", 200),
        ("http://127.0.0.1", 200),
        ("https://[::1]:8443", 200),
        ("https://evil.example", 403),
        ("http://127.0.0.1.evil.example", 403),
        ("http://evil.example@127.0.0.1", 403),
        ("null", 403),
        ("file://", 403),
        ("", 403),
    ] {
        let answer = client.post(&list, &[("origin", origin)]);
        assert_eq!(answer.status, status, "{origin}: {answer}");
    }
    let two = client.post(&list, &[("origin", "http://localhost"), ("origin", "https://evil.example")]);
    assert_eq!(two.status, 403, "{two}");
    let mut connection = aex_tests::client::Connection::open(&daemon.url());
    let head = format!("POST /mcp HTTP/1.1\r\nhost: evil.example\r\nauthorization: Bearer {token}\r\ncontent-length: 2\r\n\r\n{{}}");
    connection.send(head.as_bytes()).expect("send the request");
    let answer = connection.answer().expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (403, "host_not_allowed"), "{answer}");
}

#[test]
fn a_message_has_one_form() {
    let daemon = house();
    let bearer = format!("Bearer {}", daemon.agent("tame", &[]));
    let url = format!("{}/mcp", daemon.url());
    let auth = ("authorization", bearer.as_str());
    let bad = |body: &[u8], status: u16, code: i64, says: &str| {
        let answer = post_bytes(&url, &[auth, ACCEPT, JSON], body);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &json!(code)), "{says}: {answer}");
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|said| said.contains(says)), "{says}: {answer}");
    };
    bad(b"{", 400, -32600, "no JSON");
    bad(b"\xff{}", 400, -32600, "UTF-8");
    bad(br#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, 400, -32600, "batches are not taken");
    let call = |arguments: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"old__echo","arguments":{arguments}}}}}"#)
    };
    bad(call(r#"{"text":"allowed","text":"forbidden"}"#).as_bytes(), 400, -32600, r#"the key "text" stands twice"#);
    for arguments in [r#"{"$serde_json::private::RawValue":"{}"}"#, r#"{"text":[{"$serde_json::private::RawValue":"\"forbidden\""}]}"#] {
        bad(call(arguments).as_bytes(), 400, -32600, "means something else to some programs");
        let body = format!(r#"{{"tool":"old.echo","arguments":{arguments}}}"#);
        let plain = post_bytes(&format!("{}/aex/v1/tools/execute", daemon.url()), &[auth, JSON], body.as_bytes());
        assert_eq!((plain.status, plain.code().as_str()), (400, "invalid_request_error"), "{plain}");
    }
    bad(call(r#"{"n":123456789012345678901234567890}"#).as_bytes(), 400, -32600, "does not fit 64 bits");
    bad(call(&format!("{}1{}", r#"{"a":"#.repeat(70), "}".repeat(70))).as_bytes(), 400, -32600, "levels deep");
    bad(&vec![b' '; (4 << 20) + 1], 413, -32000, "larger than 4194304 bytes");
    assert_eq!(post_bytes(&url, &[auth, JSON, ("accept", "application/json")], call("{}").as_bytes()).status, 406);
    assert_eq!(post_bytes(&url, &[auth, ACCEPT, ("content-type", "text/plain")], call("{}").as_bytes()).status, 415);
    assert_eq!(fetch("DELETE", &url, &[auth]).status, 405);
    let newest = fetch("GET", &url, &[auth, ("accept", "text/event-stream"), ("mcp-protocol-version", NEWEST)]);
    assert_eq!((newest.status, newest.header("allow")), (405, Some("GET, POST")), "{newest}");
    assert_eq!(fetch("GET", &url, &[("accept", "text/event-stream")]).status, 401);
    let events = ledger::events(&daemon);
    assert!(events.iter().any(|event| event["kind"] == "call.denied"), "a malformed message is told: {events:?}");
}

#[test]
fn a_body_that_ends_before_its_length_is_told_as_that() {
    let daemon = house();
    let token = daemon.agent("tame", &[]);
    let address = daemon.url().trim_start_matches("http://").to_owned();
    for (path, body) in [("/mcp", r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#), ("/aex/v1/tools/execute", r#"{"tool":"old.echo"}"#)] {
        let mut stream = TcpStream::connect(&address).expect("a connection");
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n");
        let rest = format!("accept: application/json, text/event-stream\r\ncontent-length: {}\r\n\r\n{body}", body.len() + 1);
        stream.write_all((head + &rest).as_bytes()).expect("send it");
        stream.shutdown(Shutdown::Write).expect("say no more");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("the body ended before its end"), "{path}: {answer}");
    }
}

#[test]
fn what_headers_say_has_to_be_what_the_message_says() {
    let daemon = house();
    let client = Mcp::new(&daemon, &daemon.agent("tame", &[]), NEWEST);
    let message = client.message(1, "tools/call", json!({"name": "old__echo", "arguments": {"text": "hello"}}));
    let url = format!("{}/mcp", daemon.url());
    for (name, value) in [("mcp-name", "old__hang"), ("mcp-method", "tools/list"), ("mcp-protocol-version", "2025-11-25")] {
        let headers = client.headers(&message);
        let mut headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        headers.retain(|(known, _)| *known != name);
        headers.push((name, value));
        let answer = post_bytes(&url, &headers, message.to_string().as_bytes());
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!(-32020)), "{name}: {answer}");
    }
}
