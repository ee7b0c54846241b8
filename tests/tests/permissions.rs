//! permissions.json on a running daemon: what an agent may call, what would come of a call, and what a wrong file does.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::os::unix::fs::symlink;

use aex_tests::ask::chat;
use aex_tests::client;
use aex_tests::daemon::{Config, Daemon, Output};
use aex_tests::ledger;
use aex_tests::mcp::{Mcp, NEWEST, registry};
use aex_tests::provider::Provider;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

struct House {
    provider: Provider,
    daemon: Daemon,
}

impl House {
    fn new(permissions: Option<&str>) -> Self {
        let provider = Provider::start();
        let config = Config::new(&provider);
        let config = match permissions {
            Some(text) => config.permissions_json(text),
            None => config,
        };
        let daemon = Daemon::start_with(config);
        Self { provider, daemon }
    }

    #[track_caller]
    fn check(&self, agent: &str, tool: &str, arguments: &str) -> Value {
        self.daemon.rpc("permission.check", &json!({"agent": agent, "tool": tool, "arguments": arguments}))
    }

    /// `EFFECT rule line`.
    #[track_caller]
    fn said(&self, agent: &str, tool: &str, arguments: &str) -> String {
        let checked = self.check(agent, tool, arguments);
        format!("{} {} {}", text(&checked["effect"]), text(&checked["rule"]), checked["line"].as_u64().unwrap_or(0))
    }

    /// A call of a model passes.
    #[track_caller]
    fn serves_models(&self, token: &str) {
        let answer = client::post_json(&self.daemon.chat_url(), token, &chat());
        assert_eq!(answer.status, 200, "{answer}");
        assert!(!self.provider.requests().is_empty());
    }

    #[track_caller]
    fn health(&self) -> Value {
        let answer = client::get(&format!("{}/health", self.daemon.url()), "");
        assert_eq!(answer.status, 200, "{answer}");
        answer.json()
    }

    /// The daemon's check of the file: whether it passes, and its words.
    #[track_caller]
    fn file_check(&self) -> (bool, String) {
        let status = self.daemon.rpc("daemon.status", &json!({}));
        assert_eq!(status["state"], "ready", "{status}");
        let checks = status["checks"].as_array().expect("checks");
        let check = checks.iter().find(|check| check["name"] == "permissions.json").expect("the check of the file");
        (check["passed"] == true, text(&check["detail"]).to_owned())
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// AETHER's own sample.
const SEED: &str = r#"{
  "version": "1.0",
  "global_policy": "deny",
  "rules": {
    "calculate_sum": "allow",
    "delete_system32": "deny"
  }
}
"#;

const LAW: &str = r#"{
  "global_policy": "deny",
  "rules": [
    {"name": "reads", "effect": "allow", "tool": "fs.read_*", "when": {"/path": {"under": "DATA"}}, "rate": 5, "price_usd": "0.01"},
    {"name": "no secrets", "effect": "deny", "tool": "fs.*", "when": {"/path": {"matches": "\\.(pem|key)$"}}, "reason": "keys stay here"},
    {"name": "fetches", "effect": "allow", "tool": "web.fetch", "when": {"/url": {"url_host": ["*.example.com", "example.com"]}}},
    {"effect": "ask", "tool": "shell.*"},
    {"name": "ops", "effect": "allow", "group": "ops", "server": "shell", "when": {"/cmd": {"one_of": ["ls", "df"]}}},
    {"name": "mine", "effect": "allow", "agent": "bot*", "tool": "mock.*"}
  ]
}
"#;

