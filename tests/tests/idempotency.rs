//! Calls that come twice with one `idempotency-key`: one of them runs and is charged, the others get its answer, or are told why not.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_tests::ask;
use aex_tests::client::{self, Answer, Connection, End};
use aex_tests::daemon::Daemon;
use aex_tests::house::House;
use aex_tests::ledger::{self, last, quiet, settled_and_audited, until};
use aex_tests::provider::{At, How, Provider, Script};
use aex_tests::refusal::{self, Refusal, Retry};
use serde_json::{Value, json};

const KEY: &str = "order 4711: \"secret words\"";

#[track_caller]
fn post(daemon: &Daemon, token: &str, key: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("idempotency-key", key)];
    client::post_bytes(&daemon.chat_url(), &headers, body.to_string().as_bytes())
}

/// The same, asked again for as long as the first call has not quite ended.
#[track_caller]
fn post_when_over(daemon: &Daemon, token: &str, key: &str, body: &Value) -> Answer {
    until("the end of the first call", || {
        let answer = post(daemon, token, key, body);
        (answer.status != 409 || answer.code() != "idempotency_key_in_use").then_some(answer)
    })
}

/// 409: the key was used.
const fn used<'a>(code: &'a str, retry: Retry, says: &'a [&'a str]) -> Refusal<'a> {
    Refusal { status: 409, kind: "invalid_request_error", code, param: "", retry, says, rule: "idempotency" }
}

fn body(stream: bool) -> Value {
    ask::with(ask::of_length(if stream { 20 } else { 21 }), &json!({"stream": stream}))
}

#[test]
fn the_same_call_gets_the_first_answer_and_is_charged_once() {
    let house = House::new(|config| config);
    for (number, stream) in [false, true].into_iter().enumerate() {
        let key = format!("{KEY} {stream}");
        house.provider.script(Script::answer("the first").header("x-request-id", "of_the_provider"));
        let first = post(&house.daemon, &house.token, &key, &body(stream));
        assert_eq!((first.status, first.end, first.header("idempotent-replayed")), (200, End::Complete, None), "{first}");
        let again = post_when_over(&house.daemon, &house.token, &key, &body(stream));
        assert_eq!((again.status, again.end, again.text()), (200, End::Complete, first.text()));
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{again}");
        for name in ["content-type", "x-request-id", "x-aex-request-id"] {
            assert_eq!(again.header(name), first.header(name), "{name}");
        }
        assert_eq!((house.provider.requests().len(), ledger::calls(&house.daemon).len()), (number + 1, number + 1));
        assert_eq!(house.provider.last_request().header("idempotency-key"), None);
        let other = post(&house.daemon, &house.token, &key, &ask::of_length(99));
        let id = first.header("x-aex-request-id").expect("an id").to_owned();
        refusal::check(&other, &used("idempotency_key_reused", Retry::Never, &[&id, "new key"]));
    }
    assert_eq!(settled_and_audited(&house.daemon, &house.provider).exact, 2);
    // What a key says is nobody's business: its digest is enough.
    let told = format!("{:?}{}", ledger::events(&house.daemon), house.daemon.stderr());
    assert!(!told.contains("secret words") && told.contains("idempotency"), "{told}");
}

