//! What the supervisor of tools costs: a call beside the same call over bare pipes, idle servers, the end of a tree. Prints, judges nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a measurement fails loudly, prints what it measured, and is no library"
)]

use aex_proto::value::AccountId;
use aexd::os::clock;
use aexd::tools::sandbox::Level;
use aexd::tools::server::{Bounds, Confinement, MayAsk, Resources, Server, Shared, Start, Times, Trust};
use aexd::tools::supervisor::{Call, Caller, Options, Pace, Resolved, State, Tools};
use clap::Parser;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const AEXD: &str = env!("CARGO_BIN_EXE_aexd");
const MOCK: &str = env!("CARGO_BIN_EXE_mock_tool");
const CALLER: Caller = Caller { agent: AccountId::new(7), run: Some(AccountId::new(8)) };

/// How much is measured.
#[derive(Parser)]
struct Flags {
    /// Calls of each kind.
    #[arg(long, default_value_t = 20_000)]
    calls: usize,
    /// Idle servers.
    #[arg(long, default_value_t = 100)]
    servers: usize,
    /// Processes of a tree.
    #[arg(long, default_value_t = 100)]
    tree: usize,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let flags = Flags::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let home = tempfile::tempdir().unwrap();
    bare(flags.calls);
    runtime.block_on(supervised(home.path(), flags.calls));
    runtime.block_on(idle(home.path(), flags.servers));
    runtime.block_on(tree(home.path(), flags.tree));
}

fn options(home: &Path) -> Options {
    Options {
        home: home.join("tools"),
        logs: home.join("logs"),
        aexd: AEXD.into(),
        env: vec![("PATH".to_owned(), std::env::var("PATH").unwrap_or_default())],
        groups: None,
        deny: Vec::new(),
        user_home: None,
        resolve: Arc::new(|_| Ok(Resolved::default())),
        pace: Pace { probe: Duration::from_millis(50), ..Pace::DEFAULT },
    }
}

fn server(name: &str, command: &str, args: &[&str]) -> Server {
    let (read, write, hosts) = (Vec::new(), Vec::new(), Vec::new());
    Server {
        name: name.to_owned(),
        command: command.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: BTreeMap::new(),
        cwd: None,
        enabled: true,
        start: Start::OnDemand,
        shared: Shared::ByRun,
        confinement: Confinement { level: Level::None, require: None, read, write, hosts, resources: Resources::DEFAULT },
        times: Times::DEFAULT,
        bounds: Bounds::DEFAULT,
        price: None,
        tool_prices: BTreeMap::new(),
        trust: Trust::FirstUse,
        may_ask: MayAsk::default(),
        log_full: false,
    }
}

fn told(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    println!("{what}: p50 {:.1} us, p99 {:.1} us, {} calls", at(50), at(99), times.len());
}

/// The same call over pipes, without anybody between.
fn bare(calls: usize) {
    let mut child = Command::new(MOCK).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let params = json!({"name": "calculate_sum", "arguments": {"a": 2, "b": 3}});
    let times = (0..calls).map(|number| {
        let request = format!("{}\n", json!({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}));
        let begun = clock::mono();
        input.write_all(request.as_bytes()).unwrap();
        line.clear();
        output.read_line(&mut line).unwrap();
        clock::mono().saturating_sub(begun)
    });
    told("over bare pipes", times.collect());
    drop(input);
    child.wait().unwrap();
}

async fn call(tools: &Tools, server: &str) {
    let arguments = json!({"a": 2, "b": 3}).as_object().cloned();
    let call = Call { tool: "calculate_sum".to_owned(), arguments, progress: None, asks: None, input: None };
    tools.enter(server, &CALLER).await.unwrap().call(call).await.unwrap();
}

async fn supervised(home: &Path, calls: usize) {
    let tools = Tools::new(options(home), vec![server("mock", MOCK, &[])]).unwrap();
    call(&tools, "mock").await;
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let begun = clock::mono();
        call(&tools, "mock").await;
        times.push(clock::mono().saturating_sub(begun));
    }
    told("through the supervisor", times);
    tools.shutdown().await;
}

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn idle(home: &Path, count: usize) {
    let names: Vec<String> = (0..count).map(|number| format!("idle{number}")).collect();
    let before = resident();
    let tools = Tools::new(options(home), names.iter().map(|name| server(name, MOCK, &[])).collect()).unwrap();
    for name in &names {
        tools.list(name, &CALLER).await.unwrap();
    }
    let ready = tools.status().iter().flat_map(|status| &status.instances).filter(|one| one.state == State::Ready).count();
    println!("{ready} idle servers: {} kB of this process, before {before} kB, now {} kB", resident() - before, resident());
    tools.shutdown().await;
}

async fn tree(home: &Path, count: usize) {
    let script = format!("i=0; while [ $i -lt {count} ]; do sleep 1000 & i=$((i+1)); done; exec {MOCK}");
    let mut forking = server("tree", "sh", &["-c", &script]);
    forking.confinement.resources.processes = None;
    let tools = Tools::new(options(home), vec![forking]).unwrap();
    tools.list("tree", &CALLER).await.unwrap();
    let begun = clock::mono();
    tools.kill_scope(AccountId::new(8)).await;
    println!("a tree of {count} processes is dead after {:.1} ms", clock::mono().saturating_sub(begun).as_secs_f64() * 1e3);
    tools.shutdown().await;
}
