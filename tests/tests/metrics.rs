//! `GET /metrics` and `aexctl metrics`: what they say against the ledger, who may read them, and that Prometheus can.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};

use aex_tests::ask::{chat, chat_with};
use aex_tests::client::{self, Answer};
use aex_tests::daemon::{Config, Daemon};
use aex_tests::house::House;
use aex_tests::ledger::{calls, quiet, settled_and_audited, until};
use aex_tests::provider::{Provider, Script};
use aex_tests::refusal::{self, unauthenticated};
use serde_json::{Value, json};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[track_caller]
fn metrics(daemon: &Daemon, token: &str, query: &str) -> Answer {
    client::get(&format!("{}/metrics{query}", daemon.url()), token)
}

#[track_caller]
fn seed(daemon: &Daemon, token: &str) -> Value {
    let answer = metrics(daemon, token, "?format=json");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{answer}");
    answer.json()
}

/// The token that sees all accounts.
#[track_caller]
fn root(daemon: &Daemon) -> String {
    let made = daemon.rpc("token.create", &json!({"scope": "read-only"}));
    made["token"].as_str().expect("a token").to_owned()
}

/// Each series with its value. Fails on whatever a Prometheus server would refuse or misread.
#[track_caller]
fn parse(answer: &Answer) -> BTreeMap<String, String> {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(TEXT)), "{answer}");
    let text = std::str::from_utf8(&answer.body).expect("UTF-8");
    assert!(text.ends_with('\n'), "the last line has no end");
    let (mut families, mut series) = (BTreeSet::new(), BTreeMap::new());
    let (mut helped, mut family, mut kind) = ("", "", "");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = help.split(' ').next().unwrap_or_default();
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            (family, kind) = typed.split_once(' ').expect("a name and a type");
            assert!(families.insert(family.to_owned()) && family == helped, "{line}: a family begins once, with its help");
            assert!(matches!(kind, "counter" | "gauge" | "summary"), "{line}");
            assert_eq!(kind == "counter", family.ends_with("_total"), "{line}: only counters are totals");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let bare = name.split('{').next().unwrap_or_default();
            let of_summary = kind == "summary" && [format!("{family}_sum"), format!("{family}_count")].contains(&bare.to_owned());
            assert!(bare == family || of_summary, "{line}: not of the family {family}");
            check_labels(name.strip_prefix(bare).unwrap_or_default());
            assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
            assert_eq!(series.insert(name.to_owned(), value.to_owned()), None, "twice: {line}");
        }
    }
    series
}

/// `{name="value",…}`, where a quote, a backslash and an end of line in a value are escaped.
#[track_caller]
fn check_labels(text: &str) {
    if text.is_empty() {
        return;
    }
    let mut rest = text.strip_prefix('{').expect("labels begin").strip_suffix('}').expect("labels end");
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {text}"));
        assert!(name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'), "{text}");
        let mut letters = value.char_indices();
        let end = loop {
            match letters.next().unwrap_or_else(|| panic!("a value without end: {text}")) {
                (_, '\\') => assert!(matches!(letters.next(), Some((_, '\\' | 'n' | '"'))), "{text}"),
                (at, '"') => break at,
                _ => {}
            }
        };
        let (_, after) = value.split_at(end + 1);
        rest = after.strip_prefix(',').unwrap_or(after);
    }
}

#[track_caller]
fn value(series: &BTreeMap<String, String>, name: &str) -> String {
    series.get(name).unwrap_or_else(|| panic!("no {name} in {series:#?}")).clone()
}

/// Decimal dollars of pico-USD.
fn usd(pico: i64) -> String {
    aex_proto::value::Pico::new(pico).usd()
}