#[test]
fn keys_belong_to_an_agent_and_have_a_length() {
    let house = House::new(|config| config);
    let other = house.daemon.agent("other", &[]);
    for token in [&house.token, &other] {
        let answer = post(&house.daemon, token, KEY, &body(false));
        assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, None), "{answer}");
    }
    assert_eq!(post(&house.daemon, &other, &"k".repeat(255), &body(false)).status, 200);
    let seen = house.provider.requests().len();
    for key in ["", &"k".repeat(256)] {
        let answer = post(&house.daemon, &other, key, &body(false));
        refusal::check(&answer, &refusal::malformed("", &["`idempotency-key` must be sent once, with 1 to 255 characters"]));
    }
    assert_eq!(house.provider.requests().len(), seen);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn while_the_first_call_runs_the_second_is_told_to_come_back() {
    for stream in [false, true] {
        let house = House::new(|config| config);
        house.provider.script(Script::hold());
        let mut first = Connection::open(&house.daemon.url());
        let bearer = format!("Bearer {}", house.token);
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("idempotency-key", KEY)];
        first.request("POST", "/v1/chat/completions", &headers, body(stream).to_string().as_bytes()).expect("send");
        house.provider.wait_for_requests(1);
        for _ in 0..3 {
            let answer = post(&house.daemon, &house.token, KEY, &body(stream));
            refusal::check(&answer, &used("idempotency_key_in_use", Retry::After, &["under way"]));
        }
        house.provider.release();
        let first = first.answer().expect("an answer");
        let again = post_when_over(&house.daemon, &house.token, KEY, &body(stream));
        assert_eq!((again.status, again.text()), (200, first.text()));
        assert_eq!(house.provider.requests().len(), 1);
        settled_and_audited(&house.daemon, &house.provider);
    }
}

#[test]
fn many_at_once_with_one_key_are_one_call() {
    let house = House::new(|config| config);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let post = || scope.spawn(|| post_when_over(&house.daemon, &house.token, KEY, &body(true)));
        let posts: Vec<_> = std::iter::repeat_with(post).take(12).collect();
        posts.into_iter().map(|post| post.join().expect("a post")).collect()
    });
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.text() == answers[0].text()), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.header("idempotent-replayed").is_none()).count(), 1);
    assert_eq!(house.provider.requests().len(), 1);
    assert_eq!(settled_and_audited(&house.daemon, &house.provider).exact, 1);
}

#[test]
fn a_key_is_free_again_when_its_call_was_denied_or_cost_nothing() {
    let mut house = House::new(|config| config);
    let token = house.token.clone();
    house.daemon.ctl(["agent", "pause", "bot", "--reason", "test"]).ok();
    assert_eq!(post(&house.daemon, &token, KEY, &body(false)).code(), "account_paused");
    house.daemon.ctl(["agent", "resume", "bot", "--reason", "test"]).ok();
    let denied = post(&house.daemon, &token, KEY, &ask::chat_with(&json!({"max_tokens": 5_000})));
    assert_eq!(denied.status, 400, "{denied}");
    for status in [429, 503, 400] {
        house.provider.script(Script::error(status));
        let refused = post(&house.daemon, &token, KEY, &body(false));
        assert_eq!((refused.status, refused.header("idempotent-replayed")), (status, None), "{refused}");
    }
    house.provider.stop();
    // A call on a connection that is kept might be sent before its end is seen.
    house.daemon.ctl(["models", "reload"]).ok();
    assert_eq!(post(&house.daemon, &token, KEY, &body(false)).status, 502);
    house.provider.restart();
    let answer = post(&house.daemon, &token, KEY, &body(false));
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, None), "{answer}");
    assert_eq!(settled_and_audited(&house.daemon, &house.provider).exact, 1);
}

