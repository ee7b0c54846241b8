//! `aexctl explain` through the real binaries: the text of each kind of story is a frozen sample below `fixtures/explain`, with
//! ids, times, digests, ports and numbers of events taken out. `AEX_BLESS=1` writes the samples anew, to be read in the diff.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::path::PathBuf;

use aex_proto::explain::Story;
use aex_tests::ask::{chat, chat_with};
use aex_tests::client::{self, Answer, Connection};
use aex_tests::daemon::{Config, Daemon, Output};
use aex_tests::house::House;
use aex_tests::ledger::{self, last, settled_and_audited};
use aex_tests::provider::{Provider, Script, Usage};
use serde_json::{Value, json};

/// Takes out of a text what is different each time.
fn normalised(text: &str) -> String {
    let mut requests: Vec<String> = Vec::new();
    let mut in_events = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        in_events = line == "Events" || (in_events && !line.is_empty());
        let words = line.split(' ').map(|word| normal_word(word, &mut requests));
        let mut line = words.collect::<Vec<_>>().join(" ");
        for (before, after) in [("user ", "UID"), ("(process ", "PID)"), ("event ", "N"), ("at once: event ", "N"), ("until event ", "N")] {
            line = numbered(&line, before, after);
        }
        if in_events && line.starts_with("  ") {
            line = format!("  N  {}", line.trim_start().split_once("  ").map_or("", |(_, rest)| rest));
        }
        lines.push(line);
    }
    lines.join("\n") + "\n"
}

fn normal_word(word: &str, requests: &mut Vec<String>) -> String {
    let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '…');
    let is_hex = |text: &str| text.len() >= 12 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let is_form = |form: &str| {
        core.len() == form.len() && core.bytes().zip(form.bytes()).all(|(b, f)| if f == b'0' { b.is_ascii_digit() } else { b == f })
    };
    let normal = if core.strip_prefix("req_").is_some_and(is_hex) {
        let place = requests.iter().position(|known| known == core).unwrap_or_else(|| {
            requests.push(core.to_owned());
            requests.len() - 1
        });
        format!("req_{}", place + 1)
    } else if core.strip_suffix('…').is_some_and(is_hex) {
        "HASH…".to_owned()
    } else if is_form("0000-00-00") {
        "DATE".to_owned()
    } else if is_form("00:00:00Z") {
        "TIME".to_owned()
    } else if let Some((before, after)) = core.split_once("127.0.0.1:") {
        format!("{before}127.0.0.1:PORT{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
    } else {
        return word.to_owned();
    };
    word.replace(core, &normal)
}

/// Replaces the number, and a bracket, that follow a word.
fn numbered(line: &str, before: &str, after: &str) -> String {
    let mut done = String::new();
    let mut rest = line;
    while let Some((head, tail)) = rest.split_once(before) {
        let behind = tail.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_number = behind.len() < tail.len();
        done.extend([head, before, if is_number { after } else { "" }]);
        rest = if is_number && after.ends_with(')') { behind.strip_prefix(')').unwrap_or(behind) } else { behind };
    }
    done + rest
}

/// The text is the frozen sample.
#[track_caller]
fn sample(name: &str, output: &Output) {
    let text = normalised(&output.stdout);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/explain").join(format!("{name}.txt"));
    if std::env::var_os("AEX_BLESS").is_some() {
        std::fs::write(&path, &text).expect("write the sample");
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == wanted, "{name}: told\n{text}\nthe sample is\n{wanted}");
}

#[track_caller]
fn explained(daemon: &Daemon, id: &str) -> Output {
    let output = daemon.ctl(["explain", id]);
    assert_eq!(output.code, 0, "{id}: {output:?}");
    output
}

#[track_caller]
fn story(daemon: &Daemon, id: &str) -> Story {
    serde_json::from_value(daemon.ctl(["explain", id, "--json"]).json()).expect("a story")
}

fn id_of(answer: &Answer) -> &str {
    answer.header("x-aex-request-id").expect("an id")
}

/// The number of the newest event of a kind.
#[track_caller]
fn newest(daemon: &Daemon, kind: &str) -> String {
    let events = ledger::events(daemon);
    events.iter().rev().find(|event| event["kind"] == kind).expect("an event")["seq"].to_string()
}

