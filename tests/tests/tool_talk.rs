//! What servers of tools say, wherever a person or an agent reads it: no secret of theirs, and nothing that moves a terminal.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::path::Path;

use aex_tests::ledger::until;
use aex_tests::workshop::Workshop;
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
