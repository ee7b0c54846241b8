//! What AEX, the earlier program, left behind is taken over. The databases are its own: tests/fixtures says how they were made.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aex_tests::ask::{chat, chat_with};
use aex_tests::client;
use aex_tests::daemon::{Config, Daemon, Output};
use aex_tests::ledger::{audited, events, settled_and_audited};
use aex_tests::provider::Provider;
use serde_json::{Value, json};

/// Names that no agent of ours may have.
const FOREIGN_NAMES: [&str; 1] = ["run-7"];

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

/// The newest token of an agent, as AEX gave it out.
#[track_caller]
fn token(version: &str, agent: &str) -> String {
    let text = fs::read_to_string(fixture(&format!("aex-{version}/tokens.json"))).expect("read tokens.json");
    let tokens: BTreeMap<String, Vec<String>> = serde_json::from_str(&text).expect("a table of tokens");
    tokens[agent].last().expect("a token").clone()
}

/// A home in which AEX had been, and a provider beside it.
struct OldHome {
    provider: Provider,
    daemon: Daemon,
}

/// Name, content, inode and time of writing of the files of AEX's database.
type Trace = Vec<(String, Vec<u8>, u64, i64, i64)>;

impl OldHome {
    #[track_caller]
    fn with(files: &[&str]) -> Self {
        let provider = Provider::start();
        let daemon = Daemon::prepare(Config::new(&provider));
        for file in files {
            let name = Path::new(file).file_name().expect("a file's name");
            let name = if name == "broken.db" { "aex.db".as_ref() } else { name };
            fs::copy(fixture(file), daemon.home().join(name)).expect("copy a fixture");
        }
        Self { provider, daemon }
    }

    /// What of AEX's files, and of ours that are made for reading them, lies in the home.
    #[track_caller]
    fn trace(&self) -> Trace {
        let entries = fs::read_dir(self.daemon.home()).expect("list the home");
        let mut trace = Trace::new();
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("aex.db") || name.starts_with(".aex-import") {
                let meta = fs::metadata(&path).expect("its metadata");
                trace.push((name, fs::read(&path).expect("read it"), meta.ino(), meta.mtime(), meta.mtime_nsec()));
            }
        }
        trace.sort();
        trace
    }

    /// Imports, and holds that AEX's files are as they were.
    #[track_caller]
    fn import(&self) -> Output {
        let before = self.trace();
        let output = self.daemon.ctl(["init", "--import-aex", "--json"]);
        assert_eq!(self.trace(), before, "the import left a trace on the database, or beside it");
        output
    }

    #[track_caller]
    fn agents(&self) -> BTreeMap<String, Value> {
        let agents = self.daemon.rpc("agent.list", &json!({}));
        let agents = agents["agents"].as_array().expect("a list of agents");
        agents.iter().map(|agent| (agent["name"].as_str().unwrap_or_default().to_owned(), agent.clone())).collect()
    }

    #[track_caller]
    fn call(&self, token: &str) -> u16 {
        client::post_json(&self.daemon.chat_url(), token, &chat()).status
    }
}

/// The micro-USD that an agent's total has spent.
#[track_caller]
fn spent(agent: &Value) -> i64 {
    let pico: i64 = agent["budgets"][0]["spent_pico"].as_str().and_then(|pico| pico.parse().ok()).expect("an amount");
    pico / 1_000_000
}

#[track_caller]
fn named<'r>(rows: &'r Value, name: &str) -> &'r Value {
    rows.as_array().and_then(|rows| rows.iter().find(|row| row["name"] == name)).unwrap_or_else(|| panic!("no {name} in {rows}"))
}

