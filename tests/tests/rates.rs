//! Requests per minute and requests in flight, exact at every level; failed authentication.
//!
//! Windows are a minute long and tests wait for none of them: what leaves a window is the core's own test.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::thread;

use aex_tests::ask::{self, chat, chat_with};
use aex_tests::client::{self, Answer, Connection};
use aex_tests::daemon::{Config, Control, Daemon};
use aex_tests::ledger::{settled_and_audited, until};
use aex_tests::provider::{Provider, Script};
use aex_tests::refusal::{self, Retry, limited};
use serde_json::{Value, json};

#[track_caller]
fn post(daemon: &Daemon, token: &str, body: &Value) -> Answer {
    client::post_json(&daemon.chat_url(), token, body)
}

/// Opens a run below an agent; it lives as long as the connection.
#[track_caller]
fn run(daemon: &Daemon, agent: &str, rpm: Option<u32>) -> (Control, String) {
    let mut control = daemon.control();
    let opened = control.call("run.open", &json!({"agent": agent, "rpm": rpm, "command": "test"})).expect("run.open");
    (control, opened["token"].as_str().expect("a token").to_owned())
}

fn statuses(answers: &[Answer]) -> (usize, usize) {
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    (count(200), count(429))
}

#[test]
fn exactly_rpm_calls_pass_however_many_come_at_once_and_others_are_not_affected() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let limited_agent = daemon.agent_with("limited", "100", 10, &[]);
    let other = daemon.agent("other", &[]);
    let answers: Vec<Answer> = thread::scope(|scope| {
        let calls: Vec<_> = (0..25).map(|_| scope.spawn(|| post(&daemon, &limited_agent, &chat()))).collect();
        calls.into_iter().map(|call| call.join().expect("a call")).collect()
    });
    assert_eq!(statuses(&answers), (10, 15));
    for answer in answers.iter().filter(|answer| answer.status == 429) {
        refusal::check(answer, &limited("rpm", Retry::After, &["`limited`", "10 requests per minute"]));
    }
    assert_eq!(post(&daemon, &other, &chat()).status, 200);
    assert_eq!(settled_and_audited(&daemon, &provider).exact, 11);
}

#[test]
fn an_rpm_of_zero_denies_all_and_for_ever() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent_with("stopped", "100", 0, &[]);
    let wanted = limited("rpm", Retry::Never, &["`stopped` may make no calls", "0 requests per minute"]);
    refusal::denied(&daemon, &provider, 0, &post(&daemon, &token, &chat()), &wanted);
    for _ in 0..3 {
        refusal::check(&post(&daemon, &token, &chat()), &wanted);
    }
    settled_and_audited(&daemon, &provider);
}

#[test]
fn a_call_that_a_later_check_denies_takes_one_too_and_one_that_an_earlier_check_denies_does_not() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let rows = [
        (json!({"model": "gpt-9"}), 403),
        (json!({"n": 0}), 400),
        (json!({"max_tokens": 1001}), 400),
        (json!({"stream": true}), 403),
        (json!({"max_tokens": 900}), 402),
        (json!({"messages": [{"role": "bad", "content": "x"}]}), 400),
    ];
    for (number, (changes, status)) in rows.iter().enumerate() {
        let name = format!("bot{number}");
        let token = daemon.agent_with(&name, "0.001", 2, &["--no-streaming"]);
        for wanted in [*status, *status, 429] {
            assert_eq!(post(&daemon, &token, &chat_with(changes)).status, wanted, "{changes}");
        }
    }
    let token = daemon.agent_with("paused", "1", 1, &[]);
    daemon.ctl(["agent", "pause", "paused"]).ok();
    for _ in 0..3 {
        assert_eq!(post(&daemon, &token, &chat()).status, 403);
    }
    daemon.ctl(["agent", "resume", "paused"]).ok();
    assert_eq!(post(&daemon, &token, &chat()).status, 200);
    assert_eq!(post(&daemon, &token, &chat()).status, 429);
    settled_and_audited(&daemon, &provider);
}

