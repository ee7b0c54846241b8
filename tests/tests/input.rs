//! Bad input: what is no valid request is refused with a reason and costs nothing.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_tests::ask::chat;
use aex_tests::client::{self, Answer, Connection};
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger::{self, settled_and_audited};
use aex_tests::provider::Provider;
use aex_tests::refusal::{self, Refusal, malformed};

const MESSAGES: &str = r#""messages":[{"role":"user","content":"x"}]"#;

struct House {
    provider: Provider,
    daemon: Daemon,
    token: String,
}

impl House {
    fn new(config: impl FnOnce(Config) -> Config) -> Self {
        let provider = Provider::start();
        let daemon = Daemon::start_with(config(Config::new(&provider)));
        let token = daemon.agent("bot", &[]);
        Self { provider, daemon, token }
    }

    #[track_caller]
    fn post(&self, body: &[u8]) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        client::post_bytes(&self.daemon.chat_url(), &[("authorization", &bearer), ("content-type", "application/json")], body)
    }

    /// The head of a chat call up to its framing.
    fn head(&self) -> String {
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {}\r\n", self.token)
    }

    /// The provider saw nothing, nothing was held, and the daemon still serves.
    #[track_caller]
    fn is_unharmed(&self) {
        assert_eq!(self.provider.requests().len(), 0);
        assert!(ledger::calls(&self.daemon).is_empty());
        assert_eq!(client::post_json(&self.daemon.chat_url(), &self.token, &chat()).status, 200);
        settled_and_audited(&self.daemon, &self.provider);
    }
}

