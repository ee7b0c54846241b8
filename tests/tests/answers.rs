//! Providers whose HTTP is odd, broken or hostile: what the client gets, that the next call is not touched by it, and the charge.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::path::Path;

use aex_tests::ask::{self, chat};
use aex_tests::client::{self, Answer, End};
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger::{audited, last};
use aex_tests::raw::{Raw, RawProvider, Then};
use aex_tests::refusal::{self, upstream};
use serde_json::json;

const BODY: &str = r#"{"id":"c","object":"chat.completion","model":"m1-upstream","choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}"#;
const EVENT: &str =
    "data: {\"id\":\"c\",\"model\":\"m1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"yes\"},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1,\"total_tokens\":6}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

struct House {
    provider: RawProvider,
    daemon: Daemon,
    token: String,
}

impl House {
    fn new() -> Self {
        Self::with("first_byte_timeout_ms: 20000")
    }

    /// One with another line in the provider's entry.
    fn with(line: &str) -> Self {
        let provider = RawProvider::start();
        let daemon = Daemon::start_with(Config::with_base_url(&provider.base_url(), "sk-raw").provider_line(line));
        let token = daemon.agent("bot", &[]);
        Self { provider, daemon, token }
    }

    /// A call that is answered like this, and how the ledger tells its end.
    #[track_caller]
    fn call(&self, stream: bool, raw: Raw) -> (Answer, String) {
        self.provider.answer(raw);
        let answer = client::post_json(&self.daemon.chat_url(), &self.token, &ask::chat_with(&json!({"stream": stream})));
        (answer, last(&self.daemon).story())
    }

    /// A sound call gets its own answer, whatever came before it.
    #[track_caller]
    fn is_unharmed(&self, name: &str) {
        let (answer, story) = self.call(false, Raw::plain("", BODY.replace("yes", "mine")));
        assert_eq!((answer.status, answer.content().as_str(), story.as_str()), (200, "mine", "exact answered"), "{name}: {answer}");
    }
}

fn head(line: &str, headers: &str) -> String {
    format!("HTTP/1.1 {line}\r\ncontent-type: application/json\r\n{headers}\r\n")
}

#[test]
fn an_answer_that_is_odd_and_whole_passes_and_leaves_nothing_behind() {
    let house = House::new();
    let length = BODY.len();
    let chunked = format!("{length:x};note=1\r\n{BODY}\r\n0\r\nx-trailer: t\r\nconnection: close\r\n\r\n");
    let injected = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n\"forged\"";
    let rows: Vec<(&str, String, Then)> = vec![
        ("length", head("200 OK", &format!("content-length: {length}\r\n")) + BODY, Then::Keep),
        ("no reason", head("200 ", &format!("content-length: {length}\r\n")) + BODY, Then::Keep),
        ("two equal lengths", head("200 OK", &format!("content-length: {length}\r\ncontent-length: {length}\r\n")) + BODY, Then::Keep),
        ("trailers", head("200 OK", "transfer-encoding: chunked\r\ntrailer: x-trailer\r\n") + &chunked, Then::Keep),
        ("both lengths", head("200 OK", "content-length: 4\r\ntransfer-encoding: chunked\r\n") + &chunked, Then::Keep),
        ("until the end", head("200 OK", "") + BODY, Then::Close),
        ("HTTP/1.0", head("200 OK", "").replace("1.1", "1.0") + BODY, Then::Close),
        ("HTTP/1.0 with a length", head("200 OK", &format!("content-length: {length}\r\n")).replace("1.1", "1.0") + BODY, Then::Close),
        ("continue", head("100 Continue", "") + &head("200 OK", &format!("content-length: {length}\r\n")) + BODY, Then::Keep),
        ("hints", head("103 Early Hints", "link: </x>\r\n") + &head("200 OK", &format!("content-length: {length}\r\n")) + BODY, Then::Keep),
        (
            "a storm of 1xx",
            head("102 Processing", "").repeat(5_000) + &head("200 OK", &format!("content-length: {length}\r\n")) + BODY,
            Then::Keep,
        ),
        // What follows an answer is nobody's, and surely not the next call's.
        ("a second answer", head("200 OK", &format!("content-length: {length}\r\n")) + BODY + injected, Then::Keep),
        ("a second answer behind chunks", head("200 OK", "transfer-encoding: chunked\r\n") + &chunked + injected, Then::Keep),
        ("a line feed", head("200 OK", &format!("content-length: {length}\r\n")).replace("\r\n", "\n") + BODY, Then::Keep),
        ("a tab", head("200 OK", &format!("content-length:\t{length}\t\r\n")) + BODY, Then::Keep),
    ];
    for (name, bytes, then) in rows {
        let (answer, story) = house.call(false, Raw::new(bytes, then));
        assert_eq!((answer.status, answer.end, answer.content().as_str()), (200, End::Complete, "yes"), "{name}: {answer}");
        assert_eq!(story, "exact answered", "{name}");
        for gone in ["transfer-encoding", "trailer", "x-trailer", "link"] {
            assert_eq!(answer.header(gone), None, "{name}");
        }
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()), "{name}");
        house.is_unharmed(name);
    }
    audited(&house.daemon);
}

