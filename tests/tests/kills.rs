//! The real daemon killed under load, again and again, at random moments and at each of its fail points: after each restart the
//! books agree with what the provider bills. AEX_KILLS sets the number of kills, AEX_SEED makes a plan again.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test may fail loudly, says what it was at, and takes a seed from the clock"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use aex_tests::ask;
use aex_tests::client::{Connection, End};
use aex_tests::daemon::{Config, Daemon, PATIENCE, binary};
use aex_tests::kills::{Dice, Home, Kill, POINTS, Reach, plan};
use aex_tests::ledger::{Books, settled_and_audited, until};
use aex_tests::provider::{At, Ended, How, Provider, Script, Usage};
use nix::sys::signal::Signal;
use serde_json::json;

/// What CI does.
const KILLS: usize = 500;
/// Below this a plan need not have every point.
const ALL_POINTS_FROM: usize = 103;
const CLIENTS: u64 = 6;
/// Exit code of a process that SIGKILL ended.
const KILLED: i32 = 128 + 9;
/// How long a load may rest until what the provider holds is let go.
const GLANCE: Duration = Duration::from_millis(20);
/// How long a load may go on until the point is reached.
const STRIKE: Duration = Duration::from_secs(120);

/// What all homes came to.
#[derive(Default)]
struct Sum {
    kills: BTreeMap<&'static str, usize>,
    books: Books,
}

/// A load on one daemon.
struct Load<'a> {
    url: String,
    token: &'a str,
    /// Numbers calls: no two of a home have prompts of the same length.
    number: &'a AtomicUsize,
    /// Calls that a client has seen whole.
    answered: &'a AtomicUsize,
}

#[test]
fn a_daemon_killed_at_any_moment_and_at_each_fail_point_charges_each_billed_call_once() {
    let kills = variable("AEX_KILLS").map_or(KILLS, |kills| usize::try_from(kills).expect("not that many"));
    let seed = variable("AEX_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::from(now.subsec_nanos())
    });
    say(&format!("{kills} kills, AEX_SEED={seed}"));
    let begun = Instant::now();
    let homes = plan(kills, seed);
    let (next, failed, sum) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(Sum::default()));
    let work = || {
        let _guard = Guard(&failed);
        while let Some(home) = homes.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !failed.load(Ordering::Relaxed)) {
            // Seen only when it fails.
            eprintln!("{home}");
            live_and_die(home, &sum);
        }
    };
    let workers = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let Sum { kills: done, books } = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    let list = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kills-estimates.txt");
    std::fs::write(&list, estimates(&books)).expect("write the list of estimates");
    say(&summary(&done, &books, &list));
    say(&format!("{:.0} s", begun.elapsed().as_secs_f64()));
    assert_eq!(done.values().sum::<usize>(), kills);
    if kills >= ALL_POINTS_FROM {
        let missed: Vec<&str> = POINTS.iter().map(|point| point.name).filter(|name| !done.contains_key(name)).collect();
        assert!(missed.is_empty(), "no kill at {missed:?}");
        assert!(books.exact > 0 && books.estimated > 0 && books.worst_case > 0 && books.released > 0, "{books:?}");
    }
}

#[test]
fn a_release_build_has_no_fail_point() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/src/os/failpoint.rs");
    let object = tempfile_path();
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    // As the profile `release` has it: without the debug assertions, the module needs nothing of the daemon's libraries.
    rustc.args(["--edition", "2024", "--crate-type", "lib", "--crate-name", "failpoint", "--emit", "obj"]);
    rustc.args(["-C", "opt-level=3", "-C", "debug-assertions=off", "-o"]).arg(&object).arg(source);
    let built = rustc.output().expect("run rustc");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let holds = |path: &Path| std::fs::read(path).expect("read what was built").windows(13).any(|word| word == b"AEX_FAILPOINT");
    assert!(!holds(&object));
    assert!(holds(&binary("aexd")), "the daemon under test has fail points");
    std::fs::remove_file(object).expect("remove the object");
}

