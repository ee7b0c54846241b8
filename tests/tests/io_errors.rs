//! A disk that refuses: flushes, writes and reads of the ledger that fail under the running daemon, by the shim's orders.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use aex_tests::ask;
use aex_tests::client::{self, Connection};
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger::{self, quiet, settled_and_audited, until};
use aex_tests::provider::{Provider, Script};
use aex_tests::shim::{Kind, Record, Shim};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// More commits than lie between two checkpoints.
const BETWEEN_CHECKPOINTS: usize = 600;

struct Stage {
    provider: Provider,
    shim: Shim,
    daemon: Daemon,
    token: String,
}

impl Stage {
    #[track_caller]
    fn set(settings: &str) -> Stage {
        let provider = Provider::start();
        let shim = Shim::new();
        let config = Config::new(&provider).aexd_yaml(settings).flag("--log-stderr");
        let daemon = Daemon::start_with(shim.recording(config));
        let token = daemon.agent("bot", &[]);
        Stage { provider, shim, daemon, token }
    }

    /// Sends calls, each over a connection of its own, every other one a stream.
    #[track_caller]
    fn send(&self, calls: usize) -> Vec<Connection> {
        let send = |number: usize| {
            let mut connection = Connection::open(&self.daemon.url());
            connection.post_json("/v1/chat/completions", &self.token, &body(number));
            connection
        };
        (0..calls).map(send).collect()
    }

    #[track_caller]
    fn status(&self, number: usize) -> u16 {
        client::post_json(&self.daemon.chat_url(), &self.token, &body(number)).status
    }

    fn is_healthy(&self) -> bool {
        health(&self.daemon)
    }

    /// So many commits; a daemon that ends meanwhile makes no more.
    fn commit(&self, commits: usize) {
        let Ok(stream) = UnixStream::connect(self.daemon.home().join("aexd.sock")) else { return };
        let mut stream = BufReader::new(stream);
        for id in 0..commits {
            let message = json!({"jsonrpc": "2.0", "id": id, "method": "event.list", "params": {"limit": 1}});
            let (sent, mut line) = (stream.get_mut().write_all(format!("{message}\n").as_bytes()), String::new());
            if sent.is_err() || stream.read_line(&mut line).is_ok_and(|read| read == 0) {
                return;
            }
        }
    }

    /// The disk is sound again, the daemon starts, and the books are right.
    #[track_caller]
    fn recovers(&mut self) -> ledger::Books {
        self.shim.heal();
        self.daemon.run();
        let books = settled_and_audited(&self.daemon, &self.provider);
        assert_eq!(self.status(900), 200);
        books
    }
}

fn body(number: usize) -> Value {
    ask::with(ask::of_length(10 + number), &json!({"stream": number.is_multiple_of(2)}))
}

fn health(daemon: &Daemon) -> bool {
    let checks = daemon.rpc("daemon.status", &json!({}))["checks"].clone();
    checks.as_array().expect("checks").iter().all(|check| check["passed"] == true)
}

/// Each flush of a file by name, in their order.
fn flushes<'r>(records: &'r [Record], name: &str) -> Vec<&'r Record> {
    let is_opening = |record: &&Record| record.kind == Kind::Opened && record.data.ends_with(name.as_bytes());
    let opened: Vec<u32> = records.iter().filter(is_opening).map(|record| record.object).collect();
    records.iter().filter(|record| record.kind == Kind::Synced && opened.contains(&record.object)).collect()
}

/// Once a flush has failed no later one is told that all is well. Another thread that was about to begin one hears of the same failure,
/// once; a flush that is tried again does not.
#[track_caller]
fn no_flush_is_retried(records: &[Record], name: &str) {
    let flushes = flushes(records, name);
    let failed = flushes.iter().find(|flush| flush.result != 0).expect("a flush failed").end;
    let later: Vec<u64> = flushes.iter().filter(|flush| flush.start > failed && flush.result == 0).map(|flush| flush.start).collect();
    assert_eq!(later, Vec::<u64>::new(), "begun and done after the failure at {failed}");
}

