//! The configuration on a running daemon: reload, bad files, keys, and which source wins.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use aex_tests::ask::{self, chat};
use aex_tests::client::{self, Connection};
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger::{audited, quiet, settled_and_audited, until};
use aex_tests::provider::{KEY, Provider, Script};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// How a reload is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Models,
    Daemon,
    Signal,
}

impl By {
    const ALL: [By; 3] = [By::Models, By::Daemon, By::Signal];
}

/// Asks for a reload and waits until it is done.
#[track_caller]
fn reload(daemon: &Daemon, by: By) {
    match by {
        By::Models | By::Daemon => {
            let noun = if by == By::Models { "models" } else { "daemon" };
            let said = daemon.ctl([noun, "reload"]).ok();
            assert!(said.stdout.starts_with("Configuration reloaded: "), "{said:?}");
        }
        By::Signal => {
            let seen = logged(daemon, "the configuration was read anew");
            daemon.signal(Signal::SIGHUP);
            until("the reload", || (logged(daemon, "the configuration was read anew") > seen).then_some(()));
        }
    }
}

/// Lines of the daemon's log that hold a text.
fn logged(daemon: &Daemon, text: &str) -> usize {
    let log = fs::read_to_string(daemon.home().join("logs/aex.log")).expect("the daemon's log");
    log.lines().filter(|line| line.contains(text)).count()
}

#[track_caller]
fn models(daemon: &Daemon) -> Vec<String> {
    let list = daemon.rpc("model.list", &json!({}));
    list["models"].as_array().expect("models").iter().map(|model| model["name"].as_str().unwrap_or_default().to_owned()).collect()
}

#[track_caller]
fn post(daemon: &Daemon, token: &str, body: &Value) -> client::Answer {
    client::post_json(&daemon.chat_url(), token, body)
}

/// The number of the first line that holds a text.
#[track_caller]
fn line(text: &str, piece: &str) -> usize {
    text.lines().position(|line| line.contains(piece)).expect("the text is there") + 1
}

#[test]
fn a_reload_swaps_models_and_prices_and_calls_in_flight_keep_theirs() {
    for by in By::ALL {
        let provider = Provider::start();
        let config = Config::new(&provider);
        let daemon = Daemon::start_with(config.clone());
        let token = daemon.agent("bot", &[]);
        provider.script(Script::hold_after(2));
        let mut stream = Connection::open(&daemon.url());
        stream.post_json("/v1/chat/completions", &token, &ask::with(chat(), &json!({"stream": true})));
        assert_eq!(stream.head().expect("a head").status, 200);
        daemon.write_models(&config.models_text().replace("input_micro: 1", "input_micro: 10").replace("  m2:", "  m3:"));
        reload(&daemon, by);
        assert_eq!(models(&daemon), ["m1", "m3"]);
        assert_eq!(post(&daemon, &token, &chat()).status, 200);
        assert_eq!(post(&daemon, &token, &ask::chat_with(&json!({"model": "m2"}))).code(), "model_not_allowed");
        assert_eq!(post(&daemon, &token, &ask::chat_with(&json!({"model": "m3"}))).status, 200);
        provider.release();
        while stream.next_data().expect("a clean end").is_some() {}
        let charges: Vec<i64> = quiet(&daemon).iter().map(aex_tests::ledger::Call::charge).collect();
        // 5 tokens in and 14 out.
        assert_eq!(charges, [5_000_000 + 28_000_000, 50_000_000 + 28_000_000, 50_000_000 + 28_000_000], "{by:?}");
        audited(&daemon);
    }
}

