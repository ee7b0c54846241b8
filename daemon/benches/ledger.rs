//! The ledger alone, measured: `cargo bench -p aexd --bench ledger -- --help`.
//!
//! A lifecycle is a hold and its exact settlement: two events, two rows, and the balances of a run, its agent and the root, each with a
//! total and a budget of the day. The cost of a lifecycle is the CPU time of the whole process, the benchmark's own task included, so
//! that a busy machine moves it little; beside it stands what the writer's thread used of it. Nothing is judged here but that the
//! audit holds; figures of time are for people.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs, reason = "a benchmark may fail loudly, and is no library")]
#![allow(clippy::print_stdout, reason = "its report")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aex_core::ask::Ask;
use aex_core::books::{AccountKind, HoldKey, Limits};
use aex_core::event::{Outcome, Settled};
use aex_core::policy::{Effective, Fields};
use aex_core::price::{self, Charge, MaxTokensField, ModelCard, Overhead, Price};
use aex_core::usage::{Bucket, Usage};
use aex_core::window::Period;
use aex_proto::value::{AccountId, Digest, Pico, RequestId};
use aexd::config::Durability;
use aexd::ledger::{BudgetChange, Ending, HoldCall, Ledger, NewAccount, Options, Snapshot, read_only_audit};
use aexd::os::clock;
use clap::Parser;
use nix::time::{ClockId, clock_gettime};

/// What a lifecycle adds to the chain.
const EVENTS: u64 = 2;
/// The budget of each level and period: never reached.
const AMPLE: Pico = Pico::new(4_000_000_000_000_000_000);

#[derive(Debug, Parser)]
#[command(about = "Measures the ledger alone: lifecycles, growth, start, recovery, audit")]
struct Flags {
    /// Events that the grown ledger has in the end; ten million take about 7 GB of disk.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Calls in flight at the same time.
    #[arg(long, default_value_t = 64)]
    group: usize,
    /// The folder under which the ledgers are made, and removed afterwards.
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    folder: PathBuf,
    /// One part instead of all of them.
    #[arg(long)]
    only: Option<Part>,
    /// What cargo bench passes.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Lifecycles,
    Lone,
    Recovery,
    Growth,
}

/// A ledger with one run below one agent, and what its calls are made from.
struct House {
    folder: tempfile::TempDir,
    ledger: Ledger,
    run: AccountId,
    call: HoldCall,
    ending: Ending,
    calls: u64,
}

fn card() -> ModelCard {
    let price = Price::of(Pico::new(150_000), Pico::new(600_000));
    ModelCard {
        context_tokens: None,
        drop_tools: Vec::new(),
        max_tokens: 4_096,
        max_tokens_field: MaxTokensField::MaxTokens,
        max_tokens_per_minute: None,
        name: "model".to_owned(),
        overhead: Overhead::WIDEST,
        price: Some(price),
        provider: "provider".to_owned(),
        provider_model: "model".to_owned(),
        reasoning: false,
        tokenizer: None,
        tools: true,
        vision: false,
    }
}

fn open(path: PathBuf, durability: Durability) -> Ledger {
    Ledger::open(&Options { path, durability, zone: jiff::tz::TimeZone::UTC, wal_limit: 64 << 20 }).expect("the ledger opens")
}

