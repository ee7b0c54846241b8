//! Profiles and rules of policy.yaml on a running daemon: which agent they bind, what they let through, what they change.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_core::policy::{Change, Changed};
use aex_tests::ask::{chat, chat_with, tool};
use aex_tests::client::{self, Answer};
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger::{self, settled_and_audited};
use aex_tests::provider::Provider;
use aex_tests::refusal::{self, Refusal, forbidden};
use serde_json::{Value, json};

struct House {
    provider: Provider,
    daemon: Daemon,
}

impl House {
    fn new(policy: &str) -> Self {
        let provider = Provider::start();
        let daemon = Daemon::start_with(Config::new(&provider).policy_yaml(policy));
        Self { provider, daemon }
    }

    #[track_caller]
    fn call(&self, token: &str, changes: &Value) -> Answer {
        client::post_json(&self.daemon.chat_url(), token, &chat_with(changes))
    }

    #[track_caller]
    fn passes(&self, token: &str, changes: &Value) -> Value {
        let answer = self.call(token, changes);
        assert_eq!(answer.status, 200, "{changes}: {answer}");
        self.provider.last_request().json()
    }

    #[track_caller]
    fn denies(&self, token: &str, changes: &Value, wanted: &Refusal<'_>) {
        let seen = self.provider.requests().len();
        refusal::denied(&self.daemon, &self.provider, seen, &self.call(token, changes), wanted);
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            settled_and_audited(&self.daemon, &self.provider);
        }
    }
}

