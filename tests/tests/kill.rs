//! Kill: new calls are denied, live ones cut, runs ended, of a subtree or of all, and a restart changes nothing of it.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use aex_tests::ask::{self, chat};
use aex_tests::client::{self, Connection};
use aex_tests::daemon::Daemon;
use aex_tests::house::last_error_of;
use aex_tests::ledger::{self, settled_and_audited, until};
use aex_tests::provider::{Provider, Script};
use aex_tests::refusal::{self, Refusal, forbidden};
use serde_json::{Value, json};

const CLIENTS: usize = 24;

struct House {
    provider: Provider,
    daemon: Daemon,
}

impl House {
    fn new() -> Self {
        let provider = Provider::start();
        let daemon = Daemon::start(&provider);
        Self { provider, daemon }
    }

    #[track_caller]
    fn ctl(&self, line: &str) -> String {
        self.daemon.ctl(line.split(' ')).ok().stdout
    }

    #[track_caller]
    fn status(&self, token: &str) -> u16 {
        client::post_json(&self.daemon.chat_url(), token, &chat()).status
    }

    /// Begins a stream that stalls after two chunks, with a prompt of so many characters.
    #[track_caller]
    fn stream(&self, token: &str, chars: usize) -> Connection {
        let body = ask::with(ask::of_length(chars), &json!({"stream": true}));
        let mut connection = Connection::open(&self.daemon.url());
        connection.post_json("/v1/chat/completions", token, &body);
        assert_eq!(connection.head().expect("a head").status, 200);
        for _ in 0..3 {
            connection.next_data().expect("a stream").expect("a chunk");
        }
        connection
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if !thread::panicking() {
            settled_and_audited(&self.daemon, &self.provider);
        }
    }
}