#[test]
fn what_is_no_chat_request_is_refused_with_the_field_at_fault() {
    let house = House::new(|config| config);
    let nested = |depth: usize| format!(r#"{{"model":"m1",{MESSAGES},"deep":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let with = |member: &str| format!(r#"{{"model":"m1",{member},{MESSAGES}}}"#);
    let rows: Vec<(Vec<u8>, &str, &str)> = vec![
        (b"".to_vec(), "", "not valid JSON"),
        (b"{".to_vec(), "", "not valid JSON"),
        (b"null".to_vec(), "", "not a JSON object"),
        (b"[]".to_vec(), "", "not a JSON object"),
        (b"\"x\"".to_vec(), "", "not a JSON object"),
        (b"{} {}".to_vec(), "", "not valid JSON"),
        (format!("{{{MESSAGES},}}").into_bytes(), "", "not valid JSON"),
        (nested(100_000).into_bytes(), "", "not valid JSON"),
        (b"{\"model\":\"m1\"}".to_vec(), "messages", "is missing"),
        (br#"{"model":"m1","messages":"hi"}"#.to_vec(), "messages", "must be a list"),
        (br#"{"model":"m1","messages":["hi"]}"#.to_vec(), "messages[0]", "must be an object"),
        (br#"{"model":"m1","messages":[{"role":"user","content":5}]}"#.to_vec(), "messages[0].content", "must be a string"),
        (with(r#""model":"m2""#).into_bytes(), "model", "stands twice"),
        (with(r#""\u006dodel":"m2""#).into_bytes(), "model", "stands twice"),
        (with(r#""max_tokens":1,"max_tokens":900"#).into_bytes(), "max_tokens", "stands twice"),
        (with(r#""stream":false,"stream":true"#).into_bytes(), "stream", "stands twice"),
        (format!(r#"{{"model":["m1"],{MESSAGES}}}"#).into_bytes(), "model", "must be a string"),
        (with(r#""max_tokens":-1"#).into_bytes(), "max_tokens", "at least 1"),
        (with(r#""max_tokens":0"#).into_bytes(), "max_tokens", "at least 1"),
        (with(r#""max_tokens":1.5"#).into_bytes(), "max_tokens", "at least 1"),
        (with(r#""max_tokens":"9""#).into_bytes(), "max_tokens", "must be an integer"),
        (with(r#""max_tokens":99999999999"#).into_bytes(), "max_tokens", "too large"),
        (with(r#""max_tokens":99999999999999999999999999"#).into_bytes(), "max_tokens", ""),
        (with(r#""max_completion_tokens":-9"#).into_bytes(), "max_completion_tokens", "at least 1"),
        (with(r#""n":0"#).into_bytes(), "n", "at least 1"),
        (with(r#""n":-1"#).into_bytes(), "n", "at least 1"),
        (with(r#""n":1000000000"#).into_bytes(), "n", "too large"),
        (with(r#""n":1e9"#).into_bytes(), "n", "at least 1"),
        (with(r#""stream":"yes""#).into_bytes(), "stream", "true or false"),
        (with(r#""stream_options":{"include_usage":true}"#).into_bytes(), "stream_options", "only allowed when `stream`"),
        (with(r#""tools":{}"#).into_bytes(), "tools", "must be a list"),
        (with(r#""temperature":NaN"#).into_bytes(), "", "not valid JSON"),
        (with(r#""temperature":Infinity"#).into_bytes(), "", "not valid JSON"),
        (with(r#""temperature":01"#).into_bytes(), "", "not valid JSON"),
        (with("\"user\":\"\u{1}\"").into_bytes(), "", "not valid JSON"),
        (with(r#""user":"\ud800""#).into_bytes(), "", "not valid JSON"),
        ([with(r#""user":"x"#).into_bytes(), b"\xff\xfe\"}".to_vec()].concat(), "", "not valid JSON"),
        ([b"\xef\xbb\xbf".as_slice(), chat().to_string().as_bytes()].concat(), "", "not valid JSON"),
    ];
    for (body, param, says) in &rows {
        let shown: String = String::from_utf8_lossy(body).chars().take(80).collect();
        let answer = house.post(body);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request_error"), "{shown}: {answer}");
        refusal::check(&answer, &malformed(param, &["Malformed request", says]));
    }
    house.is_unharmed();
}

#[test]
fn two_hundred_levels_of_nesting_are_refused_and_a_hundred_pass() {
    let house = House::new(|config| config);
    let nested = |depth: usize, open: &str, close: &str| {
        format!(r#"{{"model":"m1",{MESSAGES},"deep":{}1{}}}"#, open.repeat(depth), close.repeat(depth))
    };
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        refusal::denied(
            &house.daemon,
            &house.provider,
            house.provider.requests().len(),
            &house.post(nested(200, open, close).as_bytes()),
            &Refusal { rule: "", ..malformed("", &["levels of nesting"]) },
        );
        let answer = house.post(nested(100, open, close).as_bytes());
        assert_eq!(answer.status, 200, "{answer}");
        let sent = house.provider.last_request().json();
        assert!(sent["deep"].is_array() || sent["deep"].is_object(), "{sent}");
    }
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_body_beyond_the_limit_is_413_announced_or_not() {
    let house = House::new(|config| config.aexd_yaml("max_body: 64KiB\n"));
    let wanted = Refusal { status: 413, code: "request_too_large", rule: "max_body", ..malformed("", &["65536 bytes", "max_body"]) };
    let body = |length: usize| {
        let frame = r#"{"model":"m1","max_tokens":9,"messages":[{"role":"user","content":""}]}"#;
        frame.replace(r#""content":"""#, &format!(r#""content":"{}""#, "x".repeat(length - frame.len())))
    };
    refusal::denied(&house.daemon, &house.provider, 0, &house.post(body(65537).as_bytes()), &wanted);

    let chunked = |body: &str| {
        let mut connection = Connection::open(&house.daemon.url());
        connection.send(format!("{}transfer-encoding: chunked\r\n\r\n", house.head()).as_bytes()).expect("send the head");
        for piece in body.as_bytes().chunks(10_000) {
            let framed = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
            // The daemon may have answered and closed.
            if connection.send(&framed).is_err() {
                break;
            }
        }
        drop(connection.send(b"0\r\n\r\n"));
        connection.answer().expect("an answer")
    };
    refusal::check(&chunked(&body(300_000)), &wanted);

    // A liar: the announced length alone is enough.
    let mut connection = Connection::open(&house.daemon.url());
    connection.send(format!("{}content-length: 99999999999\r\n\r\n", house.head()).as_bytes()).expect("send the head");
    connection.finish_sending();
    if let Ok(answer) = connection.answer() {
        refusal::check(&answer, &wanted);
    }
    assert_eq!(house.provider.requests().len(), 0);
    // At the limit it passes, in either framing.
    assert_eq!(house.post(body(65536).as_bytes()).status, 200);
    assert_eq!(chunked(&body(65536)).status, 200);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_body_that_breaks_off_is_no_call() {
    let house = House::new(|config| config);
    let body = chat().to_string();
    let framings = [
        format!("content-length: {}\r\n\r\n{body}", body.len() + 1),
        format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n", body.len()),
        format!("transfer-encoding: chunked\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n"),
    ];
    for framing in framings {
        let mut connection = Connection::open(&house.daemon.url());
        connection.send(format!("{}{framing}", house.head()).as_bytes()).expect("send the request");
        connection.finish_sending();
        // It may answer or hang up; it may not call.
        if let Ok(answer) = connection.answer() {
            assert_eq!(answer.status, 400, "{answer}");
        }
    }
    house.is_unharmed();
}

#[test]
fn what_is_no_http_request_is_refused_and_harms_nobody() {
    let house = House::new(|config| config);
    let rows = [
        "\r\n\r\n\0\0\0".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\0\u{a5}\u{1}\0\0\u{a1}\u{3}\u{3}".to_owned(),
        format!("{}content-length: 5\r\ncontent-length: 6\r\n\r\nhello", house.head()),
        format!("{}content-length: -5\r\n\r\n", house.head()),
        format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(200_000)),
    ];
    for row in rows {
        let mut connection = Connection::open(&house.daemon.url());
        drop(connection.send(row.as_bytes()));
        connection.finish_sending();
        if let Ok(answer) = connection.answer() {
            assert!((400..500).contains(&answer.status), "{answer}");
        }
    }
    house.is_unharmed();
}

#[test]
fn a_wrong_or_absent_content_type_changes_nothing() {
    let house = House::new(|config| config);
    let bearer = format!("Bearer {}", house.token);
    let own = ("authorization", bearer.as_str());
    for kind in ["text/plain", "application/json; charset=utf-8", "multipart/form-data; boundary=x", ""] {
        let headers = if kind.is_empty() { vec![own] } else { vec![own, ("content-type", kind)] };
        let answer = client::post_bytes(&house.daemon.chat_url(), &headers, chat().to_string().as_bytes());
        assert_eq!(answer.status, 200, "{kind}: {answer}");
        assert!(house.provider.last_request().header("content-type").is_some());
    }
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_body_that_is_not_what_its_bytes_say_is_refused_and_its_type_is_ours() {
    let house = House::new(|config| config);
    let bearer = format!("Bearer {}", house.token);
    let post = |name: &str, value: &str| {
        client::post_bytes(&house.daemon.chat_url(), &[("authorization", &bearer), (name, value)], chat().to_string().as_bytes())
    };
    let answer = post("content-encoding", "deflate");
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request_error"), "{answer}");
    assert_eq!(post("content-type", "application/json; charset=utf-7").status, 200);
    assert_eq!(house.provider.last_request().header("content-type"), Some("application/json"));
    settled_and_audited(&house.daemon, &house.provider);
}