#[test]
fn the_seeds_file_is_shown_and_explained() {
    let house = House::new(Some(SEED));
    let _token = house.daemon.agent("bot", &[]);
    assert_eq!(house.said("bot", "mock.calculate_sum", r#"{"a": 2, "b": 3}"#), "allow rules.calculate_sum 5");
    assert_eq!(house.said("bot", "other.calculate_sum", "{}"), "allow rules.calculate_sum 5");
    assert_eq!(house.said("bot", "mock.delete_system32", "{}"), "deny rules.delete_system32 6");
    assert_eq!(house.said("bot", "mock.else", "{}"), "deny global_policy 3");
    let said = house.daemon.ctl(["permissions", "check", "bot", "mock.calculate_sum", r#"{"a": 2, "b": 3}"#]);
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (0, "allow  bot calls mock.calculate_sum: by rule `rules.calculate_sum` (permissions.json:5)\n")
    );
    let said = house.daemon.ctl(["permissions", "check", "bot", "mock.delete_system32"]);
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (5, "deny  bot calls mock.delete_system32: by rule `rules.delete_system32` (permissions.json:6)\n")
    );
    let said = house.daemon.ctl(["permissions", "show", "bot"]).ok().stdout;
    for piece in
        ["Tools without rule: deny (global_policy, permissions.json:3)", "rules.calculate_sum", "calculate_sum", "permissions.json:5"]
    {
        assert!(said.contains(piece), "{piece}: {said}");
    }
    assert_eq!(house.file_check(), (true, "2 rules; tools without one: deny".to_owned()));
}

#[test]
fn a_check_explains_a_call_without_making_it() {
    let provider = Provider::start();
    let mut daemon = Daemon::prepare(Config::new(&provider));
    let data = daemon.scratch().join("data");
    fs::create_dir(&data).expect("make a folder");
    symlink("/etc", data.join("out")).expect("make a link");
    let data = data.to_str().expect("UTF-8").to_owned();
    daemon.write_permissions(&LAW.replace("DATA", &data));
    let servers = json!({"mcpServers": {"fs": {"command": "/bin/false", "cwd": data}}});
    fs::write(daemon.home().join("config/mcp.json"), servers.to_string()).expect("write mcp.json");
    daemon.run();
    let house = House { provider, daemon };
    let _token = house.daemon.agent("bot", &[]);
    house.daemon.ctl(["group", "create", "ops"]).ok();
    let _token = house.daemon.agent("admin", &["--group", "ops"]);

    let path = |path: &str| json!({ "path": path }).to_string();
    let rows = [
        ("bot", "fs.read_file", path(&format!("{data}/new/file")), "allow reads 4"),
        ("bot", "fs.read_file", path(&format!("{data}/../x")), "deny global_policy 2"),
        ("bot", "fs.read_file", path(&format!("{data}/out/passwd")), "deny global_policy 2"),
        ("bot", "fs.read_file", path("~/x"), "deny global_policy 2"),
        ("bot", "fs.read_file", "{}".to_owned(), "deny global_policy 2"),
        ("bot", "fs.read_file", path(&format!("{data}/id.pem")), "deny no secrets 5"),
        ("bot", "fs.write_file", path(&format!("{data}/x")), "deny global_policy 2"),
        ("bot", "web.fetch", r#"{"url": "https://api.example.com/x"}"#.to_owned(), "allow fetches 6"),
        ("bot", "web.fetch", r#"{"url": "https://example.com@evil.com/"}"#.to_owned(), "deny global_policy 2"),
        ("bot", "shell.run", r#"{"cmd": "ls"}"#.to_owned(), "ask rules[3] 7"),
        ("admin", "shell.run", r#"{"cmd": "ls"}"#.to_owned(), "ask rules[3] 7"),
        ("bot", "mock.calculate_sum", "{}".to_owned(), "allow mine 9"),
        ("admin", "mock.calculate_sum", "{}".to_owned(), "deny global_policy 2"),
        ("bot", "mock.sum", r#"{"a": 1, "a": 2}"#.to_owned(), "deny arguments 0"),
        ("bot", "mock.sum", "[]".to_owned(), "deny arguments 0"),
    ];
    for (agent, tool, arguments, wanted) in &rows {
        assert_eq!(house.said(agent, tool, arguments), *wanted, "{agent} {tool} {arguments}");
    }

    let read = path(&format!("{data}/x.key"));
    let checked = house.check("bot", "fs.read_file", &read);
    assert_eq!((&checked["also"], &checked["reason"], &checked["price_usd"]), (&json!(["reads"]), &json!("keys stay here"), &Value::Null));
    let checked = house.check("bot", "fs.read_file", &path(&format!("{data}/x")));
    assert_eq!((&checked["price_usd"], &checked["price_pico"]), (&json!("0.01"), &json!("10000000000")));
    assert_eq!(checked["rates"], json!([{"rule": "reads", "per_minute": 5}]));
    assert_eq!(checked["near"], json!([{"rule": "no secrets", "condition": "/path matches \\.(pem|key)$"}]));
    let checked = house.check("admin", "shell.run", r#"{"cmd": "ls"}"#);
    assert_eq!(checked["also"], json!(["ops"]));
    // A relative path is below the folder of the server's process.
    assert_eq!(house.said("bot", "fs.read_file", &path("x")), "allow reads 4");
    assert_eq!(house.said("bot", "fs.read_file", &path("../x")), "deny global_policy 2");
    let beside = json!({"agent": "bot", "tool": "fs.read_file", "arguments": path("x"), "cwd": "/"});
    assert_eq!(house.daemon.rpc("permission.check", &beside)["effect"], "deny");

    let ctl = |words: &[&str]| house.daemon.ctl(["permissions"].iter().chain(words));
    let asked = ctl(&["check", "bot", "shell.run", r#"{"cmd": "ls"}"#]);
    assert_eq!(asked.code, 5, "{asked:?}");
    assert!(asked.stdout.contains("ask  bot calls shell.run: by rule `rules[3]` (permissions.json:7)\n  a person is asked"), "{asked:?}");
    let relative = ctl(&["check", "bot", "fs.read_file", &path("x")]).ok();
    assert!(relative.stdout.contains("rate: 5 a minute") && relative.stdout.contains("price: 0.01 USD a call"), "{relative:?}");
    let denied = ctl(&["check", "bot", "fs.read_file", &path("/etc/passwd"), "--json"]);
    assert_eq!((denied.code, &denied_json(&denied)["near"][0]["rule"]), (5, &json!("reads")));
    assert_eq!(ctl(&["check", "bot", "fs.read_file", &path("x"), "--cwd", "/"]).code, 5);
    assert_eq!(ctl(&["check", "nobody", "fs.read_file"]).code, 4);
    assert_eq!(ctl(&["check", "bot", "no-dot"]).code, 2);
    assert_eq!(ctl(&["show", "nobody"]).code, 4);
    // Nothing of this is a call.
    assert_eq!(house.provider.requests().len(), 0);

    // An agent is shown what means it, and nothing else.
    let names = |agent: &str| {
        let shown = house.daemon.rpc("permission.show", &json!({ "agent": agent }));
        let rules = shown["rules"].as_array().expect("rules").clone();
        (shown["groups"].clone(), rules.iter().map(|rule| text(&rule["name"]).to_owned()).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(names("bot"), (json!([]), "reads no secrets fetches rules[3] mine".to_owned()));
    assert_eq!(names("admin"), (json!(["ops"]), "reads no secrets fetches rules[3] ops".to_owned()));
    let said = ctl(&["show", "bot"]).ok().stdout;
    for piece in
        ["allow, 5 a minute, 0.01 USD", "fs.read_*", "/url={url_host=[*.example.com, example.com]}", "agent bot*", "permissions.json:9"]
    {
        assert!(said.contains(piece), "{piece}: {said}");
    }
}

#[track_caller]
fn denied_json(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|fault| panic!("{fault} in {output:?}"))
}

#[test]
fn without_the_file_every_tool_is_denied() {
    let house = House::new(None);
    let token = house.daemon.agent("bot", &[]);
    assert_eq!(house.said("bot", "mock.calculate_sum", "{}"), "deny no_permissions 0");
    assert_eq!(house.file_check(), (true, "there is no such file: every tool is denied".to_owned()));
    assert_eq!(house.health().get("tools_denied"), None);
    house.serves_models(&token);
    let said = house.daemon.ctl(["permissions", "show", "bot"]).ok().stdout;
    assert!(said.contains("Tools without rule: deny (there is no permissions.json)"), "{said}");
    // It counts from the next reload on, and no longer once it is gone.
    house.daemon.write_permissions(SEED);
    house.daemon.ctl(["models", "reload"]).ok();
    assert_eq!(house.said("bot", "mock.calculate_sum", "{}"), "allow rules.calculate_sum 5");
    fs::remove_file(house.daemon.home().join("config/permissions.json")).expect("remove the file");
    house.daemon.ctl(["models", "reload"]).ok();
    assert_eq!(house.said("bot", "mock.calculate_sum", "{}"), "deny no_permissions 0");
}

#[test]
fn a_wrong_file_at_a_reload_leaves_the_old_one_in_force() {
    let house = House::new(Some(SEED));
    let token = house.daemon.agent("bot", &[]);
    let before = house.check("bot", "mock.calculate_sum", "{}")["digest"].clone();
    let wrong = SEED
        .replace("\"deny\",\n  \"rules\"", "\"allow\",\n  \"rules\"")
        .replace("\"allow\",\n    \"delete", "{\"effect\": \"alow\"},\n    \"delete");
    house.daemon.write_permissions(&wrong);
    let said = house.daemon.ctl(["models", "reload"]);
    let wanted = "permissions.json:5: rules.calculate_sum.effect: expected allow or deny or ask, found \"alow\"";
    assert!(said.code == 1 && said.stderr.contains(wanted), "{said:?}");
    assert_eq!(house.said("bot", "mock.calculate_sum", "{}"), "allow rules.calculate_sum 5");
    assert_eq!(house.said("bot", "mock.else", "{}"), "deny global_policy 3");
    assert_eq!(house.check("bot", "mock.else", "{}")["digest"], before);
    assert!(house.file_check().0);
    house.serves_models(&token);
    // A signal reads it, too.
    house.daemon.write_permissions(&SEED.replace("\"deny\",\n  \"rules\"", "\"allow\",\n  \"rules\""));
    house.daemon.signal(Signal::SIGHUP);
    aex_tests::ledger::until("the reload", || (house.said("bot", "mock.else", "{}") == "allow global_policy 3").then_some(()));
    assert_ne!(house.check("bot", "mock.else", "{}")["digest"], before);
}

#[test]
fn a_wrong_file_at_the_start_denies_every_tool_and_lets_models_be_called() {
    let mut house =
        House::new(Some("{\"global_policy\": \"allow\",\n \"rules\": {\"calculate_sum\": \"allow\", \"calculate_sum\": \"deny\"},\n}"));
    let token = house.daemon.agent("bot", &[]);
    house.serves_models(&token);
    assert_eq!(house.said("bot", "mock.calculate_sum", "{}"), "deny bad_permissions 0");
    let why = "permissions.json:3: no JSON: trailing comma";
    assert_eq!(house.file_check(), (false, format!("every tool is denied: {why}")));
    assert_eq!(house.health()["tools_denied"], "permissions.json:3 is wrong; `aexctl doctor` says more");
    assert_eq!(house.health()["status"], "ok");
    assert!(house.daemon.stderr().contains(&format!("warning: {why}; every call of a tool is denied")), "{}", house.daemon.stderr());
    let shown = house.daemon.ctl(["permissions", "show", "bot"]).ok().stdout;
    assert!(shown.contains("permissions.json was wrong at the start") && shown.contains(why), "{shown}");
    let denied = house.daemon.ctl(["permissions", "check", "bot", "mock.calculate_sum"]);
    assert!(denied.code == 5 && denied.stdout.contains("was wrong at the daemon's start"), "{denied:?}");

    // Doctor says so with the daemon and without, and fails.
    let live = house.daemon.ctl(["doctor"]);
    assert!(live.code == 1 && live.stdout.contains(&format!("FAIL  permissions.json: every tool is denied: {why}")), "{live:?}");
    assert!(live.stdout.contains("correct the file, then `aexctl models reload`"), "{live:?}");
    house.daemon.stop();
    let rest = house.daemon.ctl(["doctor"]);
    assert!(rest.code == 1 && rest.stdout.contains(&format!("FAIL  config: {why}")), "{rest:?}");
    house.daemon.run();

    // All that is wrong is told, the first few in the health; a good file mends it.
    house.daemon.write_permissions("{\"rules\": {\"a\": 1, \"b\": 2,\n\"c\": 3, \"d\": 4, \"a\": 5}}");
    house.daemon.stop();
    house.daemon.run();
    let (passed, detail) = house.file_check();
    assert!(!passed && detail.contains("permissions.json:2: duplicate key \"a\", which stands in line 1 already"), "{detail}");
    house.daemon.write_permissions("{\"rules\": {\"a\": 1, \"b\": 2,\n\"c\": 3, \"d\": 4}}");
    house.daemon.restart();
    let (_, detail) = house.file_check();
    assert!(
        detail.contains("permissions.json:1: rules.a: ")
            && detail.contains("permissions.json:2: rules.c: ")
            && detail.ends_with("; 1 more"),
        "{detail}"
    );
    house.daemon.write_permissions(SEED);
    house.daemon.ctl(["models", "reload"]).ok();
    assert_eq!(house.said("bot", "mock.calculate_sum", "{}"), "allow rules.calculate_sum 5");
    assert!(house.file_check().0 && house.health().get("tools_denied").is_none());
}

#[test]
fn a_fresh_home_has_a_file_that_denies_every_tool() {
    let provider = Provider::start();
    let mut daemon = Daemon::prepare(Config::new(&provider));
    daemon.ctl(["init"]).ok();
    let file = daemon.home().join("config/permissions.json");
    assert_eq!(
        fs::read_to_string(&file).expect("the file"),
        "{\n  \"version\": \"1.0\",\n  \"global_policy\": \"deny\",\n  \"rules\": {}\n}\n"
    );
    daemon.run();
    let house = House { provider, daemon };
    assert_eq!(house.said("default", "mock.calculate_sum", "{}"), "deny global_policy 3");
    // What is there stays.
    fs::write(&file, SEED).expect("write the file");
    house.daemon.ctl(["init"]).ok();
    assert_eq!(fs::read_to_string(&file).expect("the file"), SEED);
}

#[test]
fn an_agent_s_own_policy_comes_before_the_permissions() {
    let everything = r#"{"global_policy": "deny", "rules": [{"name": "all", "effect": "allow", "tool": "*.*"}]}"#;
    let servers = registry(&[("old", "scripted-tool", &[])]);
    let daemon =
        Daemon::start_with(Config::with_base_url("http://127.0.0.1:9/v1", "sk-nobody").permissions_json(everything).mcp_json(&servers));
    let listed = |names: &str| daemon.agent_with(&format!("only {names}").replace(' ', "-"), "1", 60, &["--allowed-tool-names", names]);
    let rows: [(String, &[&str], &str); 5] = [
        (daemon.agent("free", &[]), &["old__do", "old__echo"], ""),
        (daemon.agent_with("none", "1", 60, &["--no-tools"]), &[], "`allow_tools` of the agent's policy (it may use no tools)"),
        (listed("echo"), &["old__echo"], "`allowed_tool_names` of the agent's policy (it may use echo)"),
        (listed("old.echo"), &["old__echo"], "`allowed_tool_names`"),
        (listed("old__echo"), &["old__echo"], "`allowed_tool_names`"),
    ];
    for (token, may, denied) in rows {
        let client = Mcp::new(&daemon, &token, NEWEST);
        let listed: Vec<String> = client.tools().into_iter().filter(|name| ["old__do", "old__echo"].contains(&name.as_str())).collect();
        assert_eq!(listed, may, "{denied}");
        let (is_error, text) = client.call("old__do", json!({"as": "pid"}));
        assert_eq!(is_error, !denied.is_empty(), "{text}");
        assert!(!is_error || text.contains(denied), "{text}");
    }
    let checked = daemon.rpc("permission.check", &json!({"agent": "none", "tool": "old.echo", "arguments": "{}"}));
    assert_eq!(
        (&checked["effect"], &checked["rule"], &checked["file"]),
        (&json!("deny"), &json!("allow_tools"), &json!("the agent's policy"))
    );
    let refused = ledger::events(&daemon).into_iter().find(|event| event["kind"] == "call.denied").expect("a refusal");
    let told = daemon.ctl(["explain", &refused["seq"].to_string()]).ok().stdout;
    for words in ["the tool old.do", "Rules for tools", "The rule allow_tools of the agent's policy (it may use no tools) decided."] {
        assert!(told.contains(words), "{words}: {told}");
    }
    daemon.ctl(["audit"]).ok();
}
