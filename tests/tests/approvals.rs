//! Calls of tools that wait for a person: answered, denied, overtaken by what changes meanwhile; and who may not answer.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "approvals/fence.rs"]
mod fence;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use aex_tests::client;
use aex_tests::daemon::Output;
use aex_tests::ledger::{denials, until};
use aex_tests::workshop::{Workshop, refusal};
use nix::unistd::geteuid;
use serde_json::{Value, json};

fn asking() -> Value {
    json!({"global_policy": "deny", "rules": [
        {"name": "look first", "tool": "shop.echo", "effect": "ask", "reason": "it speaks"},
        {"tool": "shop.hang", "effect": "allow"},
    ]})
}

#[track_caller]
fn ctl(shop: &Workshop, words: &[&str]) -> Output {
    shop.daemon.ctl(["approvals"].iter().chain(words))
}

/// What events of answers say, in short.
#[track_caller]
fn answers(shop: &Workshop) -> Vec<String> {
    let given = shop.events("approval.given");
    given.iter().map(|given| given["answer"].as_str().expect("an answer").to_owned()).collect()
}

#[track_caller]
fn is_said(answer: &client::Answer, text: &str) {
    assert_eq!((answer.status, &answer.json()["result"]), (200, &json!(text)), "{answer}");
}

#[track_caller]
fn is_denied(answer: &client::Answer, words: &str) {
    let (code, message) = refusal(answer);
    assert_eq!((answer.status, code.as_str()), (403, "tool_denied"), "{answer}");
    assert!(message.contains(words), "{message}");
}

