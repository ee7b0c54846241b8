//! The text of stories, where no daemon is needed to tell them.

use super::*;
use aex_proto::explain::CallStory;
use serde_json::json;

fn told(account: &str, id: i64) -> String {
    let holder = |id: i64, kind: &str, name: &str| json!({"id": id, "kind": kind, "name": name, "state": "active"});
    let purse = |id: i64, kind: &str, name: &str, limit: Option<&str>| {
        let left = limit.map(|_| "100");
        json!({"account": id, "kind": kind, "name": name, "period": "total", "limit_pico": limit, "left_pico": left,
            "overdraft_pico": "0", "overdraft_usd": "0.00", "reserved_pico": "300", "reserved_usd": "0.0000000003",
            "spent_pico": "600", "spent_usd": "0.0000000006"})
    };
    let budget = |own: i64| (own == id).then_some("1000");
    let story = json!({
        "about": "call", "request": "req_0000010000000002", "at": "2026-11-21T12:00:00.000000Z", "admitted": false,
        "caller": {"agent": "bot", "path": [holder(3, "agent", "bot"), holder(2, "group", "team"), holder(1, "root", "root")]},
        "denied_by": "budget",
        "denial": {"budget": {"account": {"id": id, "name": account}, "asked": "500", "left": "100", "limit": "1000",
            "period": "total", "resets_at": null}},
        "checks": [
            {"name": "account_state", "asked": "active", "allowed": "active", "of": "bot", "verdict": "passed"},
            {"name": "budget", "asked": "$0.0000000005", "allowed": "$0.0000000001 left of $0.000000001",
                "of": format!("{account} by total"), "verdict": "denied"}],
        "rules": [],
        "money": [purse(3, "agent", "bot", None), purse(2, "group", "team", budget(2)), purse(1, "root", "root", budget(1))],
        "recomputed": [{"what": "bound", "same": true, "recorded": "$0.0000000005", "again": "$0.0000000005"}],
        "events": [{"seq": 12, "at": "2026-11-21T12:00:00.000000Z", "kind": "call.denied", "hash": "ab".repeat(32)}],
    });
    let story: Story = serde_json::from_value(story).unwrap_or_else(|fault| unreachable!("{fault}"));
    text(&story, Paint::PLAIN)
}

#[test]
fn a_denial_by_a_groups_or_the_roots_budget_names_that_account_and_shows_all_of_them() {
    let wanted = "\
req_0000010000000002: denied by budget; nothing was sent, nothing was charged

Who
  caller                   agent bot (account 3, below group team (2), root (1))
  at                       2026-11-21 12:00:00Z
  policy                   none was looked at: the call was denied before

Checks, in their order
  ok   account_state            asked: active; allowed: active [bot]
  DENY budget                   asked: $0.0000000005; allowed: $0.0000000001 left of $0.000000001 [team by total]
  What comes after the check that denied was not looked at.

Money when the denial was recorded
  bot, total               spent $0.0000000006, held $0.0000000003, no budget
  team, total              spent $0.0000000006, held $0.0000000003 of $0.000000001: $0.0000000001 left
  root, total              spent $0.0000000006, held $0.0000000003, no budget

Why it was denied
  The budget of team by total is $0.000000001; $0.0000000001 of it were left.
  The call might have cost $0.0000000005, so it did not fit. It does not reset.

Computed again from what is stored
  bound                    same: $0.0000000005

Events
      12  2026-11-21 12:00:00Z  call.denied       abababababababab…";
    assert_eq!(told("team", 2), wanted);
    let root = told("root", 1);
    for line in [
        "[root by total]",
        "root, total              spent $0.0000000006, held $0.0000000003 of $0.000000001: $0.0000000001 left",
        "The budget of root by total is $0.000000001",
    ] {
        assert!(root.contains(line), "{root}");
    }
}

#[test]
fn a_value_that_comes_out_differently_is_told_with_both() {
    let paint = Paint::PLAIN;
    let mut story: Story = Story::Call(Box::new(call_of(&told_json())));
    if let Story::Call(call) = &mut story {
        call.recomputed[0].same = false;
        call.recomputed[0].again = "$1.00".to_owned();
    }
    assert!(text(&story, paint).contains("bound                    DIFFERENT: $0.50; now $1.00"), "{}", text(&story, paint));
}

fn told_json() -> serde_json::Value {
    json!({
        "request": "req_0000010000000002", "at": "2026-11-21T12:00:00.000000Z", "admitted": true,
        "caller": {"path": []}, "checks": [], "rules": [], "money": [], "events": [],
        "recomputed": [{"what": "bound", "same": true, "recorded": "$0.50", "again": "$0.50"}],
    })
}

fn call_of(told: &serde_json::Value) -> CallStory {
    serde_json::from_value(told.clone()).unwrap_or_else(|fault| unreachable!("{fault}"))
}