#[test]
fn agents_of_the_earlier_program_go_on_with_their_budgets_spending_policies_and_tokens() {
    let mut old = OldHome::with(&["aex-1.2.0/aex.db"]);
    let report = old.import().json();
    let import = &report["import"];
    assert_eq!(import["agents"].as_array().map(Vec::len), Some(12), "{import}");
    assert_eq!(import["skipped"].as_array().map(Vec::len), Some(FOREIGN_NAMES.len()), "{import}");
    assert!(named(&import["skipped"], "run-7")["reason"].as_str().is_some_and(|reason| reason.contains("runs are named")), "{import}");
    assert_eq!(report["agent_created"], false, "AEX had an agent `default` of its own");
    old.daemon.run();

    let agents = old.agents();
    let plain = &agents["plain"];
    assert_eq!((plain["budgets"][0]["limit_pico"].as_str(), spent(plain)), (Some("5000000000000"), 30_000), "{plain}");
    assert_eq!(plain["created_at"], "2026-11-21T11:13:59.000000Z");
    assert_eq!(agents["default"]["rpm"], 12);
    let limits = &agents["limits"]["policy"];
    for (field, wanted) in [
        ("allowed_models", json!(["gpt-oss-20b", "other"])),
        ("allowed_tool_names", json!(["search", "calc"])),
        ("max_input_tokens", json!(1000)),
        ("max_output_tokens", json!(200)),
        ("strict", json!(true)),
        ("allow_streaming", json!(true)),
        ("allow_vision", json!(false)),
    ] {
        assert_eq!(limits[field], wanted, "{field} of {limits}");
    }
    let (closed, open) = (&agents["closed"]["policy"], &agents["open"]["policy"]);
    for field in ["allow_streaming", "allow_tools", "allow_function_calling"] {
        assert_eq!((&closed[field], &open[field]), (&json!(false), &json!(true)), "{field}");
    }
    assert_eq!((&open["allow_vision"], &open["allow_passthrough"]), (&json!(true), &json!(true)));
    assert!(agents.values().all(|agent| agent["state"] == "active"), "{agents:?}");
    assert!(agents.contains_key("Ümläut bot") && !agents.contains_key("gone"));

    let events = events(&old.daemon);
    let imported: Vec<&Value> = events.iter().filter(|event| event["body"]["reason"] == "imported from AEX").collect();
    assert_eq!(imported.len(), 24, "an account and a token each");
    assert!(imported.iter().all(|event| event["at"] == imported[0]["at"]), "all of it in one transaction");

    assert_eq!(old.call(&token("1.2.0", "plain")), 200);
    let _books = settled_and_audited(&old.daemon, &old.provider);
    assert_eq!(spent(&old.agents()["plain"]), 30_033, "the call is charged on top of what AEX had charged");
    old.daemon.restart();
    assert_eq!(spent(&old.agents()["plain"]), 30_033);
    audited(&old.daemon);
}

#[test]
fn tokens_are_refused_for_what_they_were_refused_for_before() {
    let mut old = OldHome::with(&["aex-1.2.0/aex.db"]);
    let report = old.import();
    assert!(report.stderr.contains("warning: agent 'zero': RPM 0 denies every call"), "{report:?}");
    assert!(report.stderr.contains("warning: agent 'short': its token has expired"), "{report:?}");
    old.daemon.run();
    for (agent, status) in
        [("rotated", 200), ("long", 200), ("short", 401), ("gone", 401), ("run-7", 401), ("reader", 403), ("zero", 429), ("spent", 402)]
    {
        assert_eq!(old.call(&token("1.2.0", agent)), status, "{agent}");
    }
    let text = fs::read_to_string(fixture("aex-1.2.0/tokens.json")).expect("read tokens.json");
    let tokens: BTreeMap<String, Vec<String>> = serde_json::from_str(&text).expect("a table of tokens");
    assert_eq!(old.call(&tokens["rotated"][0]), 401, "the token before the rotation");
    let denied = client::post_json(&old.daemon.chat_url(), &token("1.2.0", "closed"), &chat_with(&json!({"stream": true})));
    assert_eq!(denied.status, 403);
    let _books = settled_and_audited(&old.daemon, &old.provider);
    let homes: Vec<PathBuf> = ["ledger.db", "ledger.db-wal"].map(|name| old.daemon.home().join(name)).into();
    for secret in tokens.values().flatten() {
        for file in &homes {
            let bytes = fs::read(file).expect("read our ledger");
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "a raw token stands in {}", file.display());
        }
    }
}