#[track_caller]
fn failed_flush(durability: &str) {
    let mut stage = Stage::set(&format!("durability: {durability}\n"));
    // One call whose reservation is on disk keeps the daemon in its drain until it is let go.
    stage.provider.script(Script::hold());
    let mut early = stage.send(1);
    stage.provider.wait_for_requests(1);
    if durability == "overlap" {
        let held = ledger::calls(&stage.daemon).len();
        stage.daemon.rpc("agent.update", &json!({"name": "bot", "rpm": 90_000}));
        assert_eq!(held, 1, "flushed with the update");
    }
    stage.shim.order("sync wal HOLD");
    let mut waiting = stage.send(6);
    let sent = if durability == "overlap" { 6 } else { 0 };
    until("the reservations", || (ledger::calls(&stage.daemon).len() == 7).then_some(()));
    // The provider has answered in full all that it was sent, and is billed.
    let bills = stage.provider.wait_for_bills(sent);
    assert_eq!(bills.iter().filter(|bill| bill.is_billed() && bill.ended != aex_tests::provider::Ended::Open).count(), sent);
    stage.shim.order("sync wal EIO");
    for connection in &mut waiting {
        let answer = connection.answer().expect("an answer");
        assert_eq!((answer.status, answer.code().as_str()), (503, "ledger_unavailable"), "{answer}");
    }
    assert!(!stage.is_healthy());
    stage.provider.release();
    assert_eq!(early[0].answer().expect("an answer").status, 200);
    assert_eq!(stage.daemon.wait(), 1, "{}", stage.daemon.stderr());
    assert!(stage.daemon.stderr().contains("the disk refused a flush of the ledger"), "{}", stage.daemon.stderr());
    no_flush_is_retried(&stage.shim.records(), "ledger.db-wal");
    assert_eq!(stage.provider.requests().len(), 1 + sent);
    let books = stage.recovers();
    assert_eq!(books.exact + books.worst_case, 7, "{books:?}");
}

#[test]
fn a_flush_that_fails_while_the_provider_works_shows_no_byte_of_an_answer_and_ends_the_daemon() {
    failed_flush("overlap");
}

#[test]
fn a_flush_that_fails_before_the_send_sends_nothing_and_ends_the_daemon() {
    failed_flush("full");
}

#[test]
fn a_write_that_fails_refuses_its_calls_and_no_later_one() {
    for (order, status) in [
        ("write wal EIO 0 1", 503),
        ("write wal EIO 1 1", 503),
        ("write wal ENOSPC 0 1", 503),
        ("write wal EDQUOT 2 1", 503),
        // SQLite goes on with the rest, and tries again what a signal interrupted.
        ("write wal SHORT 0 3", 200),
        ("write wal EINTR 0 2", 200),
    ] {
        let stage = Stage::set("durability: overlap\n");
        assert_eq!(stage.status(1), 200);
        quiet(&stage.daemon);
        stage.shim.order(order);
        assert_eq!(stage.status(2), status, "{order}");
        for number in 3..6 {
            assert_eq!(stage.status(number), 200, "{order}");
        }
        assert!(stage.is_healthy());
        let books = settled_and_audited(&stage.daemon, &stage.provider);
        assert_eq!(books.exact, if status == 200 { 5 } else { 4 }, "{order}: {books:?}");
    }
}

#[test]
fn an_end_that_cannot_be_written_is_tried_again_and_nothing_is_admitted_meanwhile() {
    for orders in ["write wal EIO", "write wal ENOSPC", "write wal EIO\nread wal EIO\nread db EIO"] {
        let stage = Stage::set("durability: overlap\n");
        stage.provider.script_times(4, &Script::hold());
        let mut waiting = stage.send(4);
        stage.provider.wait_for_requests(4);
        // An admin's action is on disk, and so are the reservations before it.
        stage.daemon.rpc("agent.update", &json!({"name": "bot", "rpm": 90_000}));
        stage.shim.order(orders);
        stage.provider.release();
        for connection in &mut waiting {
            assert_eq!(connection.answer().expect("an answer").status, 200, "{orders}");
        }
        until("a red health", || (!stage.is_healthy()).then_some(()));
        for number in 10..13 {
            let answer = client::post_json(&stage.daemon.chat_url(), &stage.token, &body(number));
            assert_eq!((answer.status, answer.code().as_str()), (503, "ledger_unavailable"), "{orders}: {answer}");
        }
        stage.shim.heal();
        until("a green health", || stage.is_healthy().then_some(()));
        assert_eq!(stage.status(20), 200, "{orders}");
        let books = settled_and_audited(&stage.daemon, &stage.provider);
        assert_eq!((books.exact, books.worst_case), (5, 0), "{orders}: {books:?}");
    }
}

#[test]
fn a_write_that_stalls_keeps_its_calls_waiting_and_loses_none() {
    for durability in ["overlap", "full", "normal"] {
        let stage = Stage::set(&format!("durability: {durability}\n"));
        stage.shim.order("write wal HOLD");
        let mut waiting = stage.send(4);
        // Other threads go on, and nothing has left.
        assert_eq!(client::get(&format!("{}/health", stage.daemon.url()), "").status, 200);
        assert!(stage.provider.requests().is_empty());
        stage.shim.heal();
        for connection in &mut waiting {
            assert_eq!(connection.answer().expect("an answer").status, 200, "{durability}");
        }
        assert_eq!(settled_and_audited(&stage.daemon, &stage.provider).exact, 4);
    }
}

#[test]
fn a_daemon_that_cannot_read_or_write_its_ledger_does_not_start_and_says_why() {
    for order in ["read db EIO", "read wal EIO", "write wal EIO", "sync wal EIO"] {
        let mut stage = Stage::set("durability: overlap\n");
        assert_eq!(stage.status(1), 200);
        stage.daemon.kill9();
        stage.shim.order(order);
        let refused = stage.daemon.try_run().expect_err(order);
        assert_eq!(refused.code, 1, "{order}: {refused:?}");
        let said = refused.stderr.lines().rev().find(|line| line.starts_with("error: ")).expect("an error is told");
        assert!(said.contains("ledger") && (said.contains("I/O") || said.contains("Input/output")), "{order}: {said}");
        let books = stage.recovers();
        assert_eq!(books.exact + books.worst_case, 1, "{order}: {books:?}");
    }
}