#[test]
fn what_was_charged_is_never_charged_again_even_without_an_answer_to_give() {
    let house = House::new(|config| config);
    let post = |key: &str, stream| post_when_over(&house.daemon, &house.token, key, &body(stream));
    // An answer that says what went wrong is an answer.
    house.provider.script(Script::cut(At::Head, How::Reset));
    let first = post("reset", false);
    let again = post("reset", false);
    assert_eq!((first.status, again.status, again.text()), (502, 502, first.text()));
    // A client that tries again gets no other for as long as the key lasts.
    assert_eq!((first.header("x-should-retry"), first.header("idempotent-replayed")), (None, None), "{first}");
    assert_eq!((again.header("x-should-retry"), again.header("idempotent-replayed")), (Some("false"), Some("true")), "{again}");
    // A stream that broke off is none.
    house.provider.script(Script::cut(At::Chunk(3), How::Close));
    let first = post("broken", true);
    assert_eq!(first.end, End::Broken);
    let id = first.header("x-aex-request-id").expect("an id").to_owned();
    refusal::check(&post("broken", true), &used("idempotency_answer_gone", Retry::Never, &[&id, "aexctl explain"]));
    // The client of a plain call leaves: it is finished, and its answer waits.
    house.provider.script(Script { hold_head: true, ..Script::answer("late") });
    let mut connection = Connection::open(&house.daemon.url());
    let bearer = format!("Bearer {}", house.token);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("idempotency-key", "left")];
    connection.request("POST", "/v1/chat/completions", &headers, body(false).to_string().as_bytes()).expect("send");
    house.provider.wait_for_requests(3);
    connection.close();
    house.provider.release();
    let late = post("left", false);
    assert_eq!((late.status, late.content().as_str()), (200, "late"), "{late}");
    assert_eq!(late.header("idempotent-replayed"), Some("true"));
    assert_eq!(house.provider.requests().len(), 3);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_stream_that_is_finished_without_its_client_has_an_answer_and_a_cancelled_one_has_none() {
    for (on_disconnect, status) in [("drain", 200), ("cancel", 409)] {
        let house = House::new(|config| config.aexd_yaml(&format!("on_disconnect: {on_disconnect}\n")));
        house.provider.script(Script::hold_after(3));
        let mut connection = Connection::open(&house.daemon.url());
        let bearer = format!("Bearer {}", house.token);
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("idempotency-key", KEY)];
        connection.request("POST", "/v1/chat/completions", &headers, body(true).to_string().as_bytes()).expect("send");
        assert_eq!(connection.head().expect("a head").status, 200);
        connection.next_data().expect("a stream").expect("a chunk");
        connection.close();
        if on_disconnect == "drain" {
            house.provider.release();
        }
        house.provider.wait_for_bills(1);
        let again = post_when_over(&house.daemon, &house.token, KEY, &body(true));
        assert_eq!(again.status, status, "{again}");
        assert_eq!(again.text().contains("[DONE]"), status == 200, "{again}");
        settled_and_audited(&house.daemon, &house.provider);
    }
}

#[test]
fn answers_are_kept_up_to_a_size_each_and_all_together() {
    let house = House::new(|config| config.aexd_yaml("idempotency_answer: 4KiB\nidempotency_memory: 8KiB\n"));
    let padded = |padding| Script { padding, ..Script::default() };
    let ask = |key: &str, script: Option<Script>| {
        if let Some(script) = script {
            house.provider.script(script);
        }
        post_when_over(&house.daemon, &house.token, key, &body(false))
    };
    assert_eq!(ask("large", Some(padded(5_000))).status, 200);
    refusal::check(&ask("large", None), &used("idempotency_answer_gone", Retry::Never, &["no longer kept"]));
    for key in ["1", "2", "3"] {
        assert_eq!(ask(key, Some(padded(2_500))).status, 200);
    }
    // The oldest made room.
    assert_eq!(["1", "2", "3"].map(|key| ask(key, None).status), [409, 200, 200]);
    assert_eq!(settled_and_audited(&house.daemon, &house.provider).exact, 4);
}

#[test]
fn after_a_restart_a_used_key_is_refused_and_a_free_one_is_not() {
    let provider = Provider::start();
    let mut daemon = Daemon::start(&provider);
    let token = daemon.agent_with("bot", "1", 1000, &[]);
    let first = post(&daemon, &token, "done", &body(false));
    provider.script(Script::error(429));
    assert_eq!(post(&daemon, &token, "refused", &body(false)).status, 429);
    provider.script(Script::hold());
    let mut killed = Connection::open(&daemon.url());
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("idempotency-key", "killed")];
    killed.request("POST", "/v1/chat/completions", &headers, body(false).to_string().as_bytes()).expect("send");
    provider.wait_for_requests(3);
    daemon.kill9();
    daemon.run();
    let crashed = quiet(&daemon).pop().expect("a call").held.request.to_string();
    let id = first.header("x-aex-request-id").expect("an id").to_owned();
    for round in 0..2 {
        for (key, id) in [("done", &id), ("killed", &crashed)] {
            let answer = post(&daemon, &token, key, &body(false));
            refusal::check(&answer, &used("idempotency_answer_gone", Retry::Never, &[id]));
            let answer = post(&daemon, &token, key, &ask::of_length(77));
            refusal::check(&answer, &used("idempotency_key_reused", Retry::Never, &[id]));
        }
        // Old events are put away, those of the day's keys are not.
        let now = daemon.ctl(["audit", "--json"]).json()["at"].as_str().expect("an instant").to_owned();
        let compacted = daemon.ctl(["ledger", "compact", "--before", &now]);
        assert_eq!(compacted.code == 0, round == 0, "{compacted:?}");
        daemon.restart();
    }
    let answer = post(&daemon, &token, "refused", &body(false));
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, None), "{answer}");
    provider.release();
    let books = settled_and_audited(&daemon, &provider);
    assert_eq!((books.exact, books.worst_case, books.released), (2, 1, 1));
    assert_eq!(last(&daemon).story(), "exact answered");
}