#[test]
fn a_second_import_takes_over_nothing_and_changes_nothing() {
    let mut old = OldHome::with(&["aex-1.2.0/aex.db"]);
    assert_eq!(old.import().code, 0);
    old.daemon.run();
    let token = token("1.2.0", "plain");
    assert_eq!(old.call(&token), 200);
    let _books = settled_and_audited(&old.daemon, &old.provider);
    assert_eq!(old.daemon.ctl(["agent", "delete", "long"]).code, 0);
    old.daemon.stop();
    let again = old.import().json();
    assert_eq!(again["import"]["agents"], json!([]), "{again}");
    assert_eq!(named(&again["import"]["skipped"], "plain")["reason"], "exists already");
    assert_eq!(named(&again["import"]["skipped"], "long")["reason"], "was deleted here, and stays so");
    old.daemon.run();
    let agents = old.agents();
    assert_eq!((spent(&agents["plain"]), agents.len()), (30_033, 11));
    assert_eq!(old.call(&token), 200);
    let _books = settled_and_audited(&old.daemon, &old.provider);
}

#[test]
fn rows_that_are_only_in_the_log_of_a_database_that_was_not_closed_are_read_and_the_log_is_left() {
    let mut old = OldHome::with(&["aex-1.2.0/live/aex.db", "aex-1.2.0/live/aex.db-wal"]);
    let report = old.import();
    assert!(report.stderr.contains("$0.01005 that AEX had reserved for calls of 1 agent that"), "{report:?}");
    assert_eq!(report.json()["import"]["reserved"], json!({"agents": 1, "pico": "10050000000", "usd": "0.01005"}));
    old.daemon.run();
    let plain = &old.agents()["plain"];
    assert_eq!((spent(plain), &plain["budgets"][0]["reserved_pico"]), (50_000, &json!("0")));
    audited(&old.daemon);
}

#[test]
fn a_cell_that_cannot_be_read_pauses_its_agent_and_opens_nothing() {
    let mut old = OldHome::with(&["aex-1.2.0/broken.db"]);
    let report = old.import();
    for (agent, why) in [
        ("limits", "allowed_models is no JSON list"),
        ("open", "allowed_tool_names is no JSON list"),
        ("long", "token_expires_at is no time"),
        ("reader", "token_scope is neither"),
        ("spent", "max_output_tokens is no number"),
        ("rotated", "its token cannot be read"),
    ] {
        let line = format!("warning: agent '{agent}' is paused: imported from AEX: {why}");
        assert!(report.stderr.contains(&line), "{line}: {}", report.stderr);
    }
    assert_eq!(report.json()["import"]["agents"].as_array().map(Vec::len), Some(12));
    old.daemon.run();
    let agents = old.agents();
    assert_eq!(agents["plain"]["budgets"][0]["limit_pico"], "9223372036854775807", "more than can be held is the most that can");
    assert_eq!(agents["closed"]["state"], "active", "a token without a digest is that of the first versions");
    assert_eq!(agents["limits"]["policy"]["allowed_models"], json!([]));
    assert!(agents["limits"]["state_reason"].as_str().is_some_and(|reason| reason.contains("allowed_models")), "{}", agents["limits"]);
    // Paused ones answer 403, and one whose token's end nobody can read answers 401, even when it is resumed.
    for (agent, status) in [("plain", 200), ("closed", 200), ("limits", 403), ("open", 403), ("long", 401), ("rotated", 401), ("zero", 429)]
    {
        assert_eq!(old.call(&token("1.2.0", agent)), status, "{agent}");
    }
    assert_eq!(old.daemon.ctl(["agent", "resume", "long"]).code, 0);
    assert_eq!(old.call(&token("1.2.0", "long")), 401);
    let _books = settled_and_audited(&old.daemon, &old.provider);
}

#[test]
fn a_database_of_the_later_program_is_read_too() {
    let mut old = OldHome::with(&["aex-2.0.0/aex.db"]);
    let report = old.import();
    for line in [
        "agent 'paused' is paused: imported from AEX: it was PAUSED (on leave)",
        "agent 'tokens': max_tokens_per_request 500 now bounds input and output each",
    ] {
        assert!(report.stderr.contains(line), "{line}: {}", report.stderr);
    }
    assert_eq!(report.json()["import"]["agents"].as_array().map(Vec::len), Some(14));
    old.daemon.run();
    let agents = old.agents();
    let tokens = &agents["tokens"]["policy"];
    assert_eq!(agents["tokens"]["tpm"], json!(9_000));
    assert_eq!((&tokens["max_input_tokens"], &tokens["max_output_tokens"]), (&json!(500), &json!(500)));
    assert_eq!((old.call(&token("2.0.0", "plain")), old.call(&token("2.0.0", "paused"))), (200, 403));
    let _books = settled_and_audited(&old.daemon, &old.provider);
    assert_eq!(spent(&old.agents()["plain"]), 10_033);
}