#[test]
fn an_answer_that_is_no_http_or_not_whole_is_a_gateway_error_that_is_paid_for() {
    let house = House::new();
    let length = BODY.len();
    let sized = |status: &str, length: usize| head(status, &format!("content-length: {length}\r\n")) + BODY;
    let (failed, unread, worst) = ("estimated provider_failed", "worst_case provider_left", "worst_case no_usage");
    let rows: Vec<(&str, String, Then, &str)> = vec![
        ("nothing", String::new(), Then::Close, failed),
        ("noise", "\0\u{1}\u{2}".to_owned(), Then::Close, failed),
        ("half a head", "HTTP/1.1 200 OK\r\ncontent-le".to_owned(), Then::Close, failed),
        ("half a head, reset", "HTTP/1.1 200 OK\r\ncontent-le".to_owned(), Then::Reset, failed),
        ("HTTP/2", sized("200 OK", length).replace("HTTP/1.1", "HTTP/2.0"), Then::Close, failed),
        ("no status", sized("OK", length), Then::Close, failed),
        ("a status of four", sized("2000 OK", length), Then::Close, failed),
        ("NUL", sized("200 OK\r\nx-a: \0", length), Then::Close, failed),
        ("a huge header", sized(&format!("200 OK\r\nx-a: {}", "x".repeat(200_000)), length), Then::Keep, failed),
        ("many headers", sized(&format!("200 OK{}", "\r\nx-a: b".repeat(1_000)), length), Then::Keep, failed),
        ("two lengths", head("200 OK", &format!("content-length: 4\r\ncontent-length: {length}\r\n")) + BODY, Then::Keep, failed),
        ("a length of another kind", head("200 OK", "content-length: +4\r\n") + BODY, Then::Keep, failed),
        ("101", sized("101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade", length), Then::Keep, failed),
        ("304", sized("304 Not Modified", length), Then::Keep, failed),
        ("302", sized("302 Found\r\nlocation: http://127.0.0.1:9/", length), Then::Keep, failed),
        // The status says that there is no body.
        ("204", sized("204 No Content", length), Then::Keep, worst),
        ("too short", sized("200 OK", length + 1), Then::Close, unread),
        ("too short, reset", sized("200 OK", length + 1), Then::Reset, unread),
        ("cut in a chunk", head("200 OK", "transfer-encoding: chunked\r\n") + &format!("{:x}\r\n{BODY}", length + 1), Then::Close, unread),
        ("no last chunk", head("200 OK", "transfer-encoding: chunked\r\n") + &format!("{length:x}\r\n{BODY}\r\n"), Then::Close, unread),
        ("no chunk", head("200 OK", "transfer-encoding: chunked\r\n") + BODY, Then::Close, unread),
        ("too large a chunk", head("200 OK", "transfer-encoding: chunked\r\n") + "fffffffffffffffff\r\n", Then::Close, unread),
        (
            "too long an extension",
            head("200 OK", "transfer-encoding: chunked\r\n") + &format!("1;{}", "x".repeat(100_000)),
            Then::Close,
            unread,
        ),
        ("cut without a length", head("200 OK", "") + BODY.trim_end_matches('}'), Then::Close, worst),
    ];
    for (name, bytes, then, story) in rows {
        let (answer, told) = house.call(false, Raw::new(bytes, then));
        refusal::check(&answer, &upstream(502, &["`mock`"]));
        assert_eq!(told, story, "{name}: {answer}");
        house.is_unharmed(name);
    }
    audited(&house.daemon);
}