#[test]
fn more_keys_than_are_remembered_are_refused() {
    let house = House::new(|config| config.aexd_yaml("idempotency_keys: 1\n"));
    assert_eq!(post(&house.daemon, &house.token, "1", &body(false)).status, 200);
    let full = post(&house.daemon, &house.token, "2", &body(false));
    assert_eq!((full.status, full.code().as_str(), full.header("retry-after")), (503, "idempotency_keys_full", Some("60")), "{full}");
    assert_eq!(post(&house.daemon, &house.token, "1", &body(false)).header("idempotent-replayed"), Some("true"));
    assert_eq!(client::post_json(&house.daemon.chat_url(), &house.token, &body(false)).status, 200);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn an_answer_is_given_again_after_its_model_was_taken_away_but_not_to_an_account_that_is_stopped() {
    let house = House::new(|config| config);
    let first = post(&house.daemon, &house.token, KEY, &body(false));
    assert_eq!(first.status, 200, "{first}");
    let again = || post_when_over(&house.daemon, &house.token, KEY, &body(false));
    house.daemon.ctl(["agent", "update", "bot", "--allowed-models", "m2"]).ok();
    assert_eq!(post(&house.daemon, &house.token, "another", &body(false)).status, 403);
    assert_eq!((again().status, again().text()), (200, first.text()));
    for (stop, code) in [("pause", "account_paused"), ("kill", "account_killed")] {
        house.daemon.ctl(["agent", stop, "bot", "--reason", "test"]).ok();
        let refused = again();
        assert_eq!((refused.status, refused.code().as_str(), refused.header("idempotent-replayed")), (403, code, None), "{refused}");
        house.daemon.ctl(["agent", "resume", "bot", "--reason", "test"]).ok();
    }
    assert_eq!(again().text(), first.text());
    assert_eq!(house.provider.requests().len(), 1);
    assert_eq!(settled_and_audited(&house.daemon, &house.provider).exact, 1);
}

#[test]
fn every_endpoint_has_keys_and_a_key_belongs_to_the_path_that_it_was_used_on() {
    let house = House::new(|config| config);
    let bearer = format!("Bearer {}", house.token);
    let post = |path: &str, key: &str, body: &Value| {
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("idempotency-key", key)];
        client::post_bytes(&format!("{}{path}", house.daemon.url()), &headers, body.to_string().as_bytes())
    };
    let bodies = [
        ("/v1/completions", json!({"model": "m1", "prompt": "say hello", "max_tokens": 5})),
        ("/v1/embeddings", json!({"model": "m1", "input": "say hello"})),
    ];
    for (path, body) in bodies {
        let first = post(path, path, &body);
        let again = post(path, path, &body);
        assert_eq!((first.status, again.status, again.text()), (200, 200, first.text()), "{path}");
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{path}");
        // Groq's clients call the same by another name.
        assert_eq!(post(&format!("/openai{path}"), path, &body).header("idempotent-replayed"), Some("true"));
    }
    let elsewhere = post("/v1/chat/completions", "/v1/completions", &ask::chat());
    refusal::check(&elsewhere, &used("idempotency_key_reused", Retry::Never, &["another path or body"]));
    assert_eq!(house.provider.requests().len(), 2);
    assert_eq!(settled_and_audited(&house.daemon, &house.provider).exact, 2);
}