#[test]
fn the_rate_of_a_run_and_that_of_its_agent_both_hold() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let agent = daemon.agent_with("bot", "100", 6, &[]);
    let (_first, narrow) = run(&daemon, "bot", Some(2));
    let (_second, wide) = run(&daemon, "bot", None);
    let mut statuses = Vec::new();
    for token in [&narrow, &narrow, &narrow, &wide, &wide, &agent, &wide, &agent, &wide, &narrow] {
        statuses.push(post(&daemon, token, &chat()).status);
    }
    // The third call of the narrow run is denied by the run's own rate and takes none of the agent's.
    assert_eq!(statuses, [200, 200, 429, 200, 200, 200, 200, 429, 429, 429]);
    let answer = post(&daemon, &wide, &chat());
    refusal::check(&answer, &limited("rpm", Retry::After, &["`bot` has used up its limit of 6 requests per minute"]));
    settled_and_audited(&daemon, &provider);
}

#[test]
fn requests_in_flight_are_limited_and_free_their_place_at_their_end() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &["--max-concurrent", "3"]);
    provider.script_times(3, &Script::hold());
    thread::scope(|scope| {
        let held: Vec<_> = (0..3).map(|_| scope.spawn(|| post(&daemon, &token, &chat()))).collect();
        provider.wait_for_requests(3);
        for stream in [false, true] {
            let answer = post(&daemon, &token, &chat_with(&json!({"stream": stream})));
            refusal::check(&answer, &limited("concurrency", Retry::After, &["`bot`", "3 concurrent requests"]));
        }
        provider.release();
        for call in held {
            assert_eq!(call.join().expect("a call").status, 200);
        }
    });
    // Free again, after an answer, after a stream that its client left, and after a denial.
    for round in 0..4 {
        provider.script(Script::hold_after(1));
        let mut left = Connection::open(&daemon.url());
        left.post_json("/v1/chat/completions", &token, &ask::with(ask::of_length(100 + round), &json!({"stream": true})));
        assert_eq!(left.head().expect("a head").status, 200);
        left.close();
        assert_eq!(post(&daemon, &token, &chat_with(&json!({"n": 0}))).status, 400);
    }
    until("a free place", || (post(&daemon, &token, &chat()).status == 200).then_some(()));
    settled_and_audited(&daemon, &provider);
}

#[test]
fn the_rate_survives_a_restart() {
    let provider = Provider::start();
    let mut daemon = Daemon::start(&provider);
    let token = daemon.agent_with("bot", "100", 5, &[]);
    for _ in 0..4 {
        assert_eq!(post(&daemon, &token, &chat()).status, 200);
    }
    daemon.restart();
    assert_eq!(post(&daemon, &token, &chat()).status, 200);
    daemon.kill9();
    daemon.run();
    assert_eq!(post(&daemon, &token, &chat()).status, 429);
    settled_and_audited(&daemon, &provider);
}

/// One of the tests' models with a limit on the tokens of all callers.
const METERED: &str = "  metered:
    provider: mock
    provider_model: m1-upstream
    pricing: {input_micro: 1, output_micro: 2}
    limits: {max_tokens: 1000, max_tokens_per_minute: 300}
    capabilities: {tools: true}
";

#[test]
fn tokens_of_a_minute_are_taken_by_estimate_and_corrected_by_the_bill() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    // A call of the chat is estimated at 2 + 50 tokens.
    let token = daemon.agent("bot", &["--tpm", "120"]);
    let never = limited("tpm", Retry::Never, &["about 202 tokens", "`bot`, 120 tokens per minute"]);
    refusal::denied(&daemon, &provider, 0, &post(&daemon, &token, &chat_with(&json!({"max_tokens": 200}))), &never);
    provider.script_times(2, &Script::hold());
    thread::scope(|scope| {
        let held: Vec<_> = (0..2).map(|_| scope.spawn(|| post(&daemon, &token, &chat()))).collect();
        provider.wait_for_requests(2);
        refusal::check(
            &post(&daemon, &token, &chat()),
            &limited("tpm", Retry::After, &["`bot`, 120 tokens per minute", "about 52 tokens"]),
        );
        provider.release();
        for call in held {
            assert_eq!(call.join().expect("a call").status, 200);
        }
    });
    // What they did not use is free again, and a call that the provider refuses gives all of it back.
    assert_eq!(post(&daemon, &token, &chat()).status, 200);
    settled_and_audited(&daemon, &provider);
}

