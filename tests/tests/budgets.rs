//! `aexctl budget`: set, added to, moved, taken away and shown, for accounts of every level.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::thread;

use aex_tests::ask::chat;
use aex_tests::client;
use aex_tests::daemon::Daemon;
use aex_tests::ledger::{self, settled_and_audited};
use aex_tests::provider::{Provider, Script};
use serde_json::{Value, json};

/// What one call of `chat()` costs, in pico-USD.
const COST: i64 = 33_000_000;

struct House {
    provider: Provider,
    daemon: Daemon,
}

impl House {
    /// Two groups, `lab` with the agents `ann` and `bob`, `ops` with nobody.
    fn new() -> (Self, [String; 2]) {
        let provider = Provider::start();
        let daemon = Daemon::start(&provider);
        let house = Self { provider, daemon };
        house.ctl("group create lab");
        house.ctl("group create ops");
        let tokens = ["ann", "bob"].map(|name| house.daemon.agent(name, &["--group", "lab"]));
        (house, tokens)
    }

    #[track_caller]
    fn ctl(&self, line: &str) -> String {
        self.daemon.ctl(line.split(' ')).ok().stdout
    }

    #[track_caller]
    fn status(&self, token: &str) -> u16 {
        client::post_json(&self.daemon.chat_url(), token, &chat()).status
    }

    /// An account's budget of a period: limit, spent, reserved.
    #[track_caller]
    fn budget(&self, account: &str, period: &str) -> Option<[i64; 3]> {
        let shown = self.daemon.rpc("budget.show", &json!({"account": account}));
        let budgets = shown["accounts"][0]["budgets"].as_array().expect("budgets").clone();
        let budget = budgets.into_iter().find(|budget| budget["period"] == period)?;
        let pico = |name: &str| budget[name].as_str().and_then(|text| text.parse().ok()).expect("an amount");
        Some([pico("limit_pico"), pico("spent_pico"), pico("reserved_pico")])
    }

    fn budget_events(&self) -> Vec<Value> {
        ledger::events(&self.daemon).into_iter().filter(|event| event["kind"] == "budget.set").map(|event| event["body"].clone()).collect()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if !thread::panicking() {
            settled_and_audited(&self.daemon, &self.provider);
        }
    }
}

const USD: i64 = 1_000_000_000_000;

#[test]
fn a_budget_set_in_mid_period_counts_what_all_below_have_spent_and_hold() {
    let (mut house, [ann, bob]) = House::new();
    assert_eq!((house.status(&ann), house.status(&bob)), (200, 200));
    // What an agent spent stays with its group when it is gone.
    house.ctl("agent delete bob");
    house.provider.script(Script::hold());
    thread::scope(|scope| {
        let call = scope.spawn(|| house.status(&ann));
        house.provider.wait_for_requests(3);
        house.ctl("budget set lab 2 --per day");
        house.ctl("budget set root 3 --per month");
        for (account, period, limit) in [("group:lab", "day", 2 * USD), ("root", "month", 3 * USD)] {
            let [got, spent, reserved] = house.budget(account, period).expect("a budget");
            assert!((got, spent) == (limit, 2 * COST) && reserved > COST, "{account}: {got} {spent} {reserved}");
        }
        house.provider.release();
        assert_eq!(call.join().expect("a call"), 200);
    });
    ledger::quiet(&house.daemon);
    let want = |limit| Some([limit * USD, 3 * COST, 0]);
    assert_eq!((house.budget("group:lab", "day"), house.budget("root", "month")), (want(2), want(3)));
    assert_eq!(house.budget("group:ops", "day"), None);
    house.daemon.kill9();
    house.daemon.run();
    assert_eq!((house.budget("group:lab", "day"), house.budget("root", "month")), (want(2), want(3)));
}

#[test]
fn a_limit_lowered_below_what_is_used_denies_at_once_and_says_until_when() {
    let (mut house, [ann, _]) = House::new();
    assert_eq!(house.status(&ann), 200);
    let said = house.daemon.ctl(["budget", "set", "lab", "0.00001", "--per", "day", "--reason", "too dear"]).ok();
    let wanted = "warning: group:lab: $0.000033 is spent or held already, which is more than $0.00001: every further call is denied until ";
    assert!(said.stderr.starts_with(wanted) && said.stderr.contains("T00:00:00Z, when the day ends"), "{said:?}");
    assert!(said.stdout.contains("| $0.000023 | 2"), "{said:?}");
    assert_eq!(house.status(&ann), 402);
    house.daemon.restart();
    assert_eq!(house.status(&ann), 402);
    // The group is in overdraft, and nobody is suspended for it: no bill went wrong.
    assert_eq!(house.daemon.rpc("agent.inspect", &json!({"name": "ann"}))["state"], "active");
    let said = house.daemon.ctl(["budget", "set", "ann", "0.00002", "--per", "total"]).ok();
    assert!(said.stderr.contains("agent:ann: ") && said.stderr.contains("denied until the budget is raised"), "{said:?}");
    house.ctl("budget set ann 1");
    let said = house.daemon.ctl(["budget", "add", "lab", "1", "--per", "day"]).ok();
    assert_eq!(said.stderr, "");
    assert_eq!(house.budget("group:lab", "day"), Some([USD + 10_000_000, COST, 0]));
    assert_eq!(house.status(&ann), 200);
    let last = &house.budget_events().pop().expect("an event");
    assert_eq!((&last["limit"], &last["period"]), (&json!((USD + 10_000_000).to_string()), &json!("day")));
}

