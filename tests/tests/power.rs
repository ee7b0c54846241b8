//! Power cuts: the real daemon runs over a recording shim; from the record images of its disk are built with unflushed writes dropped,
//! torn and reordered, and the real daemon starts on each. What each durability promises has to hold on all of them.
//!
//! `AEX_POWER_IMAGES` is the number of images per run (default 75), `AEX_POWER_SEED` repeats the choices of a run that failed.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test may fail loudly, and tells its seed")]

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use aex_tests::ask;
use aex_tests::client::{Connection, End};
use aex_tests::daemon::{Config, Control, Daemon};
use aex_tests::ledger::{self, quiet};
use aex_tests::provider::Provider;
use aex_tests::shim::{Broken, Deed, Disk, Kind, Moment, Promise, Record, Seen, Shim, Truth, What, judged, moments, seen};
use serde_json::{Value, json};

const CLIENTS: usize = 8;
/// Enough for several checkpoints and starts of the log.
const CALLS: usize = 1_200;
/// A prompt of call 0; call N has N characters more.
const SHORTEST: usize = 20;
/// Every so many calls one is of the agent with the tight budget.
const TIGHT: usize = 6;
const TIGHT_LIMIT: i64 = 20_000_000_000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|fault| panic!("{name}={text}: {fault}")))
}

fn images() -> usize {
    variable("AEX_POWER_IMAGES").map_or(75, |images| usize::try_from(images).expect("a number of images"))
}

fn seed() -> u64 {
    let seed = variable("AEX_POWER_SEED").unwrap_or_else(|| RandomState::new().build_hasher().finish());
    eprintln!("AEX_POWER_SEED={seed}");
    seed
}

/// A provider, and a daemon over the shim whose runs are put together.
struct Stage {
    provider: Provider,
    shim: Shim,
    config: Config,
    daemon: Daemon,
    calls: AtomicUsize,
    tokens: BTreeMap<&'static str, String>,
    deeds: BTreeMap<String, Deed>,
    runs: Vec<(Vec<Record>, u16)>,
}

impl Stage {
    #[track_caller]
    fn set(durability: &str) -> Stage {
        let provider = Provider::start();
        let shim = Shim::new();
        // The smallest log that is still started anew by a checkpoint, not by every one.
        let config = Config::new(&provider).aexd_yaml(&format!("durability: {durability}\nwal_limit: 256KiB\n"));
        let daemon = Daemon::start_with(shim.recording(config.clone()));
        let calls = AtomicUsize::new(0);
        let mut stage = Stage { provider, shim, config, daemon, calls, tokens: BTreeMap::new(), deeds: BTreeMap::new(), runs: Vec::new() };
        let mut control = stage.daemon.control();
        let (dollars, tight) = ("100000000000000", TIGHT_LIMIT.to_string());
        for (name, budget) in [("bot", dollars), ("tight", tight.as_str()), ("shrinking", dollars), ("many", dollars)] {
            let params = json!({"name": name, "budget_pico": budget, "rpm": 1_000_000});
            let made = stage.act(&mut control, "agent.create", &params, Deed::Made(name.to_owned()));
            stage.tokens.insert(name, made["token"].as_str().expect("a token").to_owned());
        }
        stage
    }

    /// An admin action under an id that the record shows.
    #[track_caller]
    fn act(&mut self, control: &mut Control, method: &str, params: &Value, deed: Deed) -> Value {
        let id = format!("deed-{}", self.deeds.len());
        self.deeds.insert(id.clone(), deed);
        told(control, &id, method, params)
    }