impl House {
    async fn new(flags: &Flags, durability: Durability) -> House {
        let folder = tempfile::tempdir_in(&flags.folder).expect("a folder");
        let ledger = open(folder.path().join("ledger.db"), durability);
        let card = card();
        let cards = [card.clone()];
        ledger.admin(move |writer| writer.config_loaded(&cards, None, true, BTreeMap::new(), None).map(Ok)).await.unwrap().unwrap();
        for period in [Period::Total, Period::Day] {
            let past = ledger.past(AccountId::ROOT, period).await.unwrap();
            let change = BudgetChange { account: AccountId::ROOT, period, limit: Some(AMPLE), reason: None };
            ledger.admin(move |writer| writer.set_budget(&change, past.as_ref(), None).map(Ok)).await.unwrap().unwrap();
        }
        let mut run = AccountId::ROOT;
        for (kind, name) in [(AccountKind::Agent, "bot"), (AccountKind::Run, "run-3")] {
            let budgets = vec![(Period::Total, AMPLE), (Period::Day, AMPLE)];
            let policy = Fields::default();
            let new = NewAccount { parent: run, kind, name: name.to_owned(), limits: Limits::default(), policy, budgets, reason: None };
            run = ledger.admin(move |writer| writer.create_account(&new, None)).await.unwrap().unwrap();
        }
        let ask = Ask {
            body_bytes: 400,
            choices: 1,
            max_tokens: Some(200),
            messages: 2,
            model: "model".to_owned(),
            text_chars: 300,
            ..Ask::default()
        };
        let bound = price::bound(&ask, &card, 200).expect("a bound");
        let (text, digest) = Effective::of(Fields::default(), None).snapshot();
        let call = HoldCall {
            tool: None,
            tool_card: None,
            key: HoldKey { request: RequestId::new(1, 1), attempt: 0 },
            account: run,
            ask,
            card: card.snapshot().1,
            policy: Arc::new(Snapshot { kind: "policy", digest, text }),
            facts: None,
            changes: Vec::new(),
            rule: None,
            amount: bound.amount,
            input: Digest::of(b"a request"),
            input_tokens: bound.input_tokens,
            output_tokens: bound.output_tokens,
            max_tokens: 200,
            lasts_us: 7_200_000_000,
            sent: true,
            idempotency: None,
            skipped: Vec::new(),
        };
        let mut usage = Usage::default();
        usage.add(Bucket::Input, 80);
        usage.add(Bucket::Output, 120);
        let lines = Charge::of(&usage, card.price.as_ref().expect("a price")).expect("a charge").lines;
        let ending = Ending::Settle {
            state: Settled::Exact,
            lines,
            outcome: Outcome::Answered,
            relayed: None,
            status: Some(200),
            tier: None,
            unknown_usage: Vec::new(),
        };
        House { folder, ledger, run, call, ending, calls: 0 }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    fn next(&mut self) -> HoldCall {
        self.calls += 1;
        let key = HoldKey { request: RequestId::new(self.ledger.epoch(), self.calls), attempt: 0 };
        HoldCall { key, account: self.run, ..self.call.clone() }
    }

    /// So many calls at once: all held, then all settled.
    async fn group(&mut self, size: usize) {
        let calls: Vec<HoldCall> = (0..size).map(|_| self.next()).collect();
        let keys: Vec<HoldKey> = calls.iter().map(|call| call.key).collect();
        // Each is asked for before any is waited for, so that the writer finds them together.
        let mut holds: Vec<_> = calls.into_iter().map(|call| Box::pin(self.ledger.hold(Box::new(call)))).collect();
        std::future::poll_fn(|context| {
            holds.retain_mut(|hold| match hold.as_mut().poll(context) {
                std::task::Poll::Ready(held) => {
                    assert!(held.expect("the ledger commits").is_ok(), "a call was refused");
                    false
                }
                std::task::Poll::Pending => true,
            });
            if holds.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        drop(holds);
        for key in keys {
            self.ledger.end(key, self.ending.clone()).expect("the writer runs");
        }
    }

    /// Lifecycles until so many have begun; what one took.
    async fn lifecycles(&mut self, many: u64, size: usize) -> Cost {
        let (began, used, written) = (clock::mono(), cpu(), writer_cpu());
        let mut left = many;
        while left > 0 {
            let now = size.min(usize::try_from(left).unwrap_or(size));
            self.group(now).await;
            left -= u64::try_from(now).unwrap_or(left);
        }
        self.ledger.settled().await.expect("the writer runs");
        let each = |spent: Duration| spent.div_f64(f64::from(u32::try_from(many).expect("fewer than 2^32")));
        Cost { cpu: each(cpu() - used), writer: each(writer_cpu() - written), wall: each(clock::mono() - began) }
    }
}

/// What one lifecycle took: of the CPU in the whole process and in the writer's thread, and of time.
struct Cost {
    cpu: Duration,
    writer: Duration,
    wall: Duration,
}

fn cpu() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock"))
}

/// CPU time of the ledger's writers that live in this process.
fn writer_cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("proc").map(|task| task.expect("a task").path());
    let writers = tasks.filter(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "aex-ledger"));
    let spent = |task: PathBuf| {
        let thread: i32 = task.file_name()?.to_str()?.parse().ok()?;
        // A thread's clock as the kernel numbers it: MAKE_THREAD_CPUCLOCK(tid, CPUCLOCK_SCHED) of include/linux/posix-timers_types.h.
        clock_gettime(ClockId::from_raw((!thread << 3) | 6)).ok().map(Duration::from)
    };
    writers.filter_map(spent).sum()
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

fn median(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans[spans.len() / 2]
}

/// An fdatasync after an append of about the size of one commit, where the ledgers lie.
fn flush(file: &mut File) -> Duration {
    file.write_all(&[0x5a; 12_288]).expect("a write");
    let began = clock::mono();
    file.sync_data().expect("a flush");
    clock::mono() - began
}

async fn speeds(flags: &Flags) {
    println!("| durability | in flight | CPU µs a lifecycle | writer's | a second on one core | a second, wall |");
    println!("|---|---|---|---|---|---|");
    for (durability, size, many) in [
        (Durability::Normal, flags.group, 200_000),
        (Durability::Overlap, flags.group, 100_000),
        (Durability::Full, flags.group, 50_000),
        (Durability::Normal, 1, 20_000),
    ] {
        let mut house = House::new(flags, durability).await;
        house.lifecycles(5_000, size).await;
        let Cost { cpu, writer, wall } = house.lifecycles(many, size).await;
        let (core, rate) = (1e6 / micros(cpu), 1e6 / micros(wall));
        println!("| {durability:?} | {size} | {:.1} | {:.1} | {core:.0} | {rate:.0} |", micros(cpu), micros(writer));
        finish(&mut house).await;
    }
}

/// One call at a time with `full`, and after each a bare flush of the same disk, which is seldom as fast a minute later.
async fn lone(flags: &Flags) {
    let mut house = House::new(flags, Durability::Full).await;
    house.lifecycles(100, 1).await;
    let mut file = File::create(house.folder.path().join("flush")).expect("a file");
    let (mut spans, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..500 {
        let call = house.next();
        let key = call.key;
        let began = clock::mono();
        assert!(house.ledger.hold(Box::new(call)).await.expect("the ledger commits").is_ok());
        spans.push(clock::mono() - began);
        house.ledger.end(key, house.ending.clone()).expect("the writer runs");
        house.ledger.settled().await.expect("the writer runs");
        bare.push(flush(&mut file));
    }
    let (hold, bare) = (median(spans), median(bare));
    let added = micros(hold) - micros(bare);
    println!("\nlone hold at full: {:.0} µs; a bare flush {:.0} µs; added {added:.0} µs", micros(hold), micros(bare));
    finish(&mut house).await;
}

async fn recovery(flags: &Flags) {
    let mut house = House::new(flags, Durability::Normal).await;
    for _ in 0..1_000 {
        let call = house.next();
        assert!(house.ledger.hold(Box::new(call)).await.expect("the ledger commits").is_ok());
    }
    let copy = tempfile::tempdir_in(&flags.folder).expect("a folder");
    for name in ["ledger.db", "ledger.db-wal"] {
        std::fs::copy(house.folder.path().join(name), copy.path().join(name)).expect("a copy");
    }
    let began = clock::mono();
    let revived = open(copy.path().join("ledger.db"), Durability::Normal);
    let took = clock::mono() - began;
    assert_eq!(revived.recovered(), 1_000);
    println!("recovery of 1,000 open holds: {:.1} ms", took.as_secs_f64() * 1e3);
    revived.close();
    house.ledger.close();
}

/// A ledger that grows: what a lifecycle costs when it is young and when it is old, then start and audit of the old one.
async fn growth(flags: &Flags) {
    const SAMPLE: u64 = 20_000;
    let mut house = House::new(flags, Durability::Normal).await;
    println!("\n| events | CPU µs a lifecycle | MB on disk |");
    println!("|---|---|---|");
    let mut young = None;
    let mut sizes = vec![10_000, 100_000, 1_000_000, 10_000_000];
    sizes.retain(|size| *size < flags.events);
    sizes.push(flags.events);
    let mut events = 0;
    for size in sizes {
        let more = (size - events) / EVENTS;
        if more > 0 {
            house.lifecycles(more, flags.group).await;
        }
        let cost = house.lifecycles(SAMPLE, flags.group).await.cpu;
        events = size + SAMPLE * EVENTS;
        let first = *young.get_or_insert(cost);
        let size_mb = std::fs::metadata(house.path()).expect("a size").len() >> 20;
        println!("| {events} | {:.1} ({:.2} of the first) | {size_mb} |", micros(cost), cost.as_secs_f64() / first.as_secs_f64());
    }
    let folder = std::mem::replace(&mut house.folder, tempfile::tempdir_in(&flags.folder).expect("a folder"));
    house.ledger.close();
    drop(house);
    let path = folder.path().join("ledger.db");
    let began = clock::mono();
    let again = open(path.clone(), Durability::Normal);
    println!("\nstart with {events} events: {:.1} ms", (clock::mono() - began).as_secs_f64() * 1e3);
    again.close();
    drop(again);
    audit(&path);
}

fn audit(path: &Path) {
    let (began, used) = (clock::mono(), cpu());
    let report = read_only_audit(path).expect("the audit runs");
    let (took, used) = (clock::mono() - began, cpu() - used);
    for finding in &report.findings {
        assert!(finding.passed(), "{}: {:?}", finding.name, finding.broken);
    }
    let events = report.head.seq;
    let rate = f64::from(u32::try_from(events).expect("fewer than 2^32")) / took.as_secs_f64();
    println!("audit of {events} events: {:.2} s, CPU {:.2} s, {rate:.0} events a second", took.as_secs_f64(), used.as_secs_f64());
}

async fn finish(house: &mut House) {
    house.ledger.settled().await.expect("the writer runs");
    house.ledger.close();
    let report = read_only_audit(&house.path()).expect("the audit runs");
    for finding in &report.findings {
        assert!(finding.passed(), "{}: {:?}", finding.name, finding.broken);
    }
}

fn main() {
    let flags = Flags::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let wanted = |part| flags.only.is_none_or(|only| only == part);
        if wanted(Part::Lifecycles) {
            speeds(&flags).await;
        }
        if wanted(Part::Lone) {
            lone(&flags).await;
        }
        if wanted(Part::Recovery) {
            recovery(&flags).await;
        }
        if wanted(Part::Growth) {
            growth(&flags).await;
        }
    });
}