#[test]
fn the_numbers_are_those_of_the_ledger_in_text_json_and_on_the_command_line() {
    let mut house = House::new(|config| config);
    let odd = house.daemon.agent("a \"b\"\\ é", &[]);
    for script in [Script::default(), Script::default(), Script::error(400)] {
        drop(house.call(false, script));
    }
    assert_eq!(client::post_json(&house.daemon.chat_url(), &odd, &chat_with(&json!({"model": "m2"}))).status, 200);
    let poor = house.daemon.agent_with("poor", "0.000001", 5, &[]);
    let statuses: Vec<u16> = (0..7).map(|_| client::post_json(&house.daemon.chat_url(), &poor, &chat()).status).collect();
    assert_eq!(statuses, [402, 402, 402, 402, 402, 429, 429]);
    assert_eq!(client::post_json(&house.daemon.chat_url(), &odd, &chat_with(&json!({"model": "gpt-9"}))).status, 403);
    assert_eq!(client::post_json(&house.daemon.chat_url(), "aex_nobody", &chat()).status, 401);
    let daemon = &house.daemon;
    let ended = quiet(daemon);
    let charged: i64 = ended.iter().map(aex_tests::ledger::Call::charge).sum();
    let of_bot: i64 = ended
        .iter()
        .filter(|call| call.held.ask.model == "m1" || call.held.ask.model.is_empty())
        .map(aex_tests::ledger::Call::charge)
        .sum();
    // Repeats of a denial become an event within a second; this asks for them now.
    daemon.rpc("status.get", &json!({}));
    let root = root(daemon);

    let series = parse(&metrics(daemon, &root, ""));
    for (name, wanted) in [
        ("aexd_calls_total{agent=\"bot\",state=\"exact\"}", "2"),
        ("aexd_calls_total{agent=\"bot\",state=\"released\"}", "1"),
        ("aexd_calls_total{agent=\"a \\\"b\\\"\\\\ é\",state=\"exact\"}", "1"),
        ("aexd_denials_total{agent=\"poor\",rule=\"budget\"}", "5"),
        ("aexd_denials_total{agent=\"poor\",rule=\"rpm\"}", "2"),
        ("aexd_denials_total{agent=\"a \\\"b\\\"\\\\ é\",rule=\"known_model\"}", "1"),
        ("aexd_failed_authentications_total{cause=\"malformed\"}", "1"),
        ("aexd_model_calls_total{model=\"m1\"}", "2"),
        ("aexd_model_calls_total{model=\"m2\"}", "1"),
        ("aexd_budget_dollars{agent=\"bot\",period=\"total\"}", "100.00"),
        ("aexd_reserved_dollars{agent=\"bot\",period=\"total\"}", "0.00"),
        ("aexd_agent_limit_requests_per_minute{agent=\"poor\"}", "5"),
        ("aexd_agents", "3"),
        ("aexd_in_flight_calls", "0"),
        ("aexd_ledger_available", "1"),
        ("aexd_spent_dollars_total{agent=\"bot\"}", &usd(of_bot)),
        ("aexd_model_spent_dollars_total{model=\"m1\"}", &usd(of_bot)),
        ("aexd_remaining_dollars{agent=\"bot\",period=\"total\"}", &usd(100_000_000_000_000 - of_bot)),
    ] {
        assert_eq!(value(&series, name), wanted, "{name}");
    }
    for name in ["process_resident_memory_bytes", "process_open_fds", "aexd_connections", "aexd_ledger_flush_seconds_count"] {
        assert!(value(&series, name).parse::<f64>().expect("a number") >= 1.0, "{name}");
    }
    assert!(!series.keys().any(|name| name.contains("run-") || name.contains("aex_")), "{series:#?}");

    let answer = metrics(daemon, &root, "?format=json");
    // As text: a reader would make a float of it.
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(text.contains(&format!("\"total_spent_global_usd\":{},", usd(charged))), "{text}");
    let all = answer.json();
    let totals =
        ["total_agents", "active_processes", "total_requests", "total_denied_budget", "total_denied_rate_limit", "total_policy_violations"];
    assert_eq!(totals.map(|name| all[name].as_u64()), [3, 0, 3, 5, 2, 1].map(Some), "{all}");
    assert_eq!(all["top_models"], json!([{"model": "m1", "count": 2}, {"model": "m2", "count": 1}]));
    let hours = all["usage_histogram"].as_array().expect("hours");
    // The hour may have struck since.
    assert_eq!((hours.len(), hours[22]["requests"].as_u64().unwrap_or(9) + hours[23]["requests"].as_u64().unwrap_or(9)), (24, 3), "{all}");
    let bot = all["agents"].as_array().and_then(|agents| agents.iter().find(|agent| agent["name"] == "bot")).expect("bot");
    assert_eq!(
        (&bot["windows"]["1h"]["requests"], &bot["rpm_limit"], bot["last_activity"].is_string()),
        (&json!(2), &json!(100_000), true)
    );

    let ctl = daemon.ctl(["metrics", "--json"]).json();
    assert_eq!((&ctl["spent_pico"], &ctl["requests"], &ctl["budget_denials"]), (&json!(charged.to_string()), &json!(3), &json!(5)));
    let status = daemon.rpc("status.get", &json!({}));
    assert_eq!((&status["requests"], &status["rate_denials"], &status["policy_denials"]), (&json!(3), &json!(2), &json!(1)));
    let said = daemon.ctl(["metrics"]).ok().stdout;
    assert!(said.contains("Requests:       3\n") && said.contains("Top models:     m1 (2), m2 (1)") && said.contains(" bot "), "{said}");
    settled_and_audited(daemon, &house.provider);
}