    /// Calls from several clients, until `calls` more were made, and beside them what an admin does.
    #[track_caller]
    fn load(&mut self, calls: usize, is_admin_busy: bool) {
        let until = self.calls.load(Ordering::Relaxed) + calls;
        let number = &self.calls;
        let (url, tokens) = (self.daemon.url(), &self.tokens);
        let deeds = std::mem::take(&mut self.deeds);
        let (done, daemon) = (AtomicBool::new(false), &self.daemon);
        self.deeds = thread::scope(|scope| {
            let admin = scope.spawn(|| administer(daemon, deeds, &done, is_admin_busy));
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| client(&url, tokens, number, until))).collect();
            clients.into_iter().for_each(|client| client.join().expect("a client ends"));
            done.store(true, Ordering::Relaxed);
            admin.join().expect("the admin ends")
        });
    }

    /// The daemon has ended: its record is put aside.
    fn ended(&mut self, port: u16) {
        self.runs.push((self.shim.records(), port));
    }

    fn port(&self) -> u16 {
        port(&self.daemon.url())
    }

    /// What was true at the end of all runs, of which the record of `run` will be cut. No call may be in flight.
    #[track_caller]
    fn truth(&self) -> Truth {
        let calls = quiet(&self.daemon);
        let prices = self.daemon.rpc("model.list", &json!({}))["models"][0]["prices"].clone();
        let requests: BTreeMap<String, String> = calls
            .iter()
            .map(|call| (mark(usize::try_from(call.held.ask.text_chars).expect("a length") - SHORTEST), call.held.request.to_string()))
            .collect();
        let asked: BTreeMap<u64, String> = self.provider.requests().iter().map(|request| (request.seq, mark_of(&request.json()))).collect();
        let billed = self.provider.billed();
        let bills = billed.iter().filter_map(|bill| {
            let request = requests.get(asked.get(&bill.seq)?)?;
            Some((request.clone(), ledger::cost(bill, &prices)))
        });
        let tight = (0..self.calls.load(Ordering::Relaxed)).filter(|call| call.is_multiple_of(TIGHT));
        Truth {
            seen: Vec::new(),
            bills: bills.collect(),
            tight: tight.filter_map(|call| requests.get(&mark(call)).cloned()).collect::<BTreeSet<_>>(),
            tight_token: self.tokens["tight"].clone(),
            tight_limit: TIGHT_LIMIT,
            deeds: self.deeds.clone(),
            hashes: ledger::events(&self.daemon).iter().map(|event| event["hash"].as_str().expect("a hash").to_owned()).collect(),
            requests,
        }
    }

    /// Cuts the last run, with what the ones before it left on the disk and showed to the world.
    #[track_caller]
    fn cut(&self, mut truth: Truth, promise: Promise, images: usize) -> Vec<Broken> {
        let (last, before) = self.runs.split_last().expect("a run");
        let mut disk = Disk::default();
        for (records, port) in before {
            moments(records).iter().for_each(|moment| disk.take(moment.record));
            disk.restart();
            truth.seen.extend(self.seen(records, *port).into_iter().map(|seen| Seen { at: 0, ..seen }));
        }
        truth.seen.extend(self.seen(&last.0, last.1));
        let moments: Vec<Moment<'_>> = moments(&last.0);
        // The record misses nothing that will be judged by it.
        let seen: BTreeSet<&What> = truth.seen.iter().map(|seen| &seen.what).collect();
        for (mark, request) in &truth.requests {
            assert!(seen.contains(&What::Asked(mark.clone())), "{mark} was not seen to be sent");
            assert!(seen.contains(&What::Answered(request.clone())), "{request} was not seen to be answered");
        }
        assert!(truth.deeds.keys().all(|id| seen.contains(&What::Told(id.clone()))), "{:?}", truth.deeds.keys());
        assert_eq!(truth.bills.len(), truth.requests.len());
        judged(&truth, &moments, disk, &self.config, promise, images, seed())
    }

    fn seen(&self, records: &[Record], port: u16) -> Vec<Seen> {
        seen(records, port, self.provider.address().port())
    }
}

