//! Groups: limits that agents share, what stands where in the tree, and what a refusal says of it.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_tests::ask::{chat, chat_with};
use aex_tests::client::{self, Connection};
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger::{self, settled_and_audited};
use aex_tests::provider::{Provider, Script};
use aex_tests::refusal::{self, Refusal, Retry, forbidden, limited, unaffordable, unauthenticated};
use serde_json::{Value, json};

struct House {
    provider: Provider,
    daemon: Daemon,
}

impl House {
    fn new(config: impl FnOnce(Config) -> Config) -> Self {
        let provider = Provider::start();
        let daemon = Daemon::start_with(config(Config::new(&provider)));
        Self { provider, daemon }
    }

    #[track_caller]
    fn ctl(&self, line: &str) -> String {
        self.daemon.ctl(line.split(' ')).ok().stdout
    }

    /// What a command says when it is refused, with its exit code.
    #[track_caller]
    fn refused(&self, line: &str) -> (i32, String) {
        let said = self.daemon.ctl(line.split(' '));
        assert_ne!(said.code, 0, "{line}: {said:?}");
        (said.code, said.stderr)
    }

    #[track_caller]
    fn denies(&self, token: &str, wanted: &Refusal<'_>) -> Value {
        let seen = self.provider.requests().len();
        let answer = client::post_json(&self.daemon.chat_url(), token, &chat());
        refusal::denied(&self.daemon, &self.provider, seen, &answer, wanted);
        answer.json()["error"].clone()
    }