#[test]
fn json_is_for_those_who_name_it_and_text_for_all_others() {
    let house = House::new(|config| config);
    let url = format!("{}/metrics", house.daemon.url());
    let bearer = format!("Bearer {}", house.token);
    let rows = [
        ("", "", TEXT),
        ("", "*/*", TEXT),
        ("", "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1", TEXT),
        ("", "application/json", "application/json"),
        ("?format=json", "text/plain", "application/json"),
    ];
    for (query, accept, wanted) in rows {
        let answer = client::fetch("GET", &format!("{url}{query}"), &[("authorization", &bearer), ("accept", accept)]);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(wanted)), "{accept}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(client::fetch("HEAD", &url, &[("x-api-key", &house.token)]).status, 200);
    assert_eq!(client::fetch("POST", &url, &[("authorization", &bearer)]).status, 405);
}

#[test]
fn without_a_good_token_the_answer_says_how_to_get_one() {
    let house = House::new(|config| config);
    let daemon = &house.daemon;
    let ways = ["aexctl token create NAME --scope read-only", "aexctl token create --root --scope read-only"];
    for (token, says) in [("", "No token was sent"), ("nonsense", "no token of aexd"), ("aex_0000000000000000000000000000000000", "")] {
        for query in ["", "?format=json"] {
            let answer = metrics(daemon, token, query);
            refusal::check(&answer, &unauthenticated(&[says, ways[0], ways[1]]));
        }
    }
    // What it tells is what works.
    let said = daemon.ctl(ways[1].split(' ').skip(1).chain(["--json"])).json();
    let root = said["token"].as_str().expect("a token");
    assert_eq!(metrics(daemon, root, "").status, 200);
    let said = daemon.ctl(ways[0].replace("NAME", "bot").split(' ').skip(1).chain(["--json"])).json();
    let reader = said["token"].as_str().expect("a token");
    assert_eq!(metrics(daemon, reader, "").status, 200);
    for token in [root, reader] {
        let status = client::post_json(&daemon.chat_url(), token, &chat()).status;
        assert_eq!(status, 403, "a read-only token calls nothing");
    }
    daemon.ctl(["agent", "rotate-token", "bot"]).ok();
    assert_eq!(metrics(daemon, reader, "").status, 401);
}

