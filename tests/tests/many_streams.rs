//! Two thousand streams at once: all are open at the same time, and all complete.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail loudly, and reports what it measured"
)]

use std::time::Instant;

use aex_tests::ask;
use aex_tests::client::{Connection, End};
use aex_tests::daemon::Daemon;
use aex_tests::ledger::settled_and_audited;
use aex_tests::provider::{Provider, Script};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

const STREAMS: usize = 2_000;

#[test]
fn two_thousand_streams_are_open_at_once_and_all_complete() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit of open files");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raise the limit of open files");
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent_with("bot", "1000", 1_000_000, &[]);
    let before = daemon.resident();
    // Each waits in its middle for all the others.
    provider.always(Script::hold_after(7));
    let body = ask::chat_with(&json!({"stream": true}));
    let mut streams: Vec<Connection> = (0..STREAMS).map(|_| Connection::open(&daemon.url())).collect();
    for stream in &mut streams {
        stream.post_json("/v1/chat/completions", &token, &body);
    }
    for stream in &mut streams {
        assert_eq!(stream.head().expect("a head").status, 200);
        // The role, and seven pieces.
        for _ in 0..8 {
            assert!(stream.next_data().expect("a stream").is_some());
        }
    }
    assert_eq!(daemon.rpc("daemon.status", &json!({}))["in_flight"], STREAMS);
    let open = daemon.resident();
    let released = Instant::now();
    provider.release();
    for stream in &mut streams {
        let mut last = String::new();
        while let Some(data) = stream.next_data().expect("a clean end") {
            last = data;
        }
        assert_eq!(last, "[DONE]");
    }
    let took = released.elapsed();
    eprintln!("{STREAMS} streams open: {} KiB each; nine chunks to each of them: {took:?}", (open - before) / 1024 / STREAMS as u64);
    // Their connections serve on.
    let mut again = streams.into_iter().next().expect("a connection");
    provider.always(Script::default());
    again.post_json("/v1/chat/completions", &token, &body);
    assert_eq!(again.answer().expect("an answer").end, End::Complete);
    assert_eq!(settled_and_audited(&daemon, &provider).exact, STREAMS + 1);
}
