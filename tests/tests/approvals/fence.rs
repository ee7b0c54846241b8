//! Who may not answer: what comes from a run or a tool, and nobody while that cannot be told.

use super::{answers, asking, ctl, is_said};
use aex_tests::daemon::{Daemon, Output, output};
use aex_tests::ledger::until;
use aex_tests::workshop::{SERVER, Workshop};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
#[test]
fn after_a_restart_nobody_answers_before_it_is_known_who_runs() {
    let mut shop = Workshop::open(&asking(), "run_grace_ms: 60000\n");
    let mut command = shop.daemon.command("aexctl");
    command.args(["run", "--agent", "bot", "--", "sh", "-c", "echo begun; read line"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("start aexctl");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process number"));
    // Its aexctl cannot take the run up, so any process might come from it.
    kill(pid, Signal::SIGSTOP).expect("halt aexctl");
    shop.daemon.kill9();
    shop.daemon.run();
    let call = shop.begin("shop.echo", &json!({"text": "later"}));
    let id = shop.asked();
    let refused = ctl(&shop, &["approve", &id]);
    assert!(refused.code != 0 && refused.stderr.contains("is not taken up again yet"), "{refused:?}");
    kill(pid, Signal::SIGCONT).expect("let aexctl go on");
    until("the run is taken up", || (ctl(&shop, &["approve", &id]).code == 0).then_some(()));
    is_said(&call.answer(), "later");
    drop(child.stdin.take());
    child.wait().expect("its end");
    shop.is_sound();
}

/// Has a process inside a run answer a call, by a shell's words.
#[track_caller]
fn inside(daemon: &Daemon, words: &str) -> Output {
    let mut command = daemon.command("aexctl");
    let aexctl = aex_tests::daemon::binary("aexctl");
    command.args(["run", "--agent", "bot", "--", "sh", "-c", words, "sh"]).arg(aexctl);
    output(command)
}

#[test]
fn what_runs_inside_a_run_answers_no_call_and_changes_no_tool() {
    let shop = Workshop::open(&asking(), "");
    let call = shop.begin("shop.echo", &json!({"text": "by a person"}));
    let id = shop.asked();
    let rows = [
        format!("\"$1\" approvals approve {id}"),
        format!("\"$1\" approvals approve --always {id}"),
        format!("\"$1\" approvals deny {id}"),
        // However deep.
        format!("sh -c 'sh -c \"$0 approvals approve {id}; exit \\$?\"; exit $?' \"$1\""),
        "\"$1\" approvals revoke 00000000".to_owned(),
        "\"$1\" tools disable shop".to_owned(),
        "\"$1\" tools add other -- true".to_owned(),
    ];
    for words in &rows {
        let refused = inside(&shop.daemon, words);
        assert_eq!(refused.code, 5, "{words}: {refused:?}");
        assert!(refused.stderr.contains("is for people: process") && refused.stderr.contains("was started in run_"), "{refused:?}");
    }
    // Looking is free.
    assert!(inside(&shop.daemon, "\"$1\" approvals list").ok().stdout.contains(&id));
    let barred = &shop.events("admin.barred")[0];
    assert!(barred["method"] == "approval.approve" && barred["inside"]["run"].is_i64(), "{barred}");
    assert_eq!(shop.waiting(1)[0]["id"], id.as_str());
    ctl(&shop, &["approve", &id]).ok();
    is_said(&call.answer(), "by a person");
    assert_eq!(answers(&shop), ["approved"]);
    shop.is_sound();
}

#[test]
fn what_a_tool_starts_answers_no_call() {
    let mut permissions = asking();
    permissions["rules"][1]["tool"] = json!("shop.exec");
    let shop = Workshop::open(&permissions, "");
    let tools = json!([{"name": "exec", "inputSchema": {"type": "object"}}]).to_string();
    std::fs::write(shop.definitions(), tools).expect("write the definitions");
    let call = shop.begin("shop.echo", &json!({"text": "by a person"}));
    let id = shop.asked();
    let aexctl = aex_tests::daemon::binary("aexctl");
    let home = shop.daemon.home();
    let words = json!({"argv": [aexctl, "--home", home, "approvals", "approve", id]});
    let answer = shop.call("shop.exec", &words);
    let said = answer.json()["result"].as_str().unwrap_or_default().to_owned();
    assert!(said.contains(&format!("was started by the tools of `{SERVER}`")), "{answer}");
    ctl(&shop, &["approve", &id]).ok();
    is_said(&call.answer(), "by a person");
    shop.is_sound();
}