#[test]
fn an_exact_call_is_told_the_same_with_and_without_the_daemon() {
    let mut house = House::new(|config| config);
    let (answer, _) = house.call(false, Script::default());
    let told = explained(&house.daemon, id_of(&answer));
    sample("exact", &told);
    let json = house.daemon.ctl(["explain", id_of(&answer), "--json"]).json();
    assert_eq!(json["about"], "call");
    let Story::Call(call) = serde_json::from_value(json.clone()).expect("a story") else { panic!("{json}") };
    let end = &json["end"];
    assert_eq!(end["charge_usd"], call.end.as_ref().expect("an end").charge_pico.usd(), "{json}");
    assert!(call.recomputed.len() == 3 && call.recomputed.iter().all(|again| again.same), "{json}");
    // Each of its events is told by the story, too.
    for event in &call.events {
        assert_eq!(explained(&house.daemon, &event.seq.to_string()).stdout, told.stdout);
    }
    let billed = house.provider.bills();
    assert_eq!(call.end.expect("an end").charge_pico.get(), last(&house.daemon).charge(), "{billed:?}");
    settled_and_audited(&house.daemon, &house.provider);
    house.daemon.stop();
    assert_eq!(explained(&house.daemon, id_of(&answer)).stdout, told.stdout);
    assert_eq!(house.daemon.ctl(["explain", id_of(&answer), "--json"]).json(), json);
    let missing = house.daemon.ctl(["explain", "run_99"]);
    assert_eq!(
        (missing.code, missing.stderr.contains("error: no run run_99"), missing.stderr.contains("hint: ")),
        (4, true, true),
        "{missing:?}"
    );
}

#[test]
fn a_stream_left_by_its_client_is_told_as_an_estimate() {
    let mut house = House::new(|config| config);
    house.provider.script(Script::hold_after(3));
    house.begin_stream(12).close();
    house.provider.wait_for_bills(1);
    sample("stream_left", &explained(&house.daemon, &last(&house.daemon).held.request.to_string()));
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_bill_beyond_the_bound_is_told_with_what_it_did_to_the_agent() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent_with("bot", "0.0005", 1000, &[]);
    let usage = json!({"prompt_tokens": 5000, "completion_tokens": 1, "total_tokens": 5001});
    provider.script(Script { usage: Usage::Raw(usage), ..Script::default() });
    let answer = client::post_json(&daemon.chat_url(), &token, &chat());
    quiet(&daemon);
    sample("overdraft", &explained(&daemon, id_of(&answer)));
    sample("suspended", &explained(&daemon, &newest(&daemon, "account.state")));
}

#[test]
fn a_call_that_a_crash_left_is_told_in_flight_and_then_as_the_worst_case() {
    let provider = Provider::start();
    let mut daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    provider.script(Script::hold());
    let mut connection = Connection::open(&daemon.url());
    connection.post_json("/v1/chat/completions", &token, &chat());
    provider.wait_for_requests(1);
    let request = ledger::calls(&daemon)[0].held.request.to_string();
    sample("in_flight", &explained(&daemon, &request));
    daemon.kill9();
    provider.release();
    daemon.run();
    sample("crash", &explained(&daemon, &request));
    sample("started", &explained(&daemon, &newest(&daemon, "epoch.opened")));
}

