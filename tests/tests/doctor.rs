//! `aexctl doctor`, `models check` and `config`: what they find, what they advise, what they never show.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use aex_tests::client;
use aex_tests::daemon::{Config, Daemon, Output, output};
use aex_tests::ledger::{audited, quiet, settled_and_audited};
use aex_tests::provider::{KEY, Provider};
use serde_json::{Value, json};

/// `SUBJECT: DETAIL` with its verdict, for each finding.
#[track_caller]
fn findings(output: &Output) -> Vec<(String, String)> {
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|fault| panic!("{fault} in {output:?}"));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let told = |finding: &Value| (text(finding, "verdict"), format!("{}: {}", text(finding, "subject"), text(finding, "detail")));
    let findings = report["findings"].as_array().expect("findings");
    for finding in findings {
        assert_eq!(finding["fix"].is_string(), finding["verdict"] != "ok", "each has its fix: {finding}");
    }
    findings.iter().map(told).collect()
}

#[track_caller]
fn has(findings: &[(String, String)], verdict: &str, words: &str) {
    assert!(findings.iter().any(|(found, text)| found == verdict && text.contains(words)), "no {verdict} {words:?} in {findings:#?}");
}

#[track_caller]
fn worst<'a>(findings: &'a [(String, String)], verdict: &str) -> Vec<&'a String> {
    findings.iter().filter(|(found, _)| found == verdict).map(|(_, text)| text).collect()
}

#[test]
fn a_sound_installation_passes_and_shows_no_secret() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    private(&daemon);
    let said = daemon.ctl(["doctor"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.ends_with(" warnings\n") || said.stdout.ends_with(" warning\n"), "{said:?}");
    let found = findings(&daemon.ctl(["doctor", "--json"]));
    for words in [
        "environment: home ",
        "permissions: files and folders are their owner's alone",
        "daemon: aexd ",
        "ledger: commits",
        "port: http://127.0.0.1:",
        "clock: went steadily",
        "model m1: $1.00 in, $2.00 out per million tokens",
        "provider mock: http://127.0.0.1:",
        "ledger: all ",
        "bypass: no provider's key",
    ] {
        has(&found, "ok", words);
    }
    assert_eq!(worst(&found, "error"), Vec::<&String>::new());
    for secret in [KEY, &token] {
        assert!(!said.stdout.contains(secret) && !said.stderr.contains(secret));
    }
    // Asking for the models costs nothing and makes no call.
    settled_and_audited(&daemon, &provider);
}

