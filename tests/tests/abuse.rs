//! Streams under abuse: cut, re-chunked, malformed, huge and unread, each at any place. Every one ends in exactly one way.
//!
//! A dialect is one row of [`DIALECTS`].

#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test may fail loudly, and reports what it measured")]

use aex_tests::ask;
use aex_tests::client::{Answer, Connection, End};
use aex_tests::daemon::{Config, Daemon};
use aex_tests::house::House;
use aex_tests::ledger::{self, Call, audited, last, quiet, settled_and_audited};
use aex_tests::provider::{Ended, Script};
use aex_tests::raw::{Raw, RawProvider, Then};
use serde_json::{Value, json};

/// A stream as a provider of some dialect sends it.
struct Dialect {
    name: &'static str,
    path: &'static str,
    request: fn() -> Value,
    /// Its events, each with its blank line, lines ended by line feeds. `m1-upstream` is the provider's name of the model.
    events: &'static [&'static str],
    /// Those of them that the client does not get.
    stripped: &'static [usize],
    /// What stands before the `data:` of the daemon's own event that says that the stream broke.
    error_line: &'static str,
    /// Whether that is what it says.
    is_error: fn(&str) -> bool,
    /// The most bytes of output in its events.
    output: u64,
}

const DIALECTS: [Dialect; 2] = [CHAT, COMPLETIONS];

