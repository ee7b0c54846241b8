//! HTTP at the raw socket: doubtful framing makes no second call, slow and oversized requests end, and only the daemon's own names
//! are served.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "hygiene/bodies.rs"]
mod bodies;

use aex_tests::ask::{chat, chat_with};
use aex_tests::client::{Answer, Connection, End};
use aex_tests::house::House;
use aex_tests::ledger::{self, last, settled_and_audited};
use aex_tests::provider::{At, Cut, Ended, How, Script};
use aex_tests::refusal::{self, Refusal, Retry};
use serde_json::json;

/// The last request of a connection: its answer is the last one, where it is read.
const LAST: &str = "GET /last HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";

/// Sends bytes and a last request behind them: all other answers up to the connection's end.
#[track_caller]
fn answers(house: &House, bytes: &[u8]) -> Vec<Answer> {
    let mut connection = Connection::open(&house.daemon.url());
    // It may be answered before all of it was sent.
    drop(connection.send(&[bytes, LAST.as_bytes()].concat()));
    let mut found: Vec<Answer> = std::iter::from_fn(|| connection.answer().ok()).collect();
    if found.last().is_some_and(|last| last.code() == "unknown_url") {
        found.pop();
    }
    found
}

/// A chat request with this framing.
fn post(house: &House, framing: &str, body: &str) -> String {
    format!("POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {}\r\n{framing}\r\n\r\n{body}", house.token)
}

fn sized(house: &House) -> String {
    let body = chat().to_string();
    post(house, &format!("content-length: {}", body.len()), &body)
}

/// The body in one chunk, with the last one.
fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

