//! Bodies that do not come, and bodies that nobody wants.

use super::post;
use aex_tests::ask::chat;
use aex_tests::client::{self, Connection};
use aex_tests::house::House;
use aex_tests::ledger::{self, settled_and_audited};
use aex_tests::refusal;

#[test]
fn a_body_that_goes_silent_is_refused_and_no_call() {
    let house = House::new(|config| config.aexd_yaml("body_idle_ms: 100\n"));
    for framing in ["content-length: 500\r\n\r\n{", "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"] {
        let mut connection = Connection::open(&house.daemon.url());
        connection.send(post(&house, framing, "").trim_end().as_bytes()).expect("send");
        let answer = connection.answer().expect("an answer");
        refusal::check(&answer, &refusal::malformed("", &["did not arrive in time"]));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(connection.rest().is_empty());
    }
    assert!(ledger::calls(&house.daemon).is_empty());
}

#[test]
fn who_asks_whether_to_send_a_body_is_told_before_it_is_sent() {
    let house = House::new(|config| config.aexd_yaml("max_body: 64KiB\n"));
    let body = chat().to_string();
    let ask = |token: &str, length: usize| {
        let mut connection = Connection::open(&house.daemon.url());
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        );
        connection.send(head.as_bytes()).expect("send the head");
        let first = connection.interim().expect("an answer");
        (connection, first)
    };
    let (mut connection, first) = ask(&house.token, body.len());
    assert_eq!(first.status, 100);
    connection.send(body.as_bytes()).expect("send the body");
    assert_eq!(connection.answer().expect("an answer").status, 200);
    // Refused without a word for the body, and the connection ends: what follows cannot be told from a body.
    for (token, length, status) in [("aex_wrong", body.len(), 401), (&house.token, 70_000, 413)] {
        let (mut connection, first) = ask(token, length);
        assert_eq!((first.status, first.header("connection")), (status, Some("close")));
        drop(connection.rest());
    }
    assert_eq!(settled_and_audited(&house.daemon, &house.provider).exact, 1);
}

#[test]
fn a_refused_request_is_read_to_its_end_before_the_answer_so_that_its_client_sees_it() {
    let house = House::new(|config| config);
    let long = format!("/v1/{}", "x".repeat(9_000));
    let rows = [
        ("POST /v1/chat/completions", "127.0.0.1", "", 401),
        ("POST /v1/responses", "127.0.0.1", "authorization: Bearer nobody\r\n", 401),
        ("POST /mcp", "127.0.0.1", "", 401),
        ("POST /mcp", "127.0.0.1", "origin: https://elsewhere.example\r\n", 403),
        ("PUT /mcp", "127.0.0.1", "", 405),
        ("POST /aex/v1/tools/execute", "127.0.0.1", "", 401),
        ("POST /health", "127.0.0.1", "", 405),
        ("PUT /v1/messages", "127.0.0.1", "", 405),
        ("POST /nowhere", "127.0.0.1", "", 404),
        ("POST /v1/chat/completions", "elsewhere.example", "", 403),
        (&format!("POST {long}"), "127.0.0.1", "", 414),
        ("POST /v1/responses", "127.0.0.1", "connection: upgrade\r\nupgrade: websocket\r\n", 426),
    ];
    for (line, host, more, status) in rows {
        let mut connection = Connection::open(&house.daemon.url());
        let head = format!("{line} HTTP/1.1\r\nhost: {host}\r\n{more}content-type: application/json\r\ncontent-length: 9\r\n\r\n");
        connection.send(head.as_bytes()).expect("send");
        // The head has been there for long when the body comes.
        assert_eq!(client::get(&format!("{}/health", house.daemon.url()), "").status, 200);
        connection.send(br#"{"a": 12}"#).unwrap_or_else(|fault| panic!("{line}: {fault}"));
        let answer = connection.answer().unwrap_or_else(|fault| panic!("{line}: {fault}"));
        assert_eq!(answer.status, status, "{line}: {answer}");
        assert_ne!(answer.header("connection"), Some("close"), "{line}: {answer}");
        connection.request("GET", "/health", &[], b"").unwrap_or_else(|fault| panic!("{line}: {fault}"));
        assert_eq!(connection.answer().unwrap_or_else(|fault| panic!("{line}: {fault}")).status, 200, "{line}");
    }
}

#[test]
fn a_refused_body_that_does_not_end_is_not_waited_for_and_the_connection_ends() {
    let house = House::new(|config| config);
    for (path, sent) in [("/mcp", ""), ("/nowhere", "{"), ("/v1/chat/completions", "{}")] {
        let mut connection = Connection::open(&house.daemon.url());
        let head = format!("POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9\r\n\r\n{sent}");
        connection.send(head.as_bytes()).expect("send");
        let answer = connection.answer().unwrap_or_else(|fault| panic!("{path}: {fault}"));
        assert!([401, 404].contains(&answer.status), "{path}: {answer}");
        assert_eq!(answer.header("connection"), Some("close"), "{path}: {answer}");
        assert!(connection.rest().is_empty());
    }
}
