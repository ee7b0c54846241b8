//! What servers of tools say, wherever a person or an agent reads it: no secret of theirs, and nothing that moves a terminal.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::path::Path;

use aex_tests::daemon::binary;
use aex_tests::ledger::until;
use aex_tests::workshop::{Workshop, refusal};
use serde_json::{Value, json};

const SECRET: &str = "canary-of-a-server";

fn all() -> Value {
    json!({"global_policy": "deny", "rules": [{"tool": "shop.*", "effect": "allow"}]})
}

/// Every text below a folder.
fn texts(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (kind, path) = (entry.file_type().expect("a kind"), entry.path());
        if kind.is_dir() {
            texts(&path, found);
        } else if kind.is_file() {
            found.push((path.display().to_string(), String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()));
        }
    }
}

#[test]
fn a_server_tells_no_secret_and_forges_no_line() {
    let scratch = tempfile::tempdir().expect("a folder");
    let key = scratch.path().join("key");
    fs::write(&key, SECRET).expect("write the key");
    let says = format!("\u{1b}[31mbad\nFORGED ${{file:{}}} \u{1b}]0;title\u{7}", key.display());
    for method in ["initialize", "tools/list"] {
        let shop = Workshop::with_server(&all(), "", &json!({"args": ["--refuse", method], "env": {"SAYS": says}}));
        let mut told = vec![("a call".to_owned(), shop.daemon.ctl(["tools", "call", "shop.echo", "--agent", "bot"]).stderr)];
        assert!(told[0].1.contains("bad FORGED ***"), "{told:?}");
        told.push(("REST".to_owned(), shop.call("shop.echo", &json!({})).to_string()));
        until("its end", || {
            let list = shop.daemon.ctl(["tools", "list"]).ok().stdout;
            list.contains("bad FORGED ***").then_some(())
        });
        for words in [&["list"][..], &["list", "--json"], &["show", "shop"], &["show", "shop", "--json"], &["logs", "shop"]] {
            told.push((words.join(" "), shop.daemon.ctl(["tools"].iter().chain(words)).ok().stdout));
        }
        told.push(("standard error".to_owned(), shop.daemon.stderr()));
        texts(&shop.daemon.home().join("logs"), &mut told);
        assert!(told.iter().any(|(what, text)| what.ends_with("shop.log") && text.contains("killed: ")), "{told:?}");
        for (what, text) in &told {
            assert!(!text.contains(SECRET), "{method}, {what}: {text:?}");
            let is_forged = text.lines().any(|line| line.trim_start().starts_with("FORGED"));
            assert!(!is_forged && !text.contains(['\u{1b}', '\u{7}']), "{method}, {what}: {text:?}");
        }
    }
}

/// Whether a server was started.
#[track_caller]
fn is_started(shop: &Workshop, name: &str) -> bool {
    let list = shop.daemon.ctl(["tools", "list", "--json"]).ok().json();
    let servers = list["servers"].as_array().expect("servers");
    servers.iter().any(|server| server["name"] == name && (server["state"] != "stopped" || server["restarts"] != 0))
}

#[test]
fn a_name_that_means_no_server_is_answered_without_another_one() {
    let shop = Workshop::open(&json!({"global_policy": "allow", "rules": {"banned": "deny"}}), "");
    let add = |name: &str, program: &str| {
        shop.daemon.ctl(["tools", "add", name, "--sandbox", "none", "--", program]).ok();
    };
    // The first of them by its name does not start.
    add("brk", "/bin/false");
    add("mock", &binary("mock_tool").display().to_string());
    shop.daemon.ctl(["tools", "disable", "mock"]).ok();
    for (tool, status, why) in [
        ("mock.calculate_sum", 503, "The tool server `mock` is disabled; `aexctl tools enable mock` enables it"),
        ("mock__calculate_sum", 503, "The tool server `mock` is disabled"),
        ("mokk.calculate_sum", 404, "There is no tool `mokk.calculate_sum`"),
        ("mokk__calculate_sum", 404, "There is no tool `mokk__calculate_sum`"),
        ("mock.banned", 403, "is denied by rule"),
    ] {
        let answer = shop.call(tool, &json!({}));
        let (_, message) = refusal(&answer);
        assert!(answer.status == status && message.contains(why), "{tool}: {answer}");
        let said = shop.daemon.ctl(["tools", "call", tool, "--agent", "bot"]);
        assert!(said.code != 0 && !said.stderr.contains("brk"), "{tool}: {said:?}");
    }
    assert_eq!((is_started(&shop, "brk"), is_started(&shop, "shop")), (false, false), "nothing was started for them");
    let tools: Vec<String> = shop.events("call.denied").iter().map(|denied| denied["tool"].to_string()).collect();
    assert!(!tools.iter().any(|tool| tool.contains("brk")), "{tools:?}");

    // For a bare name all servers are looked at: what one of them is ill of is not the answer.
    assert_eq!(shop.call("echo", &json!({"text": "hi"})).json()["result"], "hi");
    let answer = shop.call("nothing", &json!({}));
    assert!(answer.status == 404 && refusal(&answer).1.contains("There is no tool `nothing`"), "{answer}");
    assert_eq!(shop.call("banned", &json!({})).status, 403);
    // Which of two is meant nobody can say.
    add("twin", &binary("scripted-tool").display().to_string());
    let answer = shop.call("echo", &json!({"text": "hi"}));
    assert!(answer.status == 404 && refusal(&answer).1.contains("There is no tool `echo`"), "{answer}");
    shop.is_sound();
}