#[test]
fn a_bad_file_keeps_the_old_configuration_and_is_told_with_file_line_and_key() {
    let provider = Provider::start();
    let config = Config::new(&provider);
    let daemon = Daemon::start_with(config.clone());
    let token = daemon.agent("bot", &[]);
    let good = config.models_text();
    let rows = [
        (good.replace("default_model: m1", "default_model: m9"), "default_model", "default_model: expected the name of a model"),
        (
            good.replacen("input_micro: 1", "input_micro: 1.5", 1),
            "input_micro: 1.5",
            "models.m1.pricing.input_micro: expected a whole number",
        ),
        (good.replacen("max_tokens: 1000", "max_tokens: 0", 1), "max_tokens: 0", "models.m1.limits.max_tokens: expected"),
        (good.replacen("provider: mock", "provider: groq", 1), "provider: groq", "models.m1.provider: expected the name of a provider"),
        (good.replacen("tools: true", "tools: sure", 1), "tools: sure", "models.m1.capabilities.tools: expected"),
        (good.replace("version: 1", "version: 2"), "version", "version: expected 1"),
        (good.replace("  m2:", "  m1:"), "provider_model: m2", "duplicate key \"m1\""),
        (good.replacen("base_url: http", "base_url: ftp", 1), "base_url", "providers.mock.base_url: expected"),
        (good.replacen("    type: openai_compatible", "    type: [", 1), "type: [", "models.yaml:"),
        (format!("{good}surprise: 1\n"), "surprise", "surprise"),
    ];
    for (text, piece, says) in &rows {
        daemon.write_models(text);
        let [refused, again] = ["models", "daemon"].map(|noun| daemon.ctl([noun, "reload"]));
        assert_eq!((again.code, &again.stdout, &again.stderr), (refused.code, &refused.stdout, &refused.stderr));
        let place = format!("models.yaml:{}:", line(text, piece));
        // Where the parser gives up on a broken line is its own affair; a duplicate is told where the second one stands.
        let exact = !piece.ends_with('[') && !says.starts_with("duplicate");
        assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{refused:?}");
        assert!(refused.stderr.contains(says) && (!exact || refused.stderr.contains(&place)), "{place} {says}: {refused:?}");
        assert!(refused.stderr.contains("hint: ") && refused.stderr.contains("models.yaml:"), "{refused:?}");
        assert_eq!(models(&daemon), ["m1", "m2"]);
    }
    daemon.signal(Signal::SIGHUP);
    until("the refusal in the log", || (logged(&daemon, "the old one stays in force") > 0).then_some(()));
    assert_eq!(post(&daemon, &token, &chat()).status, 200);
    daemon.write_models(&good.replace("  m2:", "  m3:"));
    reload(&daemon, By::Signal);
    assert_eq!(models(&daemon), ["m1", "m3"]);
    audited(&daemon);
}

#[test]
fn a_start_with_a_bad_file_is_refused_with_all_that_is_wrong() {
    let provider = Provider::start();
    let config = Config::new(&provider);
    let models = config.models_text().replacen("input_micro: 1", "input_micro: -1", 1).replacen("max_tokens: 1000", "max_tokens: x", 1);
    let mut daemon = Daemon::prepare(config.models_yaml(&models).aexd_yaml("port: 9000\nprot: 1\ndurability: maybe\n"));
    let refused = daemon.try_run().expect_err("a start with a bad file");
    assert_eq!(refused.code, 1);
    let wrong = |piece: &str, key: &str| format!("models.yaml:{}: {key}", line(&models, piece));
    let price = wrong("input_micro: -1", "models.m1.pricing.input_micro: expected a whole number");
    let limit = wrong("max_tokens: x", "models.m1.limits.max_tokens: expected a whole number");
    for says in ["aexd.yaml:2: prot: unknown key", "aexd.yaml:3: durability: expected overlap or full or normal", &price, &limit] {
        assert!(refused.stderr.contains(says), "{says}: {refused:?}");
    }
}

#[test]
fn a_key_left_over_warns_with_file_and_line_and_stops_nothing() {
    let provider = Provider::start();
    let config = Config::new(&provider).provider_line("nickname: x");
    let text = config.models_text();
    let daemon = Daemon::start_with(config);
    let warning = |text: &str, piece: &str, key: &str| format!("warning: models.yaml:{}: {key}", line(text, piece));
    assert!(daemon.stderr().contains(&warning(&text, "nickname", "providers.mock.nickname")), "{}", daemon.stderr());
    let text = text.replacen("    limits:", "    colour: red\n    limits:", 1);
    daemon.write_models(&text);
    let said = daemon.ctl(["models", "reload", "--json"]);
    let warnings = said.json()["warnings"].as_array().expect("warnings").len();
    assert!(warnings == 2 && said.stderr.contains(&warning(&text, "colour", "models.m1.colour")), "{said:?}");
}