#[test]
fn a_transfer_moves_the_money_at_once_and_both_events_tell_why() {
    let (house, [ann, _]) = House::new();
    house.ctl("budget set lab 5 --per week");
    house.ctl("budget set ops 1 --per week");
    assert_eq!(house.status(&ann), 200);
    house.daemon.ctl(["budget", "transfer", "lab", "ops", "1.5", "--per", "week", "--reason", "night shift"]).ok();
    assert_eq!(house.budget("group:lab", "week"), Some([3 * USD + USD / 2, COST, 0]));
    assert_eq!(house.budget("group:ops", "week"), Some([2 * USD + USD / 2, 0, 0]));
    let events = house.budget_events();
    let [from, to] = events.last_chunk::<2>().expect("two events");
    assert_eq!(from["reason"], "transfer of $1.50 from group:lab to group:ops: night shift");
    assert_eq!((&from["reason"], &from["by"]), (&to["reason"], &to["by"]));
    let seqs: Vec<u64> = ledger::events(&house.daemon)
        .iter()
        .filter(|event| event["kind"] == "budget.set")
        .map(|event| event["seq"].as_u64().expect("a number"))
        .collect();
    let [first, second] = seqs.last_chunk::<2>().expect("two events");
    assert_eq!(first + 1, *second);
}

#[test]
fn a_change_that_is_not_possible_changes_nothing() {
    let (house, _) = House::new();
    house.ctl("budget set lab 5 --per week");
    let before = ledger::events(&house.daemon).len();
    let rows = [
        ("budget transfer lab ops 1 --per week", 1, "group:ops has no budget by week"),
        ("budget transfer ops lab 1 --per week", 1, "group:ops has no budget by week"),
        ("budget transfer lab lab 1 --per week", 1, "cannot be given what it has"),
        ("budget transfer lab ann 5.01 --per week", 1, "group:lab has a budget of $5.00 by week, less than $5.01"),
        ("budget add ops 1", 1, "group:ops has no budget by total"),
        ("budget add lab 0 --per week", 1, "changes nothing"),
        ("budget add lab 9223372 --per week", 1, "more money than can be counted"),
        ("budget remove ops", 1, "group:ops has no budget by total"),
        ("budget set lab -1", 2, "negative"),
        ("budget set lab 1 --per year", 2, "total, day, week or month"),
    ];
    for (line, code, says) in rows {
        let said = house.daemon.ctl(line.split(' '));
        assert!(said.code == code && said.stderr.contains(says), "{line}: {said:?}");
    }
    assert_eq!(ledger::events(&house.daemon).len(), before);
    assert_eq!(house.budget("group:lab", "week"), Some([5 * USD, 0, 0]));
}

#[test]
fn a_budget_that_is_taken_away_counts_its_window_to_the_end() {
    let (mut house, [ann, bob]) = House::new();
    house.ctl("budget set lab 0.0005 --per month");
    assert_eq!(house.status(&ann), 200);
    house.ctl("budget set lab 0.00001 --per month");
    assert_eq!(house.status(&ann), 402);
    house.ctl("budget remove lab --per month");
    assert_eq!(house.budget("group:lab", "month"), None);
    assert_eq!((house.status(&ann), house.status(&bob)), (200, 200));
    house.daemon.restart();
    assert_eq!(house.status(&bob), 200);
    // It comes back right: what was spent without it is in it.
    house.ctl("budget set lab 1 --per month");
    assert_eq!(house.budget("group:lab", "month"), Some([USD, 4 * COST, 0]));
    // An agent without any budget of its own is held by those above it.
    house.ctl("budget remove ann");
    let agent = house.daemon.rpc("agent.inspect", &json!({"name": "ann"}));
    assert_eq!(agent["budgets"], json!([]));
    for line in ["agent list", "agent list -v", "agent inspect ann", "metrics", "status"] {
        house.ctl(line);
    }
    assert_eq!(house.status(&ann), 200);
    house.ctl("budget set lab 0.0001 --per month");
    assert_eq!(house.status(&ann), 402);
}

#[test]
fn the_tree_is_shown_whole_or_from_an_account_down() {
    let (house, [ann, _]) = House::new();
    house.ctl("group create inner --parent lab --budget 4");
    house.ctl("budget set root 7 --per day");
    assert_eq!(house.status(&ann), 200);
    let names = |shown: &Value| {
        let rows = shown["accounts"].as_array().expect("accounts").clone();
        rows.iter().map(|row| row["account"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let shown = house.daemon.rpc("budget.show", &json!({}));
    assert_eq!(names(&shown), ["root", "group:lab", "agent:ann", "agent:bob", "group:inner", "group:ops"]);
    assert_eq!(names(&house.daemon.rpc("budget.show", &json!({"account": "lab"}))), ["group:lab", "agent:ann", "agent:bob", "group:inner"]);
    let text = house.ctl("budget show");
    // Cells, with the depth of the first one kept.
    let cells = |line: &str| line.split(" | ").map(|cell| cell.trim_end().to_owned()).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = text.lines().map(|line| cells(&line.replace(" |", " | ").replace("  | ", " | "))).collect();
    let row = |name: &str| rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no {name:?} in\n{text}"));
    let root = row(" root");
    assert_eq!(root[1..7].iter().map(|cell| cell.trim()).collect::<Vec<_>>(), ["day", "$7.00", "$0.000033", "$0.00", "$6.999967", "-"]);
    assert!(root[7].trim().ends_with("00:00:00Z"), "{root:?}");
    for (name, wanted) in [
        ("   group:lab", ["-", "none", "$0.000033", "$0.00", "-", "-", "-"]),
        ("     agent:ann", ["total", "$100.00", "$0.000033", "$0.00", "$99.999967", "-", "never"]),
        ("     group:inner", ["total", "$4.00", "$0.00", "$0.00", "$4.00", "-", "never"]),
    ] {
        assert_eq!(row(name)[1..].iter().map(|cell| cell.trim()).collect::<Vec<_>>(), wanted, "{name}");
    }
}
