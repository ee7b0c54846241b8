//! Several tokens per agent, tokens of the root, and the reason of each change, as the ledger keeps them.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::process::Command;

use aex_tests::ask::chat;
use aex_tests::client;
use aex_tests::daemon::Daemon;
use aex_tests::ledger::{settled_and_audited, until};
use aex_tests::provider::Provider;
use serde_json::{Value, json};

#[track_caller]
fn status(daemon: &Daemon, token: &str) -> u16 {
    client::post_json(&daemon.chat_url(), token, &chat()).status
}

#[track_caller]
fn made(daemon: &Daemon, line: &str) -> Value {
    daemon.ctl(line.split(' ').chain(["--json"])).json()
}

#[track_caller]
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The bodies of events of a kind, oldest first.
#[track_caller]
fn events(daemon: &Daemon, kind: &str) -> Vec<Value> {
    let list = daemon.ctl(["events", "--json", "-n", "1000"]).json();
    let events = list["events"].as_array().expect("events").iter().filter(|event| event["kind"] == kind);
    events.map(|event| event["body"].clone()).collect()
}

#[test]
fn an_agent_has_several_tokens_that_are_revoked_one_by_one() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let first = daemon.agent("bot", &[]);
    let second = made(&daemon, "token create bot --label ci --ttl 2h");
    let third = made(&daemon, "token create bot --label laptop --reason new-machine");
    assert_eq!((text(&second, "account"), text(&second, "label"), text(&second, "scope")), ("bot", "ci", "execution"));
    assert!(second["expires_at"].is_string() && third["expires_at"].is_null(), "{second} {third}");
    let (second, third) = ((text(&second, "token"), text(&second, "hash_prefix")), (text(&third, "token"), text(&third, "hash_prefix")));
    assert_eq!([first.as_str(), second.0, third.0].map(|token| status(&daemon, token)), [200, 200, 200]);

    let said = daemon.ctl(["token", "revoke", second.1, "--reason", "the runner is gone"]).ok().stdout;
    assert!(said.starts_with(&format!("Token {}… (ci) of bot is revoked since ", second.1)), "{said}");
    assert_eq!([first.as_str(), second.0, third.0].map(|token| status(&daemon, token)), [200, 401, 200]);
    // The label and the digest tell tokens apart; no list shows one.
    let list = daemon.ctl(["token", "list", "bot"]).ok().stdout;
    let row = |prefix: &str| list.lines().find(|line| line.contains(prefix)).unwrap_or_else(|| panic!("no {prefix} in {list}")).to_owned();
    assert!(row(second.1).contains("| ci ") && row(third.1).contains("| laptop "), "{list}");
    assert!(row(third.1).ends_with("| -") && !row(second.1).ends_with("| -"), "{list}");
    let rows = daemon.ctl(["token", "list", "--json"]).json()["tokens"].as_array().expect("tokens").len();
    assert_eq!(rows, 3, "the agent `default` is not made by `serve`, and the root has none");
    let all = daemon.ctl(["events", "--json", "-n", "1000"]).stdout + &list;
    assert!(![first.as_str(), second.0, third.0].iter().any(|token| all.contains(token)) && !all.contains("aex_"));
    // Revoking it again changes nothing.
    daemon.ctl(["token", "revoke", second.1]).ok();
    assert_eq!(events(&daemon, "token.revoked").len(), 1);
    assert_eq!(events(&daemon, "token.revoked")[0]["reason"], "revoked: the runner is gone");
    let created = events(&daemon, "token.created");
    let facts: Vec<(&Value, &Value)> = created.iter().map(|event| (&event["label"], &event["reason"])).collect();
    assert_eq!(facts, [(&Value::Null, &Value::Null), (&json!("ci"), &Value::Null), (&json!("laptop"), &json!("new-machine"))]);
    settled_and_audited(&daemon, &provider);
}

#[test]
fn tokens_survive_a_restart_with_their_labels() {
    let provider = Provider::start();
    let mut daemon = Daemon::start(&provider);
    drop(daemon.agent("bot", &[]));
    let living = made(&daemon, "token create bot --label living");
    let revoked = made(&daemon, "token create bot --label revoked");
    daemon.ctl(["token", "revoke", text(&revoked, "hash_prefix")]).ok();
    daemon.restart();
    assert_eq!((status(&daemon, text(&living, "token")), status(&daemon, text(&revoked, "token"))), (200, 401));
    let list = daemon.ctl(["token", "list", "bot"]).ok().stdout;
    assert!(list.contains("| living ") && list.contains("| revoked "), "{list}");
    settled_and_audited(&daemon, &provider);
}