/// The harness makes its folders as the umask has them.
fn private(daemon: &Daemon) {
    for path in ["", "config"] {
        fs::set_permissions(daemon.home().join(path), Permissions::from_mode(0o700)).expect("set a mode");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_fix() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    private(&daemon);
    fs::set_permissions(daemon.home().join("config"), Permissions::from_mode(0o777)).expect("set a mode");
    fs::set_permissions(daemon.home().join(".env"), Permissions::from_mode(0o644)).expect("set a mode");
    fs::write(daemon.scratch().join(".bashrc"), "export OPENAI_API_KEY=sk-secret-1\n").expect("write a start-up file");
    let mut command = daemon.command("aexctl");
    command.args(["doctor", "--json"]).env("GROQ_API_KEY", "gsk-secret-2").env("ANTHROPIC_API_KEY", "aex_ours");
    let said = output(command);
    assert_eq!(said.code, 1, "{said:?}");
    let found = findings(&said);
    has(&found, "error", "/config (mode 777)");
    has(&found, "warning", "/.env (mode 644)");
    has(&found, "warning", "this shell's environment holds GROQ_API_KEY: ");
    has(&found, "warning", ".bashrc:1 sets OPENAI_API_KEY");
    has(&found, "ok", "this shell's ANTHROPIC_API_KEY: an agent's token");
    assert!(!said.stdout.contains("secret") && !said.stdout.contains("aex_ours"), "{said:?}");
}

#[test]
fn doctor_works_without_the_daemon() {
    let provider = Provider::start();
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = holder.local_addr().expect("its address").port();
    let mut daemon = Daemon::start_with(Config::new(&provider).aexd_yaml(&format!("port: {port}\n")));
    daemon.stop();
    private(&daemon);
    let doctor = || daemon.ctl(["doctor", "--json"]);
    let found = findings(&doctor());
    has(&found, "warning", "daemon: the daemon is not running");
    has(&found, "ok", "provider mock: ");
    has(&found, "ok", "ledger: all ");
    has(&found, "error", &format!("port: 127.0.0.1:{port}: in use by "));
    drop(holder);
    let said = doctor();
    has(&findings(&said), "ok", &format!("port: 127.0.0.1:{port} is free"));
    assert_eq!(said.code, 0, "{said:?}");
    daemon.write_models("models: [");
    let said = doctor();
    has(&findings(&said), "error", "config: models.yaml:");
    assert_eq!(said.code, 1);
    fs::remove_dir_all(daemon.home()).expect("remove the home");
    let said = doctor();
    has(&findings(&said), "error", "home: ");
    assert_eq!(said.code, 1);
}

/// models.yaml of the earlier program, with the provider of a test.
fn seed(provider: &Provider) -> String {
    format!(
        "version: 1\nproviders:\n  mock: {{base_url: {}, type: openai_compatible}}\n  closed: {{base_url: http://127.0.0.1:1/v1, auth: none}}\n\
         default_model: gpt-oss-20b\nmodels:\n  gpt-oss-20b:\n    provider: mock\n    provider_model: llama-3.1-8b-instant\n    \
         pricing: {{input_micro: 50, output_micro: 100}}\n    limits: {{max_tokens: 8192}}\n    capabilities: {{reasoning: true, tools: true, vision: true}}\n  \
         unpriced: {{provider: closed, provider_model: x, limits: {{max_tokens: 8}}, capabilities: {{}}}}\n",
        provider.base_url()
    )
}

#[test]
fn models_check_points_at_prices_abilities_keys_and_providers() {
    let provider = Provider::start();
    let daemon = Daemon::start_with(Config::new(&provider).models_yaml(&seed(&provider)));
    let said = daemon.ctl(["models", "check", "--json"]);
    assert_eq!(said.code, 1, "{said:?}");
    let found = findings(&said);
    has(&found, "warning", "model gpt-oss-20b: input costs $50.00 per million tokens, 2 times the $20.00");
    has(&found, "warning", "model gpt-oss-20b: takes images, but has no `limits.context_tokens`");
    has(&found, "error", "model unpriced: has no price: every call is denied");
    has(&found, "error", "provider closed: http://127.0.0.1:1/v1 cannot be reached");
    has(&found, "ok", "provider mock: ");
    assert!(said.stdout.contains("check the unit: *_micro is micro-USD per token"), "{said:?}");
    let text = daemon.ctl(["models", "check"]);
    assert!(text.stdout.contains("FAIL  model unpriced: ") && text.stdout.contains("\n      fix: "), "{text:?}");

    daemon.write_models(&Config::new(&provider).models_text());
    daemon.write_dotenv("MOCK_API_KEY=sk-wrong\n");
    daemon.ctl(["models", "reload"]).ok();
    let said = daemon.ctl(["models", "check", "--json"]);
    has(&findings(&said), "error", "refuses the key (401)");
    assert!(!said.stdout.contains("sk-wrong"), "{said:?}");
    daemon.write_dotenv("MOCK_API_KEY=\n");
    daemon.ctl(["models", "reload"]).ok();
    has(&findings(&daemon.ctl(["models", "check", "--json"])), "error", "MOCK_API_KEY is not set");
    daemon.write_dotenv(&format!("MOCK_API_KEY={KEY}\n"));
    daemon.ctl(["models", "reload"]).ok();
    assert_eq!(daemon.ctl(["models", "check"]).code, 0);
}

#[test]
fn config_tells_each_value_with_its_source_and_of_keys_only_whether_they_are_set() {
    let provider = Provider::start();
    let config = Config::new(&provider).aexd_yaml("zone: Europe/Berlin\nmax_body: 1MiB\n").env("AEX_LOG_LEVEL", "debug");
    let daemon = Daemon::start_with(config);
    let setting = |name: &str| {
        let shown = daemon.ctl(["config", "--json"]).json();
        let found = shown["settings"].as_array().expect("settings").iter().find(|setting| setting["name"] == name);
        found.cloned().unwrap_or_else(|| panic!("no {name} in {shown}"))
    };
    for (name, value, source) in [
        ("zone", json!("Europe/Berlin"), "aexd.yaml:1"),
        ("max_body", json!(1 << 20), "aexd.yaml:2"),
        ("log_level", json!("debug"), "environment AEX_LOG_LEVEL"),
        ("port", json!(0), "flag --port"),
        ("durability", json!("overlap"), "default"),
        ("admin_group", Value::Null, "default"),
    ] {
        let found = setting(name);
        assert_eq!((&found["value"], &found["source"]), (&value, &json!(source)), "{name}");
    }
    assert_eq!(setting("workers")["waits_for_restart"], false);
    fs::write(daemon.home().join("config/aexd.yaml"), "zone: UTC\nworkers: 3\n").expect("write aexd.yaml");
    daemon.ctl(["models", "reload"]).ok();
    assert_eq!((&setting("workers")["value"], &setting("workers")["waits_for_restart"]), (&json!(3), &json!(true)));
    let text = daemon.ctl(["config"]).ok().stdout;
    assert!(text.contains(" MOCK_API_KEY | set   | .env") && text.contains("aexd.yaml:2, from the next start on"), "{text}");
    assert!(!text.contains(KEY));
    // What README lists is what there is.
    let readme = include_str!("../../README.md");
    for setting in daemon.ctl(["config", "--json"]).json()["settings"].as_array().expect("settings") {
        let name = setting["name"].as_str().unwrap_or_default();
        assert!(readme.contains(&format!("`{name}`")), "README does not know {name}");
    }
}

/// The tests of `--compat`, those of the earlier program first.
const COMPAT: [&str; 17] = [
    "basic_chat",
    "streaming_sse",
    "tool_calling",
    "structured_output",
    "error_parity",
    "responses",
    "responses_stream",
    "responses_errors",
    "messages",
    "messages_stream",
    "messages_errors",
    "count_tokens",
    "embeddings",
    "completions",
    "completions_stream",
    "models_openai",
    "models_anthropic",
];

/// What `--compat` says when only these are skipped.
#[track_caller]
fn compat_passes(daemon: &Daemon, skipped: &[&str]) {
    let said = daemon.ctl(["doctor", "--compat"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let verdicts: Vec<&str> = said.stdout.lines().filter(|line| !line.starts_with(' ')).collect();
    let (last, verdicts) = verdicts.split_last().expect("a last line");
    let wanted: Vec<String> =
        COMPAT.iter().map(|name| format!("{name}: {}", if skipped.contains(name) { "SKIP" } else { "PASS" })).collect();
    assert_eq!(verdicts, wanted, "{said:?}");
    assert!(last.starts_with(&format!("{} of {} pass with model m1", COMPAT.len() - skipped.len(), COMPAT.len())), "{last}");
    assert_eq!(daemon.ctl(["agent", "list", "--json"]).json()["agents"], json!([]), "nothing is left behind");
}

#[test]
fn every_dialect_of_the_built_in_provider_passes_and_nothing_is_left_behind() {
    let provider = Provider::start();
    let models = "version: 1\nproviders: {echo: {type: echo}}\ndefault_model: m1\nmodels:\n  m1:\n    provider: echo\n    provider_model: echo\n    pricing: free\n    \
                  limits: {max_tokens: 1000}\n    capabilities: {reasoning: true, tools: true, vision: false}\n";
    let daemon = Daemon::start_with(Config::new(&provider).models_yaml(models));
    compat_passes(&daemon, &[]);
    drop(quiet(&daemon));
    audited(&daemon);
}

#[test]
fn what_a_provider_does_not_serve_is_skipped() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    // It speaks OpenAI's API alone. That of errors is the daemon's own.
    compat_passes(&daemon, &["messages", "messages_stream", "count_tokens"]);
    settled_and_audited(&daemon, &provider);
}

#[test]
fn a_difference_is_told_and_fails() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &["--no-streaming", "--no-tools"]);
    let said = daemon.ctl(["doctor", "--compat", "--token", &token, "--model", "m2", "--json"]);
    assert_eq!(said.code, 1, "{said:?}");
    let report: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let passed: Vec<(&str, bool)> = report["tests"]
        .as_array()
        .expect("tests")
        .iter()
        .take(5)
        .map(|test| (test["name"].as_str().unwrap_or_default(), test["passed"].as_bool().unwrap_or_default()))
        .collect();
    let wanted =
        [("basic_chat", true), ("streaming_sse", false), ("tool_calling", false), ("structured_output", true), ("error_parity", true)];
    assert_eq!(passed, wanted, "{report}");
    let difference = report["tests"][1]["difference"].as_str().unwrap_or_default();
    assert!(difference.starts_with("expected 200, found 403 {\"error\":"), "{difference}");
    assert_eq!(client::get(&format!("{}/v1/models", daemon.url()), &token).status, 200, "the agent that was named is still there");
    let mut stopped = daemon;
    stopped.stop();
    assert_eq!(stopped.ctl(["doctor", "--compat"]).code, 3);
}