const POLICY: &str = "profiles:
  team:
    agents: bot
    default: deny
    rules:
      - {name: cheap, effect: allow, when: {model: m1}}
      - {name: no shells, effect: deny, when: {tool: \"*shell*\"}, reason: agents run nothing}
";

#[test]
fn denials_tell_every_check_up_to_the_one_that_denied() {
    let provider = Provider::start();
    let daemon = Daemon::start_with(Config::new(&provider).policy_yaml(POLICY));
    let (bot, poor) = (daemon.agent("bot", &[]), daemon.agent_with("poor", "0.00001", 1000, &[]));
    let (slow, plain) = (daemon.agent_with("slow", "1", 0, &[]), daemon.agent("plain", &["--no-streaming"]));
    let call = |token: &str, changes: &Value| client::post_json(&daemon.chat_url(), token, &chat_with(changes));
    let told = |name: &str, answer: &Answer| sample(name, &explained(&daemon, id_of(answer)));
    told("denied_by_budget", &call(&poor, &json!({})));
    told("denied_by_default", &call(&bot, &json!({"model": "m2"})));
    let shell = aex_tests::ask::tool("my_shell");
    told("denied_by_rule", &call(&bot, &json!({"tools": [shell]})));
    told("denied_by_rate", &call(&slow, &json!({})));
    told("denied_by_model", &call(&plain, &json!({"model": "m9"})));
    told("denied_by_field", &call(&plain, &json!({"stream": true, "max_tokens": 2000})));
    let allowed = call(&bot, &json!({"max_tokens": null}));
    assert_eq!(allowed.status, 200, "{allowed}");
    quiet(&daemon);
    told("allowed_by_rule", &allowed);
}

#[test]
fn what_stands_above_an_agent_is_told_where_it_denies_and_where_it_changes() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let ctl = |line: &str| drop(daemon.ctl(line.split(' ')).ok());
    ctl("group create lab");
    let (ann, bob) = (daemon.agent("ann", &["--group", "lab"]), daemon.agent("bob", &[]));
    let call = |token: &str| client::post_json(&daemon.chat_url(), token, &chat());
    let told = |name: &str, status: u16, answer: &Answer| {
        assert_eq!(answer.status, status, "{answer}");
        sample(name, &explained(&daemon, id_of(answer)));
    };
    ctl("budget set lab 0.00001 --per day --reason dear");
    sample("budget_set_of_group", &explained(&daemon, &newest(&daemon, "budget.set")));
    told("denied_by_group_budget", 402, &call(&ann));
    ctl("budget set root 0.00002 --per month");
    told("denied_by_root_budget", 402, &call(&bob));
    ctl("pause lab");
    told("denied_by_paused_group", 403, &call(&ann));
    ctl("kill --all --reason fire");
    sample("killed_all", &explained(&daemon, &newest(&daemon, "account.state")));
    told("denied_by_kill", 403, &call(&bob));
    let now = daemon.ctl(["audit", "--json"]).json()["at"].as_str().expect("an instant").to_owned();
    ctl(&format!("ledger compact --before {now}"));
    let sealed = explained(&daemon, &newest(&daemon, "ledger.sealed"));
    // How many events there are is no matter of this text.
    let counted = |line: &str| ["events", "last"].into_iter().find(|name| line.trim_start().starts_with(&format!("{name} ")));
    let lines = sealed.stdout.lines().map(|line| counted(line).map_or_else(|| line.to_owned(), |name| format!("  {name:<24} N")));
    let text = lines.collect::<Vec<_>>().join("\n");
    sample("ledger_sealed", &Output { stdout: text, ..sealed });
}

#[test]
fn a_repeat_is_told_with_what_is_known_of_it_and_what_only_of_the_first() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    // A slow machine may spread calls over seconds; then more of them come.
    let (repeat, told, first) = ledger::until("refusals that repeat within a second", || {
        let calls: Vec<Answer> =
            (0..8).map(|_| client::post_json(&daemon.chat_url(), &token, &chat_with(&json!({"model": "m9"})))).collect();
        let own: Vec<String> = ledger::denials(&daemon).iter().map(|denied| denied.request.to_string()).collect();
        let repeat = calls.iter().map(id_of).find(|id| !own.iter().any(|own| own == id))?;
        let first = own.iter().rev().find(|own| own.as_str() < repeat)?.clone();
        match story(&daemon, repeat) {
            Story::Repeat(told) if told.groups[0].count > 1 => Some((repeat.to_owned(), told, first)),
            Story::Repeat(_) => None,
            other => panic!("{repeat} has no event of its own, and is told as {other:?}"),
        }
    });
    assert!(told.certain && told.groups.len() == 1, "{told:?}");
    let group = &told.groups[0];
    assert_eq!((group.rule.as_str(), group.told.as_ref().map(|told| told.request.to_string())), ("known_model", Some(first)));
    let output = explained(&daemon, &repeat);
    let count = format!("these {} requests", group.count);
    let text = output.stdout.replace(&count, "these N requests");
    sample("repeat", &Output { stdout: without_range(&text), ..output });
    let Story::Repeat(by_number) = story(&daemon, &group.event.seq.to_string()) else { panic!("an event is a group") };
    assert_eq!((by_number.request, &by_number.groups), (None, &told.groups));
}

