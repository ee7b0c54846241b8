//! `aexctl` as a user runs it: agents, tokens, the daemon's life, exit codes, JSON.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use aex_tests::ask::chat;
use aex_tests::client::{self, Connection};
use aex_tests::daemon::{Config, Daemon, Output, binary, output};
use aex_tests::ledger::{self, settled_and_audited, until};
use aex_tests::provider::{Provider, Script};
use serde_json::{Value, json};

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
    fn status(&self, token: &str) -> u16 {
        client::post_json(&self.daemon.chat_url(), token, &chat()).status
    }

    /// Runs a command line that must succeed; its standard output.
    #[track_caller]
    fn says(&self, line: &str) -> String {
        self.daemon.ctl(line.split(' ')).ok().stdout
    }
}

/// What follows a label on its line, as a script cuts it.
#[track_caller]
fn after<'a>(text: &'a str, label: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    line.unwrap_or_else(|| panic!("no line {label:?} in {text}")).trim()
}

#[test]
fn creating_an_agent_prints_the_lines_that_scripts_read() {
    let house = House::new();
    let said = house.says("agent create bot 5 60");
    let token = after(&said, "Token:").to_owned();
    assert_eq!(said, format!("Agent 'bot' created.\nToken: {token}\nBudget: $5.00 (5000000 micro)\n"));
    assert!(token.starts_with("aex_") && token.len() >= 32, "{token}");
    assert_eq!(house.status(&token), 200);
    let said =
        house.says("agent create narrow 0.25 7 --per day --allowed-models m1,m2 --no-streaming --strict --scope read-only --ttl 0.5");
    assert_eq!(after(&said, "Budget:"), "$0.25 (250000 micro) per day");
    assert_eq!(after(&said, "Capabilities:"), "no streaming, strict, models m1, m2");
    assert_eq!(after(&said, "Scope:"), "read-only");
    assert!(after(&said, "Expires:").ends_with('Z'));
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn an_agent_is_listed_and_inspected_with_its_balances_and_never_with_its_token() {
    let house = House::new();
    let token = house.daemon.agent_with("bot", "5", 60, &["--allow-vision", "--max-output-tokens", "77"]);
    assert_eq!(house.status(&token), 200);
    let list = house.says("agent list");
    assert!(list.contains("bot  | $5.00  | $0.000033 | $4.999967 | 60  | exec  | vision"), "{list}");
    let verbose = house.says("agent list -v");
    assert!(verbose.contains("5000000") && verbose.contains(" 33 "), "{verbose}");
    let inspected = house.says("agent inspect bot");
    for (label, wanted) in [
        ("State:", "active"),
        ("Spent:", "$0.000033 (33 micro)"),
        ("Remaining:", "$4.999967 (4999967 micro)"),
        ("Vision:", "yes"),
        ("Max output tokens:", "77"),
        ("Allowed models:", "all"),
        ("Scope:", "execution"),
        ("Expires:", "never"),
        ("Calls:", "1"),
    ] {
        assert_eq!(after(&inspected, label), wanted, "{inspected}");
    }
    let json = house.daemon.ctl(["agent", "inspect", "bot", "--json"]);
    assert_eq!((&json.json()["name"], &json.json()["budgets"][0]["spent_pico"]), (&json!("bot"), &json!("33000000")));
    let events = house.daemon.ctl(["events", "--json", "-n", "100"]);
    for text in [&list, &verbose, &inspected, &json.stdout, &events.stdout] {
        assert!(!text.contains(&token) && !text.contains("aex_"), "{text}");
    }
    let log = fs::read_to_string(house.daemon.home().join("logs/aex.log")).expect("the daemon's log");
    assert!(!log.contains(&token) && !log.contains(aex_tests::provider::KEY));
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_rotation_revokes_the_old_token_at_once_or_after_its_grace() {
    let house = House::new();
    let first = house.daemon.agent("bot", &[]);
    let said = house.says("agent rotate-token bot");
    let second = after(&said, "New Token:").to_owned();
    assert_eq!(said, format!("New Token: {second}\nThe old one is revoked.\n"));
    assert_eq!((house.status(&first), house.status(&second)), (401, 200));
    let said = house.says("agent rotate-token bot --grace 10m --ttl 24");
    let third = after(&said, "New Token:").to_owned();
    assert!(said.contains("The old one works until ") && said.contains("Expires: "), "{said}");
    assert_eq!((house.status(&first), house.status(&second), house.status(&third)), (401, 200, 200));
    let said = house.daemon.ctl(["agent", "rotate-token", "bot", "--grace", "300ms", "--json"]).json();
    assert_eq!((said["old_tokens"].as_u64(), said["old_until"].is_string()), (Some(2), true), "{said}");
    let fourth = said["token"].as_str().expect("a token").to_owned();
    until("the end of the grace", || (house.status(&third) == 401 && house.status(&second) == 401).then_some(()));
    assert_eq!(house.status(&fourth), 200);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_paused_agent_makes_no_calls_until_it_is_resumed() {
    let house = House::new();
    let token = house.daemon.agent("bot", &[]);
    assert_eq!(house.says("agent pause bot --reason budget-review"), "Agent 'bot' paused.\n");
    assert_eq!(house.says("agent pause bot"), "Agent 'bot' is paused already.\n");
    assert_eq!(house.status(&token), 403);
    assert!(house.says("agent list").contains("bot (paused)"));
    assert!(house.says("agent inspect bot").contains("budget-review"));
    let mut house = house;
    house.daemon.restart();
    assert_eq!(house.status(&token), 403);
    assert_eq!(house.says("agent resume bot"), "Agent 'bot' resumed.\n");
    assert_eq!(house.status(&token), 200);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_deleted_name_may_be_used_again_and_its_old_events_keep_the_old_account() {
    let house = House::new();
    let old = house.daemon.agent_with("bot", "0.0004", 60, &[]);
    assert_eq!((house.status(&old), house.status(&old)), (200, 200));
    let old_id = house.daemon.rpc("agent.inspect", &json!({"name": "bot"}))["id"].clone();
    assert_eq!(house.says("agent delete bot"), "Agent 'bot' deleted; it spent $0.000066.\n");
    assert_eq!(house.status(&old), 401);
    assert!(!house.says("agent list").contains("bot"));
    let new = house.daemon.agent_with("bot", "0.0004", 60, &[]);
    let inspected = house.daemon.rpc("agent.inspect", &json!({"name": "bot"}));
    assert_ne!(inspected["id"], old_id);
    assert_eq!((&inspected["budgets"][0]["spent_pico"], &inspected["calls"]), (&json!("0"), &json!(0)));
    assert_eq!((house.status(&old), house.status(&new)), (401, 200));
    let charges = |query: Value| {
        let events = house.daemon.rpc("event.list", &query)["events"].as_array().cloned().unwrap_or_default();
        events.iter().filter(|event| event["kind"] == "call.settled").count()
    };
    assert_eq!((charges(json!({"account": old_id})), charges(json!({"agent": "bot"}))), (2, 1));
    // The infra assault does this constantly.
    for _ in 0..20 {
        house.says("agent delete bot");
        house.says("agent create bot 1 60");
    }
    settled_and_audited(&house.daemon, &house.provider);
}

#[track_caller]
fn ends(output: &Output, code: i32, says: &str) {
    assert!(output.code == code && output.stdout.is_empty(), "{code}: {output:?}");
    let first = output.stderr.lines().next().unwrap_or_default();
    assert!(first.starts_with("error: ") && output.stderr.contains(says), "{says}: {output:?}");
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let house = House::new();
    house.says("agent create bot 5 60");
    let rows: [(&[&str], i32, &str); 14] = [
        (&["agent", "inspect", "nobody"], 4, "no agent 'nobody'"),
        (&["agent", "delete", "nobody"], 4, "hint: aexctl agent list"),
        (&["agent", "pause", "nobody"], 4, "no agent"),
        (&["agent", "resume", "nobody"], 4, "no agent"),
        (&["agent", "rotate-token", "nobody"], 4, "no agent"),
        (&["agent", "create", "bot", "5", "60"], 1, "bot"),
        (&["agent", "create", "x", "5", "60", "--allowed-models", "m9"], 1, "m9"),
        (&["agent", "create", "x", "-5", "60"], 2, ""),
        (&["agent", "create", "x", "5"], 2, "<RPM>"),
        (&["agent", "create", "a/b", "5", "60"], 2, "a/b"),
        (&["agent", "create", "x", "0.0000000000001", "60"], 2, "never rounded"),
        (&["nothing"], 2, "nothing"),
        (&["events", "--agent", "nobody"], 4, "no agent"),
        (&["daemon", "start"], 1, "already running"),
    ];
    for (args, code, says) in rows {
        ends(&house.daemon.ctl(args), code, says);
    }
    let stopped = Daemon::prepare(Config::new(&house.provider));
    for args in
        [vec!["agent", "list"], vec!["status"], vec!["daemon", "status"], vec!["daemon", "stop"], vec!["models", "list"], vec!["events"]]
    {
        ends(&stopped.ctl(args), 3, "hint: aexctl daemon start");
    }
}

#[test]
fn a_peer_without_permission_is_denied_with_exit_code_5() {
    // Only root can become somebody else.
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let house = House::new();
    let open = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode)).expect("open a path");
    open(house.daemon.scratch(), 0o755);
    open(&house.daemon.home(), 0o755);
    // The checkout may lie where nobody else may look. `cp` copies, because a descriptor that this process writes to could be
    // handed to a child that another test forks just then, and a program that is open for writing cannot be run.
    let program = house.daemon.scratch().join("aexctl");
    let copied = Command::new("cp").arg(binary("aexctl")).arg(&program).status().expect("run cp");
    assert!(copied.success(), "cp failed");
    let list = || {
        let mut command = Command::new(&program);
        command.env_clear().env("AEX_HOME", house.daemon.home()).current_dir(house.daemon.scratch());
        output({
            command.args(["agent", "list"]).uid(65534);
            command
        })
    };
    ends(&list(), 5, "permission");
    // Even past the mode of the socket, the peer's identity is asked for.
    open(&house.daemon.home().join("aexd.sock"), 0o777);
    ends(&list(), 5, "");
}

#[test]
fn json_is_the_same_everywhere_and_has_the_members_that_scripts_read() {
    let house = House::new();
    let created = house.daemon.ctl(["--json", "agent", "create", "bot", "5", "60"]).json();
    assert_eq!(
        (created["token"].is_string(), &created["name"], &created["budgets"][0]["limit_pico"]),
        (true, &json!("bot"), &json!("5000000000000"))
    );
    assert_eq!(house.status(created["token"].as_str().unwrap_or_default()), 200);
    let pid = house.daemon.pid();
    let rows: [(&[&str], &str, Value); 12] = [
        (&["agent", "list", "--json"], "/agents/0/budgets/0/spent_usd", json!("0.000033")),
        (&["agent", "inspect", "bot", "--json"], "/policy/allow_vision", json!(false)),
        (&["agent", "pause", "bot", "--json"], "/state", json!("paused")),
        (&["agent", "resume", "bot", "--json"], "/state", json!("active")),
        (&["agent", "rotate-token", "bot", "--json"], "/agent", json!("bot")),
        (&["daemon", "status", "--json"], "/pid", json!(pid)),
        (&["status", "--json"], "/requests", json!(1)),
        (&["status", "--json"], "/daemon/state", json!("ready")),
        (&["audit", "--json"], "/passed", json!(true)),
        (&["models", "list", "--json"], "/models/0/prices/input_pico", json!("1000000")),
        (&["version", "--json"], "/aexd/pid", json!(pid)),
        (&["agent", "delete", "bot", "--json"], "/spent_usd", json!("0.000033")),
    ];
    for (args, pointer, wanted) in rows {
        let reply = house.daemon.ctl(args).json();
        assert_eq!(reply.pointer(pointer), Some(&wanted), "{args:?}: {reply}");
    }
    let status = house.daemon.ctl(["daemon", "status", "--json"]).json();
    assert!(status["port"].is_u64() && status["version"].is_string(), "{status}");
    let events = house.daemon.ctl(["events", "--json", "-n", "1000"]).json();
    let rows = events["events"].as_array().expect("events");
    assert!(rows.iter().enumerate().all(|(index, event)| event["seq"] == index + 1), "{events}");
    assert_eq!(events["head_seq"], rows.len());
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn the_totals_count_calls_and_denials_by_kind() {
    let house = House::new();
    let token = house.daemon.agent_with("bot", "0.0004", 6, &["--no-streaming"]);
    let post = |changes: &Value| client::post_json(&house.daemon.chat_url(), &token, &aex_tests::ask::chat_with(changes)).status;
    let statuses = [
        json!({}),
        json!({"stream": true}),
        json!({"stream": true}),
        json!({"max_tokens": 900}),
        json!({"max_tokens": 900}),
        json!({"max_tokens": 900}),
        json!({}),
        json!({}),
    ];
    assert_eq!(statuses.map(|changes| post(&changes)), [200, 403, 403, 402, 402, 402, 429, 429]);
    let status = house.daemon.ctl(["status", "--json"]).json();
    let counts = ["agents", "requests", "policy_denials", "budget_denials", "rate_denials"].map(|name| status[name].as_u64().unwrap_or(99));
    assert_eq!(counts, [1, 1, 2, 3, 2], "{status}");
    let text = house.says("status");
    assert!(text.contains("Total spent") && text.contains("$0.000033"), "{text}");
    assert_eq!(house.daemon.rpc("agent.inspect", &json!({"name": "bot"}))["denials"], 7);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn events_are_followed_as_they_happen() {
    let house = House::new();
    let token = house.daemon.agent("bot", &[]);
    let mut tail = house.daemon.control();
    let subscribed = tail.call("event.tail", &json!({})).expect("event.tail");
    assert_eq!(house.status(&token), 200);
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "call.settled") {
        let notice = tail.receive().expect("a notification");
        assert_eq!((&notice["method"], &notice["params"]["subscription"]), (&json!("event"), &subscribed["subscription"]), "{notice}");
        kinds.push(notice["params"]["kind"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(kinds, ["window.opened", "call.held", "call.settled"]);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn the_audit_needs_no_daemon_and_finds_what_was_changed_by_hand() {
    let mut house = House::new();
    let token = house.daemon.agent("bot", &[]);
    assert_eq!(house.status(&token), 200);
    let names = ["spent_within_budget", "no_negative_values", "no_orphaned_reservations", "event_log_integrity", "spent_matches_events"];
    let passes = |text: &str| {
        let lines: Vec<&str> = text.lines().filter(|line| line.ends_with(": PASS")).collect();
        assert!(names.iter().zip(&lines).all(|(name, line)| *line == format!("{name}: PASS")), "{text}");
        assert!(text.contains("7 of 7 invariants hold") && text.contains("charges: 1 exact, 0 estimated, 0 worst case"), "{text}");
    };
    passes(&house.says("audit"));
    // Calls in flight are no orphans.
    house.provider.script(Script::hold());
    let mut connection = Connection::open(&house.daemon.url());
    connection.post_json("/v1/chat/completions", &token, &chat());
    house.provider.wait_for_requests(2);
    passes(&house.says("audit"));
    house.provider.release();
    assert_eq!(connection.answer().expect("an answer").status, 200);
    settled_and_audited(&house.daemon, &house.provider);
    house.daemon.stop();
    let offline = house.daemon.ctl(["audit", "--json"]).json();
    assert_eq!((&offline["passed"], &offline["exact"]), (&json!(true), &json!(2)));

    // One digit of one event, without a database library: same length, so that the file stays a database.
    let ledger = house.daemon.home().join("ledger.db");
    let mut bytes = fs::read(&ledger).expect("the ledger");
    let needle = b"\"charge\":\"33000000\"";
    let at = bytes.windows(needle.len()).position(|window| window == needle).expect("a charge in the ledger");
    bytes[at + 10] = b'2';
    fs::write(&ledger, bytes).expect("change the ledger");
    let broken = house.daemon.ctl(["audit"]);
    assert_eq!(broken.code, 1, "{broken:?}");
    assert!(broken.stdout.contains("event_log_integrity: FAIL"), "{broken:?}");
    assert!(house.daemon.try_run().is_err() || house.daemon.ctl(["audit"]).code == 1, "a broken chain goes unnoticed");
}

#[test]
fn a_fresh_home_is_initialised_started_shown_and_stopped() {
    let provider = Provider::start();
    let daemon = Daemon::prepare(Config::new(&provider));
    fs::remove_dir_all(daemon.home()).expect("remove the home");
    let ctl = |args: &[&str]| daemon.ctl(args);
    let started = ctl(&["daemon", "start", "--port", "0"]).ok();
    assert!(started.stdout.contains("AEX initialized in ") && started.stdout.contains("Daemon started: pid "), "{started:?}");
    let status = ctl(&["daemon", "status", "--json"]).json();
    assert_eq!((&status["state"], status["port"].as_u64().is_some_and(|port| port > 0)), (&json!("ready"), true));
    let agents = ctl(&["agent", "list", "--json"]).json();
    let default = &agents["agents"][0];
    assert_eq!((&default["name"], &default["rpm"], &default["budgets"][0]["period"]), (&json!("default"), &json!(60), &json!("day")));
    assert_eq!(default["budgets"][0]["limit_usd"], "5.00");
    let again = ctl(&["daemon", "start"]);
    assert!(again.code == 1 && again.stderr.contains("already running"), "{again:?}");
    let stopped = ctl(&["daemon", "stop"]).ok();
    assert!(stopped.stdout.starts_with("Daemon stopped (pid "), "{stopped:?}");
    assert_eq!((ctl(&["daemon", "status"]).code, ctl(&["daemon", "stop"]).code), (3, 3));
    // A second init overwrites nothing.
    let models = daemon.home().join("config/models.yaml");
    let own = fs::read_to_string(&models).expect("models.yaml") + "# mine\n";
    fs::write(&models, &own).expect("write models.yaml");
    ctl(&["init"]).ok();
    assert_eq!(fs::read_to_string(&models).expect("models.yaml"), own);
    ctl(&["daemon", "start", "--port", "0"]).ok();
    assert_eq!(ctl(&["agent", "list", "--json"]).json()["agents"].as_array().map(Vec::len), Some(1));
    ctl(&["audit"]).ok();
    ctl(&["daemon", "stop"]).ok();
}

#[test]
fn a_start_on_a_taken_port_names_its_holder() {
    let provider = Provider::start();
    let daemon = Daemon::prepare(Config::new(&provider));
    let port = provider.address().port().to_string();
    let refused = daemon.ctl(["daemon", "start", "--port", &port]);
    let pid = std::process::id().to_string();
    assert!(refused.code == 1 && refused.stderr.contains("in use by") && refused.stderr.contains(&pid), "{refused:?}");
    assert_eq!(daemon.ctl(["daemon", "status"]).code, 3);
}

#[test]
fn the_demo_ends_well_and_leaves_nothing_behind() {
    let provider = Provider::start();
    let daemon = Daemon::prepare(Config::new(&provider));
    let folder = daemon.scratch().join("tmp");
    fs::create_dir(&folder).expect("make a folder");
    let mut command = daemon.command("aexctl");
    command.arg("demo").env("TMPDIR", &folder).env_remove("AEX_HOME");
    let said = output(command);
    assert_eq!(said.code, 0, "{said:?}");
    for piece in ["$ aexctl agent create demo", "402", "insufficient_quota", "invariants hold", "$ aexctl daemon stop"] {
        assert!(said.stdout.contains(piece), "{piece}: {said:?}");
    }
    let left: Vec<_> = fs::read_dir(&folder).expect("the folder").flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    let place = folder.display().to_string();
    let living = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter(|process| fs::read(process.path().join("environ")).is_ok_and(|environ| String::from_utf8_lossy(&environ).contains(&place)));
    assert_eq!(living.count(), 0, "processes of the demo are left");
    assert_eq!(provider.requests().len(), 0);
    assert!(!daemon.scratch().join(".aex").exists());
}

#[test]
fn lines_that_are_no_requests_get_an_error_and_the_connection_lives() {
    let house = House::new();
    let mut control = house.daemon.control();
    let rows = [
        ("{", -32700),
        ("[]", -32600),
        ("7", -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"agent.nothing"}"#, -32601),
        (r#"{"jsonrpc":"2.0","id":1,"method":"agent.inspect","params":{"name":"a","extra":1}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"agent.inspect","params":{"name":"nobody"}}"#, -32000),
        (r#"{"jsonrpc":"2.0","id":1,"method":"agent.create","params":{"name":"a","budget_pico":"-1","rpm":1}}"#, -32004),
    ];
    for (line, code) in rows {
        control.send(format!("{line}\n").as_bytes());
        let answer = control.receive().expect("an answer");
        assert_eq!(answer["error"]["code"], code, "{line}: {answer}");
    }
    control.send(format!("{}\n", "x".repeat(3 << 20)).as_bytes());
    assert!(control.receive().expect("an answer")["error"]["code"].is_i64());
    assert_eq!(control.call("daemon.hello", &json!({})).expect("daemon.hello")["protocol"], 1);
    let batch = json!([{"jsonrpc": "2.0", "id": "a", "method": "daemon.hello"}, {"jsonrpc": "2.0", "method": "daemon.hello"}, 3]);
    control.send(format!("{batch}\n").as_bytes());
    let answers = control.receive().expect("answers");
    assert_eq!((answers.as_array().map(Vec::len), &answers[0]["id"], &answers[1]["error"]["code"]), (Some(2), &json!("a"), &json!(-32600)));
    assert!(ledger::calls(&house.daemon).is_empty());
}