const fn killed<'a>(says: &'a [&'a str]) -> Refusal<'a> {
    Refusal { code: "account_killed", ..forbidden("", "account_state", says) }
}

/// Where the events of a kind stand that fit, by number.
fn places(events: &[Value], kind: &str, fits: impl Fn(&Value) -> bool) -> Vec<u64> {
    let found = events.iter().filter(|event| event["kind"] == kind && fits(&event["body"]));
    found.map(|event| event["seq"].as_u64().expect("a number")).collect()
}

#[test]
fn a_killed_group_has_its_streams_cut_and_charged_as_left_and_others_go_on() {
    let house = House::new();
    house.ctl("group create lab");
    house.ctl("group create inner --parent lab");
    let tokens = [("ann", "lab"), ("bob", "inner")].map(|(name, group)| house.daemon.agent(name, &["--group", group]));
    let other = house.daemon.agent("other", &[]);
    house.provider.always(Script::hold_after(2));
    let mut cut: Vec<Connection> = tokens.iter().zip([11, 12]).map(|(token, chars)| house.stream(token, chars)).collect();
    let mut kept = house.stream(&other, 13);
    let mut plain = Connection::open(&house.daemon.url());
    house.provider.script(Script::hold());
    plain.post_json("/v1/chat/completions", &tokens[0], &ask::of_length(14));
    house.provider.wait_for_requests(4);
    let said = house.ctl("kill lab --reason runaway");
    assert!(said.contains("group:lab is killed") && said.contains("0 runs ended, 3 calls in flight cut"), "{said}");
    for connection in &mut cut {
        let told = last_error_of(connection, "account_killed");
        assert!(told.contains("Group `lab` was killed (runaway)") && told.contains("(request req_"), "{told}");
    }
    // A plain call has nothing to show: it is told who did it.
    refusal::check(&plain.answer().expect("an answer"), &killed(&["Group `lab` was killed (runaway)", "aexctl resume group:lab"]));
    let seen = house.provider.requests().len();
    for token in &tokens {
        let answer = client::post_json(&house.daemon.chat_url(), token, &chat());
        refusal::denied(&house.daemon, &house.provider, seen, &answer, &killed(&["Group `lab` was killed (runaway)"]));
    }
    house.provider.always(Script::default());
    house.provider.release();
    while kept.next_data().expect("a whole stream").is_some_and(|data| data != "[DONE]") {}
    let stories: Vec<String> = ledger::quiet(&house.daemon).iter().map(ledger::Call::story).collect();
    assert_eq!(stories, ["estimated stopped", "estimated stopped", "exact answered", "worst_case stopped"]);
    assert_eq!((house.status(&other), house.status(&tokens[1])), (200, 403));
    assert_eq!(house.ctl("resume lab").trim(), "group:lab is active again.");
    assert_eq!(house.status(&tokens[1]), 200);
}

#[test]
fn kill_all_under_load_lets_nothing_in_behind_it_and_survives_a_restart() {
    let mut house = House::new();
    house.ctl("group create lab");
    let tokens = [house.daemon.agent("ann", &["--group", "lab"]), house.daemon.agent("bob", &[])];
    house.provider.script_times(2, &Script::hold_after(2));
    let mut streams: Vec<Connection> = tokens.iter().zip([11, 12]).map(|(token, chars)| house.stream(token, chars)).collect();
    let (denied, passed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (token, url, denied, passed) = (&tokens[number % 2], house.daemon.chat_url(), &denied, &passed);
            scope.spawn(move || {
                // Until the kill is felt; each answer is either whole or the kill.
                loop {
                    let answer = client::post_json(&url, token, &chat());
                    if answer.status == 200 {
                        passed.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    refusal::check(&answer, &killed(&["This machine (account `root`) was killed (fire)", "aexctl resume --all"]));
                    denied.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            });
        }
        until("a load", || (passed.load(Ordering::Relaxed) > 4 * CLIENTS).then_some(()));
        let said = house.ctl("kill --all --reason fire");
        assert!(
            said.starts_with("root is killed: every call of it and of all below it is denied. `aexctl resume --all` lifts it."),
            "{said}"
        );
        for stream in &mut streams {
            assert!(last_error_of(stream, "account_killed").contains("was killed (fire)"));
        }
    });
    assert_eq!(denied.load(Ordering::Relaxed), CLIENTS);
    house.provider.release();
    ledger::quiet(&house.daemon);
    let events = ledger::events(&house.daemon);
    let kill = places(&events, "account.state", |body| body["account"] == 1 && body["to"] == "killed");
    let held = places(&events, "call.held", |_| true);
    assert!(kill.len() == 1 && held.iter().all(|seq| *seq < kill[0]), "{kill:?}");
    for _ in 0..2 {
        house.daemon.kill9();
        house.daemon.run();
        for token in &tokens {
            assert_eq!(house.status(token), 403);
        }
    }
    assert!(house.ctl("status").starts_with("All calls:       denied: killed"));
    assert_eq!(house.ctl("resume --all").trim(), "root is active again.");
    assert_eq!((house.status(&tokens[0]), house.status(&tokens[1])), (200, 200));
}

#[test]
fn a_kill_ends_the_runs_below_it_with_their_commands_and_says_so() {
    let house = House::new();
    house.ctl("group create lab");
    let _tokens = ["ann", "bob"].map(|name| house.daemon.agent(name, &["--group", "lab"]));
    let _other = house.daemon.agent("other", &[]);
    let start = |agent: &str| {
        let mut command = house.daemon.command("aexctl");
        command.args(["run", "--agent", agent, "--", "sh", "-c", "echo $$; sleep 1000 & wait"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start aexctl");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut pid = String::new();
        out.read_line(&mut pid).expect("a line of the command");
        (child, out, pid.trim().to_owned())
    };
    let is_alive = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    let end = |(mut child, mut out, pid): (std::process::Child, BufReader<std::process::ChildStdout>, String)| {
        let mut said = String::new();
        // The pipe ends with the last process of the run.
        child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("the standard error");
        out.read_to_string(&mut String::new()).expect("the standard output");
        child.wait().expect("the end of aexctl");
        assert!(!is_alive(&pid), "{said}");
        said
    };
    let (first, second, kept) = (start("ann"), start("bob"), start("other"));
    let said = house.ctl("kill lab --reason runaway");
    assert!(said.contains("2 runs ended"), "{said}");
    for run in [first, second] {
        let said = end(run);
        assert!(said.contains("the run was killed: runaway"), "{said}");
    }
    assert!(is_alive(&kept.2));
    let refused = house.daemon.ctl(["run", "--agent", "ann", "--", "true"]);
    assert!(refused.code == 125 && refused.stderr.contains("group:lab is killed: runaway"), "{refused:?}");
    assert!(refused.stderr.contains("aexctl resume group:lab"), "{refused:?}");
    // One run by its id, and then an agent with its runs.
    let shown = house.daemon.rpc("budget.show", &json!({"account": "other"}));
    let run = shown["accounts"][1]["account"].as_str().expect("a run").to_owned();
    assert_eq!(house.ctl(&format!("kill {run}")).trim(), format!("{run} is closed. 1 run ended, 0 calls in flight cut."));
    assert!(end(kept).contains("the run was killed"));
    let again = start("other");
    let said = house.ctl("agent kill other --reason enough");
    assert!(said.contains("agent:other is killed") && said.contains("1 run ended"), "{said}");
    assert!(end(again).contains("the run was killed: enough"));
    let events = ledger::events(&house.daemon);
    let kill = places(&events, "account.state", |body| body["to"] == "killed" && body["reason"] == "runaway");
    let closed = places(&events, "account.state", |body| body["to"] == "closed" && body["reason"] == "killed: runaway");
    // One transaction: nothing comes between them but what they themselves say.
    assert!(kill.len() == 1 && closed.len() == 2 && closed.iter().all(|seq| (1..=4).contains(&(seq - kill[0]))), "{kill:?} {closed:?}");
    house.ctl("agent resume other");
}

#[test]
fn a_kill_stands_above_a_pause_and_a_resume_lifts_one_account_alone() {
    let house = House::new();
    house.ctl("group create lab");
    let token = house.daemon.agent("bot", &["--group", "lab"]);
    house.ctl("agent kill bot");
    house.ctl("kill lab");
    assert_eq!(house.ctl("kill lab").trim(), "group:lab is killed already.");
    let said = house.daemon.ctl(["pause", "lab"]);
    assert!(said.code == 1 && said.stderr.contains("group:lab is killed already"), "{said:?}");
    house.ctl("resume lab");
    let answer = client::post_json(&house.daemon.chat_url(), &token, &chat());
    refusal::check(&answer, &killed(&["Agent `bot` was killed", "aexctl agent resume bot"]));
    // A stream of an agent that was resumed is not cut by the flag of before.
    house.ctl("resume agent:bot");
    house.provider.script(Script::hold_after(2));
    let mut stream = house.stream(&token, 11);
    house.ctl("pause lab");
    assert_eq!(house.status(&token), 403);
    house.provider.release();
    while stream.next_data().expect("a whole stream").is_some_and(|data| data != "[DONE]") {}
    house.ctl("resume lab");
    assert_eq!(house.status(&token), 200);
}

#[test]
fn a_refusal_that_says_something_else_is_no_repeat_of_one_before_it() {
    let house = House::new();
    let token = house.daemon.agent("bot", &[]);
    house.ctl("pause --all");
    assert_eq!(house.status(&token), 403);
    house.ctl("kill --all --reason fire");
    let answer = client::post_json(&house.daemon.chat_url(), &token, &chat());
    refusal::check(&answer, &killed(&["was killed (fire)"]));
    let said = house.ctl("kill --all --reason flood");
    assert_eq!(said.trim(), "root is killed already, and stays so for the reason given then: fire.");
    let told = house.daemon.ctl(["explain", answer.header("x-aex-request-id").expect("an id")]).ok().stdout;
    assert!(told.contains("fire") && !told.contains("paused"), "{told}");
    house.ctl("resume --all");
}

#[test]
fn no_new_account_has_a_name_that_means_another_one() {
    let house = House::new();
    for name in ["root", "run_17", "agent:bot", "group:lab"] {
        for line in [vec!["agent", "create", name, "5", "60"], vec!["group", "create", name]] {
            let refused = house.daemon.ctl(&line);
            assert!(refused.code != 0 && refused.stderr.contains("cannot name a"), "{line:?}: {refused:?}");
        }
    }
}