const CHAT: Dialect = Dialect {
    name: "chat",
    path: "/v1/chat/completions",
    request: || ask::chat_with(&json!({"stream": true})),
    events: &[
        ": a comment\n\n",
        "data: {\"id\":\"c\",\"model\":\"m1-upstream\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "id: 7\nevent: message\nretry: 5\ndata:{\"model\":\"m1-upstream\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Gr\u{fc}n \u{6f22}\u{1f980}\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\u00e9\\n\"}}],\ndata:  \"model\" : \"m1-upstream\"}\n\n",
        "data: {\"model\":\"m1-upstream\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"model\":\"m1-upstream\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":4,\"total_tokens\":9}}\n\n",
        "data: [DONE]\n\n",
    ],
    stripped: &[5],
    error_line: "",
    is_error: |data| serde_json::from_str::<Value>(data).is_ok_and(|event| event["error"]["code"] == "upstream_error"),
    output: 30,
};

const COMPLETIONS: Dialect = Dialect {
    name: "completions",
    path: "/v1/completions",
    request: || json!({"model": "m1", "max_tokens": 50, "prompt": "hello", "stream": true}),
    events: &[
        ": a comment\n\n",
        "data: {\"id\":\"c\",\"object\":\"text_completion\",\"model\":\"m1-upstream\",\"choices\":[{\"index\":0,\"text\":\"Gr\u{fc}n \u{6f22}\u{1f980}\",\"finish_reason\":null}]}\n\n",
        "event: message\ndata:{\"choices\":[{\"index\":0,\"text\":\"\\u00e9\\n\"}],\ndata:  \"model\" : \"m1-upstream\"}\n\n",
        "data: {\"model\":\"m1-upstream\",\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"model\":\"m1-upstream\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":4,\"total_tokens\":9}}\n\n",
        "data: [DONE]\n\n",
    ],
    stripped: &[4],
    error_line: "",
    is_error: CHAT.is_error,
    output: 30,
};

impl Dialect {
    fn sent(&self) -> String {
        self.events.concat()
    }

    fn relayed(&self) -> String {
        let passes = |(number, event): (usize, &&'static str)| (!self.stripped.contains(&number)).then_some(*event);
        self.events.iter().enumerate().filter_map(passes).collect::<String>().replace("m1-upstream", "m1")
    }
}

struct Stage {
    provider: RawProvider,
    daemon: Daemon,
    token: String,
}

impl Stage {
    fn set() -> Self {
        let provider = RawProvider::start();
        let daemon = Daemon::start_with(Config::with_base_url(&provider.base_url(), "sk-raw"));
        let token = daemon.agent("bot", &[]);
        Self { provider, daemon, token }
    }

    fn open(&self) -> Connection {
        Connection::open(&self.daemon.url())
    }

    /// A stream over a connection; another one is opened where this one broke.
    #[track_caller]
    fn call(&self, connection: &mut Connection, dialect: &Dialect, raw: Raw) -> Answer {
        self.provider.answer(raw);
        connection.post_json(dialect.path, &self.token, &(dialect.request)());
        let answer = connection.answer().expect("an answer");
        if answer.end == End::Broken {
            *connection = self.open();
        }
        answer
    }

    /// All calls, each of which has one end.
    #[track_caller]
    fn ends(&self) -> Vec<Call> {
        let calls = quiet(&self.daemon);
        assert_eq!(calls.len(), self.provider.requests());
        audited(&self.daemon);
        calls
    }
}

/// The stream with other line ends.
fn with_ends(text: &str, end: &str) -> String {
    text.replace('\n', end)
}

#[test]
fn however_a_stream_is_cut_into_chunks_its_client_gets_the_same_bytes() {
    for dialect in &DIALECTS {
        let stage = Stage::set();
        let mut connection = stage.open();
        let mut streams = 0;
        for end in ["\n", "\r\n", "\r"] {
            let sent = with_ends(&dialect.sent(), end).into_bytes();
            let relayed = with_ends(&dialect.relayed(), end);
            let mut check = |chunks: Vec<&[u8]>, how: &str| {
                let answer = stage.call(&mut connection, dialect, Raw::stream("", chunks, Then::Keep));
                assert_eq!(
                    (answer.status, answer.end, answer.text()),
                    (200, End::Complete, relayed.clone()),
                    "{} {end:?} {how}",
                    dialect.name
                );
                streams += 1;
            };
            for at in 0..sent.len() {
                let (first, second) = sent.split_at(at);
                check(vec![first, second], &format!("at {at}"));
            }
            for size in 1..=16 {
                check(sent.chunks(size).collect(), &format!("by {size}"));
            }
        }
        let calls = stage.ends();
        assert!(calls.len() == streams && calls.iter().all(|call| call.story() == "exact answered"), "{}", dialect.name);
    }
}

#[test]
fn a_provider_that_is_gone_at_any_byte_leaves_whole_events_and_one_that_says_so() {
    for dialect in &DIALECTS {
        let stage = Stage::set();
        let mut connection = stage.open();
        let (sent, relayed) = (dialect.sent().into_bytes(), dialect.relayed());
        let events: Vec<&str> = relayed.split_inclusive("\n\n").collect();
        let mut wholes: Vec<String> = (0..=events.len()).map(|count| events[..count].concat()).collect();
        // Of what is a comment alone each line passes at once.
        wholes.extend(events.first().filter(|event| event.starts_with(':')).map(|event| event.trim_end().to_owned() + "\n"));
        let mut stories = Vec::new();
        for gone in 0..=sent.len() {
            let then = if gone % 2 == 0 { Then::Close } else { Then::Reset };
            let answer = stage.call(&mut connection, dialect, Raw::stream("", sent[..gone].chunks(40), then));
            let at = format!("{} {gone}", dialect.name);
            if answer.status == 502 {
                // A reset may take even the head with it.
                assert_eq!(then, Then::Reset, "{at}: {answer}");
                stories.push("estimated provider_failed");
                continue;
            }
            if answer.end == End::Complete {
                assert_eq!(answer.text(), relayed, "{at}");
                stories.push("exact answered");
                continue;
            }
            let data = answer.data();
            let error = data.last().unwrap_or_else(|| panic!("{at}: {answer}"));
            assert!((dialect.is_error)(error), "{at}: {answer}");
            let text = answer.text();
            let before = text.strip_suffix(&format!("{}data: {error}\n\n", dialect.error_line)).unwrap_or_else(|| panic!("{at}: {answer}"));
            // What was begun is closed by a blank line, so that it does not run into the error.
            assert!(wholes.iter().any(|whole| before == whole || before == format!("{whole}\n\n")), "{at}: {answer}");
            stories.push("cut");
        }
        let calls = stage.ends();
        assert_eq!(calls.len(), stories.len());
        for (gone, (call, story)) in calls.iter().zip(stories).enumerate() {
            let told = call.story();
            // All but the provider's last word may have passed: then the charge is as exact as that of a whole one.
            let fits = told == story || (story == "cut" && ["estimated provider_left", "exact answered"].contains(&told.as_str()));
            assert!(fits && call.charge() > 0 && call.charge() <= call.bound(), "{} {gone}: {told}, not {story}", dialect.name);
        }
        assert_eq!(calls.last().expect("a call").story(), "exact answered");
        assert!(calls.iter().all(|call| call.quantity(aex_core::usage::Bucket::Output) <= dialect.output));
    }
}

#[test]
fn a_client_that_is_gone_behind_any_event_ends_its_stream_once() {
    for dialect in &DIALECTS {
        let stage = Stage::set();
        for sent in 0..=dialect.events.len() {
            stage.provider.answer(Raw::stream("", dialect.events.iter().take(sent).map(|event| event.as_bytes()), Then::Hold));
            let wanted: usize = (dialect.events.iter().take(sent).enumerate())
                .filter(|(number, _)| !dialect.stripped.contains(number))
                .map(|(_, event)| event.replace("m1-upstream", "m1").len())
                .sum();
            let mut connection = stage.open();
            connection.post_json(dialect.path, &stage.token, &(dialect.request)());
            assert_eq!(connection.head().expect("a head").status, 200);
            let mut seen = 0;
            while seen < wanted {
                seen += connection.next_bytes().expect("a stream").expect("more of it").len();
            }
            if sent % 2 == 0 {
                connection.close();
            } else {
                connection.reset();
            }
            let call = last(&stage.daemon);
            // Once the provider has said that it is done, nothing is missing; what it has said about usage counts in any case.
            let is_done = sent == dialect.events.len();
            let stories: &[&str] = if is_done { &["exact answered"] } else { &["estimated client_left", "exact answered"] };
            assert!(stories.contains(&call.story().as_str()), "{} {sent}: {call:?}", dialect.name);
            assert!(call.charge() > 0 && call.charge() <= call.bound(), "{} {sent}: {call:?}", dialect.name);
        }
        stage.ends();
    }
}

#[test]
fn a_client_that_is_gone_at_any_chunk_pays_for_what_was_relayed_to_it() {
    let mut house = House::new(|config| config);
    // Fourteen pieces of four characters.
    for chunks in 0..=14 {
        house.provider.script(Script::hold_after(chunks));
        let connection = house.begin_stream(4 * chunks);
        if chunks % 2 == 0 {
            connection.close();
        } else {
            connection.reset();
        }
        let bills = house.provider.wait_for_bills(chunks + 1);
        assert_eq!((bills[chunks].ended, bills[chunks].completion_tokens), (Ended::CutByClient, chunks as u64));
        let call = last(&house.daemon);
        // Never more than the fifty tokens that it may have.
        let output = (4 * chunks as u64).min(50);
        assert_eq!((call.story().as_str(), call.quantity(aex_core::usage::Bucket::Output)), ("estimated client_left", output));
    }
    settled_and_audited(&house.daemon, &house.provider);
}

/// What becomes of a stream.
enum Fate {
    /// It passes, as these bytes.
    Passes(String),
    /// It breaks behind these bytes.
    Breaks(String),
}

#[test]
fn what_is_odd_in_a_stream_passes_and_what_is_none_breaks_it() {
    let stage = Stage::set();
    let dialect = &CHAT;
    let text = |content: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{content}\"}}}}]}}\n\n");
    let stop = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":4,\"total_tokens\":9}}\n\n";
    let done = "data: [DONE]\n\n";
    let (yes, big) = (text("yes"), text(&"x".repeat((4 << 20) - 100)));
    let tail = [stop, done].concat();
    let error = "data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\",\"code\":null}}\n\n";
    let named = "event: error\ndata: {\"message\":\"no\"}\n\n";
    let (exact, no_usage, left) = ("exact answered", "estimated no_usage", "estimated provider_left");
    let all = |parts: &[&str]| parts.concat();
    let rows: Vec<(&str, String, Fate, &str)> = vec![
        ("a byte order mark", all(&["\u{feff}", &yes, stop, usage, done]), Fate::Passes(all(&["\u{feff}", &yes, &tail])), exact),
        ("no [DONE]", all(&[&yes, stop, usage]), Fate::Passes(all(&[&yes, stop])), exact),
        ("no [DONE], no usage", all(&[&yes, stop]), Fate::Passes(all(&[&yes, stop])), no_usage),
        ("no blank line at the end", all(&[&yes, stop, usage, "data: [DONE]"]), Fate::Passes(all(&[&yes, stop, "data: [DONE]"])), exact),
        ("[DONE] alone", done.to_owned(), Fate::Passes(done.to_owned()), no_usage),
        ("NUL in a comment", all(&[": \0\n\n", &yes, stop, usage, done]), Fate::Passes(all(&[": \0\n\n", &yes, &tail])), exact),
        (
            "fields of later days",
            all(&["shape: x\nid\n", &yes, stop, usage, done]),
            Fate::Passes(all(&["shape: x\nid\n", &yes, &tail])),
            exact,
        ),
        (
            "empty events",
            all(&["\n\n\ndata\n\ndata:\n\n", &yes, stop, usage, done]),
            Fate::Passes(all(&["\n\n\ndata\n\ndata:\n\n", &yes, &tail])),
            exact,
        ),
        ("an event at the limit", all(&[&big, stop, usage, done]), Fate::Passes(all(&[&big, &tail])), exact),
        (
            "comments without end",
            all(&[&": keep-alive\n\n".repeat(100_000), &yes, stop, usage, done]),
            Fate::Passes(all(&[&": keep-alive\n\n".repeat(100_000), &yes, &tail])),
            exact,
        ),
        ("nothing", String::new(), Fate::Breaks(String::new()), left),
        ("comments alone", ": a\n\n".to_owned(), Fate::Breaks(": a\n\n".to_owned()), left),
        ("NUL", all(&[&yes, &text("\0"), stop, done]), Fate::Breaks(yes.clone()), left),
        ("another shape", all(&[&yes, "<html>\n\n"]), Fate::Breaks(all(&[&yes, "<html>\n\n"])), left),
        ("half an object", all(&[&yes, "data: {\"choices\":[\n\n", stop]), Fate::Breaks(yes.clone()), left),
        ("two objects", all(&[&yes, "data: {}{}\n\n", stop]), Fate::Breaks(yes.clone()), left),
        ("an event over the limit", all(&[&yes, &text(&"x".repeat(4 << 20)), stop, done]), Fate::Breaks(yes.clone()), left),
        ("a line without end", all(&[&yes, "data: ", &"x".repeat(5 << 20)]), Fate::Breaks(yes.clone()), left),
        ("a comment without end", all(&[&yes, ":", &"x".repeat(5 << 20)]), Fate::Breaks(yes.clone()), left),
        ("lines without end", all(&[&yes, &"data: x\n".repeat(600_000)]), Fate::Breaks(yes.clone()), left),
        ("an error at once", error.to_owned(), Fate::Breaks(error.to_owned()), "estimated provider_failed"),
        ("an error later", all(&[&yes, error]), Fate::Breaks(all(&[&yes, error])), left),
        ("a named error", all(&[&yes, named]), Fate::Breaks(all(&[&yes, named])), left),
    ];
    let mut connection = stage.open();
    for (name, sent, fate, story) in rows {
        let answer = stage.call(&mut connection, dialect, Raw::stream("", sent.as_bytes().chunks(60_000), Then::Keep));
        let shown: String = answer.to_string().chars().take(500).collect();
        assert_eq!(last(&stage.daemon).story(), story, "{name}: {shown}");
        match fate {
            Fate::Passes(bytes) => assert!(answer.end == End::Complete && answer.text() == bytes, "{name}: {shown}"),
            Fate::Breaks(bytes) => {
                assert_eq!(answer.end, End::Broken, "{name}: {shown}");
                let text = answer.text();
                let rest = text.strip_prefix(&bytes).unwrap_or_else(|| panic!("{name}: {shown}"));
                // The provider's own error is the last word, where it sent one.
                let errors = text.matches("\"error\":{").count() + text.matches("event: error").count();
                assert!(errors == 1 && rest.len() < 400, "{name}: {shown}");
            }
        }
    }
    stage.ends();
}

#[test]
fn bytes_that_are_no_text_break_a_stream_and_do_not_pass() {
    let stage = Stage::set();
    let mut connection = stage.open();
    let yes = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"yes\"}}]}\n\n".as_slice();
    for bad in [b"\xff".as_slice(), b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"] {
        let event = [b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"".as_slice(), bad, b"\"}}]}\n\n"].concat();
        let answer = stage.call(&mut connection, &CHAT, Raw::stream("", [yes, &event], Then::Keep));
        assert_eq!((answer.status, answer.end), (200, End::Broken), "{bad:?}: {answer}");
        assert!(answer.body.starts_with(yes) && !answer.body.windows(bad.len()).any(|window| window == bad), "{bad:?}: {answer}");
    }
    stage.ends();
}

#[test]
fn streams_of_64_mib_that_nobody_reads_take_no_memory_and_pass_whole_when_somebody_does() {
    const READERS: usize = 8;
    const SIZE: usize = 64 << 20;
    let mut house = House::new(|config| config);
    let before = house.daemon.resident();
    let chunk = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"\"}}}}],\"pad\":\"{}\"}}\n\n", "x".repeat(4_000));
    let stop = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":0}}\n\n";
    let stream = chunk.repeat(SIZE / chunk.len() + 1) + stop + "data: [DONE]\n\n";
    let length = stream.len();
    let script = Script { garbage: Some(stream), split: Some(8 << 10), answer: Some(String::new()), ..Script::default() };
    house.provider.script_times(READERS, &script);
    let mut readers: Vec<Connection> = (0..READERS).map(|_| house.begin(true)).collect();
    for reader in &mut readers {
        assert_eq!(reader.head().expect("a head").status, 200);
    }
    // Each of these is served by the threads that have by then filled all room on the way to those who do not read.
    for _ in 0..300 {
        assert_eq!(aex_tests::client::get(&format!("{}/health", house.daemon.url()), "").status, 200);
    }
    let stalled = house.daemon.resident();
    let mut reader = readers.pop().expect("a reader");
    let mut read = 0;
    let mut most = stalled;
    while let Some(bytes) = reader.next_bytes().expect("a clean end") {
        if read / (8 << 20) != (read + bytes.len()) / (8 << 20) {
            most = most.max(house.daemon.resident());
        }
        read += bytes.len();
    }
    assert_eq!(read, length);
    let grown = most.saturating_sub(before);
    eprintln!("{READERS} streams of {} MiB: {} KiB more in memory", SIZE >> 20, grown >> 10);
    // Far from one of them, and far more than the buffers of all.
    assert!(grown < 24 << 20, "{before} before, {stalled} stalled, {most} at most");
    readers.into_iter().for_each(Connection::close);
    house.provider.wait_for_bills(READERS);
    let stories: Vec<String> = ledger::quiet(&house.daemon).iter().map(Call::story).collect();
    assert_eq!(stories.iter().filter(|story| *story == "exact answered").count(), 1, "{stories:?}");
    assert_eq!(stories.iter().filter(|story| story.starts_with("estimated client_left")).count(), READERS - 1, "{stories:?}");
    audited(&house.daemon);
}