/// A range of ids depends on how fast the calls came.
fn without_range(text: &str) -> String {
    let lines = text.lines().map(|line| if line.trim_start().starts_with("between") { "  between" } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn callers_that_are_not_known_are_told_by_their_cause() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let answer = client::post_json(&daemon.chat_url(), "", &chat());
    assert_eq!(answer.status, 401, "{answer}");
    sample("unknown_caller", &explained(&daemon, id_of(&answer)));
}

#[test]
fn a_run_and_admin_actions_are_told_with_who_did_them_and_what_they_changed() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let _token = daemon.agent_with("bot", "5", 60, &["--no-tools", "--reason", "for the tests"]);
    sample("agent_created", &explained(&daemon, &newest(&daemon, "account.created")));
    daemon.ctl(["agent", "update", "bot", "--budget", "7.5", "--rpm", "30", "--reason", "more work"]).ok();
    sample("budget_set", &explained(&daemon, &newest(&daemon, "budget.set")));
    sample("agent_updated", &explained(&daemon, &newest(&daemon, "account.updated")));
    let mut control = daemon.control();
    let opened = control.call("run.open", &json!({"agent": "bot", "command": "test", "budget_pico": "500000000"})).expect("a run");
    let (run, token) = (opened["run"].as_str().expect("an id").to_owned(), opened["token"].as_str().expect("a token").to_owned());
    let call = |changes: &Value| client::post_json(&daemon.chat_url(), &token, &chat_with(changes));
    // The bound of the second is more than the run's budget.
    for (changes, status) in [(json!({"max_tokens": 1}), 200), (json!({"max_tokens": 1000}), 402)] {
        let answer = call(&changes);
        assert_eq!(answer.status, status, "{changes}: {answer}");
    }
    quiet(&daemon);
    sample("run_open", &explained(&daemon, &run));
    control.call("run.close", &json!({"run": run, "exit_status": 0})).expect("an end");
    sample("run_closed", &explained(&daemon, &run));
    sample("config_loaded", &explained(&daemon, &newest(&daemon, "config.loaded")));
}

/// Waits until no call is in flight.
#[track_caller]
fn quiet(daemon: &Daemon) {
    drop(ledger::quiet(daemon));
}

#[test]
fn the_id_of_any_answer_has_a_story_or_an_honest_reason_for_none() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let (token, viewer) = (daemon.agent("bot", &[]), daemon.agent("viewer", &["--scope", "read-only"]));
    let bearer = |token: &str| format!("Bearer {token}");
    let ask = |method: &str, path: &str, token: &str, body: &str| {
        let mut connection = Connection::open(&daemon.url());
        connection.request(method, path, &[("authorization", &bearer(token))], body.as_bytes()).expect("send");
        connection.answer().expect("an answer")
    };
    let chat_path = "/v1/chat/completions";
    let rows = [
        (ask("POST", chat_path, "sk-none", "{}"), 401, Some("malformed")),
        (ask("POST", chat_path, &viewer, "{}"), 403, Some("token_scope")),
        (ask("POST", chat_path, &token, "{"), 400, Some("request_form")),
        (ask("GET", "/v1/models/m9", &token, ""), 403, Some("known_model")),
        (ask("GET", "/nothing", &token, ""), 404, None),
        (ask("GET", chat_path, &token, ""), 405, None),
        (ask("GET", "/health", &token, ""), 200, None),
    ];
    for (answer, status, rule) in rows {
        assert_eq!(answer.status, status, "{answer}");
        let output = daemon.ctl(["explain", id_of(&answer), "--json"]);
        let Some(rule) = rule else {
            assert_eq!(output.code, 4, "{status}: {output:?}");
            assert!(output.stderr.contains("nothing is recorded of") && output.stderr.contains("hint: pages such as"), "{output:?}");
            continue;
        };
        let told: Story = serde_json::from_value(output.json()).expect("a story");
        let denied_by = match &told {
            Story::Call(call) => call.denied_by.clone().unwrap_or_default(),
            Story::Repeat(repeat) => repeat.groups[0].rule.clone(),
            _ => String::new(),
        };
        assert_eq!(denied_by, rule, "{told:?}");
    }
    let foreign = daemon.ctl(["explain", "req_00ffff0000000001"]);
    assert_eq!((foreign.code, foreign.stderr.contains("no daemon of this ledger has given out")), (4, true), "{foreign:?}");
    let beyond = daemon.ctl(["explain", "999999"]);
    assert_eq!((beyond.code, beyond.stderr.contains("no event 999999")), (4, true), "{beyond:?}");
    for id in ["bot", "-1"] {
        let wrong = daemon.ctl(["explain", id]);
        assert!(wrong.code == 2 && wrong.stderr.contains(&format!("`{id}` is no id: a request such as")), "{wrong:?}");
    }
}