#[test]
fn an_answer_without_end_ends_at_a_limit() {
    let house = House::with("first_byte_timeout_ms: 2000");
    let (plain, events) = (head("200 OK", ""), "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    let without_end = |start: &str, more: Vec<u8>| Raw { pieces: vec![start.as_bytes().to_vec(), more], then: Then::Repeat };
    // Provisional answers without end: nothing but the time limit ends them.
    let (answer, story) = house.call(false, without_end("", head("102 Processing", "").into_bytes()));
    refusal::check(&answer, &upstream(504, &["began no answer in time"]));
    assert_eq!(story, "worst_case provider_failed");
    let (answer, story) = house.call(false, without_end(&plain, vec![b' '; 1 << 20]));
    refusal::check(&answer, &upstream(502, &["too large"]));
    assert_eq!(story, "worst_case provider_left");
    let (answer, story) = house.call(false, without_end("HTTP/1.1 200 OK\r\n", b"x-a: b\r\n".repeat(1_000)));
    refusal::check(&answer, &upstream(502, &["none of its protocol"]));
    assert_eq!(story, "estimated provider_failed");
    let chunked = head("200 OK", "transfer-encoding: chunked\r\n") + &format!("{:x}\r\n{BODY}\r\n0\r\n", BODY.len());
    let (answer, story) = house.call(false, without_end(&chunked, b"x-a: b\r\n".repeat(1_000)));
    refusal::check(&answer, &upstream(502, &["ended the connection"]));
    assert_eq!(story, "worst_case provider_left");
    let (answer, story) = house.call(true, without_end(events, vec![b'x'; 1 << 20]));
    assert_eq!((answer.status, answer.end, story.as_str()), (200, End::Broken, "estimated provider_left"));
    house.is_unharmed("without end");
    audited(&house.daemon);
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/coding").join(name)).expect("a fixture")
}

/// Codings, and the end of the name of what was encoded so by another program (Node's zlib).
const CODINGS: [(&str, &str); 5] = [("gzip", "gz"), ("X-GZip", "gz"), ("deflate", "zlib"), ("deflate", "deflate"), ("br", "br")];

#[test]
fn a_compressed_answer_that_nobody_asked_for_is_read_metered_and_relayed_plain() {
    let house = House::new();
    let plain = String::from_utf8(fixture("plain.json")).expect("text").replace("m1-upstream", "m1");
    let events = String::from_utf8(fixture("stream.txt")).expect("text").replace("m1-upstream", "m1");
    let wanted: String = events.split_inclusive("\n\n").filter(|event| !event.contains("\"choices\":[]")).collect();
    for (coding, ending) in CODINGS {
        let header = format!("content-encoding: {coding}\r\n");
        let (answer, story) = house.call(false, Raw::plain(&header, fixture(&format!("plain.json.{ending}"))));
        assert_eq!((answer.status, answer.text(), story.as_str()), (200, plain.clone(), "exact answered"), "{coding} {ending}");
        assert_eq!(answer.header("content-encoding"), None, "{coding}");
        let body = fixture(&format!("stream.txt.{ending}"));
        for size in [1, 7, body.len()] {
            let (answer, story) = house.call(true, Raw::stream(&header, body.chunks(size), Then::Keep));
            assert_eq!((answer.status, answer.end, answer.text()), (200, End::Complete, wanted.clone()), "{coding} {ending} {size}");
            assert_eq!((story.as_str(), answer.header("content-encoding")), ("exact answered", None), "{coding} {ending} {size}");
        }
    }
    // An error of the provider, too: clients read its text.
    let error = Raw::plain("content-encoding: gzip\r\n", fixture("plain.json.gz"));
    let error = Raw {
        pieces: vec![
            String::from_utf8_lossy(&error.pieces[0][..15]).replace("200 OK", "429 No").into_bytes(),
            error.pieces[0][15..].to_vec(),
        ],
        ..error
    };
    let (answer, story) = house.call(false, error);
    assert_eq!((answer.status, story.as_str()), (429, "released refused"), "{answer}");
    assert!(answer.text().contains("\"choices\""), "{answer}");
    audited(&house.daemon);
}

#[test]
fn what_cannot_be_decoded_does_not_pass_and_is_never_free() {
    let house = House::new();
    let (worst, unread) = ("worst_case no_usage", "worst_case provider_left");
    let gz = fixture("plain.json.gz");
    let mut broken = gz.clone();
    let tail = broken.len() - 8;
    broken[tail] ^= 1;
    let rows: [(&str, Vec<u8>, &str); 8] = [
        ("zstd", gz.clone(), worst),
        ("gzip, br", gz.clone(), worst),
        ("gzip\r\ncontent-encoding: gzip", gz.clone(), worst),
        ("gzip", BODY.as_bytes().to_vec(), unread),
        ("br", BODY.as_bytes().to_vec(), unread),
        ("gzip", broken, unread),
        ("gzip", gz[..gz.len() - 1].to_vec(), unread),
        ("gzip", Vec::new(), worst),
    ];
    for (coding, body, story) in rows {
        let (answer, told) = house.call(false, Raw::plain(&format!("content-encoding: {coding}\r\n"), body));
        refusal::check(&answer, &upstream(502, &["`mock`"]));
        assert_eq!((told.as_str(), last(&house.daemon).charge()), (story, last(&house.daemon).bound()), "{coding}");
    }
    let (answer, story) = house.call(true, Raw::stream("content-encoding: zstd\r\n", [gz.as_slice()], Then::Keep));
    assert_eq!((answer.status, story.as_str()), (502, worst), "{answer}");
    // A stream has begun when it turns out that it cannot be decoded.
    for body in [EVENT.as_bytes(), &fixture("stream.txt.gz")[..150]] {
        let (answer, story) = house.call(true, Raw::stream("content-encoding: gzip\r\n", [body], Then::Keep));
        assert_eq!((answer.status, answer.end, story.as_str()), (200, End::Broken, "estimated provider_left"), "{answer}");
        assert!(answer.data().last().is_some_and(|last| last.contains("upstream_error")), "{answer}");
        assert!(last(&house.daemon).charge() > 0);
    }
    audited(&house.daemon);
}

#[test]
fn a_usage_that_is_early_or_cannot_be_read_is_no_exact_charge() {
    let house = House::new();
    let (exact, estimate, worst) = ("exact answered", "estimated no_usage", "worst_case no_usage");
    let usage = |text: &str| BODY.replace(r#"{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}"#, text);
    for (text, story) in [
        (r#"{"prompt_tokens":5,"completion_tokens":900.0}"#, worst),
        (r#"{"prompt_tokens":5,"completion_tokens":9007199254740992}"#, worst),
        (r#"{"completion_tokens":900,"total_tokens":905}"#, worst),
        (r#"{"prompt_tokens":5,"completion_tokens":"900"}"#, worst),
        (r#"{"prompt_tokens":null,"completion_tokens":null}"#, estimate),
        (r#"{"prompt_tokens":0,"completion_tokens":"none"}"#, estimate),
        ("{}", estimate),
        ("null", estimate),
        (r#"{"prompt_tokens":5,"completion_tokens":1},"usage":{"prompt_tokens":5,"completion_tokens":2}"#, exact),
        (r#"{"prompt_tokens":5,"completion_tokens":900},"usage":{"prompt_tokens":5,"completion_tokens":2}"#, "estimated answered"),
    ] {
        let (answer, told) = house.call(false, Raw::plain("", usage(text)));
        assert_eq!((answer.status, told.as_str()), (200, story), "{text}");
    }
    let largest = last(&house.daemon);
    assert!(largest.charge() > 900, "the larger of two reports: {largest:?}");
    let early = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":0}}\n\n";
    let bad = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":900.0}}\n\n";
    for (events, story) in [
        ([EVENT, USAGE, DONE], exact),
        ([early, EVENT, USAGE], exact),
        ([early, EVENT, DONE], estimate),
        ([USAGE, EVENT, ""], estimate),
        ([EVENT, bad, DONE], worst),
        ([USAGE, bad, DONE], worst),
        ([bad, EVENT, USAGE], exact),
    ] {
        let (answer, told) = house.call(true, Raw::stream("", events.map(str::as_bytes), Then::Keep));
        assert_eq!((answer.status, told.as_str()), (200, story), "{events:?}");
    }
    audited(&house.daemon);
}

#[test]
fn a_bomb_stays_small_in_memory_and_ends_at_the_limits() {
    let house = House::new();
    // Gzip within gzip's own limits: a kilobyte and more from each byte.
    let bomb = |text: &[u8], size: usize| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for piece in text.repeat((64 << 10) / text.len()).chunks(64 << 10).cycle().take(size >> 16) {
            std::io::Write::write_all(&mut encoder, piece).expect("encode");
        }
        encoder.finish().expect("encode")
    };
    let header = "content-encoding: gzip\r\n";
    // One event without an end is cut at the limit of an event.
    let (answer, story) = house.call(true, Raw::stream(header, [bomb(b"d", 128 << 20).as_slice()], Then::Keep));
    assert_eq!((answer.status, answer.end, story.as_str()), (200, End::Broken, "estimated provider_left"));
    assert!(answer.body.len() < 1_000, "{}", answer.body.len());
    // A plain answer at the limit of an answer.
    let before = house.daemon.resident();
    let (answer, story) = house.call(false, Raw::plain(header, bomb(b" ", 128 << 20)));
    refusal::check(&answer, &upstream(502, &["too large"]));
    assert_eq!(story, "worst_case provider_left");
    let after = house.daemon.resident();
    assert!(after < before + (256 << 20), "{before} before, {after} after");
    house.is_unharmed("a bomb");
    audited(&house.daemon);
}

#[test]
fn a_stream_ends_well_however_its_http_ends_once_all_of_it_is_there() {
    let house = House::new();
    let all = [EVENT, USAGE, DONE].concat();
    let wanted = [EVENT, DONE].concat();
    let chunks = [all.as_bytes()];
    let until_end = Raw::new(format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{all}"), Then::Close);
    let old = Raw::new(format!("HTTP/1.0 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n{all}"), Then::Close);
    let long = Raw::new(
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{all}", all.len() + 9),
        Then::Close,
    );
    let beyond = [all.as_bytes(), EVENT.as_bytes()];
    let rows = [
        ("chunks", Raw::stream("", chunks, Then::Keep)),
        ("no last chunk", Raw::stream("", chunks, Then::Close)),
        ("reset", Raw::stream("", chunks, Then::Reset)),
        ("until the end", until_end),
        ("HTTP/1.0", old),
        ("more was promised", long),
        // What follows `[DONE]` was not paid for and does not pass.
        ("more behind the end", Raw::stream("", beyond, Then::Keep)),
    ];
    for (name, raw) in rows {
        let (answer, story) = house.call(true, raw);
        assert_eq!((answer.status, answer.end, answer.text()), (200, End::Complete, wanted.clone()), "{name}");
        assert_eq!(story, "exact answered", "{name}");
        house.is_unharmed(name);
    }
    assert_eq!(client::post_json(&house.daemon.chat_url(), "aex_wrong", &chat()).status, 401);
    audited(&house.daemon);
}
