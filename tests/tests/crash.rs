//! The daemon killed in a call, stopped in good order, or started twice: no call is lost, none is charged twice, none for free.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_core::event::Settled;
use aex_tests::ask;
use aex_tests::client::{self, Connection, End};
use aex_tests::daemon::{Config, Daemon, output};
use aex_tests::ledger::{self, last, quiet, settled_and_audited, until};
use aex_tests::provider::{Provider, Script};
use nix::sys::signal::Signal;
use serde_json::json;

/// A body whose length no other call has, every other one a stream.
fn body(number: usize) -> serde_json::Value {
    ask::with(ask::of_length(10 + number), &json!({"stream": number.is_multiple_of(2)}))
}

#[test]
fn a_call_that_was_sent_when_the_daemon_died_is_charged_in_full_and_told_as_a_crash() {
    let provider = Provider::start();
    let mut daemon = Daemon::start(&provider);
    let token = daemon.agent_with("bot", "1", 1000, &[]);
    provider.script(Script::hold());
    provider.script(Script::hold_after(3));
    let (mut plain, mut stream) = (Connection::open(&daemon.url()), Connection::open(&daemon.url()));
    plain.post_json("/v1/chat/completions", &token, &body(1));
    provider.wait_for_requests(1);
    stream.post_json("/v1/chat/completions", &token, &body(2));
    assert_eq!(stream.head().expect("a head").status, 200);
    daemon.kill9();
    assert!(plain.answer().is_err());
    daemon.run();
    let calls = quiet(&daemon);
    for call in &calls {
        assert_eq!((call.story().as_str(), call.charge()), ("worst_case crash", call.bound()));
    }
    let spent: i64 = calls.iter().map(ledger::Call::charge).sum();
    let budget = &daemon.rpc("agent.inspect", &json!({"name": "bot"}))["budgets"][0];
    assert_eq!(budget["spent_pico"], spent.to_string());
    assert_eq!(settled_and_audited(&daemon, &provider).worst_case, 2);
    // The token still works, and the account still has its rate and balance.
    assert_eq!(client::post_json(&daemon.chat_url(), &token, &body(3)).status, 200);
}

#[test]
fn a_budget_holds_over_kills() {
    let provider = Provider::start();
    let mut daemon = Daemon::start(&provider);
    let scout = daemon.agent("scout", &[]);
    assert_eq!(client::post_json(&daemon.chat_url(), &scout, &ask::chat()).status, 200);
    let bound = last(&daemon).bound();
    let limit = json!({"name": "bot", "budget_pico": (bound * 3).to_string(), "rpm": 1000});
    let token = daemon.rpc("agent.create", &limit)["token"].as_str().expect("a token").to_owned();
    provider.always(Script::hold());
    for killed in 1..=3 {
        let mut connection = Connection::open(&daemon.url());
        connection.post_json("/v1/chat/completions", &token, &ask::chat());
        provider.wait_for_requests(1 + killed);
        daemon.kill9();
        daemon.run();
    }
    let answer = client::post_json(&daemon.chat_url(), &token, &ask::chat());
    assert_eq!((answer.status, answer.code().as_str()), (402, "insufficient_quota"), "{answer}");
    provider.release();
    let books = settled_and_audited(&daemon, &provider);
    assert_eq!((books.exact, books.worst_case), (1, 3));
}

#[test]
fn a_stop_lets_streams_and_plain_calls_finish_and_exits_with_zero() {
    for (signal, durability) in [(Signal::SIGTERM, "overlap"), (Signal::SIGINT, "full")] {
        let provider = Provider::start();
        let mut daemon = Daemon::start_with(Config::new(&provider).aexd_yaml(&format!("durability: {durability}\n")));
        let token = daemon.agent("bot", &[]);
        provider.script_times(2, &Script::hold_after(2));
        let (mut stream, mut plain) = (Connection::open(&daemon.url()), Connection::open(&daemon.url()));
        stream.post_json("/v1/chat/completions", &token, &body(2));
        assert_eq!(stream.head().expect("a head").status, 200);
        plain.post_json("/v1/chat/completions", &token, &body(3));
        provider.wait_for_requests(2);
        let mut control = daemon.control();
        daemon.signal(signal);
        until("the drain", || (control.call("daemon.status", &json!({})).ok()?["state"] == "draining").then_some(()));
        provider.release();
        let answer = plain.answer().expect("an answer");
        assert_eq!((answer.status, answer.end), (200, End::Complete), "{answer}");
        let mut last = String::new();
        while let Some(data) = stream.next_data().expect("a clean end") {
            last = data;
        }
        assert_eq!(last, "[DONE]");
        assert_eq!(daemon.wait(), 0, "{}", daemon.stderr());
        daemon.run();
        assert_eq!(settled_and_audited(&daemon, &provider).exact, 2);
        assert!(ledger::events(&daemon).iter().any(|event| event["kind"] == "epoch.closed"));
    }
}

#[test]
fn a_stop_that_waited_long_enough_breaks_off_what_is_left_and_charges_it() {
    let provider = Provider::start();
    let mut daemon = Daemon::start_with(Config::new(&provider).aexd_yaml("drain_timeout_ms: 200\n"));
    let token = daemon.agent("bot", &[]);
    provider.script(Script::hold_after(3));
    provider.script(Script::hold());
    let (mut stream, mut plain) = (Connection::open(&daemon.url()), Connection::open(&daemon.url()));
    stream.post_json("/v1/chat/completions", &token, &body(2));
    assert_eq!(stream.head().expect("a head").status, 200);
    plain.post_json("/v1/chat/completions", &token, &body(3));
    provider.wait_for_requests(2);
    daemon.stop();
    assert!(plain.answer().is_err());
    daemon.run();
    let charged =
        quiet(&daemon).iter().all(|call| matches!(call.end(), ledger::End::Charged { state: Settled::Estimated | Settled::WorstCase, .. }));
    assert!(charged, "{:?}", ledger::calls(&daemon));
    settled_and_audited(&daemon, &provider);
}

#[test]
fn a_second_daemon_is_refused_with_the_holders_name() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let pid = daemon.pid().to_string();
    let port = daemon.url().rsplit(':').next().expect("a port").to_owned();
    let other = Daemon::prepare(Config::new(&provider));
    let rows = [
        (daemon.home(), "0".to_owned(), vec![pid.as_str()]),
        (other.home(), port.clone(), vec![&pid, "aexd", &port, "in use"]),
        (daemon.home(), port.clone(), vec![&pid]),
    ];
    for (home, port, says) in rows {
        let mut command = other.command("aexd");
        command.arg("serve").arg("--home").arg(&home).args(["--port", &port]);
        let refused = output(command);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.starts_with("error: ") && says.iter().all(|piece| refused.stderr.contains(piece)), "{says:?}: {refused:?}");
    }
    let started = daemon.ctl(["daemon", "start"]);
    assert_eq!(started.code, 1);
    assert!(started.stderr.contains(&format!("already running: pid {pid}, port {port}")), "{started:?}");
    // The first one goes on, its socket and files untouched.
    let token = daemon.agent("bot", &[]);
    assert_eq!(client::post_json(&daemon.chat_url(), &token, &ask::chat()).status, 200);
    settled_and_audited(&daemon, &provider);
}