#[test]
fn a_call_waits_without_money_until_a_person_answers() {
    let shop = Workshop::with_server(&asking(), "", &json!({"price_usd": "0.5"}));
    let call = shop.begin("shop.echo", &json!({"text": "hi\u{1b}[2J\u{202e}"}));
    let waits = &shop.waiting(1)[0];
    let id = waits["id"].as_str().expect("an id").to_owned();
    let told = ["agent", "tool", "rule", "place", "reason"].map(|key| waits[key].as_str().unwrap_or_default());
    assert_eq!(told, ["bot", "shop.echo", "look first", "permissions.json:1", "it speaks"], "{waits}");
    assert_eq!(waits["arguments"], r#"{"text":"hi\u001b[2J\u{202e}"}"#);
    let budgets = shop.daemon.rpc("status.get", &json!({}));
    assert_eq!((&budgets["reserved_pico"], &budgets["daemon"]["in_flight"]), (&json!("0"), &json!(1)), "{budgets}");
    let listed = ctl(&shop, &["list"]).ok().stdout;
    for piece in [id.as_str(), "agent bot wants shop.echo", "asked by rule look first of permissions.json:1: it speaks"] {
        assert!(listed.contains(piece), "{listed}");
    }
    assert!(!listed.contains(['\u{1b}', '\u{202e}']), "{listed:?}");
    let said = ctl(&shop, &["approve", &id, "--reason", "harmless"]).ok().stdout;
    assert_eq!(said, "Approved shop.echo of bot.\n");
    until("the story has the answer", || shop.daemon.ctl(["explain", &id]).stdout.contains("approved, ").then_some(()));
    is_said(&call.answer(), "hi\u{1b}[2J\u{202e}");
    let given = &shop.events("approval.given")[0];
    assert_eq!(given["by"]["uid"], geteuid().as_raw());
    let told = ["request", "answer", "reason", "tool", "rule"].map(|key| given[key].as_str().unwrap_or_default());
    assert_eq!(told, [&id, "approved", "harmless", "shop.echo", "look first"]);
    let held = &shop.events("call.held")[0];
    assert_eq!((&held["tool"]["consent"]["by"], &held["amount"]), (&given["by"], &json!("500000000000")), "{held}");
    // An answer counts once.
    assert_eq!(ctl(&shop, &["approve", &id]).code, 4);
    shop.is_sound();
}

#[test]
fn a_no_and_no_answer_deny() {
    let shop = Workshop::open(&asking(), "");
    let call = shop.begin("shop.echo", &json!({}));
    let id = shop.asked();
    assert_eq!(ctl(&shop, &["deny", &id, "--reason", "no"]).ok().stdout, "Denied shop.echo of bot.\n");
    is_denied(&call.answer(), "A person denied this call of tool `shop.echo`, for which rule `look first`");
    let uid = geteuid().as_raw();
    until("the story has the answer", || {
        let told = shop.daemon.ctl(["explain", &id]).stdout;
        let is_told = told.contains("a person's answer") && told.contains(&format!("by uid {uid}, process ")) && told.contains(": no\n");
        (is_told && told.contains("has a person asked, who said no.")).then_some(())
    });
    let short = Workshop::open(&asking(), "approval_timeout_ms: 40\n");
    is_denied(&short.call("shop.echo", &json!({})), "Nobody approved this call of tool `shop.echo` in time");
    assert_eq!((answers(&shop), answers(&short)), (vec!["denied".to_owned()], Vec::new()));
    // A tool that is not there is not asked for.
    assert_eq!(shop.call("shop.nothing", &json!({})).status, 403);
    shop.is_sound();
    short.is_sound();
}

#[test]
fn a_lasting_yes_holds_until_it_is_revoked_or_its_rule_changes() {
    let mut shop = Workshop::open(&asking(), "");
    let call = shop.begin("shop.echo", &json!({"text": "one"}));
    ctl(&shop, &["approve", &shop.asked(), "--always"]).ok();
    is_said(&call.answer(), "one");
    is_said(&shop.call("shop.echo", &json!({"text": "two"})), "two");
    let path = shop.daemon.home().join("tools/approvals.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("the file").permissions());
    assert_eq!(mode & 0o777, 0o600);
    shop.daemon.restart();
    is_said(&shop.call("shop.echo", &json!({"text": "three"})), "three");
    // Where the rule stands and what others say makes no difference.
    let mut moved = asking();
    moved["rules"].as_array_mut().expect("rules").insert(0, json!({"tool": "shop.do", "effect": "allow"}));
    shop.permit(&moved);
    is_said(&shop.call("shop.echo", &json!({"text": "four"})), "four");
    // Another agent is asked.
    let other = shop.daemon.agent("other", &[]);
    let call = shop.begin_as(&other, "shop.echo", &json!({}));
    ctl(&shop, &["deny", &shop.asked()]).ok();
    is_denied(&call.answer(), "A person denied");
    // What the rule says makes one, and so does a second rule that asks.
    let (mut changed, mut more) = (asking(), asking());
    changed["rules"][0]["reason"] = json!("it shouts");
    more["rules"].as_array_mut().expect("rules").push(json!({"name": "twice", "tool": "shop.ech*", "effect": "ask"}));
    for permissions in [changed, more] {
        shop.permit(&permissions);
        let call = shop.begin("shop.echo", &json!({}));
        ctl(&shop, &["deny", &shop.asked()]).ok();
        is_denied(&call.answer(), "A person denied");
    }
    shop.permit(&asking());
    is_said(&shop.call("shop.echo", &json!({"text": "five"})), "five");
    let listed = ctl(&shop, &["list", "--always", "--json"]).ok().json();
    let id = listed["always"][0]["id"].as_str().expect("an id").to_owned();
    assert!(ctl(&shop, &["list", "--always"]).ok().stdout.contains("| bot   | shop.echo | look first |"));
    assert_eq!(ctl(&shop, &["revoke", "0000000000"]).code, 4);
    assert_eq!(ctl(&shop, &["revoke", id.split_at(8).0]).ok().stdout, "shop.echo of bot is asked for again.\n");
    let call = shop.begin("shop.echo", &json!({}));
    ctl(&shop, &["deny", &shop.asked()]).ok();
    is_denied(&call.answer(), "A person denied");
    assert_eq!(answers(&shop), ["always", "denied", "denied", "denied", "revoked", "denied"]);
    shop.is_sound();
}

#[test]
fn a_lasting_yes_is_forgotten_with_the_ledger_that_tells_of_it() {
    let mut shop = Workshop::open(&asking(), "");
    let call = shop.begin("shop.echo", &json!({"text": "kept"}));
    ctl(&shop, &["approve", &shop.asked(), "--always"]).ok();
    is_said(&call.answer(), "kept");
    let backup = shop.daemon.scratch().join("backup.db").display().to_string();
    shop.daemon.ctl(["backup", &backup]).ok();
    let carol = shop.daemon.agent("carol", &[]);
    let call = shop.begin_as(&carol, "shop.echo", &json!({"text": "lost"}));
    ctl(&shop, &["approve", &shop.asked(), "--always"]).ok();
    is_said(&call.answer(), "lost");
    shop.daemon.stop();
    shop.daemon.ctl(["restore", &backup, "--accept-loss"]).ok();
    shop.daemon.run();
    is_said(&shop.call("shop.echo", &json!({"text": "told"})), "told");
    // She has the number that carol had.
    let mallory = shop.daemon.agent("mallory", &[]);
    let call = shop.begin_as(&mallory, "shop.echo", &json!({}));
    ctl(&shop, &["deny", &shop.asked()]).ok();
    is_denied(&call.answer(), "A person denied");
    shop.is_sound();
    // Of a new ledger, nobody has said anything.
    shop.daemon.stop();
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        std::fs::remove_file(shop.daemon.home().join(file)).ok();
    }
    shop.daemon.run();
    let bot = shop.daemon.agent("bot", &[]);
    let call = shop.begin_as(&bot, "shop.echo", &json!({}));
    ctl(&shop, &["deny", &shop.asked()]).ok();
    is_denied(&call.answer(), "A person denied");
    shop.is_sound();
}

#[test]
fn a_damaged_file_of_lasting_answers_has_everything_asked_for_and_is_left_as_it_is() {
    let mut shop = Workshop::open(&asking(), "");
    let call = shop.begin("shop.echo", &json!({"text": "one"}));
    ctl(&shop, &["approve", &shop.asked(), "--always"]).ok();
    is_said(&call.answer(), "one");
    let path = shop.daemon.home().join("tools/approvals.json");
    std::fs::write(&path, "{").expect("damage the file");
    shop.daemon.restart();
    let call = shop.begin("shop.echo", &json!({"text": "two"}));
    let id = shop.asked();
    let refused = ctl(&shop, &["approve", &id, "--always"]);
    assert!(refused.code == 1 && refused.stderr.contains("approvals.json: it is damaged"), "{refused:?}");
    ctl(&shop, &["approve", &id]).ok();
    is_said(&call.answer(), "two");
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "{");
    let status = shop.daemon.rpc("daemon.status", &json!({}));
    let checks = status["checks"].as_array().expect("checks");
    let check = checks.iter().find(|check| check["name"] == "approvals").expect("the check of approvals");
    assert_eq!(check["passed"], false, "{check}");
    shop.is_sound();
}