fn tempfile_path() -> std::path::PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("failpoint-{}.o", std::process::id()))
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// Past the capture of a test's output: the seed has to be known when a run hangs, the figures when it passes.
fn say(line: &str) {
    writeln!(std::io::stderr(), "kills: {line}").expect("write to the standard error");
}

/// Stops the others when one home fails.
struct Guard<'a>(&'a AtomicBool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// One home: its daemon dies by each kill of the plan, and its books are compared with the bill whenever it is up again.
fn live_and_die(home: &Home, sum: &Mutex<Sum>) {
    let provider = Provider::start();
    // Streams that break off are counted before they are settled.
    let models = Config::new(&provider).models_text().replacen("limits:", "tokenizer: cl100k\n    limits:", 1);
    let yaml = format!("durability: {}\nwal_limit: 64KiB\ndrain_timeout_ms: 200\n", home.durability);
    let mut daemon = Daemon::start_with(Config::new(&provider).models_yaml(&models).aexd_yaml(&yaml));
    let token = daemon.agent("bot", &[]);
    daemon.stop();
    let (number, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut dice = Dice(home.seed);
    for kill in &home.kills {
        daemon.set_env("AEX_FAILPOINT", kill.failpoint().as_deref());
        match daemon.try_run() {
            Err(output) => assert!(output.code == KILLED && kill.failpoint().is_some(), "{kill:?}: {output:?}"),
            Ok(()) if !survives(&mut daemon, kill, |daemon| drop(compared(daemon, &provider, &answered))) => {}
            Ok(()) => {
                let load = Load { url: daemon.url(), token: &token, number: &number, answered: &answered };
                strike(&mut daemon, &provider, &load, kill, &mut dice);
                until("the provider's view of the end", || {
                    provider.release();
                    provider.bills().iter().all(|bill| bill.ended != Ended::Open).then_some(())
                });
            }
        }
        *sum.lock().unwrap_or_else(PoisonError::into_inner).kills.entry(kill.name()).or_default() += 1;
    }
    daemon.set_env("AEX_FAILPOINT", None);
    daemon.run();
    let books = compared(&daemon, &provider, &answered);
    daemon.stop();
    sum.lock().unwrap_or_else(PoisonError::into_inner).books.add(books);
}

/// Whether a daemon that is to die somewhere lives through what is asked of it. What fails for any other reason fails the test.
fn survives(daemon: &mut Daemon, kill: &Kill, ask: impl FnOnce(&Daemon)) -> bool {
    let Err(failed) = catch_unwind(AssertUnwindSafe(|| ask(daemon))) else { return true };
    match daemon.ended_within(PATIENCE) {
        // An audit waits for a group of its own: the next comparison sees what this one could not.
        Some(KILLED) if kill.failpoint().is_some() => false,
        _ => resume_unwind(failed),
    }
}

/// The books against the bill, and against what clients have seen.
fn compared(daemon: &Daemon, provider: &Provider, answered: &AtomicUsize) -> Books {
    let books = settled_and_audited(daemon, provider);
    let charged = books.exact + books.estimated + books.worst_case;
    assert!(charged >= answered.load(Ordering::Relaxed), "{books:?}, {answered:?} answered");
    books
}

/// Lets calls come in until the daemon is dead.
fn strike(daemon: &mut Daemon, provider: &Provider, load: &Load<'_>, kill: &Kill, dice: &mut Dice) {
    let is_long = matches!(kill, Kill::At { long: true, .. });
    if !is_long {
        (0..40).for_each(|_| provider.script(script(dice)));
    }
    let (sender, sent) = channel();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let (sender, seed) = (sender.clone(), dice.next());
            scope.spawn(move || client(load, &sender, seed, is_long));
        }
        drop(sender);
        let wait_for = |calls: u64| {
            let counted = AtomicU64::new(0);
            while counted.load(Ordering::Relaxed) < calls {
                match sent.recv_timeout(GLANCE) {
                    Ok(()) => drop(counted.fetch_add(1, Ordering::Relaxed)),
                    Err(_) => provider.release(),
                }
            }
        };
        match kill {
            Kill::Moment { calls, turns } => {
                wait_for(*calls);
                (0..*turns).for_each(|_| thread::yield_now());
                return daemon.kill9();
            }
            Kill::At { point, long: false, .. } if matches!(point.reach, Reach::Checkpoint | Reach::Stop) => {
                wait_for(1 + dice.below(20));
                daemon.signal(Signal::SIGTERM);
            }
            Kill::At { .. } => {}
        }
        let deadline = Instant::now() + STRIKE;
        let code = loop {
            if let Some(code) = daemon.ended_within(GLANCE) {
                break code;
            }
            provider.release();
            assert!(Instant::now() < deadline, "{kill:?}: the daemon lives after {STRIKE:?}");
        };
        assert_eq!(code, KILLED, "{kill:?}");
    });
}