#[test]
fn a_token_of_the_root_reads_and_never_calls() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let refused = daemon.ctl(["token", "create", "--root"]);
    assert!(refused.code == 1 && refused.stderr.contains("a token of the root can only read"), "{refused:?}");
    assert!(refused.stderr.contains("hint: --scope read-only"), "{refused:?}");
    let root = made(&daemon, "token create --root --scope read-only --label grafana");
    let token = text(&root, "token");
    assert_eq!((text(&root, "account"), root["account_id"].as_i64()), ("root", Some(1)));
    assert_eq!(status(&daemon, token), 403);
    assert_eq!(client::get(&format!("{}/v1/models", daemon.url()), token).status, 200);
    daemon.ctl(["token", "revoke", text(&root, "hash_prefix")]).ok();
    until("the revocation", || (client::get(&format!("{}/v1/models", daemon.url()), token).status == 401).then_some(()));
    settled_and_audited(&daemon, &provider);
}

#[test]
fn a_wrong_name_of_a_token_or_agent_is_told_with_the_next_command() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    for (line, code, words) in [
        ("token create nobody", 4, "no agent 'nobody'"),
        ("token list nobody", 4, "no agent 'nobody'"),
        ("token revoke 0123456789ab", 4, "token 0123456789ab… does not exist"),
        ("token revoke 012", 1, "at least 4 hex digits"),
        (&format!("token revoke {token}"), 1, "that is a token, not its digest"),
    ] {
        let refused = daemon.ctl(line.split(' '));
        assert!(refused.code == code && refused.stderr.contains(words) && refused.stderr.contains("hint: aexctl "), "{line}: {refused:?}");
    }
    assert_eq!(status(&daemon, &token), 200);
}

#[test]
fn every_change_of_a_state_keeps_its_reason() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    for line in [
        "agent create bot 5 60 --reason quarter-2",
        "agent pause bot --reason audit",
        "agent resume bot --reason audited",
        "agent rotate-token bot --reason leaked",
        "agent delete bot --reason done",
    ] {
        daemon.ctl(line.split(' ')).ok();
    }
    let reasons = |kind: &str| {
        let told = |event: &Value| event["reason"].as_str().unwrap_or("-").to_owned();
        events(&daemon, kind).iter().filter(|event| event["account"] != 1).map(told).collect::<Vec<_>>()
    };
    assert_eq!(reasons("account.created"), ["quarter-2"]);
    assert_eq!(reasons("account.state"), ["audit", "audited", "deleted: done"]);
    assert_eq!(reasons("token.created"), ["-", "leaked"]);
    assert_eq!(reasons("token.revoked"), ["rotated: leaked", "deleted: done"]);
    let long = daemon.ctl(["agent", "create", "other", "5", "60", "--reason", &"x".repeat(501)]);
    assert!(long.code == 1 && long.stderr.contains("a reason is one line of at most 500 bytes"), "{long:?}");
    settled_and_audited(&daemon, &provider);
}

#[test]
fn the_block_of_an_agent_leads_a_shell_to_the_daemon() {
    let provider = Provider::start();
    let daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    let without = daemon.ctl(["agent", "env", "bot"]).ok().stdout;
    assert!(without.contains("OPENAI_API_KEY='<token>'") && without.contains("aexctl token create bot"), "{without}");
    assert!(!without.contains("aex_"), "{without}");
    let block = daemon.ctl(["agent", "env", "bot", "--token", &token]).ok();
    assert_eq!(block.stderr, "");
    // The block is run as it stands. Where there is no curl, a shell proves the variables only.
    let mut shell = Command::new("sh");
    shell
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .args(["-c", &format!("set -eu\n{}\nprintf '\\n%s %s\\n' \"$OPENAI_BASE_URL\" \"$ANTHROPIC_BASE_URL\"", block.stdout)]);
    let ran = aex_tests::daemon::output(shell);
    assert!(ran.stdout.contains(&format!("{0}/v1 {0}", daemon.url())) || ran.stderr.contains("curl"), "{ran:?}");
    if !ran.stderr.contains("not found") {
        assert!(ran.stdout.contains("\"m1\""), "{ran:?}");
    }
    let other = daemon.agent("other", &[]);
    let doubted = daemon.ctl(["agent", "env", "bot", "--token", &other]).ok();
    assert_eq!(doubted.stderr, "warning: this token is none of agent 'bot'\n");
    assert_eq!(daemon.ctl(["agent", "env", "bot", "--token", "sk-1"]).code, 2);
    assert_eq!(daemon.ctl(["agent", "env", "nobody"]).code, 4);
}
