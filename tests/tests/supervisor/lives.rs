//! When a server is started, stopped, and started again.

use aex_proto::value::{AccountId, Pico};
use aex_tests::tools::{AGENT, Asked, Gate, PACE, Shop, call, dead, lives, make, said, scripted, within};
use aexd::tools::fault::ToolFault;
use aexd::tools::server::{Server, Shared, Start};
use aexd::tools::supervisor::{Caller, Pace, State, Stream};
use serde_json::json;
use std::time::Duration;
use tokio::task::JoinHandle;

#[tokio::test]
async fn a_server_of_the_boot_is_ready_before_anybody_calls() {
    let mut server = scripted("tool", &[]);
    server.start = Start::AtBoot;
    let shop = Shop::open(vec![server]);
    let ready = shop.state("tool", State::Ready).await;
    assert_eq!((ready.tools, ready.counters.calls), (3, 0));
}

#[tokio::test]
async fn an_unused_server_is_stopped_and_the_next_call_starts_it() {
    let mut server = scripted("tool", &[]);
    server.times.idle = Some(Duration::from_millis(50));
    let shop = Shop::open(vec![server]);
    let first: u32 = shop.call("tool", "pid", json!({})).await.unwrap().parse().unwrap();
    let stopped = shop.state("tool", State::Stopped).await;
    assert_eq!((stopped.pid, stopped.counters.ends), (None, 0));
    dead(&[first]).await;
    let second: u32 = shop.call("tool", "pid", json!({})).await.unwrap().parse().unwrap();
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_server_in_use_is_not_idle() {
    let mut server = scripted("tool", &[]);
    server.times.idle = Some(Duration::from_millis(30));
    let mut unused = scripted("unused", &[]);
    unused.times.idle = Some(Duration::from_millis(30));
    let shop = Shop::open(vec![server, unused]);
    let gate = Gate::new();
    let held = shop.make(call("tool", "hold", json!({"path": gate.path()})));
    let release = async {
        shop.until("tool", "the call", |instance| instance.counters.in_use == 1).await;
        // Another server comes and goes of idleness meanwhile.
        shop.call("unused", "echo", json!({})).await.expect("an answer");
        shop.state("unused", State::Stopped).await;
        assert_eq!(shop.instance("tool").unwrap().state, State::Ready);
        gate.open().await;
    };
    let (held, ()) = within("the call", async { tokio::join!(held, release) }).await;
    assert_eq!(said(held), Ok("released".to_owned()));
}

#[tokio::test]
async fn a_server_that_does_not_start_fails_after_some_tries_with_its_last_words() {
    let shop = Shop::open(vec![scripted("tool", &["--exit", "3", "--say", "no key"])]);
    let first = shop.call("tool", "echo", json!({})).await.unwrap_err();
    let stderr = vec!["no key".to_owned()];
    let reason = "it exited (code 3) before it was ready".to_owned();
    assert_eq!(first, ToolFault::NotStarted { server: "tool".to_owned(), reason: reason.clone(), stderr: stderr.clone() });
    assert!(first.is_unsent());
    let failed = shop.state("tool", State::Failed).await;
    assert_eq!((failed.counters.starts, failed.counters.ends, failed.reason.as_ref()), (6, 6, Some(&reason)));
    let second = shop.call("tool", "echo", json!({})).await.unwrap_err();
    assert_eq!(second, ToolFault::Failed { server: "tool".to_owned(), reason, stderr });
    assert!(second.to_string().ends_with("`aexctl tools restart tool`; `aexctl tools logs tool` shows what it said last"), "{second}");
    assert!(second.in_full().ends_with("; it said last:\nno key"), "{}", second.in_full());
    assert_eq!(shop.instance("tool").unwrap().counters.starts, 6, "a call does not start it");
    let restarted = within("the restart", shop.tools.restart("tool")).await;
    assert_eq!(restarted.map_err(|fault| fault.code()), Err("not_started"));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let mut server = scripted("tool", &[]);
    server.command = "/nonexistent/program".to_owned();
    let shop = Shop::open(vec![server]);
    let missing = shop.call("tool", "echo", json!({})).await.unwrap_err().to_string();
    assert!(missing.contains("/nonexistent/program"), "{missing}");
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_named() {
    let mut server = scripted("tool", &[]);
    let reference = aexd::tools::server::EnvPart::Credential("key".to_owned());
    server.env.insert("KEY".to_owned(), aexd::tools::server::EnvValue(vec![reference]));
    let shop = Shop::open(vec![server]);
    let missing = shop.call("tool", "echo", json!({})).await.unwrap_err().to_string();
    assert!(missing.contains("the credential `key` is not there"), "{missing}");
}

#[tokio::test]
async fn a_server_that_never_becomes_ready_is_ended() {
    let mut server = scripted("tool", &["--mute"]);
    server.times.start = Duration::from_millis(800);
    let shop = Shop::open(vec![server]);
    let late = shop.call("tool", "echo", json!({})).await.unwrap_err();
    assert!(matches!(&late, ToolFault::NotStarted { reason, .. } if reason == "it was not ready within 0.8 s"), "{late:?}");
}

#[tokio::test]
async fn a_long_rest_is_told_and_not_waited_for() {
    let mut server = scripted("tool", &["--exit", "1"]);
    server.times.start = Duration::from_secs(5);
    let hour = Duration::from_secs(3_600);
    let shop = Shop::paced(vec![server], Pace { first_rest: hour, longest_rest: hour, ..PACE });
    assert!(!shop.tools.is_in_trouble("tool", &AGENT));
    assert_eq!(shop.call("tool", "echo", json!({})).await.map_err(|fault| fault.code()), Err("not_started"));
    assert!(shop.tools.is_in_trouble("tool", &AGENT), "no list waits for it");
    let resting = shop.call("tool", "echo", json!({})).await;
    assert!(matches!(&resting, Err(ToolFault::Resting { retry_in, .. }) if *retry_in > hour / 2), "{resting:?}");
    shop.state("tool", State::Backoff).await;
}

#[tokio::test]
async fn a_restart_gives_a_new_process_and_fails_what_runs() {
    let shop = Shop::open(vec![scripted("tool", &[])]);
    let gate = Gate::new();
    let hanging = shop.make(call("tool", "hang", json!({"ready": gate.path()})));
    let restart = async {
        gate.passed().await;
        let before = shop.pid("tool");
        shop.tools.restart("tool").await.unwrap();
        dead(&[before]).await;
        assert_ne!(shop.pid("tool"), before);
    };
    let (hanging, ()) = within("the restart", async { tokio::join!(hanging, restart) }).await;
    assert_eq!(said(hanging), Err(ToolFault::Stopped { server: "tool".to_owned(), why: "it is restarted".to_owned() }));
    assert_eq!(shop.instance("tool").unwrap().counters.ends, 0, "that was asked for");
}

#[tokio::test]
async fn a_server_that_takes_no_notice_of_a_stop_is_killed() {
    for flags in [&[][..], &["--stubborn"]] {
        let shop = Shop::open(vec![scripted("tool", flags)]);
        let pid: u32 = shop.call("tool", "pid", json!({})).await.unwrap().parse().unwrap();
        within("the stop", shop.tools.stop("tool", "a test")).await.unwrap();
        assert!(!lives(pid), "{flags:?}");
        let stopped = shop.instance("tool").unwrap();
        assert_eq!((stopped.state, stopped.reason.as_deref()), (State::Stopped, Some("a test")), "{flags:?}");
    }
}

#[tokio::test]
async fn calls_take_turns_and_too_many_are_refused() {
    let mut server = scripted("tool", &[]);
    server.bounds.concurrency = 1;
    server.bounds.queue = 1;
    let shop = Shop::open(vec![server]);
    let gate = Gate::new();
    let first = shop.make(call("tool", "hold", json!({"path": gate.path()})));
    let second = shop.call("tool", "echo", json!({"text": "second"}));
    let third = async {
        shop.until("tool", "two calls", |instance| instance.counters.in_use == 2).await;
        let refused = shop.call("tool", "echo", json!({"text": "third"})).await.unwrap_err();
        assert_eq!(refused, ToolFault::Busy { server: "tool".to_owned(), running: 1, waiting: 1 });
        assert!(refused.is_unsent());
        gate.open().await;
    };
    let (first, second, ()) = within("the calls", async { tokio::join!(first, second, third) }).await;
    assert_eq!((said(first), second), (Ok("released".to_owned()), Ok("second".to_owned())));
}

#[tokio::test]
async fn each_run_has_a_process_of_its_own_that_ends_with_it() {
    let mut server = scripted("tool", &[]);
    server.shared = Shared::ByRun;
    let shop = Shop::open(vec![server]);
    let run = |number: i64| Caller { run: Some(AccountId::new(number)), ..AGENT };
    let pid = async |caller: Caller| {
        let mut asked = call("tool", "pid", json!({}));
        asked.caller = caller;
        said(within("the call", shop.make(asked)).await).unwrap().parse::<u32>().unwrap()
    };
    let (one, two, agent) = (pid(run(11)).await, pid(run(12)).await, pid(AGENT).await);
    assert_eq!(pid(run(11)).await, one);
    assert!(one != two && two != agent && agent != one);
    within("the end of the run", shop.tools.kill_scope(AccountId::new(11))).await;
    assert!(!lives(one) && lives(two) && lives(agent));
    assert!(!shop.options.home.join("private/tool/run_11").exists(), "what it left is removed");
    within("the end of the agent", shop.tools.kill_scope(AccountId::new(7))).await;
    assert!(lives(two) && !lives(agent));
}

#[tokio::test]
async fn a_new_configuration_ends_only_what_it_changes() {
    let names = ["same", "changed", "removed", "disabled"];
    let servers = || names.map(|name| scripted(name, &[])).to_vec();
    let shop = Shop::open(servers());
    for name in names {
        shop.call(name, "echo", json!({"text": "ready"})).await.unwrap();
    }
    let before = names.map(|name| shop.pid(name));
    let gate = Gate::new();
    let held = shop.make(call("changed", "hold", json!({"path": gate.path()})));
    let replace = async {
        shop.until("changed", "the call", |instance| instance.counters.in_use == 1).await;
        let mut now = servers();
        now.retain(|server| server.name != "removed");
        now[0].price = Some(Pico::new(1_000));
        now[1].args.push("--bad-tool".to_owned());
        now[2].enabled = false;
        shop.tools.replace(now).unwrap();
        dead(&[before[2], before[3]]).await;
        assert!(lives(before[0]) && lives(before[1]), "one is as it was, in the other a call runs");
        let disabled = shop.call("disabled", "echo", json!({})).await;
        assert_eq!(disabled, Err(ToolFault::Disabled { server: "disabled".to_owned() }));
        let removed = shop.call("removed", "echo", json!({})).await;
        assert_eq!(removed, Err(ToolFault::Unknown { server: "removed".to_owned() }));
        gate.open().await;
    };
    let (held, ()) = within("the change", async { tokio::join!(held, replace) }).await;
    assert_eq!(said(held), Ok("released".to_owned()), "a call in progress may end");
    assert_eq!(shop.call("same", "pid", json!({})).await, Ok(before[0].to_string()));
    let listing = within("the list", shop.tools.list("changed", &AGENT)).await.unwrap();
    assert_eq!(listing.quarantined.len(), 1, "the new one");
    dead(&[before[1]]).await;
}

#[tokio::test]
async fn whoever_waits_for_a_place_while_the_configuration_changes_gets_one_at_the_new_process() {
    for _ in 0..20 {
        let mut old = scripted("tool", &[]);
        old.bounds.concurrency = 1;
        let mut new = old.clone();
        new.args.push("--bad-tool".to_owned());
        let shop = Shop::open(vec![old]);
        let first = within("the first place", shop.tools.enter("tool", &AGENT)).await.unwrap();
        let second = shop.tools.enter("tool", &AGENT);
        tokio::pin!(second);
        tokio::select! {
            biased;
            entry = &mut second => panic!("one call at a time: {entry:?}"),
            () = std::future::ready(()) => {}
        }
        shop.tools.replace(vec![new.clone()]).unwrap();
        // Whatever the task of the old process has heard by now.
        drop(first);
        let entry = within("the second place", second).await.unwrap();
        assert_eq!(entry.server().args, new.args);
    }
}

/// A pace at which calls in progress are soon cut off.
const SOON: Pace = Pace { drain: Duration::from_millis(300), ..PACE };

/// A call that would last for ever, and the process in which it runs.
async fn held(shop: &Shop, caller: Caller, gate: &Gate) -> (JoinHandle<Result<String, ToolFault>>, u32) {
    let tools = shop.tools.clone();
    let pid = said(within("a call", make(&tools, Asked { caller, ..call("tool", "pid", json!({})) })).await).unwrap();
    let ready = Gate::new();
    let asked = Asked { caller, ..call("tool", "hold", json!({"path": gate.path(), "ready": ready.path()})) };
    let running = tokio::spawn(async move { said(make(&tools, asked).await) });
    ready.passed().await;
    (running, pid.parse().unwrap())
}

#[tokio::test]
async fn a_new_process_begins_when_all_that_were_before_it_are_dead() {
    let with = |args: &[&str]| vec![scripted("tool", args)];
    let changes: [&[Vec<Server>]; 3] = [
        &[with(&["--revision", "2025-06-18"])],
        &[with(&["--revision", "2025-06-18"]), with(&["--revision", "2025-03-26"])],
        &[Vec::new(), with(&[])],
    ];
    for servers in changes {
        let (shop, gate) = (Shop::paced(with(&[]), SOON), Gate::new());
        let (running, old) = held(&shop, AGENT, &gate).await;
        for servers in servers {
            shop.tools.replace(servers.clone()).unwrap();
        }
        let new = shop.call("tool", "pid", json!({})).await.unwrap();
        assert!(!lives(old), "{new} began beside {old}");
        assert!(running.await.unwrap().is_err(), "it was cut off");
    }
}

#[tokio::test]
async fn each_process_of_a_new_configuration_begins_when_those_of_the_old_one_are_dead() {
    let server = |args: &[&str]| Server { shared: Shared::ByRun, ..scripted("tool", args) };
    let (shop, gate) = (Shop::paced(vec![server(&[])], SOON), Gate::new());
    let other = Caller { agent: AccountId::new(8), run: None };
    let (_running, old) = held(&shop, AGENT, &gate).await;
    shop.tools.replace(vec![server(&["--revision", "2025-06-18"])]).unwrap();
    let pid = async |caller| {
        let new = said(shop.make(Asked { caller, ..call("tool", "pid", json!({})) }).await).unwrap();
        assert!(!lives(old), "{new} began beside {old}");
        new
    };
    let (one, two) = within("both", async { tokio::join!(pid(other), pid(AGENT)) }).await;
    assert_ne!(one, two);
}

#[tokio::test]
async fn who_has_waited_for_a_turn_is_served_before_those_who_come_after_a_change() {
    let mut server = scripted("tool", &[]);
    (server.bounds.concurrency, server.bounds.queue) = (1, 3);
    let new = Server { args: vec!["--revision".to_owned(), "2025-06-18".to_owned()], ..server.clone() };
    let (shop, gate) = (Shop::paced(vec![server], SOON), Gate::new());
    let (_running, _) = held(&shop, AGENT, &gate).await;
    let calls = |count: usize| -> Vec<_> {
        let begin = |_| {
            let tools = shop.tools.clone();
            tokio::spawn(async move { said(make(&tools, call("tool", "echo", json!({"text": "served"}))).await) })
        };
        (0..count).map(begin).collect()
    };
    let waiting = calls(3);
    shop.until("tool", "three wait", |instance| instance.counters.in_use == 4).await;
    shop.tools.replace(vec![new]).unwrap();
    let late = calls(4);
    for served in waiting {
        assert_eq!(within("who waited", served).await.unwrap(), Ok("served".to_owned()));
    }
    let mut busy = 0;
    for call in late {
        busy += usize::from(matches!(within("who came late", call).await.unwrap(), Err(ToolFault::Busy { .. })));
    }
    assert_eq!(busy, 3, "one more had a place");
}

#[tokio::test]
async fn the_end_of_the_daemon_is_the_end_of_all_servers() {
    let shop = Shop::open(vec![scripted("one", &[]), scripted("two", &["--stubborn"])]);
    let mut pids = Vec::new();
    for name in ["one", "two"] {
        pids.push(shop.call(name, "pid", json!({})).await.unwrap().parse::<u32>().unwrap());
    }
    within("the end", shop.tools.shutdown()).await;
    assert!(pids.iter().all(|pid| !lives(*pid)), "{pids:?}");
    let late = shop.call("one", "echo", json!({})).await;
    assert!(late.is_err_and(|fault| fault.is_unsent()));
}

#[tokio::test]
async fn a_server_that_ends_at_its_start_is_told_by_its_own_end() {
    let shop = Shop::paced(vec![scripted("tool", &["--exit", "7", "--say", "no key"])], Pace { ends: 0, ..PACE });
    let fault = shop.call("tool", "echo", json!({})).await.unwrap_err();
    assert!(fault.to_string().contains("it exited (code 7) before it was ready"), "{fault}");
    let failed = shop.state("tool", State::Failed).await;
    assert_eq!(failed.reason.as_deref(), Some("it exited (code 7) before it was ready"));
    let logs = shop.tools.logs("tool", usize::MAX).unwrap();
    let said: Vec<&str> = logs.iter().filter(|line| line.stream == Stream::Daemon).map(|line| line.text.as_str()).collect();
    assert_eq!(said, ["started", "exited (code 7)"]);
}

#[tokio::test]
async fn what_a_program_left_in_its_folders_is_no_other_programs() {
    let shop = Shop::open(vec![scripted("tool", &[])]);
    let private = shop.options.home.join("private");
    let planted = |folder: &str| std::fs::read_to_string(private.join(folder).join("all/home/usercustomize.py")).ok();
    let used = async || drop(shop.call("tool", "echo", json!({})).await.expect("an answer"));
    let plant = |text: &str| std::fs::write(private.join("tool/all/home/usercustomize.py"), text).expect("a file in its home");
    used().await;
    plant("first");
    // The same program finds them again, whatever else changes.
    let mut dearer = scripted("tool", &[]);
    (dearer.price, dearer.times.idle) = (Some(Pico::ZERO), None);
    shop.tools.replace(vec![dearer]).expect("they are taken");
    used().await;
    assert_eq!(planted("tool").as_deref(), Some("first"));
    // Another one does not.
    shop.tools.replace(vec![scripted("tool", &["--revision", "2025-06-18"])]).expect("they are taken");
    used().await;
    assert_eq!((planted("tool"), planted("tool.old").as_deref()), (None, Some("first")));
    // Nor does who comes after one that was removed, be it the same.
    plant("second");
    shop.tools.replace(Vec::new()).expect("they are taken");
    assert!(!private.join("tool").exists());
    shop.tools.replace(vec![scripted("tool", &["--revision", "2025-06-18"])]).expect("they are taken");
    used().await;
    assert_eq!((planted("tool"), planted("tool.old").as_deref()), (None, Some("second")));
}