#[test]
fn doubtful_framing_is_refused_or_read_as_one_call_and_never_as_two() {
    let house = House::new(|config| config);
    let body = chat().to_string();
    let length = body.len();
    let hidden = sized(&house);
    let once = chunked(&body);
    let long = "x".repeat(20_000);
    // Framing, body, and the statuses that come back. Behind each stands one more whole request, which is answered in its own
    // right only where the end of the first is beyond doubt.
    let rows: Vec<(String, String, &[u16])> = vec![
        (format!("content-length: {length}"), body.clone(), &[200, 200]),
        (format!("Content-Length: {length}\r\ncontent-length: {length}"), body.clone(), &[200, 200]),
        // Both lengths: the chunks count, and nothing behind them is read (RFC 9112 §6.3).
        ("content-length: 4\r\ntransfer-encoding: chunked".to_owned(), once.clone(), &[200]),
        ("transfer-encoding: chunked\r\ncontent-length: 4".to_owned(), once.clone(), &[200]),
        (format!("transfer-encoding: chunked\r\ncontent-length: {}", once.len() + hidden.len()), once.clone(), &[200]),
        ("transfer-encoding: Chunked".to_owned(), once.clone(), &[200]),
        (format!("content-length: {length}\r\ncontent-length: 4"), body.clone(), &[400]),
        (format!("content-length: {length}, 4"), body.clone(), &[400]),
        (format!("content-length: +{length}"), body.clone(), &[400]),
        (format!("content-length: {length:#x}"), body.clone(), &[400]),
        ("content-length: ".to_owned(), body.clone(), &[400]),
        (format!("content-length: 1{}", "0".repeat(40)), body.clone(), &[400]),
        // No chunks at the end of the codings: no length at all.
        ("transfer-encoding: identity".to_owned(), body.clone(), &[400]),
        ("transfer-encoding: chunked, identity".to_owned(), once.clone(), &[400]),
        ("transfer-encoding: xchunked".to_owned(), once.clone(), &[400]),
        ("transfer-encoding: \"chunked\"".to_owned(), once.clone(), &[400]),
        ("transfer-encoding : chunked".to_owned(), once.clone(), &[400]),
        ("transfer-encoding:\u{b}chunked".to_owned(), once.clone(), &[400]),
        (format!("content-length : {length}"), body.clone(), &[400]),
        ("x-a: b\r\n folded: c\r\ntransfer-encoding: chunked".to_owned(), once.clone(), &[400]),
        (format!("x-a: b\r\n\tcontent-length: 4\r\ncontent-length: {length}"), body.clone(), &[400]),
        (format!("x-a: \0\r\ncontent-length: {length}"), body.clone(), &[400]),
        (format!("x\0a: b\r\ncontent-length: {length}"), body.clone(), &[400]),
        (format!("x-a: b\rx-b: c\r\ncontent-length: {length}"), body.clone(), &[400]),
        (format!(": b\r\ncontent-length: {length}"), body.clone(), &[400]),
        // Chunks.
        ("transfer-encoding: chunked".to_owned(), format!("{length:x};a=b\r\n{body}\r\n0;c\r\n\r\n"), &[200]),
        ("transfer-encoding: chunked".to_owned(), format!("000{length:X}\r\n{body}\r\n000\r\n\r\n"), &[200]),
        ("transfer-encoding: chunked".to_owned(), format!("{length:x}\r\n{body}\r\n0\r\nauthorization: Bearer x\r\n\r\n"), &[200]),
        ("transfer-encoding: chunked".to_owned(), format!("{length:#x}\r\n{body}\r\n0\r\n\r\n"), &[400]),
        ("transfer-encoding: chunked".to_owned(), format!("+{length:x}\r\n{body}\r\n0\r\n\r\n"), &[400]),
        ("transfer-encoding: chunked".to_owned(), format!("-1\r\n{body}\r\n0\r\n\r\n"), &[400]),
        ("transfer-encoding: chunked".to_owned(), format!("\r\n{body}\r\n0\r\n\r\n"), &[400]),
        ("transfer-encoding: chunked".to_owned(), format!("1{}\r\n{body}\r\n0\r\n\r\n", "0".repeat(16)), &[400]),
        ("transfer-encoding: chunked".to_owned(), format!("{length:x}\n{body}\r\n0\r\n\r\n"), &[400]),
        ("transfer-encoding: chunked".to_owned(), format!("{:x}\r\n{body}\r\n0\r\n\r\n", length - 1), &[400]),
        ("transfer-encoding: chunked".to_owned(), format!("{length:x};{long}\r\n{body}\r\n0\r\n\r\n"), &[400]),
    ];
    for (framing, body, wanted) in &rows {
        let seen = house.provider.requests().len();
        let answers = answers(&house, (post(&house, framing, body) + &hidden).as_bytes());
        let shown: String = format!("{framing:?} {body:?}").chars().take(200).collect();
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(&statuses, wanted, "{shown}");
        let calls = wanted.iter().filter(|status| **status == 200).count();
        assert_eq!(house.provider.requests().len() - seen, calls, "{shown}");
        let is_last = wanted.len() == 1;
        assert_eq!(answers.last().expect("an answer").header("connection") == Some("close"), is_last, "{shown}");
    }
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_line_feed_alone_ends_a_line_and_makes_no_second_call() {
    let house = House::new(|config| config);
    let body = chat().to_string();
    let request = post(&house, &format!("content-length: {}", body.len()), "").replace("\r\n", "\n") + &body;
    assert_eq!(answers(&house, request.as_bytes()).iter().map(|answer| answer.status).collect::<Vec<_>>(), [200]);
    assert_eq!(settled_and_audited(&house.daemon, &house.provider).exact, 1);
}

#[test]
fn heads_of_32_kib_pass_and_longer_ones_are_431_as_long_paths_are_414() {
    let house = House::new(|config| config);
    let get = |path: &str, headers: &str| {
        let found = answers(&house, format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}\r\n").as_bytes());
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().expect("an answer")
    };
    let header = |length: usize| format!("x-long: {}\r\n", "x".repeat(length - "x-long: \r\n".len() - "host: 127.0.0.1\r\n".len()));
    assert_eq!(get("/health", &header(32 << 10)).status, 200);
    let kind = "invalid_request_error";
    let too_long = Refusal { status: 431, kind, code: "headers_too_large", param: "", retry: Retry::Never, says: &["32 KiB"], rule: "" };
    refusal::check(&get("/health", &header(33 << 10)), &too_long);
    assert_eq!(get("/health", &header(100 << 10)).status, 431);
    let no_head = Refusal { status: 400, code: kind, says: &["HTTP/1.1"], ..too_long };
    refusal::check(&get("/health", "no header\r\n"), &no_head);
    let many = |count: usize| (0..count).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    assert_eq!(get("/health", &many(90)).status, 200);
    assert_eq!(get("/health", &many(1_000)).status, 431);
    let path = |length: usize| format!("/health?{}", "q".repeat(length - "/health?".len()));
    assert_eq!(get(&path(8 << 10), "").status, 200);
    let long = get(&path((8 << 10) + 1), "");
    refusal::check(
        &long,
        &Refusal { status: 414, kind, code: "uri_too_long", param: "", retry: Retry::Never, says: &["too long"], rule: "" },
    );
    assert_eq!(get(&path(60 << 10), "").status, 431);
    assert!(ledger::calls(&house.daemon).is_empty());
}

#[test]
fn a_head_that_drips_is_cut_while_idle_connections_are_kept() {
    let mut house = House::new(|config| config.aexd_yaml("head_timeout_ms: 200\n"));
    let mut idle = Connection::open(&house.daemon.url());
    idle.request("GET", "/health", &[], b"").expect("send");
    assert_eq!(idle.answer().expect("an answer").status, 200);
    // From the first byte on, and behind an answered request, too. The last one has begun a call before.
    let mut first = Connection::open(&house.daemon.url());
    let mut second = Connection::open(&house.daemon.url());
    second.request("GET", "/health", &[], b"").expect("send");
    assert_eq!(second.answer().expect("an answer").status, 200);
    second.send(b"POST /v1/chat/completions HTTP/1.1\r\nx-a: ").expect("send");
    for connection in [&mut first, &mut second] {
        let said = String::from_utf8(connection.drip(b"G")).expect("text");
        assert!(said.starts_with("HTTP/1.1 408 ") && said.contains(r#""code":"request_timeout""#), "{said:?}");
    }
    // Meanwhile longer than the limit has passed for the connection that says nothing.
    idle.request("GET", "/health", &[], b"").expect("send");
    assert_eq!(idle.answer().expect("an answer").status, 200);
    // A request that takes longer than a head may is no slow head.
    house.provider.script(Script::hold());
    let mut slow = house.begin(false);
    house.provider.wait_for_requests(1);
    assert!(Connection::open(&house.daemon.url()).drip(b"G").starts_with(b"HTTP/1.1 408 "));
    house.provider.release();
    assert_eq!(slow.answer().expect("an answer").status, 200);
    assert_eq!(settled_and_audited(&house.daemon, &house.provider).exact, 1);
}

#[test]
fn a_connection_without_a_next_request_is_closed_in_its_time() {
    let house = House::new(|config| config.aexd_yaml("keep_alive_ms: 1000\n"));
    let mut fresh = Connection::open(&house.daemon.url());
    let mut used = Connection::open(&house.daemon.url());
    used.request("GET", "/health", &[], b"").expect("send");
    assert_eq!(used.answer().expect("an answer").status, 200);
    assert!(fresh.rest().is_empty() && used.rest().is_empty());
}

#[test]
fn a_client_that_takes_nothing_of_its_stream_is_left_in_time() {
    let mut house = House::new(|config| config.aexd_yaml("client_stall_ms: 200\n"));
    let chunk = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"}}]}\n\n";
    house.provider.script(Script { garbage: Some(chunk.repeat(400_000)), split: Some(chunk.len() * 20), ..Script::default() });
    let connection = house.begin(true);
    assert_eq!(house.provider.wait_for_bills(1)[0].ended, Ended::CutByClient);
    assert!(last(&house.daemon).story().starts_with("estimated "));
    settled_and_audited(&house.daemon, &house.provider);
    connection.close();
}

#[test]
fn only_names_of_this_daemon_are_served() {
    let house = House::new(|config| config.aexd_yaml("allowed_hosts: [Agents.Example, 10.1.2.3]\n"));
    let port = house.daemon.url().rsplit(':').next().expect("a port").to_owned();
    let rows: [(&str, &[&str], u16); 34] = [
        ("/health", &["127.0.0.1"], 200),
        ("/health", &["127.0.0.1:PORT"], 200),
        ("/health", &["127.9.9.9:1"], 200),
        ("/health", &["localhost"], 200),
        ("/health", &["LocalHost:PORT"], 200),
        ("/health", &["app.localhost"], 200),
        ("/health", &["[::1]"], 200),
        ("/health", &["[::1]:PORT"], 200),
        ("/health", &["agents.example"], 200),
        ("/health", &["AGENTS.EXAMPLE:443"], 200),
        ("/health", &["10.1.2.3"], 200),
        ("http://localhost:PORT/health", &["localhost:PORT"], 200),
        ("http://LOCALHOST/health", &["127.0.0.1"], 200),
        ("/health", &[], 403),
        ("/health", &[""], 403),
        ("/health", &["evil.example"], 403),
        ("/health", &["evil.example:PORT"], 403),
        ("/health", &["localhost.evil.example"], 403),
        ("/health", &["127.0.0.1.evil.example"], 403),
        ("/health", &["notlocalhost"], 403),
        ("/health", &["sub.agents.example"], 403),
        ("/health", &["10.1.2.4"], 403),
        ("/health", &["0.0.0.0"], 403),
        ("/health", &["[::2]"], 403),
        ("/health", &["[::ffff:10.1.2.4]"], 403),
        ("/health", &["evil.example@localhost"], 403),
        ("/health", &["localhost/evil.example"], 403),
        ("/health", &["localhost, evil.example"], 403),
        ("/health", &["127.0.0.1", "evil.example"], 403),
        ("/health", &["evil.example", "127.0.0.1"], 403),
        ("/health", &["127.0.0.1", "127.0.0.1"], 403),
        // Where both are given the target counts, and a name is foreign in either place.
        ("http://evil.example/health", &["127.0.0.1"], 403),
        ("http://localhost/health", &["evil.example"], 403),
        ("http://localhost/health", &[], 403),
    ];
    for (target, hosts, status) in rows {
        let hosts: String = hosts.iter().map(|host| format!("host: {host}\r\n")).collect();
        let request = format!("GET {target} HTTP/1.1\r\n{hosts}\r\n").replace("PORT", &port);
        let found = answers(&house, request.as_bytes());
        assert_eq!(found.iter().map(|answer| answer.status).collect::<Vec<_>>(), [status], "{request:?}");
        if status == 403 {
            assert_eq!(found[0].code(), "host_not_allowed", "{request:?}");
        }
    }
    // A call is refused the same way, whatever its token.
    let call = sized(&house).replace("host: 127.0.0.1", "host: evil.example");
    assert_eq!(answers(&house, call.as_bytes())[0].code(), "host_not_allowed");
    assert!(ledger::calls(&house.daemon).is_empty());
}

#[test]
fn a_page_of_another_origin_gets_no_leave_from_the_daemon() {
    let house = House::new(|config| config);
    let from = "origin: https://evil.example\r\n";
    let preflight = "access-control-request-method: POST\r\naccess-control-request-headers: authorization\r\naccess-control-request-private-network: true\r\n";
    let bearer = format!("authorization: Bearer {}\r\n", house.token);
    let rows = [
        ("OPTIONS", "/v1/chat/completions", preflight, 405),
        ("OPTIONS", "/openai/v1/completions", preflight, 405),
        ("OPTIONS", "/v1/models", preflight, 405),
        ("OPTIONS", "/health", preflight, 405),
        ("OPTIONS", "/v1/nothing", preflight, 404),
        ("OPTIONS", "*", "", 404),
        ("GET", "/v1/models", bearer.as_str(), 200),
        ("GET", "/health", "", 200),
        ("TRACE", "/health", "", 405),
        ("CONNECT", "127.0.0.1:1", "", 404),
    ];
    for (method, target, headers, status) in rows {
        let found = answers(&house, format!("{method} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n{from}{headers}\r\n").as_bytes());
        assert_eq!(found.iter().map(|answer| answer.status).collect::<Vec<_>>(), [status], "{method} {target}");
        let leave = found[0].headers.iter().find(|(name, _)| name.starts_with("access-control-"));
        assert_eq!(leave, None, "{method} {target}");
    }
    let call = sized(&house).replace("host: 127.0.0.1\r\n", &format!("host: 127.0.0.1\r\n{from}"));
    let found = answers(&house, call.as_bytes());
    assert!(found[0].status == 200 && found[0].headers.iter().all(|(name, _)| !name.starts_with("access-control-")), "{found:?}");
}

#[test]
fn a_connection_ends_when_the_client_says_so_and_lasts_otherwise() {
    let house = House::new(|config| config);
    let get = |version: &str, connection: &str| format!("GET /health HTTP/{version}\r\nhost: 127.0.0.1\r\n{connection}\r\n");
    let rows = [
        ("1.1", "", 2),
        ("1.1", "connection: keep-alive\r\n", 2),
        ("1.1", "connection: close\r\n", 1),
        ("1.1", "connection: Keep-Alive, Close\r\n", 1),
        ("1.1", "connection: keep-alive\r\nconnection: close\r\n", 1),
        ("1.0", "", 1),
        ("1.0", "connection: keep-alive\r\n", 2),
        ("1.0", "connection: close\r\n", 1),
    ];
    for (version, connection, wanted) in rows {
        let found = answers(&house, get(version, connection).repeat(2).as_bytes());
        let statuses: Vec<u16> = found.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 200][..wanted], "{version} {connection:?}");
    }
}

#[test]
fn a_client_of_http_1_0_gets_a_stream_that_ends_with_the_connection() {
    let house = House::new(|config| config);
    let body = chat_with(&json!({"stream": true})).to_string();
    let ask =
        |connection: &str| post(&house, &format!("{connection}content-length: {}", body.len()), &body).replace("HTTP/1.1", "HTTP/1.0");
    let chunked = house_stream(&house);
    for connection in ["", "connection: keep-alive\r\n"] {
        let found = answers(&house, ask(connection).as_bytes());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].status, found[0].header("transfer-encoding"), found[0].header("content-length")), (200, None, None));
        assert_eq!((found[0].content(), found[0].data().last()), (chunked.content(), Some(&"[DONE]".to_owned())), "{connection:?}");
        assert_eq!(last(&house.daemon).story(), "exact answered");
    }
    // Such a client cannot see that a stream broke but by its last event.
    house.provider.script(Script { cut: Some(Cut { at: At::Chunk(2), how: How::Reset }), ..Script::default() });
    let found = answers(&house, ask("").as_bytes());
    let data = found[0].data();
    assert!(data.last().is_some_and(|last| last.contains("upstream_error")) && !data.contains(&"[DONE]".to_owned()), "{found:?}");
    settled_and_audited(&house.daemon, &house.provider);
}