#[test]
fn the_first_model_is_the_default_one_when_none_is_named() {
    let provider = Provider::start();
    let text = Config::new(&provider).models_text().replace("default_model: m1\n", "").replace("    type: openai_compatible\n", "");
    let daemon = Daemon::start_with(Config::new(&provider).models_yaml(&text));
    let token = daemon.agent("bot", &[]);
    assert_eq!(post(&daemon, &token, &ask::chat_with(&json!({"model": null}))).json()["model"], "m1");
    settled_and_audited(&daemon, &provider);
}

#[test]
fn the_keys_are_read_again_on_reload() {
    for by in By::ALL {
        let provider = Provider::start();
        let daemon = Daemon::start_with(Config::new(&provider).dotenv("# none yet\n"));
        let token = daemon.agent("bot", &[]);
        assert_eq!(post(&daemon, &token, &chat()).code(), "provider_key_missing");
        daemon.write_dotenv("export MOCK_API_KEY = 'sk-wrong' # soon\n");
        reload(&daemon, by);
        let answer = post(&daemon, &token, &chat());
        assert_eq!((answer.status, answer.code().as_str()), (401, "invalid_api_key"), "{answer}");
        daemon.write_dotenv(&format!("MOCK_API_KEY=\"{KEY}\"\n"));
        assert_eq!(post(&daemon, &token, &chat()).status, 401);
        reload(&daemon, by);
        assert_eq!(post(&daemon, &token, &chat()).status, 200);
        // A broken file changes nothing, and its values are told to nobody.
        daemon.write_dotenv("MOCK_API_KEY='sk-secret\n");
        let refused = daemon.ctl(["models", "reload"]);
        assert!(
            refused.code == 1 && refused.stderr.contains(".env:1: MOCK_API_KEY") && !refused.stderr.contains("sk-secret"),
            "{refused:?}"
        );
        assert_eq!(post(&daemon, &token, &chat()).status, 200);
        settled_and_audited(&daemon, &provider);
    }
}

#[test]
fn the_environment_wins_over_dotenv_and_an_empty_variable_is_none() {
    let provider = Provider::start();
    let rows = [(KEY, "sk-wrong", 200), ("sk-wrong", KEY, 401), ("", KEY, 200)];
    for (environment, dotenv, status) in rows {
        let config = Config::new(&provider).env("MOCK_API_KEY", environment).dotenv(&format!("MOCK_API_KEY={dotenv}\n"));
        let daemon = Daemon::start_with(config);
        let token = daemon.agent("bot", &[]);
        assert_eq!(post(&daemon, &token, &chat()).status, status, "{environment:?} {dotenv:?}");
    }
}

#[test]
fn a_dotenv_that_others_can_read_is_tightened_with_a_warning() {
    let provider = Provider::start();
    let mut daemon = Daemon::prepare(Config::new(&provider));
    let file = daemon.home().join(".env");
    let mode = || fs::metadata(&file).expect("the file").permissions().mode() & 0o777;
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("loosen the file");
    daemon.run();
    assert_eq!(mode(), 0o600);
    assert!(daemon.stderr().contains("warning: .env: others could read its keys"), "{}", daemon.stderr());
    fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("loosen the file");
    let said = daemon.ctl(["models", "reload"]).ok();
    assert!(mode() == 0o600 && said.stderr.contains("warning: .env: others could read"), "{said:?}");
    let token = daemon.agent("bot", &[]);
    assert_eq!(post(&daemon, &token, &chat()).status, 200);
    // The home, the socket and the ledger are nobody else's either.
    for name in [".env", "aexd.sock", "ledger.db", "aexd.pid"] {
        let mode = fs::metadata(daemon.home().join(name)).expect("a file of the daemon").permissions().mode() & 0o077;
        assert_eq!(mode, 0, "{name}");
    }
}

#[test]
fn a_reload_changes_where_a_provider_is() {
    let (first, second) = (Provider::start(), Provider::start());
    let config = Config::new(&first);
    let daemon = Daemon::start_with(config.clone());
    let token = daemon.agent("bot", &[]);
    let mut connection = Connection::open(&daemon.url());
    let mut call = || {
        connection.post_json("/v1/chat/completions", &token, &chat());
        assert_eq!(connection.answer().expect("an answer").status, 200);
    };
    call();
    daemon.write_models(&config.models_text().replace(&first.base_url(), &second.base_url()));
    reload(&daemon, By::Models);
    // The kept connection to the old place is not used again.
    call();
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
}