#[test]
fn a_checkpoint_that_cannot_write_is_told_and_tried_again_and_disturbs_no_call() {
    let mut stage = Stage::set("wal_limit: 1KiB\n");
    stage.shim.order("write db ENOSPC");
    stage.commit(BETWEEN_CHECKPOINTS);
    until("the warning", || stage.daemon.stderr().contains("a checkpoint of the ledger failed").then_some(()));
    for number in 0..5 {
        assert_eq!(stage.status(number), 200);
    }
    assert!(stage.is_healthy());
    stage.shim.heal();
    stage.commit(BETWEEN_CHECKPOINTS);
    let books = settled_and_audited(&stage.daemon, &stage.provider);
    assert_eq!(books.exact, 5);
    stage.daemon.stop();
    let records = stage.shim.records();
    assert!(!flushes(&records, "ledger.db").is_empty(), "a later checkpoint was done");
    stage.daemon.run();
    settled_and_audited(&stage.daemon, &stage.provider);
}

#[test]
fn a_flush_that_fails_in_a_checkpoint_is_final_whichever_file_it_is_of() {
    for (order, name) in [("sync db EIO 0 1", "ledger.db"), ("sync wal EIO 0 1", "ledger.db-wal"), ("sync db EIO 1 1", "ledger.db")] {
        // A call that the provider holds keeps the daemon in its drain.
        let mut stage = Stage::set("durability: normal\nwal_limit: 1KiB\n");
        stage.provider.script(Script::hold());
        let mut early = stage.send(1);
        stage.provider.wait_for_requests(1);
        stage.shim.order(order);
        stage.commit(BETWEEN_CHECKPOINTS);
        until("the end of admissions", || (!health(&stage.daemon)).then_some(()));
        stage.provider.release();
        assert_eq!(early[0].answer().expect("an answer").status, 200, "{order}");
        assert_eq!(stage.daemon.wait(), 1, "{order}: {}", stage.daemon.stderr());
        no_flush_is_retried(&stage.shim.records(), name);
        let books = stage.recovers();
        assert_eq!(books.exact + books.worst_case, 1, "{order}: {books:?}");
    }
}

#[test]
fn a_stop_whose_last_flush_fails_is_no_good_end() {
    let mut stage = Stage::set("durability: normal\n");
    assert_eq!(stage.status(1), 200);
    quiet(&stage.daemon);
    stage.shim.order("sync db EIO 0 1");
    stage.daemon.signal(Signal::SIGTERM);
    assert_eq!(stage.daemon.wait(), 1, "{}", stage.daemon.stderr());
    no_flush_is_retried(&stage.shim.records(), "ledger.db");
    let books = stage.recovers();
    assert_eq!(books.exact, 1, "{books:?}");
}

#[test]
fn a_log_that_cannot_be_started_anew_ends_the_daemon() {
    let mut stage = Stage::set("durability: normal\nwal_limit: 1KiB\n");
    stage.commit(BETWEEN_CHECKPOINTS);
    // The next commit writes and flushes the log's new head. Readers or the checkpointer may be in its way for a while.
    stage.shim.order("sync wal EIO 0 1");
    let url = stage.daemon.chat_url();
    let token = stage.token.clone();
    thread::scope(|scope| {
        scope.spawn(|| stage.commit(BETWEEN_CHECKPOINTS));
        scope.spawn(|| {
            for number in 0..20 {
                let Ok(mut connection) = Connection::try_open(&url) else { return };
                let bearer = format!("Bearer {token}");
                let text = body(number).to_string();
                if connection.request("POST", "/v1/chat/completions", &[("authorization", &bearer)], text.as_bytes()).is_err() {
                    return;
                }
                match connection.answer() {
                    Ok(answer) => assert!([200, 503].contains(&answer.status), "{answer}"),
                    Err(_) => return,
                }
            }
        });
    });
    assert_eq!(stage.daemon.wait(), 1, "{}", stage.daemon.stderr());
    no_flush_is_retried(&stage.shim.records(), "ledger.db-wal");
    stage.recovers();
}

#[test]
fn a_signal_that_comes_while_the_shim_writes_down_holds_up_nobody() {
    let stage = &mut Stage::set("");
    let daemon = &stage.daemon;
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut control = daemon.control();
            (0..1_000).for_each(|_| drop(control.call("daemon.status", &json!({})).expect("an answer")));
        });
        // Each comes between what is sent and what is written down of it, now and then.
        while !asking.is_finished() {
            daemon.signal(Signal::SIGHUP);
        }
    });
    stage.daemon.stop();
}