const TEAM: &str = "version: 1
profiles:
  team:
    agents: [bot, \"bot-*\"]
    default: deny
    max_output_tokens: 300
    allow_vision: true
    rules:
      - name: cheap
        effect: allow
        when: {model: m1}
      - name: no shells
        effect: deny
        when: {tool: [\"*shell*\", exec]}
        reason: agents run nothing
      - name: large ones
        effect: ask
        when: {output_tokens: {above: 200}}
";

#[test]
fn rules_decide_for_the_agents_that_a_profile_binds_and_for_no_other() {
    let house = House::new(TEAM);
    let (bound, free) = (house.daemon.agent("bot-7", &[]), house.daemon.agent("other", &[]));
    house.passes(&bound, &json!({}));
    house.passes(&free, &json!({"model": "m2"}));
    house.denies(
        &bound,
        &json!({"model": "m2"}),
        &forbidden(
            "",
            "rule:default",
            &["No rule of the agent's profile (policy.yaml:3)", "nearest is `cheap`, but for model: m2 is not m1"],
        ),
    );
    let tools = json!({"tools": [tool("search"), tool("my_shell")]});
    house.denies(
        &bound,
        &tools,
        &forbidden("", "rule:no shells", &["`no shells` (policy.yaml:12) denies", "agents run nothing", "it also matches cheap"]),
    );
    house.passes(&free, &tools);
    house.passes(&bound, &json!({"tools": [tool("search")]}));
    house.denies(
        &bound,
        &json!({"max_tokens": 201}),
        &forbidden("", "rule:large ones", &["(policy.yaml:16)", "approvals do not exist yet"]),
    );
    // The profile's fields hold, too, and are told before its rules.
    house.denies(&bound, &json!({"max_tokens": 301}), &forbidden("max_tokens", "max_output_tokens", &["max_output_tokens is 300"]));
    let said = house.daemon.ctl(["events", "-n", "5"]).ok().stdout;
    assert!(said.contains("rule:large ones (policy.yaml:16), ask"), "{said}");
}

#[test]
fn an_agents_own_fields_win_and_an_inspection_says_who_states_what() {
    let house = House::new(TEAM);
    let own = house.daemon.agent("bot", &["--max-output-tokens", "150", "--strict"]);
    house.denies(&own, &json!({"max_tokens": 151}), &forbidden("max_tokens", "max_output_tokens", &["max_output_tokens is 150"]));
    let inspected = house.daemon.rpc("agent.inspect", &json!({"name": "bot"}));
    assert_eq!(inspected["profile"], "team");
    assert_eq!(inspected["policy_from"], json!({"allow_vision": "profile", "max_output_tokens": "agent", "strict": "agent"}));
    let policy = &inspected["policy"];
    assert_eq!((&policy["allow_vision"], &policy["max_output_tokens"], &policy["allow_tools"]), (&json!(true), &json!(150), &json!(true)));
}

#[test]
fn a_limit_clamps_what_is_sent_and_its_changes_are_in_the_event() {
    let house = House::new(
        "profiles:
  calm:
    agents: \"*\"
    rules:
      - {name: short, effect: limit, limit: {max_tokens: 20}}
      - {name: cool, effect: limit, when: {model: m1}, limit: {temperature: \"0.70\"}}
",
    );
    let token = house.daemon.agent("bot", &[]);
    let sent = house.passes(&token, &json!({"temperature": 1.5, "max_tokens": 50}));
    assert_eq!((&sent["max_tokens"], &sent["temperature"]), (&json!(20), &json!(0.7)));
    let held = ledger::last(&house.daemon).held;
    let change = |field, from: &str, to: &str| Change { field, from: Some(from.to_owned()), to: to.to_owned() };
    assert_eq!(held.changes, [change(Changed::MaxTokens, "50", "20"), change(Changed::Temperature, "1.5", "0.70")]);
    assert_eq!((held.max_tokens, held.rule.as_deref()), (20, Some("short")));
    assert_eq!(held.facts.map(|facts| facts.agent), Some("bot".to_owned()));
    let sent = house.passes(&token, &json!({"temperature": 0.2, "max_tokens": null}));
    assert_eq!((&sent["max_tokens"], &sent["temperature"]), (&json!(20), &json!(0.2)));
    let sent = house.passes(&token, &json!({"model": "m2", "temperature": 2, "max_tokens": 5}));
    assert_eq!((&sent["max_tokens"], &sent["temperature"]), (&json!(5), &json!(2)));
}

#[test]
fn a_stream_that_is_taken_away_still_comes_as_a_stream() {
    let house = House::new("profiles: {plain: {agents: bot, rules: [{name: whole, effect: limit, limit: {stream: false}}]}}\n");
    let token = house.daemon.agent("bot", &[]);
    for with_usage in [false, true] {
        let options = if with_usage { json!({"include_usage": true}) } else { Value::Null };
        let mut body = chat_with(&json!({"stream": true}));
        if with_usage {
            body["stream_options"] = options;
        }
        let answer = client::post_json(&house.daemon.chat_url(), &token, &body);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream; charset=utf-8")), "{answer}");
        let sent = house.provider.last_request().json();
        assert_eq!((&sent["stream"], sent["stream_options"].is_null()), (&json!(false), true));
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let chunks: Vec<Value> = text
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).expect("JSON"))
            .collect();
        assert!(text.ends_with("data: [DONE]\n\n") && chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk"), "{text}");
        let usage: Vec<&Value> = chunks.iter().map(|chunk| &chunk["usage"]).filter(|usage| !usage.is_null()).collect();
        assert_eq!(usage.len(), usize::from(with_usage), "{text}");
        let held = ledger::last(&house.daemon).held;
        assert_eq!(held.changes.first().map(|change| change.field), Some(Changed::Stream));
        assert!(held.ask.stream);
    }
}

#[test]
fn a_rule_may_ask_how_full_the_budget_is() {
    let house = House::new(
        "profiles:
  saver:
    agents: bot
    default: allow
    rules:
      - {name: save, effect: deny, when: {budget_share: {above: 50}, model: m2}}
",
    );
    // A call of the chat costs 33 µUSD.
    let token = house.daemon.agent_with("bot", "0.001", 1000, &[]);
    house.passes(&token, &json!({"model": "m2"}));
    let denied = (0..40).find_map(|_| {
        let answer = house.call(&token, &json!({"model": "m2"}));
        (answer.status != 200).then_some(answer)
    });
    refusal::check(&denied.expect("a denial"), &forbidden("", "rule:save", &["`save`"]));
    house.passes(&token, &json!({"model": "m1"}));
    let event = ledger::denials(&house.daemon).pop().expect("an event");
    assert!(event.facts.and_then(|facts| facts.budget_share_percent).is_some_and(|share| share > 50));
}

#[test]
fn a_policy_is_reloaded_whole_or_not_at_all() {
    let house = House::new(TEAM);
    let token = house.daemon.agent("bot", &[]);
    house.denies(&token, &json!({"model": "m2"}), &forbidden("", "rule:default", &[]));
    house.daemon.write_policy(&TEAM.replace("effect: allow", "effect: alow"));
    let said = house.daemon.ctl(["models", "reload"]);
    assert!(
        said.code == 1 && said.stderr.contains("policy.yaml:10: profiles.team.rules[0].effect: expected deny or ask or limit or allow"),
        "{said:?}"
    );
    refusal::check(&house.call(&token, &json!({"model": "m2"})), &forbidden("", "rule:default", &[]));
    house.daemon.write_policy(&TEAM.replace("model: m1", "model: \"m?\""));
    house.daemon.ctl(["models", "reload"]).ok();
    house.passes(&token, &json!({"model": "m2"}));
    house.daemon.write_policy("");
    house.daemon.ctl(["models", "reload"]).ok();
    house.passes(&token, &json!({"tools": [tool("shell")]}));
}

#[test]
fn two_profiles_that_bind_one_agent_let_nothing_pass() {
    let mut house = House::new("");
    let (both, first) = (house.daemon.agent("ab", &[]), house.daemon.agent("a", &[]));
    house.daemon.write_policy("profiles:\n  one: {agents: \"a*\"}\n  two: {agents: \"*b\"}\n");
    let said = house.daemon.ctl(["models", "reload"]);
    assert!(said.code == 1 && said.stderr.contains("agent 'ab' is bound to two profiles"), "{said:?}");
    house.passes(&both, &json!({}));
    // Nobody can be asked at a start.
    house.daemon.restart();
    let said = house.daemon.ctl(["agent", "create", "aab", "5", "60"]);
    assert!(said.code == 1 && said.stderr.contains("two profiles bind that name"), "{said:?}");
    house.denies(&both, &json!({}), &forbidden("", "profiles", &["`one` (policy.yaml:2)", "`two` (policy.yaml:3)"]));
    house.passes(&first, &chat());
}

const CASES: &str = "cases:
  - {agent: bot, model: m1, expect: allow, rule: cheap}
  - {agent: bot, model: m2, expect: deny, rule: default}
  - {agent: bot, model: m1, tools: [a, myshell], expect: deny, rule: no shells}
  - {agent: bot, model: m1, max_tokens: 250, expect: ask}
  - {agent: bot, model: m1, max_tokens: 301, expect: deny, rule: max_output_tokens}
  - {agent: stranger, model: m2, expect: allow}
";

#[test]
fn a_policy_is_checked_shown_and_tried_from_the_command_line() {
    let house = House::new(TEAM);
    let _token = house.daemon.agent("bot", &["--strict"]);
    let _other = house.daemon.agent("other", &[]);
    let file = house.daemon.scratch().join("cases.yaml");
    let run = |text: &str| {
        std::fs::write(&file, text).expect("write the cases");
        house.daemon.ctl(["policy", "test", file.to_str().expect("UTF-8")])
    };
    // Without a limit of its own a call may have 300 tokens, which is above 200.
    let said = run(CASES);
    assert!(said.code == 1 && said.stdout.contains("FAIL line 2: bot calls m1: ask by large ones, expected allow"), "{said:?}");
    let said = run(&CASES
        .replace("model: m1, expect", "model: m1, max_tokens: 10, expect")
        .replace("model: m2, expect: deny", "model: m2, max_tokens: 10, expect: deny"));
    assert!(said.code == 0 && said.stdout.ends_with("6 passed, 0 failed\n"), "{said:?}");
    let said = run("cases:\n  - {agent: bot, model: m1, expekt: allow}\n");
    assert!(said.code == 1 && said.stderr.contains("cases.yaml:2: cases[0].expekt: unknown key"), "{said:?}");

    let said = house.daemon.ctl(["policy", "show", "bot"]).ok().stdout;
    for piece in
        ["Profile: team (policy.yaml:3)", "Default: deny", "profile", "agent", "no shells", "tool=[*shell*, exec]", "policy.yaml:16"]
    {
        assert!(said.contains(piece), "{piece}: {said}");
    }
    let said = house.daemon.ctl(["policy", "check"]).ok().stdout;
    assert!(said.contains("bot") && !said.contains("other") && said.contains("The policy is sound: 1 profile."), "{said}");
    let wrong = house.daemon.scratch().join("wrong.yaml");
    std::fs::write(&wrong, "profiles:\n  a: {agents: [bot]}\n  b: {agents: [\"b*\"], default: deny}\n").expect("write a policy");
    let said = house.daemon.ctl(["policy", "check", wrong.to_str().expect("UTF-8")]);
    assert!(
        said.code == 1 && said.stdout.contains("agent 'bot' is bound to two profiles") && said.stdout.contains("the default denies"),
        "{said:?}"
    );
    assert_eq!(house.daemon.ctl(["policy", "show", "nobody"]).code, 4);
}