#[test]
fn an_agents_token_sees_its_own_subtree_and_only_a_roots_sees_all() {
    let mut house = House::new(|config| config);
    drop(house.call(false, Script::default()));
    let other = house.daemon.agent("other", &[]);
    let daemon = &house.daemon;
    assert_eq!(client::post_json(&daemon.chat_url(), &other, &chat_with(&json!({"model": "m2"}))).status, 200);
    let mut control = daemon.control();
    let opened = control.call("run.open", &json!({"agent": "bot", "command": "test"})).expect("run.open");
    let run = opened["token"].as_str().expect("a token");
    assert_eq!(client::post_json(&daemon.chat_url(), run, &chat()).status, 200);
    quiet(daemon);

    let names = |seen: &Value| seen["agents"].as_array().expect("agents").iter().map(|agent| agent["name"].clone()).collect::<Vec<_>>();
    let own = seed(daemon, &house.token);
    assert_eq!((names(&own), &own["total_requests"], &own["active_processes"]), (vec![json!("bot")], &json!(2), &json!(1)), "{own}");
    assert!(own["event_log_size"].is_null() && own["top_models"] == json!([{"model": "m1", "count": 2}]), "{own}");
    let of_run = seed(daemon, run);
    assert_eq!((names(&of_run).len(), &of_run["total_requests"]), (1, &json!(1)), "{of_run}");
    let series = parse(&metrics(daemon, &house.token, ""));
    assert!(!series.keys().any(|name| name.contains("other") || name.contains("m2") || name.starts_with("process_")), "{series:#?}");
    let all = seed(daemon, &root(daemon));
    assert_eq!((names(&all), &all["total_requests"]), (vec![json!("bot"), json!("other")], &json!(3)), "{all}");
    assert!(all["event_log_size"].as_u64() > Some(5), "{all}");

    daemon.ctl(["agent", "pause", "bot"]).ok();
    let series = parse(&metrics(daemon, &house.token, ""));
    assert_eq!(value(&series, "aexd_agent_active{agent=\"bot\"}"), "0");
    daemon.ctl(["agent", "delete", "bot"]).ok();
    assert_eq!(metrics(daemon, &house.token, "").status, 401);
}

#[test]
fn counts_survive_a_restart_a_kill_and_the_end_of_their_agent() {
    let provider = Provider::start();
    let mut daemon = Daemon::start_with(Config::new(&provider));
    let token = daemon.agent("bot", &[]);
    let gone = daemon.agent("gone", &[]);
    for token in [&token, &gone, &gone] {
        assert_eq!(client::post_json(&daemon.chat_url(), token, &chat()).status, 200);
    }
    for _ in 0..3 {
        assert_eq!(client::post_json(&daemon.chat_url(), &gone, &chat_with(&json!({"n": 0}))).status, 400);
    }
    let ended = quiet(&daemon);
    daemon.ctl(["agent", "delete", "gone"]).ok();
    let again = daemon.agent("gone", &[]);
    assert_eq!(client::post_json(&daemon.chat_url(), &again, &chat()).status, 200);
    quiet(&daemon);
    daemon.rpc("status.get", &json!({}));
    let root = root(&daemon);
    // The process's own figures change by themselves.
    let counted = |daemon: &Daemon| {
        let mut series = parse(&metrics(daemon, &root, ""));
        series.retain(|name, _| name.starts_with("aexd_") && name.contains("_total"));
        series
    };
    let before = counted(&daemon);
    assert_eq!(value(&before, "aexd_calls_total{agent=\"\",state=\"exact\"}"), "2");
    assert_eq!(value(&before, "aexd_calls_total{agent=\"gone\",state=\"exact\"}"), "1");
    assert_eq!(value(&before, "aexd_denials_total{agent=\"\",rule=\"request_form\"}"), "3");
    assert_eq!(value(&before, "aexd_spent_dollars_total{agent=\"\"}"), usd(ended[1].charge() + ended[2].charge()));
    daemon.restart();
    assert_eq!(counted(&daemon), before);
    daemon.kill9();
    daemon.run();
    assert_eq!(counted(&daemon), before);
    assert_eq!(calls(&daemon).len(), 4);
    // A call that a kill leaves open is charged in full by the next start, and counted so.
    provider.script(Script::hold());
    let mut left = client::Connection::open(&daemon.url());
    left.post_json("/v1/chat/completions", &token, &chat());
    provider.wait_for_requests(5);
    let in_flight = || (value(&parse(&metrics(&daemon, &root, "")), "aexd_in_flight_calls") == "1").then_some(());
    until("the call to be in flight", in_flight);
    daemon.kill9();
    provider.release();
    daemon.run();
    let after = counted(&daemon);
    assert_eq!(value(&after, "aexd_calls_total{agent=\"bot\",state=\"worst_case\"}"), "1");
    let agents = daemon.rpc("agent.list", &json!({}));
    assert!(agents["agents"][0]["last_activity_at"].is_string(), "{agents}");
}