#[test]
fn what_changed_while_a_call_waited_holds() {
    let shop = Workshop::open(&asking(), "");
    let rules = |effect: &str| json!({"global_policy": "deny", "rules": [{"name": "now", "tool": "shop.echo", "effect": effect}]});
    let call = shop.begin("shop.echo", &json!({}));
    let id = shop.asked();
    shop.permit(&rules("deny"));
    ctl(&shop, &["approve", &id]).ok();
    is_denied(&call.answer(), "is denied by rule `now`");

    shop.permit(&asking());
    let call = shop.begin("shop.echo", &json!({"text": "free"}));
    let id = shop.asked();
    shop.permit(&rules("allow"));
    ctl(&shop, &["approve", &id]).ok();
    is_said(&call.answer(), "free");
    assert_eq!(shop.events("call.held")[0]["tool"]["consent"], Value::Null);

    // A pause ends no call that waits, and lets none begin.
    shop.permit(&asking());
    let call = shop.begin("shop.echo", &json!({}));
    let id = shop.asked();
    shop.daemon.ctl(["agent", "pause", "bot", "--reason", "lunch"]).ok();
    ctl(&shop, &["approve", &id]).ok();
    let answer = call.answer();
    assert!(answer.status == 403 && refusal(&answer).1.contains("lunch"), "{answer}");
    shop.daemon.ctl(["agent", "resume", "bot"]).ok();

    let call = shop.begin("shop.echo", &json!({}));
    shop.waiting(1);
    shop.daemon.ctl(["agent", "kill", "bot", "--reason", "enough"]).ok();
    let answer = call.answer();
    assert!(answer.status == 403 && refusal(&answer).1.contains("enough"), "{answer}");
    shop.waiting(0);
    shop.daemon.ctl(["agent", "resume", "bot"]).ok();

    let call = shop.begin("shop.echo", &json!({}));
    shop.waiting(1);
    call.leave();
    shop.waiting(0);
    let asked = || denials(&shop.daemon).len() == 4;
    until("the end of a call whose client has left", || asked().then_some(()));
    shop.is_sound();
}

