//! Every denial that a chat call can meet, as the contract has it: status, error object, headers, event; the provider sees nothing.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_tests::ask::{self, chat, chat_with};
use aex_tests::client::{self, Answer, Connection};
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger::{self, settled_and_audited, until};
use aex_tests::lock::Lock;
use aex_tests::provider::{Provider, Script};
use aex_tests::refusal::{self, Refusal, Retry, forbidden, limited, malformed, unaffordable, unauthenticated, upstream};
use serde_json::json;

struct House {
    provider: Provider,
    daemon: Daemon,
}

impl House {
    fn new() -> Self {
        let provider = Provider::start();
        let daemon = Daemon::start(&provider);
        Self { provider, daemon }
    }

    #[track_caller]
    fn denies(&self, token: &str, wanted: &Refusal<'_>) {
        self.denies_body(token, &chat(), wanted);
    }

    #[track_caller]
    fn denies_body(&self, token: &str, body: &serde_json::Value, wanted: &Refusal<'_>) {
        let seen = self.provider.requests().len();
        let answer = client::post_json(&self.daemon.chat_url(), token, body);
        refusal::denied(&self.daemon, &self.provider, seen, &answer, wanted);
    }

    #[track_caller]
    fn passes(&self, token: &str) {
        let answer = client::post_json(&self.daemon.chat_url(), token, &chat());
        assert_eq!(answer.status, 200, "{answer}");
    }
}

const fn inactive<'a>(code: &'a str, says: &'a [&'a str]) -> Refusal<'a> {
    Refusal { code, ..forbidden("", "account_state", says) }
}