fn house_stream(house: &House) -> Answer {
    aex_tests::client::stream(&house.daemon.chat_url(), &house.token, &chat())
}

#[test]
fn http_2_is_refused_in_its_own_words() {
    let house = House::new(|config| config);
    let mut connection = Connection::open(&house.daemon.url());
    // The preface, empty SETTINGS, and the head of a first request.
    connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84").expect("send");
    let said = connection.rest();
    let (settings, goaway) = said.split_at_checked(9).expect("a frame");
    assert_eq!(settings, b"\0\0\0\x04\0\0\0\0\0");
    let length = usize::from(goaway[2]);
    // Type 7, no flags, stream 0; no stream was served; HTTP_1_1_REQUIRED (RFC 9113 §7).
    assert_eq!(
        (goaway.len(), &goaway[..2], &goaway[3..17]),
        (9 + length, b"\0\0".as_slice(), b"\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0d".as_slice())
    );
    // In pieces it is no request either.
    let mut connection = Connection::open(&house.daemon.url());
    assert!(connection.drip(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").starts_with(b"HTTP/1.1 400 "));
    // An offer to change over is not taken.
    let upgrade = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
    let found = answers(&house, format!("GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n{upgrade}\r\n").as_bytes());
    assert_eq!((found[0].status, found[0].header("upgrade")), (200, None), "{found:?}");
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let house = House::new(|config| config);
    let stream = chat_with(&json!({"stream": true})).to_string();
    let stream = post(&house, &format!("content-length: {}", stream.len()), &stream);
    let get = "GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
    let found = answers(&house, [sized(&house), stream, get.to_owned(), sized(&house)].concat().as_bytes());
    let shapes: Vec<_> =
        found.iter().map(|answer| (answer.status, answer.end, answer.header("content-type").unwrap_or_default())).collect();
    let (json, events) = ((200, End::Complete, "application/json"), (200, End::Complete, "text/event-stream; charset=utf-8"));
    assert_eq!(shapes, [json, events, json, json]);
    assert_eq!(settled_and_audited(&house.daemon, &house.provider).exact, 3);
}

#[test]
fn an_answer_to_head_has_no_body() {
    let house = House::new(|config| config);
    let head = |path: &str| format!("HEAD {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    let mut connection = Connection::open(&house.daemon.url());
    for (path, status) in [("/", 200), ("/health", 200), ("/ready", 200), ("/v1/chat/completions", 405), ("/nowhere", 404)] {
        connection.send(head(path).as_bytes()).expect("send");
        assert_eq!(connection.interim().expect("a head").status, status, "{path}");
    }
    connection.request("GET", "/health", &[], b"").expect("send");
    // Were there a body before it, this would be no head.
    assert_eq!(connection.answer().expect("an answer").json()["status"], "ok");
}