fn port(url: &str) -> u16 {
    url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

fn mark(call: usize) -> String {
    format!("call {call}")
}

fn mark_of(body: &Value) -> String {
    let text = body["messages"][0]["content"].as_str().unwrap_or_default();
    text.split(['<', '>']).nth(1).unwrap_or_default().to_owned()
}

fn body(call: usize) -> Value {
    let mut text = format!("<{}>", mark(call));
    text.extend(std::iter::repeat_n('x', SHORTEST + call - text.len()));
    ask::chat_with(&json!({"messages": [{"role": "user", "content": text}], "stream": call.is_multiple_of(2)}))
}

fn client(url: &str, tokens: &BTreeMap<&'static str, String>, number: &AtomicUsize, until: usize) {
    let mut connection = Connection::open(url);
    loop {
        let call = number.fetch_add(1, Ordering::Relaxed);
        if call >= until {
            number.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let token = &tokens[if call.is_multiple_of(TIGHT) { "tight" } else { "bot" }];
        connection.post_json("/v1/chat/completions", token, &body(call));
        let answer = connection.answer().expect("an answer");
        assert!(answer.end == End::Complete && [200, 402].contains(&answer.status), "{answer}");
    }
}

/// Creates, pauses, lowers, mints and revokes; otherwise asks, which commits without an event and so brings the next checkpoint nearer.
fn administer(daemon: &Daemon, mut deeds: BTreeMap<String, Deed>, done: &AtomicBool, is_busy: bool) -> BTreeMap<String, Deed> {
    let mut control = daemon.control();
    let mut limit = 90_000_000_000_000 - i64::try_from(deeds.len()).expect("few deeds") * 1_000_000;
    while is_busy && !done.load(Ordering::Relaxed) {
        let round = deeds.len();
        let mut act = |method: &str, params: &Value, deed: Deed| {
            let id = format!("deed-{}", deeds.len());
            deeds.insert(id.clone(), deed);
            told(&mut control, &id, method, params)
        };
        limit -= 1_000_000;
        if round < 60 {
            let name = format!("made-{round}");
            act("agent.create", &json!({"name": name, "budget_pico": "1000000", "rpm": 10}), Deed::Made(name.clone()));
            act("agent.pause", &json!({"name": name}), Deed::Paused(name));
            let update = json!({"name": "shrinking", "budget_pico": limit.to_string()});
            act("agent.update", &update, Deed::Lowered("shrinking".to_owned(), limit));
            let minted = told(&mut control, "mint", "token.create", &json!({"agent": "many"}));
            let (id, token) = (format!("deed-{}", deeds.len()), minted["token"].as_str().expect("a token").to_owned());
            deeds.insert(id.clone(), Deed::Revoked(token));
            told(&mut control, &id, "token.revoke", &json!({"hash_prefix": minted["hash_prefix"]}));
        }
        told(&mut control, "asked", "event.list", &json!({"limit": 1}));
    }
    deeds
}

#[track_caller]
fn told(control: &mut Control, id: &str, method: &str, params: &Value) -> Value {
    control.send(format!("{}\n", json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).as_bytes());
    let mut answer = control.receive().expect("an answer");
    assert!(answer["id"] == id && answer["error"].is_null(), "{method} {params}: {answer}");
    answer["result"].take()
}

/// How often the log was started anew: its head was written over one that was there.
fn restarts(records: &[Record]) -> usize {
    let heads = records.iter().filter(|record| record.kind == Kind::Written && record.at == 0 && record.data.len() == 32);
    heads.count().saturating_sub(1)
}

/// What tells the log from the one that stood in its place before: its salts (<https://www.sqlite.org/fileformat2.html#walformat>).
#[track_caller]
fn salts(home: &Path) -> Vec<u8> {
    let log = std::fs::read(home.join("ledger.db-wal")).expect("the log");
    log.get(16..24).expect("its head").to_owned()
}

#[track_caller]
fn holds(durability: &str, promise: Promise) {
    let mut stage = Stage::set(durability);
    let first = salts(&stage.daemon.home());
    stage.load(CALLS, true);
    // Readers may have been in the way of each checkpoint so far.
    for _ in 0..10 {
        if salts(&stage.daemon.home()) != first {
            break;
        }
        stage.load(CALLS / 6, true);
    }
    let (truth, port) = (stage.truth(), stage.port());
    stage.daemon.stop();
    stage.ended(port);
    let restarts = restarts(&stage.runs[0].0);
    eprintln!("{} operations, {} events, the log started anew {restarts} times", stage.runs[0].0.len(), truth.hashes.len());
    assert!(restarts > 0, "the log is started anew within the run");
    nothing_broke(&stage.cut(truth, promise, images()));
}

#[track_caller]
fn nothing_broke(broken: &[Broken]) {
    let kept: Vec<String> = broken.iter().take(5).map(Broken::kept).collect();
    assert!(broken.is_empty(), "{} images break a promise:\n{}", broken.len(), kept.join("\n"));
}

#[test]
fn with_overlapping_flushes_a_power_cut_loses_only_calls_of_which_no_byte_was_answered() {
    holds("overlap", Promise::Answered);
}

#[test]
fn with_full_flushes_a_power_cut_loses_no_call_that_was_sent() {
    holds("full", Promise::Asked);
}

#[test]
fn without_flushes_a_power_cut_loses_at_most_a_suffix_and_no_admin_action() {
    holds("normal", Promise::Suffix);
}

/// A flush fails by this order, the daemon ends, another goes on: cuts of the other one's run.
#[track_caller]
fn holds_after_a_failed_flush(order: &str) {
    let mut stage = Stage::set("overlap");
    stage.load(150, true);
    let port = stage.port();
    stage.shim.order(order);
    let socket = stage.daemon.home().join("aexd.sock");
    until_gone(&socket);
    assert_eq!(stage.daemon.wait(), 1, "{}", stage.daemon.stderr());
    stage.ended(port);
    stage.shim.heal();
    stage.daemon.run();
    stage.load(250, true);
    let (truth, port) = (stage.truth(), stage.port());
    stage.daemon.stop();
    stage.ended(port);
    nothing_broke(&stage.cut(truth, Promise::Answered, images() / 2));
}

/// Commits until a flush or a checkpoint has failed and the daemon hangs up.
#[track_caller]
fn until_gone(socket: &Path) {
    let Ok(stream) = UnixStream::connect(socket) else { return };
    let mut stream = BufReader::new(stream);
    for id in 0..10_000 {
        let params = json!({"name": "shrinking", "rpm": 1_000_000 - id});
        let message = json!({"jsonrpc": "2.0", "id": id, "method": "agent.update", "params": params});
        let (sent, mut line) = (stream.get_mut().write_all(format!("{message}\n").as_bytes()), String::new());
        if sent.is_err() || stream.read_line(&mut line).is_ok_and(|read| read == 0) {
            return;
        }
    }
    panic!("no flush failed");
}

#[test]
fn what_a_failed_flush_of_the_log_left_in_memory_is_written_anew_before_anything_is_built_on_it() {
    holds_after_a_failed_flush("sync wal EIO");
}

#[test]
fn what_a_failed_flush_of_the_database_left_in_memory_is_written_anew_from_the_log() {
    holds_after_a_failed_flush("sync db EIO 0 1");
}

#[test]
fn the_judge_sees_that_a_daemon_without_flushes_does_not_keep_what_overlapping_ones_promise() {
    let mut stage = Stage::set("normal");
    stage.load(300, false);
    let (truth, port) = (stage.truth(), stage.port());
    stage.daemon.stop();
    stage.ended(port);
    let broken = stage.cut(truth, Promise::Answered, 39);
    assert!(broken.iter().any(|broken| broken.what.contains("was answered and is not in the ledger")), "{broken:?}");
}

#[test]
fn the_judge_sees_flushes_that_lie() {
    let mut stage = Stage::set("overlap");
    stage.shim.order("sync wal LIE");
    stage.load(300, false);
    let (truth, port) = (stage.truth(), stage.port());
    stage.daemon.stop();
    stage.ended(port);
    let broken = stage.cut(truth, Promise::Answered, 39);
    assert!(broken.iter().any(|broken| broken.what.contains("was answered and is not in the ledger")), "{broken:?}");
}