#[test]
fn what_cannot_be_imported_is_told_in_one_line_and_leaves_nothing_behind() {
    let old = OldHome::with(&["aex-1.2.0/aex.db"]);
    let home = old.daemon.home();
    fs::write(home.join("text.db"), "no database at all, but long enough to look like one\n".repeat(20)).expect("write a file");
    fs::write(home.join("empty.db"), "").expect("write a file");
    let rows = [
        ("missing.db", "missing.db: No such file"),
        ("text.db", "text.db is no database of AEX: it is no SQLite database"),
        ("empty.db", "empty.db is no database of AEX: it has no table `agents` (wanted: the aex.db of AEX 1.x or 2.0)"),
    ];
    for (file, wanted) in rows {
        let output = old.daemon.ctl(["init", "--import-aex", &home.join(file).display().to_string()]);
        assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output:?}");
        let line = output.stderr.strip_prefix("error: nothing was imported: ").unwrap_or_else(|| panic!("{output:?}"));
        assert!(line.contains(wanted) && line.lines().count() == 1, "{output:?}");
        assert!(!home.join("ledger.db").exists(), "{file}");
    }
}

#[test]
fn nothing_is_imported_while_either_daemon_runs() {
    let mut old = OldHome::with(&["aex-1.2.0/aex.db"]);
    // What AEX's own daemon has in its command line.
    let mut sleeper = Command::new("sh");
    sleeper.args(["-c", "read line", "aex.daemon.app:app"]).stdin(Stdio::piped());
    let mut sleeper = sleeper.spawn().expect("start a process");
    let pid_file = old.daemon.home().join("aex.pid");
    fs::write(&pid_file, sleeper.id().to_string()).expect("write the pid file");
    let output = old.daemon.ctl(["init", "--import-aex"]);
    drop(sleeper.stdin.take());
    sleeper.wait().expect("wait for the process");
    let wanted = format!("error: nothing was imported: AEX still runs (pid {}): stop it first with `aex daemon stop`\n", sleeper.id());
    assert_eq!((output.code, output.stderr), (1, wanted));

    old.daemon.run();
    let output = old.import();
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.starts_with("error: nothing was imported: stop the daemon first, with `aexctl daemon stop`: "), "{output:?}");
    assert_eq!(old.agents().len(), 0);
    old.daemon.stop();
    assert_eq!(old.import().json()["import"]["agents"].as_array().map(Vec::len), Some(12), "the stale pid file holds nobody up");
}

#[test]
fn a_home_of_the_earlier_program_starts_as_it_is_and_init_tells_of_the_agents_in_it() {
    for version in ["1.2.0", "2.0.0"] {
        let provider = Provider::start();
        let models = fs::read_to_string(fixture(&format!("aex-{version}/models.yaml"))).expect("read models.yaml");
        let mut daemon = Daemon::prepare(Config::new(&provider).models_yaml(&models));
        let home = daemon.home();
        fs::copy(fixture(&format!("aex-{version}/aex.db")), home.join("aex.db")).expect("copy a fixture");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).expect("open the home");
        fs::write(home.join(".env"), "# Provider API Keys\nGROQ_API_KEY=gsk_1\n").expect("write .env");
        fs::set_permissions(home.join(".env"), fs::Permissions::from_mode(0o644)).expect("open .env");
        let first = daemon.ctl(["init"]).ok();
        let hint = "agents of AEX: `aexctl init --import-aex` takes them over\n";
        assert!(first.stderr.contains("hint: ") && first.stderr.ends_with(hint), "{first:?}");
        let text = daemon.ctl(["init", "--import-aex"]).ok();
        assert!(text.stdout.contains("  plain       budget $5.00, spent $0.0"), "{text:?}");
        let again = daemon.ctl(["init"]).ok();
        assert!(!again.stderr.contains("hint: "), "{again:?}");
        assert_eq!(fs::read_to_string(home.join("config/models.yaml")).expect("read models.yaml"), models, "it charges as it is written");
        daemon.run();
        assert_eq!(fs::metadata(home.join(".env")).expect("its metadata").permissions().mode() & 0o777, 0o600);
        audited(&daemon);
    }
}