#[test]
fn a_caller_without_a_valid_token_is_told_why() {
    let house = House::new();
    let token = house.daemon.agent("bot", &[]);
    let mut wrong: Vec<char> = token.chars().collect();
    let at = wrong.len() - 9;
    wrong[at] = if wrong[at] == 'a' { 'b' } else { 'a' };
    let wrong: String = wrong.into_iter().collect();
    let rows = [
        (String::new(), "No token was sent"),
        ("sk-proj-123".to_owned(), "no token of aexd"),
        (wrong, "mistyped"),
        (token.to_uppercase(), "no token of aexd"),
        (format!("{token}x"), "no token of aexd"),
        (token.split_at(token.len() - 1).0.to_owned(), "no token of aexd"),
    ];
    for (token, says) in &rows {
        house.denies(token, &unauthenticated(&[says]));
    }
    let causes = |daemon: &Daemon| -> Vec<String> {
        let failed = ledger::events(daemon).into_iter().filter(|event| event["kind"] == "auth.failed");
        failed.filter_map(|event| event["body"]["cause"].as_str().map(str::to_owned)).collect()
    };
    let causes = causes(&house.daemon);
    assert!(causes.contains(&"missing".to_owned()) && causes.contains(&"malformed".to_owned()), "{causes:?}");
    house.passes(&token);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_token_is_taken_from_authorization_or_x_api_key() {
    let house = House::new();
    let token = house.daemon.agent("bot", &[]);
    let rows = [
        ("authorization", format!("bearer   {token}"), 200),
        ("x-api-key", token.clone(), 200),
        ("authorization", format!("Basic {token}"), 401),
        ("cookie", format!("token={token}"), 401),
    ];
    for (name, value, status) in rows {
        let answer = client::post_bytes(&house.daemon.chat_url(), &[(name, &value)], chat().to_string().as_bytes());
        assert_eq!(answer.status, status, "{name}: {answer}");
    }
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn an_expired_or_revoked_token_and_that_of_a_deleted_agent_are_unauthenticated() {
    let house = House::new();
    let made = house.daemon.rpc("agent.create", &json!({"name": "brief", "budget_pico": "1000000000000", "rpm": 100_000, "ttl_ms": 300}));
    let brief = made["token"].as_str().expect("a token").to_owned();
    assert!(made["token_expires_at"].is_string(), "{made}");
    let expired = until("the token's expiry", || {
        let answer = client::post_json(&house.daemon.chat_url(), &brief, &chat());
        (answer.status != 200).then_some(answer)
    });
    refusal::check(&expired, &unauthenticated(&["expired", "rotate-token"]));

    let old = house.daemon.agent("turned", &[]);
    house.passes(&old);
    let new = house.daemon.ctl(["agent", "rotate-token", "turned", "--json"]).json()["token"].as_str().expect("a token").to_owned();
    house.denies(&old, &unauthenticated(&["revoked"]));
    house.passes(&new);
    house.daemon.ctl(["agent", "delete", "turned"]).ok();
    house.denies(&new, &unauthenticated(&[]));
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_fractional_life_time_on_the_command_line_is_hours() {
    let house = House::new();
    // The earlier program's own assault: 0.0005 hours are 1.8 seconds.
    let token = house.daemon.agent("brief", &["--ttl", "0.0005"]);
    house.passes(&token);
    let expired = until("the token's expiry", || {
        let answer = client::post_json(&house.daemon.chat_url(), &token, &chat());
        (answer.status != 200).then_some(answer)
    });
    refusal::check(&expired, &unauthenticated(&["expired"]));
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn an_account_that_is_not_active_is_told_its_state_and_how_to_lift_it() {
    let house = House::new();
    let token = house.daemon.agent("bot", &[]);
    house.daemon.ctl(["agent", "pause", "bot", "--reason", "too loud"]).ok();
    house.denies(&token, &inactive("account_paused", &["`bot` is paused", "too loud", "aexctl agent resume bot"]));
    house.daemon.ctl(["agent", "resume", "bot"]).ok();
    house.passes(&token);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_bill_beyond_the_bound_is_charged_in_full_and_suspends_the_agent() {
    let house = House::new();
    // Nothing else is there to bound it by: the provider says that it used a thousand times the prompt.
    let token = house.daemon.agent_with("bot", "0.0005", 1000, &[]);
    let usage = json!({"prompt_tokens": 5000, "completion_tokens": 1, "total_tokens": 5001});
    house.provider.script(Script { usage: aex_tests::provider::Usage::Raw(usage), ..Script::default() });
    house.passes(&token);
    let call = ledger::last(&house.daemon);
    assert_eq!((call.story().as_str(), call.charge()), ("exact answered", 5_002_000_000));
    house.denies(&token, &inactive("account_suspended", &["`bot` is suspended", "aexctl agent resume bot"]));
    let budget = &house.daemon.rpc("agent.inspect", &json!({"name": "bot"}))["budgets"][0];
    assert_eq!((&budget["spent_pico"], &budget["overdraft_pico"]), (&json!("5002000000"), &json!("4502000000")), "{budget}");
    house.daemon.ctl(["agent", "resume", "bot"]).ok();
    house.denies(&token, &unaffordable(&["`bot`"]));
    ledger::audited(&house.daemon);
}

#[test]
fn an_empty_budget_is_402_and_says_what_is_left_and_when_it_resets() {
    let house = House::new();
    let total = house.daemon.agent_with("total", "0.0001", 1000, &[]);
    house.denies(
        &total,
        &unaffordable(&[
            "total budget of agent `total`",
            "may cost up to $0.000",
            "$0.0001 of $0.0001",
            "does not reset",
            "aexctl agent inspect total",
        ]),
    );
    for (period, word) in [("day", "daily"), ("week", "weekly"), ("month", "monthly")] {
        let token = house.daemon.agent_with(period, "0.0001", 1000, &["--per", period]);
        let seen = house.provider.requests().len();
        let answer = client::post_json(&house.daemon.chat_url(), &token, &chat());
        refusal::denied(&house.daemon, &house.provider, seen, &answer, &unaffordable(&[word, "resets at"]));
        let resets = answer.json()["error"]["resets_at"].as_str().map(str::to_owned).expect("resets_at");
        assert!(resets.ends_with("T00:00:00.000000Z"), "{answer}");
    }
    let answer = client::post_json(&house.daemon.chat_url(), &total, &chat());
    assert!(answer.json()["error"].get("resets_at").is_none(), "{answer}");
    // A smaller call still passes.
    let small = house.daemon.agent_with("small", "0.00028", 1000, &[]);
    house.passes(&small);
    house.denies(&small, &unaffordable(&["`small`"]));
    assert_eq!(client::post_json(&house.daemon.chat_url(), &small, &chat_with(&json!({"max_tokens": 1}))).status, 200);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_missing_provider_key_is_500_and_reserves_nothing() {
    let provider = Provider::start();
    let daemon = Daemon::start_with(Config::new(&provider).dotenv("MOCK_API_KEY=\n"));
    let house = House { provider, daemon };
    let token = house.daemon.agent("bot", &[]);
    let wanted = Refusal {
        status: 500,
        kind: "api_error",
        code: "provider_key_missing",
        param: "",
        retry: Retry::Never,
        says: &["`mock`", "MOCK_API_KEY", "aexctl models reload"],
        rule: "provider_key",
    };
    house.denies(&token, &wanted);
    assert!(ledger::calls(&house.daemon).is_empty());
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn an_unreachable_provider_is_502_and_costs_nothing() {
    let mut house = House::new();
    let token = house.daemon.agent("bot", &[]);
    house.provider.stop();
    for stream in [false, true] {
        house.denies_body(&token, &chat_with(&json!({"stream": stream})), &upstream(502, &["`mock`", "cannot be reached"]));
        assert_eq!(ledger::last(&house.daemon).story(), "released never_sent");
    }
    house.provider.restart();
    house.passes(&token);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_provider_that_does_not_begin_is_504() {
    let provider = Provider::start();
    let daemon = Daemon::start_with(Config::new(&provider).provider_line("first_byte_timeout_ms: 200"));
    let token = daemon.agent("bot", &[]);
    provider.always(Script::hold());
    for stream in [false, true] {
        let answer = client::post_json(&daemon.chat_url(), &token, &chat_with(&json!({"stream": stream})));
        refusal::check(&answer, &upstream(504, &["`mock`", "began no answer in time"]));
        // A plain answer may have been made as a whole by now; of a stream nothing was taken.
        let story = if stream { "estimated provider_failed" } else { "worst_case provider_failed" };
        assert_eq!(ledger::last(&daemon).story(), story);
    }
    settled_and_audited(&daemon, &provider);
}

/// A daemon that drains while a client reads a stream, and the answer to a request that comes to the end of its head by then. The daemon
/// waits for half a head for a moment only: nothing, when it took longer to send the rest.
#[track_caller]
fn draining() -> Option<(House, Connection, Answer)> {
    let house = House::new();
    let token = house.daemon.agent("bot", &[]);
    house.provider.script(Script::hold_after(1));
    // The late connection is accepted before the busy one is, and so before the drain; the busy one keeps the daemon from its end.
    let (mut late, mut busy) = (Connection::open(&house.daemon.url()), Connection::open(&house.daemon.url()));
    busy.post_json("/v1/chat/completions", &token, &chat_with(&json!({"stream": true})));
    assert_eq!(busy.head().expect("a head").status, 200);
    let body = chat().to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    late.send(head.as_bytes()).expect("send half a head");
    let mut control = house.daemon.control();
    control.call("daemon.stop", &json!({})).expect("daemon.stop");
    until("the drain", || (control.call("daemon.status", &json!({})).ok()?["state"] == "draining").then_some(()));
    late.send(format!("\r\n{body}").as_bytes()).ok()?;
    let answer = late.answer().ok()?;
    Some((house, busy, answer))
}

#[test]
fn a_daemon_that_drains_refuses_new_calls_and_finishes_the_old_ones() {
    let (mut house, mut busy, late) = (0..10).find_map(|_| draining()).expect("a request in the moment that a drain waits for its head");
    let wanted = Refusal {
        status: 503,
        kind: "api_error",
        code: "shutting_down",
        param: "",
        retry: Retry::After,
        says: &["shutting down"],
        rule: "shutdown",
    };
    refusal::denied(&house.daemon, &house.provider, 1, &late, &wanted);
    assert!(std::net::TcpStream::connect(house.daemon.url().replace("http://", "")).is_err(), "a draining daemon takes no connection");
    house.provider.release();
    let mut rest = 0;
    while busy.next_data().expect("a clean end").is_some() {
        rest += 1;
    }
    assert!(rest > 10, "{rest}");
    assert_eq!(house.daemon.wait(), 0);
    house.daemon.run();
    assert_eq!(settled_and_audited(&house.daemon, &house.provider).exact, 1);
}

#[test]
fn the_checks_have_an_order_and_the_first_one_answers() {
    let house = House::new();
    // Each call breaks the rule of its row and all later ones.
    let body = chat_with(&json!({"model": "gpt-9", "n": 0}));
    house.denies_body("sk-x", &body, &unauthenticated(&[]));
    let reader = house.daemon.agent_with("reader", "0", 0, &["--scope", "read-only"]);
    house.denies_body(&reader, &body, &forbidden("", "token_scope", &[]));
    let paused = house.daemon.agent_with("paused", "0", 0, &[]);
    house.daemon.ctl(["agent", "pause", "paused"]).ok();
    house.denies_body(&paused, &body, &inactive("account_paused", &[]));
    let slow = house.daemon.agent_with("slow", "0", 0, &[]);
    house.denies_body(&slow, &body, &limited("rpm", Retry::Never, &[]));
    let poor = house.daemon.agent_with("poor", "0", 1000, &["--allowed-models", "m2", "--max-output-tokens", "1"]);
    house.denies_body(&poor, &body, &malformed("n", &[]));
    let unknown = chat_with(&json!({"model": "gpt-9"}));
    house.denies_body(&poor, &unknown, &Refusal { code: "model_not_allowed", ..forbidden("model", "known_model", &[]) });
    house.denies_body(
        &poor,
        &chat(),
        &Refusal { code: "model_not_allowed", ..forbidden("model", "allowed_models", &["also breaks max_output_tokens"]) },
    );
    let affordable = ask::chat_with(&json!({"model": "m2", "max_tokens": 1}));
    house.denies_body(&poor, &affordable, &unaffordable(&["`poor`"]));
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_ledger_that_cannot_be_written_admits_no_call() {
    let house = House::new();
    let token = house.daemon.agent("bot", &[]);
    house.passes(&token);
    let lock = Lock::take(&house.daemon.home());
    let seen = house.provider.requests().len();
    let wanted = Refusal {
        status: 503,
        kind: "api_error",
        code: "ledger_unavailable",
        param: "",
        retry: Retry::After,
        says: &["cannot write its ledger"],
        rule: "",
    };
    refusal::check(&client::post_json(&house.daemon.chat_url(), &token, &chat()), &wanted);
    assert_eq!(house.provider.requests().len(), seen);
    lock.release();
    until("the ledger's return", || (client::post_json(&house.daemon.chat_url(), &token, &chat()).status == 200).then_some(()));
    settled_and_audited(&house.daemon, &house.provider);
}
