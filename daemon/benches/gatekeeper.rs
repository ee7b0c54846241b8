//! Decisions on calls of tools, measured: `cargo bench -p aexd --bench gatekeeper`.
//!
//! A decision is what the gate does between the arguments and the verdict: which paths it needs, what the arguments show, what follows. The
//! figure is the CPU time of this process for each, the lowest of several rounds. Nothing is judged here; figures of time are for people.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs, reason = "a benchmark may fail loudly, and is no library")]
#![allow(clippy::print_stdout, reason = "its report")]

use aex_core::tool::{Arguments, Caller, Effect, Permissions, Resolved, ToolName};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::hint::black_box;

/// Rules of each file.
const RULES: usize = 1_000;
/// Decisions of a round.
const DECISIONS: u32 = 2_000;
/// Rounds, of which the fastest counts.
const ROUNDS: u32 = 10;

fn main() {
    println!("{RULES} rules, {DECISIONS} decisions a round, the fastest of {ROUNDS} rounds; µs of CPU time a decision");
    let number = |at: usize| at.to_string();
    measure("each rule names its tool", Effect::Allow, |at| json!({"effect": "allow", "tool": [format!("s{at}.read")]}));
    measure("the same with conditions", Effect::Allow, |at| {
        json!({"effect": "allow", "tool": [format!("s{at}.read")], "when": {
            "/n": {"min": "0", "max": number(at)}, "/text": {"matches": "[a-z ]+"}, "/url": {"url_host": ["*.example.com"]},
            "/mode": {"one_of": ["\"fast\"", "\"slow\""]}}})
    });
    measure("each rule names its agent", Effect::Allow, |at| json!({"effect": "allow", "agent": [format!("agent-{at}")]}));
    measure("each rule has a pattern of servers", Effect::Allow, |at| json!({"effect": "allow", "server": [format!("s{at}*")]}));
    measure("each rule has a pattern of tools with two stars", Effect::Deny, |at| json!({"effect": "allow", "tool": [format!("*a{at}*")]}));
    measure(
        "each rule means the call, with a condition of a number",
        Effect::Allow,
        |at| json!({"effect": "allow", "when": {"/n": {"max": number(at + 600)}}}),
    );
    measure(
        "each rule means the call, with an expression",
        Effect::Allow,
        |_| json!({"effect": "allow", "when": {"/text": {"matches": "[a-z ]+"}}}),
    );
}

fn measure(name: &str, wanted: Effect, rule: impl Fn(usize) -> Value) {
    let rules: Vec<Value> = (0..RULES)
        .map(|at| {
            let mut rule = rule(at);
            rule["line"] = json!(at);
            rule["name"] = json!(format!("rules[{at}]"));
            rule
        })
        .collect();
    let file = json!({"file": "permissions.json", "global_policy": {"effect": "deny"}, "rules": rules, "standing": "loaded"});
    let permissions = Permissions::parse(&file.to_string()).expect("the rules are sound");
    let caller = Caller { agent: "agent-500".to_owned(), groups: vec!["ops".to_owned()] };
    let tool = ToolName::parse("s500.read").expect("a tool");
    let arguments = r#"{"n": 7, "text": "some words of a text", "url": "https://api.example.com/v1", "mode": "fast", "more": [1, 2, 3]}"#;
    let arguments = Arguments::parse(arguments).expect("arguments");
    let decide = || {
        let asked = permissions.questions(&caller, &tool, &arguments);
        assert!(asked.is_empty());
        let facts = permissions.observe(&caller, &tool, &arguments, &Resolved::default());
        permissions.decide(&caller, &tool, &facts)
    };
    assert_eq!(decide().effect, wanted, "{name}");
    let fastest = (0..ROUNDS)
        .map(|_| {
            let before = cpu_ns();
            for _ in 0..DECISIONS {
                black_box(decide());
            }
            (cpu_ns() - before) / u64::from(DECISIONS)
        })
        .min()
        .unwrap_or(0);
    println!("{:>9}.{:03}  {name}", fastest / 1_000, fastest % 1_000);
}

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("the process has a clock");
    u64::try_from(time.tv_sec() * 1_000_000_000 + time.tv_nsec()).expect("time goes on")
}