#[test]
fn the_tokens_of_a_run_its_agent_and_the_model_all_hold_and_survive_a_restart() {
    let provider = Provider::start();
    let mut daemon = Daemon::start_with(Config::new(&provider).model(METERED));
    let token = daemon.agent("bot", &[]);
    let other = daemon.agent("other", &[]);
    let mut control = daemon.control();
    let opened = control.call("run.open", &json!({"agent": "bot", "tpm": 60, "command": "test"})).expect("run.open");
    let run = opened["token"].as_str().expect("a token").to_owned();
    assert_eq!(post(&daemon, &run, &chat()).status, 200);
    refusal::check(&post(&daemon, &run, &chat()), &limited("tpm", Retry::After, &["60 tokens per minute"]));
    assert_eq!(post(&daemon, &token, &chat()).status, 200);
    let metered = chat_with(&json!({"model": "metered"}));
    let full = until("the model's limit", || {
        let answer = post(&daemon, &token, &metered);
        (answer.status != 200).then_some(answer)
    });
    let wanted = limited("tpm", Retry::After, &["model `metered`, 300 tokens per minute"]);
    refusal::check(&full, &wanted);
    refusal::check(&post(&daemon, &other, &metered), &wanted);
    drop(control);
    daemon.restart();
    refusal::check(&post(&daemon, &other, &metered), &wanted);
    assert_eq!(post(&daemon, &other, &chat()).status, 200);
    settled_and_audited(&daemon, &provider);
}

#[test]
fn failed_authentication_is_throttled_and_a_good_token_still_passes() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    let mut connection = Connection::open(&daemon.url());
    let throttled = until("the throttle", || {
        connection.post_json("/v1/chat/completions", "sk-wrong", &chat());
        let answer = connection.answer().expect("an answer");
        assert!(matches!(answer.status, 401 | 429), "{answer}");
        (answer.status == 429).then_some(answer)
    });
    refusal::check(&throttled, &limited("", Retry::After, &["failed authentications"]));
    assert_eq!(post(&daemon, &token, &chat()).status, 200);
    let models = client::get(&format!("{}/v1/models", daemon.url()), &token);
    assert_eq!(models.status, 200);
    settled_and_audited(&daemon, &provider);
}

#[test]
fn a_budget_of_37_bounds_admits_37_of_200_calls_at_once() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let scout = daemon.agent("scout", &[]);
    assert_eq!(post(&daemon, &scout, &chat()).status, 200);
    let bound = aex_tests::ledger::last(&daemon).bound();
    let limit = json!({"name": "crowd", "budget_pico": (bound * 37).to_string(), "rpm": 100_000});
    let token = daemon.rpc("agent.create", &limit)["token"].as_str().expect("a token").to_owned();
    provider.always(Script::hold());
    let (decided, decisions) = std::sync::mpsc::channel();
    let answers: Vec<Answer> = thread::scope(|scope| {
        let call = || {
            let answer = post(&daemon, &token, &chat());
            // Admitted calls are decided when the provider sees them.
            decided.send(answer.status).expect("the test listens");
            answer
        };
        let calls: Vec<_> = (0..200).map(|_| scope.spawn(call)).collect();
        // 37 are held by the provider, one more is the scout's, and all others have been answered.
        for _ in 0..163 {
            let status = decisions.recv_timeout(client::PATIENCE).expect("a denial before any call ends");
            assert_eq!(status, 402);
        }
        provider.wait_for_requests(38);
        let budget = &daemon.rpc("agent.inspect", &json!({"name": "crowd"}))["budgets"][0];
        assert_eq!((&budget["reserved_pico"], &budget["remaining_pico"]), (&json!((bound * 37).to_string()), &json!("0")), "{budget}");
        provider.release();
        calls.into_iter().map(|call| call.join().expect("a call")).collect()
    });
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(200), count(402)), (37, 163));
    assert_eq!(provider.requests().len(), 38);
    assert_eq!(settled_and_audited(&daemon, &provider).exact, 38);
}
