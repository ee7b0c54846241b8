//! `aexctl agent update`: budgets, limits and policy of a living agent, and what the ledger says of it.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::thread;

use aex_tests::ask::{chat, chat_with};
use aex_tests::client;
use aex_tests::daemon::Daemon;
use aex_tests::ledger::{self, settled_and_audited};
use aex_tests::provider::{Provider, Script};
use serde_json::{Value, json};

struct House {
    provider: Provider,
    daemon: Daemon,
    token: String,
}

impl House {
    fn new(flags: &[&str]) -> Self {
        let provider = Provider::start();
        let daemon = Daemon::start(&provider);
        let token = daemon.agent("bot", flags);
        Self { provider, daemon, token }
    }

    #[track_caller]
    fn status(&self, changes: &Value) -> u16 {
        client::post_json(&self.daemon.chat_url(), &self.token, &chat_with(changes)).status
    }

    #[track_caller]
    fn updates(&self, flags: &[&str]) -> (Value, String) {
        let said = self.daemon.ctl(["agent", "update", "bot", "--json"].iter().chain(flags)).ok();
        (said.json(), said.stderr)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            settled_and_audited(&self.daemon, &self.provider);
        }
    }
}

#[test]
fn a_budget_set_in_mid_period_counts_what_is_spent_and_held() {
    let mut house = House::new(&[]);
    assert_eq!((house.status(&json!({})), house.status(&json!({}))), (200, 200));
    house.provider.script(Script::hold());
    thread::scope(|scope| {
        let call = scope.spawn(|| house.status(&json!({})));
        house.provider.wait_for_requests(3);
        let (agent, _) = house.updates(&["--budget", "1", "--per", "day"]);
        let day = &agent["budgets"][1];
        assert_eq!((&day["period"], &day["spent_pico"]), (&json!("day"), &json!("66000000")));
        assert_ne!(day["reserved_pico"], "0");
        house.provider.release();
        assert_eq!(call.join().expect("a call"), 200);
    });
    ledger::quiet(&house.daemon);
    let budgets = |daemon: &Daemon| {
        let agent = daemon.rpc("agent.inspect", &json!({"name": "bot"}));
        let budgets = agent["budgets"].as_array().expect("budgets").clone();
        budgets.iter().map(|budget| (budget["spent_pico"].clone(), budget["reserved_pico"].clone())).collect::<Vec<_>>()
    };
    let wanted = vec![(json!("99000000"), json!("0")); 2];
    assert_eq!(budgets(&house.daemon), wanted);
    house.daemon.kill9();
    house.daemon.run();
    assert_eq!(budgets(&house.daemon), wanted);
    // The day's budget denies, the total does not.
    house.updates(&["--budget", "0.0001", "--per", "day"]);
    assert_eq!(house.status(&json!({})), 402);
    house.updates(&["--budget", "2", "--per", "day"]);
    assert_eq!(house.status(&json!({})), 200);
}

#[test]
fn a_hold_that_a_new_budget_took_in_survives_a_crash() {
    let mut house = House::new(&[]);
    house.provider.script(Script::hold());
    let mut connection = client::Connection::open(&house.daemon.url());
    connection.post_json("/v1/chat/completions", &house.token, &chat());
    house.provider.wait_for_requests(1);
    house.updates(&["--budget", "3", "--per", "week"]);
    house.daemon.kill9();
    house.daemon.run();
    let bound = ledger::last(&house.daemon).bound();
    let agent = house.daemon.rpc("agent.inspect", &json!({"name": "bot"}));
    for budget in agent["budgets"].as_array().expect("budgets") {
        assert_eq!((&budget["spent_pico"], &budget["reserved_pico"]), (&json!(bound.to_string()), &json!("0")), "{budget}");
    }
}

#[test]
fn a_budget_lowered_below_what_is_spent_says_so_and_lets_nothing_pass() {
    let house = House::new(&[]);
    assert_eq!(house.status(&json!({})), 200);
    let (agent, said) = house.updates(&["--budget", "0.00001", "--reason", "too dear"]);
    assert!(
        said.contains("warning: $0.000033 is spent or held already")
            && said.contains("every further call is denied until the budget is raised"),
        "{said}"
    );
    assert_eq!((&agent["budgets"][0]["overdraft_pico"], &agent["state"]), (&json!("23000000"), &json!("active")));
    assert_eq!(house.status(&json!({})), 402);
    let events = house.daemon.rpc("event.list", &json!({"limit": 1000}));
    let set = |event: &&Value| event["kind"] == "budget.set" && event["body"]["reason"] == "too dear";
    assert!(events["events"].as_array().is_some_and(|events| events.iter().any(|event| set(&event))), "{events}");
    let (_, said) = house.updates(&["--budget", "1"]);
    assert_eq!(said, "");
    assert_eq!(house.status(&json!({})), 200);
}

#[test]
fn limits_and_fields_change_at_once_and_can_be_taken_back() {
    let mut house = House::new(&["--no-streaming", "--max-output-tokens", "100"]);
    let stream = json!({"stream": true});
    assert_eq!(house.status(&stream), 403);
    let (agent, _) = house.updates(&["--streaming", "--strict", "--tpm", "5000", "--max-concurrent", "4", "--rpm", "500"]);
    assert_eq!((&agent["tpm"], &agent["max_concurrent"], &agent["rpm"]), (&json!(5000), &json!(4), &json!(500)));
    assert_eq!(agent["policy_from"], json!({"allow_streaming": "agent", "strict": "agent", "max_output_tokens": "agent"}));
    assert_eq!(house.status(&stream), 200);
    assert_eq!((house.status(&json!({"brand_new": 1})), house.status(&json!({"max_tokens": 101}))), (403, 403));
    let (agent, _) = house.updates(&["--no-strict", "--clear", "max-output-tokens", "--clear", "tpm"]);
    assert_eq!((&agent["tpm"], &agent["policy"]["max_output_tokens"]), (&Value::Null, &Value::Null));
    house.daemon.restart();
    assert_eq!((house.status(&json!({"brand_new": 1})), house.status(&json!({"max_tokens": 101}))), (200, 200));
    house.updates(&["--tpm", "0"]);
    assert_eq!(house.status(&json!({})), 429);
    let updates = ledger::events(&house.daemon).into_iter().filter(|event| event["kind"] == "account.updated").count();
    assert_eq!(updates, 3);
}

#[test]
fn what_cannot_be_changed_is_refused_and_changes_nothing() {
    let house = House::new(&[]);
    let rows: [(&[&str], i32, &str); 6] = [
        (&[], 1, "nothing is to be changed"),
        (&["--clear", "colour"], 1, "`colour` cannot be cleared"),
        (&["--rpm", "5", "--clear", "rpm"], 1, "set and cleared"),
        (&["--allowed-models", "m9"], 1, "no model 'm9'"),
        (&["--budget", "-1"], 2, "negative"),
        (&["--tools", "--no-tools"], 2, "cannot be used with"),
    ];
    for (flags, code, says) in rows {
        let said = house.daemon.ctl(["agent", "update", "bot"].iter().chain(flags));
        assert!(said.code == code && said.stderr.contains(says), "{flags:?}: {said:?}");
    }
    assert_eq!(house.daemon.ctl(["agent", "update", "nobody", "--rpm", "5"]).code, 4);
    assert_eq!(house.status(&json!({})), 200);
}