#[test]
fn a_token_that_is_replaced_while_its_call_waits_calls_no_more() {
    let shop = Workshop::open(&asking(), "");
    let call = shop.begin("shop.echo", &json!({}));
    let id = shop.asked();
    shop.daemon.ctl(["agent", "rotate-token", "bot"]).ok();
    ctl(&shop, &["approve", &id]).ok();
    let answer = call.answer();
    assert_eq!(answer.status, 401, "{answer}");
    assert_eq!(shop.events("call.held"), Vec::<Value>::new());
    shop.is_sound();
}

#[test]
fn a_call_that_the_list_cuts_is_approved_by_who_has_seen_all_of_it() {
    let shop = Workshop::open(&asking(), "");
    let call = shop.begin("shop.echo", &json!({"a": "x".repeat(3 << 20), "path": "/etc/\u{200b}shadow", "text": "long"}));
    let id = shop.asked();
    let listed = ctl(&shop, &["list"]).ok().stdout;
    assert!(!listed.contains("shadow") && listed.contains("… of 3145") && listed.contains(&format!("approvals show {id}")), "{listed}");
    for words in
        [&["approve", &id][..], &["approve", &id, "--always"], &["approve", &id, "--seen", "00000000"], &["approve", &id, "--seen", ""]]
    {
        let refused = ctl(&shop, words);
        assert!(refused.code != 0 && refused.stderr.contains(&format!("hint: aexctl approvals show {id}")), "{words:?} {refused:?}");
    }
    let shown = ctl(&shop, &["show", &id]).ok().stdout;
    assert!(shown.contains(r#""path":"/etc/\u{200b}shadow""#), "all of it is shown");
    let next = shown.trim_end().rsplit_once("aexctl approvals ").expect("what to do next").1.to_owned();
    let words: Vec<&str> = next.split(' ').collect();
    assert_eq!(words[..3], ["approve", &id, "--seen"]);
    ctl(&shop, &words).ok();
    is_said(&call.answer(), "long");
    assert_eq!(ctl(&shop, &["show", &id]).code, 4);
    let held = &shop.events("call.held")[0]["input"];
    assert!(held.as_str().is_some_and(|input| input.starts_with(words[3])), "{held}");
    shop.is_sound();
}

#[test]
fn a_daemon_that_stops_waits_for_nobody() {
    let mut shop = Workshop::open(&asking(), "");
    let call = shop.begin("shop.echo", &json!({}));
    shop.waiting(1);
    shop.daemon.stop();
    assert_eq!(call.answer().status, 503);
}

#[test]
fn calls_that_wait_count_and_an_agent_has_eight_at_most() {
    let shop = Workshop::open(&asking(), "");
    let waiting: Vec<_> = (0..8).map(|_| shop.begin("shop.echo", &json!({}))).collect();
    let ids = shop.waiting(8);
    is_denied(&shop.call("shop.echo", &json!({})), "too many calls wait for one already");
    let narrow = shop.daemon.agent("narrow", &["--max-concurrent", "1"]);
    let other = shop.begin_as(&narrow, "shop.echo", &json!({}));
    shop.waiting(9);
    assert_eq!(shop.begin_as(&narrow, "shop.echo", &json!({})).answer().status, 429);
    for waits in shop.waiting(9) {
        ctl(&shop, &["deny", waits["id"].as_str().expect("an id")]).ok();
    }
    waiting.into_iter().chain([other]).for_each(|call| is_denied(&call.answer(), "A person denied"));
    assert_eq!(ids.len(), 8);
    shop.is_sound();
}

#[test]
fn calls_that_begin_to_wait_are_told_to_who_follows() {
    let shop = Workshop::open(&asking(), "");
    let mut control = shop.daemon.control();
    let list = control.call("approval.list", &json!({"follow": true})).expect("the list");
    let call = shop.begin("shop.echo", &json!({}));
    let notice = control.receive().expect("a notification");
    assert_eq!((&notice["method"], &notice["params"]["subscription"]), (&json!("approval.wanted"), &list["subscription"]));
    let id = notice["params"]["approval"]["id"].as_str().expect("an id");
    ctl(&shop, &["deny", id]).ok();
    is_denied(&call.answer(), "A person denied");
}

/// A call that aexctl makes, once it has said that it waits: its process, and the line.
#[track_caller]
fn waits_in_aexctl(shop: &Workshop) -> (Child, String) {
    let mut command = shop.daemon.command("aexctl");
    command.args(["tools", "call", "shop.echo", "--agent", "bot", r#"{"text": "here"}"#]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start aexctl");
    let mut line = String::new();
    let mut said = BufReader::new(child.stderr.take().expect("its standard error"));
    said.read_line(&mut line).expect("a line of it");
    (child, line)
}

#[test]
fn a_call_from_the_command_line_says_what_it_waits_for_and_ends_with_it() {
    let shop = Workshop::open(&asking(), "");
    let (child, line) = waits_in_aexctl(&shop);
    let id = shop.asked();
    assert!(line.starts_with("waits for a person until ") && line.ends_with(&format!(": aexctl approvals approve {id}\n")), "{line:?}");
    ctl(&shop, &["approve", &id]).ok();
    let output = child.wait_with_output().expect("its end");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(0), "here\n"));

    // Whoever is gone is waited for no longer, and nothing is called for nobody.
    let (mut child, _) = waits_in_aexctl(&shop);
    let id = shop.asked();
    child.kill().expect("end aexctl");
    child.wait().expect("its end");
    shop.waiting(0);
    assert_eq!(ctl(&shop, &["approve", &id]).code, 4);

    // So is one whose call runs.
    let folder = tempfile::tempdir().expect("a folder");
    let gate = folder.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).expect("a pipe with a name");
    let mut command = shop.daemon.command("aexctl");
    command.args(["tools", "call", "shop.hang", "--agent", "bot", &json!({"ready": gate}).to_string()]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start aexctl");
    assert_eq!(std::fs::read_to_string(&gate).expect("the tool is called"), "ready\n");
    child.kill().expect("end aexctl");
    child.wait().expect("its end");
    until("the end of a call whose caller has left", || {
        let ends = shop.events("call.settled");
        ends.iter().any(|end| end["outcome"] == "client_left").then_some(())
    });
    assert_eq!(shop.events("call.held").len(), 2);
    shop.is_sound();
}

#[test]
fn a_client_that_says_no_more_still_hears_its_answer() {
    let shop = Workshop::open(&asking(), "");
    let mut control = shop.daemon.control();
    let call =
        json!({"jsonrpc": "2.0", "id": 7, "method": "tool.call", "params": {"agent": "bot", "tool": "shop.echo", "arguments": "{}"}});
    control.send(format!("{call}\n").as_bytes());
    control.says_no_more();
    let notice = control.receive().expect("a notification");
    assert_eq!((&notice["method"], &notice["params"]["approval"]["id"]), (&json!("tool.waits"), &json!(shop.asked())));
    ctl(&shop, &["approve", &shop.asked()]).ok();
    assert_eq!(control.receive().expect("the answer")["id"], 7);
    shop.is_sound();
}