/// What the provider does with a call: mostly it answers.
fn script(dice: &mut Dice) -> Script {
    let chunk = usize::try_from(dice.below(7)).unwrap_or(0);
    match dice.below(24) {
        0 | 1 => Script::hold(),
        2 | 3 => Script::hold_after(chunk),
        4..=6 => Script { chunk_delay_us: 300, split: Some(40), ..Script::default() },
        7 | 8 => Script { delay_us: 2_000, ..Script::default() },
        9 => Script::cut(At::Chunk(chunk), How::Reset),
        10 => Script::cut(At::Chunk(chunk), How::Finish),
        11 => Script::cut(At::Head, How::Close),
        12 => Script { usage: Usage::Missing, ..Script::default() },
        13 => Script::error(400),
        14 => Script::error(500),
        15 => Script::error(502),
        _ => Script::default(),
    }
}

/// Calls until the daemon is gone; now and then it leaves in the midst of an answer.
fn client(load: &Load<'_>, sent: &Sender<()>, seed: u64, is_patient: bool) {
    let mut dice = Dice(seed);
    while let Ok(mut connection) = Connection::try_open(&load.url) {
        loop {
            let number = load.number.fetch_add(1, Ordering::Relaxed);
            let body = ask::with(ask::of_length(10 + number), &json!({"stream": dice.below(2) == 0})).to_string();
            let bearer = format!("Bearer {}", load.token);
            if connection.request("POST", "/v1/chat/completions", &[("authorization", &bearer)], body.as_bytes()).is_err() {
                break;
            }
            // The one who counts may have seen enough.
            let _ = sent.send(()).is_ok();
            let leaves = !is_patient && dice.below(12) == 0;
            if leaves {
                // After the head of a stream, or, of a plain answer, in the midst of it.
                drop(connection.head().map(|_| connection.next_bytes()));
                break;
            }
            match connection.answer() {
                Ok(answer) if answer.end == End::Complete && answer.status == 200 => drop(load.answered.fetch_add(1, Ordering::Relaxed)),
                // The daemon whose token this is has gone, and another has its port.
                Ok(answer) if answer.status == 401 => return,
                Ok(answer) if answer.end == End::Complete => {}
                _ => break,
            }
        }
    }
}

fn estimates(books: &Books) -> String {
    let mut text = String::new();
    for (key, difference) in &books.differences {
        writeln!(text, "{difference:+} pico-USD against the bill: {key}").expect("write to a string");
    }
    text
}

fn summary(kills: &BTreeMap<&str, usize>, books: &Books, list: &Path) -> String {
    let at: Vec<String> = kills.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let sum: i64 = books.differences.iter().map(|(_, difference)| difference).sum();
    format!(
        "killed: {}; calls: {} exact, {} estimated ({sum:+} pico-USD against the bill in all, each in {}), {} in full, {} released",
        at.join(", "),
        books.exact,
        books.estimated,
        list.display(),
        books.worst_case,
        books.released,
    )
}