    #[track_caller]
    fn status(&self, token: &str) -> u16 {
        client::post_json(&self.daemon.chat_url(), token, &chat()).status
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
fn the_limits_of_a_group_hold_for_all_agents_below_it_together() {
    let house = House::new(|config| config);
    house.ctl("group create org --rpm 3");
    house.ctl("group create lab --parent org --max-concurrent 1");
    let (ann, bob) = (house.daemon.agent("ann", &["--group", "lab"]), house.daemon.agent("bob", &["--group", "org"]));
    house.provider.script(Script::hold());
    let mut waiting = Connection::open(&house.daemon.url());
    waiting.post_json("/v1/chat/completions", &ann, &chat());
    house.provider.wait_for_requests(1);
    let second = house.daemon.agent("second", &["--group", "lab"]);
    house.denies(&second, &limited("concurrency", Retry::After, &["Group `lab` has used up its limit of 1 concurrent request"]));
    house.provider.release();
    assert_eq!(waiting.answer().expect("an answer").status, 200);
    assert_eq!((house.status(&bob), house.status(&second)), (200, 200));
    house.denies(&bob, &limited("rpm", Retry::After, &["Group `org` has used up its limit of 3 requests per minute"]));
    // An agent outside is not concerned, and a limit that is taken away no longer counts.
    let free = house.daemon.agent("free", &[]);
    assert_eq!(house.status(&free), 200);
    house.ctl("group update org --clear rpm --tpm 0");
    house.denies(&ann, &limited("tpm", Retry::Never, &["group `org`, 0 tokens per minute"]));
    house.ctl("group update org --clear tpm");
    assert_eq!(house.status(&ann), 200);
}

#[test]
fn a_denial_of_money_names_the_level_the_period_and_the_reset() {
    let house = House::new(|config| config);
    house.ctl("group create lab --budget 1 --per week");
    let token = house.daemon.agent("bot", &["--group", "lab", "--per", "day"]);
    // Nothing of the call fits: 0.0001 is less than the bound of any.
    let rows: [(&str, &str, &[&str]); 4] = [
        ("agent:bot", "day", &["The daily budget of agent `bot` does not suffice", "aexctl agent inspect bot"]),
        ("group:lab", "week", &["The weekly budget of group `lab` does not suffice", "aexctl budget show group:lab"]),
        ("root", "month", &["The monthly budget of this machine (account `root`) does not suffice", "aexctl budget show root"]),
        ("root", "total", &["The total budget of this machine (account `root`) does not suffice", "It does not reset"]),
    ];
    for (account, period, says) in rows {
        house.ctl(&format!("budget set {account} 0.0001 --per {period}"));
        let error = house.denies(&token, &unaffordable(says));
        assert_eq!((&error["account"], &error["period"]), (&json!(account), &json!(period)), "{error}");
        let resets = error["resets_at"].as_str();
        assert_eq!(resets.is_some(), period != "total", "{error}");
        let row = &house.daemon.rpc("budget.show", &json!({"account": account}))["accounts"][0];
        let budget = row["budgets"].as_array().expect("budgets").iter().find(|budget| budget["period"] == period).expect("a budget");
        assert_eq!(budget["resets_at"].as_str(), resets, "{row}");
        if let Some(at) = resets {
            assert!(error["message"].as_str().is_some_and(|message| message.contains(&format!("It resets at {at}"))), "{error}");
        }
        house.ctl(&format!("budget set {account} 5 --per {period}"));
        assert_eq!(house.status(&token), 200, "{account} {period}");
    }
    let denied = ledger::denials(&house.daemon);
    let kinds: Vec<Value> = denied.iter().map(|denied| json!(denied.denial)["budget"]["account"]["kind"].clone()).collect();
    assert_eq!(kinds, [json!("agent"), json!("group"), json!("root"), json!("root")]);
}

#[test]
fn what_is_above_an_agent_is_told_wherever_the_agent_is() {
    let house = House::new(|config| config);
    house.ctl("group create org --budget 9 --per month");
    house.ctl("group create lab --parent org");
    let token = house.daemon.agent("bot", &["--group", "lab"]);
    assert_eq!(house.status(&token), 200);
    let group = |value: &Value| value["group"].clone();
    assert_eq!(group(&house.daemon.rpc("agent.inspect", &json!({"name": "bot"}))), "lab");
    assert_eq!(group(&house.daemon.rpc("agent.list", &json!({}))["agents"][0]), "lab");
    assert_eq!(group(&house.daemon.rpc("metrics.get", &json!({}))["agents"][0]), "lab");
    assert_eq!(house.daemon.rpc("status.get", &json!({}))["groups"], 2);
    for (line, says) in [
        ("agent list", " bot  | lab   | $100.00"),
        ("agent inspect bot", "Group:              lab"),
        ("metrics", " bot   | lab   | "),
        ("status", "Groups:          2"),
        ("events --limit 100", " group:org "),
        ("group list", " lab  | org   | 1      | -           | $0.000033"),
        ("group list", " org  | -     | 0      | $9.00/month | $0.000033    | $8.999967"),
    ] {
        let said = house.ctl(line);
        assert!(said.contains(says), "{line}: {says:?} is not in\n{said}");
    }
    let listed = house.daemon.rpc("group.list", &json!({}));
    assert_eq!((&listed["groups"][0]["name"], &listed["groups"][0]["groups"]), (&json!("org"), &json!(1)), "{listed}");
    assert!(listed["groups"][1]["last_activity_at"].is_string(), "{listed}");
}

#[test]
fn a_profile_is_bound_to_the_agents_of_a_group() {
    let house = House::new(|config| config.policy_yaml("version: 1\nprofiles:\n  quiet:\n    groups: [org]\n    allow_streaming: false\n"));
    house.ctl("group create org");
    house.ctl("group create lab --parent org");
    let token = house.daemon.agent("bot", &["--group", "lab"]);
    assert_eq!(house.daemon.rpc("agent.inspect", &json!({"name": "bot"}))["profile"], "quiet");
    let answer = client::post_json(&house.daemon.chat_url(), &token, &chat_with(&json!({"stream": true})));
    refusal::check(&answer, &forbidden("stream", "allow_streaming", &[]));
    let free = house.daemon.agent("free", &[]);
    assert_eq!(client::post_json(&house.daemon.chat_url(), &free, &chat_with(&json!({"stream": true}))).status, 200);
    // Two profiles for one agent are refused when it is made, as they are without groups.
    house.daemon.write_policy(
        "version: 1\nprofiles:\n  quiet:\n    groups: [org]\n    allow_streaming: false\n  loud:\n    agents: [late]\n    allow_vision: true\n",
    );
    house.ctl("models reload");
    let (code, said) = house.refused("agent create late 1 60 --group lab");
    assert!(code == 1 && said.contains("two profiles"), "{said}");
}

#[test]
fn a_group_with_agents_is_deleted_only_with_all_of_it() {
    let house = House::new(|config| config);
    house.ctl("group create org");
    house.ctl("group create lab --parent org");
    let token = house.daemon.agent("bot", &["--group", "lab"]);
    assert_eq!(house.status(&token), 200);
    let (code, said) = house.refused("group delete org");
    assert!(code == 1 && said.contains("1 agent and 1 group stand below group 'org'"), "{said}");
    assert_eq!(house.status(&token), 200);
    let said = house.ctl("group delete org --recursive --reason moved");
    assert_eq!(said.trim(), "Group 'org' deleted with 1 agent, 1 group; it spent $0.000066.");
    let answer = client::post_json(&house.daemon.chat_url(), &token, &chat());
    refusal::check(&answer, &unauthenticated(&["does not know this token"]));
    // The names are free again, and what was spent stays with the old group.
    house.ctl("group create org --budget 3");
    let again = house.daemon.agent("bot", &["--group", "org"]);
    assert_eq!(house.daemon.rpc("group.list", &json!({}))["groups"][0]["spent_pico"], "0");
    assert_eq!(house.status(&again), 200);
    assert_eq!(house.daemon.rpc("budget.show", &json!({}))["accounts"][0]["spent_pico"], "99000000");
}

#[test]
fn a_name_that_means_two_accounts_or_none_is_refused() {
    let house = House::new(|config| config);
    house.ctl("group create twin");
    let _token = house.daemon.agent("twin", &[]);
    let rows = [
        ("pause twin", 1, "'twin' is an agent and a group: write agent:twin or group:twin"),
        ("pause nobody", 4, "an agent or group 'nobody' does not exist"),
        ("budget show run_99", 4, "an open run run_99 does not exist"),
        ("budget set group:nobody 1", 4, "group:nobody does not exist"),
        ("pause a/b", 2, "names no account"),
        ("pause", 2, "required"),
        ("kill twin --all", 2, "cannot be used with"),
        ("group create twin", 1, "group 'twin' exists already"),
        ("group create run-7", 2, "no name of a group"),
        ("group create x --parent nobody", 4, "group 'nobody' does not exist"),
        ("group create x --per day", 2, "--budget"),
        ("group update twin", 1, "nothing is to be changed"),
        ("group update twin --clear colour", 1, "`colour` cannot be cleared"),
        ("group update twin --rpm 5 --clear rpm", 1, "set and cleared"),
        ("agent create y 1 60 --group nobody", 4, "no group 'nobody'"),
    ];
    let before = ledger::events(&house.daemon).len();
    for (line, code, says) in rows {
        let (got, said) = house.refused(line);
        assert!(got == code && said.contains(says), "{line}: {got} {said}");
    }
    assert_eq!(ledger::events(&house.daemon).len(), before);
    house.ctl("pause agent:twin");
    house.ctl("pause group:twin");
    let shown = house.daemon.rpc("budget.show", &json!({}));
    let states: Vec<(&str, &str)> = shown["accounts"]
        .as_array()
        .expect("accounts")
        .iter()
        .map(|row| (row["account"].as_str().unwrap_or_default(), row["state"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(states, [("root", "active"), ("group:twin", "paused"), ("agent:twin", "paused")]);
    for depth in 0..8 {
        let parent = if depth == 0 { String::new() } else { format!(" --parent g{}", depth - 1) };
        house.ctl(&format!("group create g{depth}{parent}"));
    }
    let (_, said) = house.refused("group create g8 --parent g7");
    assert!(said.contains("at most 8 deep"), "{said}");
    // The deepest still works.
    let deep = house.daemon.agent("deep", &["--group", "g7"]);
    assert_eq!(house.status(&deep), 200);
}

#[test]
fn a_pause_above_an_agent_denies_it_and_is_lifted_where_it_was_set() {
    let mut house = House::new(|config| config);
    house.ctl("group create lab");
    let token = house.daemon.agent("bot", &["--group", "lab"]);
    let inactive = |says| Refusal { code: "account_paused", ..forbidden("", "account_state", says) };
    house.ctl("pause group:lab --reason night");
    house.denies(&token, &inactive(&["Group `lab` is paused (night)", "aexctl resume group:lab"]));
    house.ctl("pause --all");
    let said = house.ctl("resume lab");
    assert_eq!(said.trim(), "group:lab is active again. Its calls are still denied: root above it is not active.");
    house.denies(&token, &inactive(&["This machine (account `root`) is paused", "aexctl resume --all"]));
    assert!(house.ctl("status").starts_with("All calls:       denied: paused"));
    house.daemon.restart();
    house.denies(&token, &inactive(&["This machine"]));
    // What was paused by itself stays paused when all is resumed.
    house.ctl("agent pause bot");
    house.ctl("resume --all");
    house.denies(&token, &inactive(&["Agent `bot` is paused"]));
    house.ctl("agent resume bot");
    assert_eq!(house.status(&token), 200);
    assert_eq!(house.ctl("resume --all").trim(), "root is active already.");
}
