//! Prices beside those of input and output, on a running daemon: tools that the provider runs, service tiers, long inputs, and prices
//! that are taken over from a public file.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_core::policy::{Change, Changed};
use aex_core::usage::{Bucket, ToolName};
use aex_tests::ask::{chat_with, tool};
use aex_tests::client;
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger::{self, audited};
use aex_tests::provider::{Provider, Script, Usage};
use aex_tests::refusal::{self, forbidden};
use serde_json::{Value, json};

/// A token of input costs 1 µUSD, one of output 2; twice that in the tier `priority`, and ten times above 100 tokens of input.
const MODEL: &str = r#"
  p1:
    provider: mock
    provider_model: p1
    pricing:
      input_micro: 1
      output_micro: 2
      long_context: {above: 100, input_micro: 10, output_micro: 20}
      tiers: {priority: {multiply: 2}}
    hosted_tools:
      web_search: {per_call: "0.01", max_calls: 3}
      others: drop
    limits: {max_tokens: 1000, context_tokens: 4000}
    capabilities: {tools: true, vision: false, reasoning: false}
"#;

struct House {
    provider: Provider,
    daemon: Daemon,
    token: String,
}

impl House {
    fn new() -> House {
        let provider = Provider::start();
        let daemon = Daemon::start_with(Config::new(&provider).model(MODEL.trim_start_matches('\n')));
        let token = daemon.agent("bot", &[]);
        House { provider, daemon, token }
    }

    /// A call of `p1` with some members replaced, whose answer reports this usage and tier.
    #[track_caller]
    fn call(&self, changes: &Value, usage: Value, tier: &str) -> ledger::Call {
        let extra = json!({"service_tier": tier}).as_object().cloned().expect("an object");
        self.provider.script(Script { usage: Usage::Raw(usage), extra, ..Script::default() });
        let mut body = chat_with(changes);
        body["model"] = json!("p1");
        let answer = client::post_json(&self.daemon.chat_url(), &self.token, &body);
        assert_eq!(answer.status, 200, "{changes}: {answer}");
        ledger::quiet(&self.daemon).pop().expect("a call")
    }
}

fn used(input: u64, output: u64) -> Value {
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
}

#[test]
fn a_tool_that_is_dropped_is_not_sent_and_its_drop_is_in_the_event_and_told() {
    let house = House::new();
    let codex = json!({"tools": [tool("add"), {"type": "file_search"}], "tool_choice": "auto", "parallel_tool_calls": true});
    let call = house.call(&codex, used(3, 2), "default");
    let sent = house.provider.last_request().json();
    assert_eq!(sent["tools"], json!([tool("add")]));
    assert_eq!(sent["tool_choice"], "auto");
    let gone = Change { field: Changed::HostedTools, from: Some("file_search".to_owned()), to: "none".to_owned() };
    assert_eq!(call.held.changes, [gone]);
    assert_eq!((call.story().as_str(), call.charge()), ("exact answered", 3_000_000 + 2 * 2_000_000));

    let last = json!({"tools": [{"type": "file_search"}, {"type": "mcp"}], "tool_choice": "auto", "parallel_tool_calls": true});
    let call = house.call(&last, used(3, 2), "default");
    let sent = house.provider.last_request().json();
    for name in ["tools", "tool_choice", "parallel_tool_calls"] {
        assert!(sent.get(name).is_none(), "{sent}");
    }
    let told = house.daemon.ctl(["explain", &call.held.request.to_string()]).ok().stdout;
    assert!(told.contains("file_search -> none (models.yaml takes this tool out"), "{told}");
    audited(&house.daemon);
}

#[test]
fn a_tool_with_a_price_is_held_with_all_its_calls_and_charged_for_those_that_are_reported() {
    let house = House::new();
    let search = Bucket::Tool(ToolName::new("web_search").expect("a name"));
    let asked = json!({"web_search_options": {}});
    let mut told = used(3, 2);
    told["server_tool_use"] = json!({"web_search_requests": 2});
    let call = house.call(&asked, told, "default");
    // Three calls, and the context before each and once behind; that is long.
    assert_eq!(call.bound(), 3 * 10_000_000_000 + 4 * 4000 * 10_000_000 + 50 * 20_000_000);
    assert_eq!((call.story().as_str(), call.quantity(search), call.charge()), ("exact answered", 2, 20_000_000_000 + 7_000_000));
    // A report that says nothing of it.
    let call = house.call(&asked, used(3, 2), "default");
    assert_eq!((call.story().as_str(), call.quantity(search), call.charge()), ("estimated answered", 3, 30_000_000_000 + 7_000_000));
    let told = house.daemon.ctl(["explain", &call.held.request.to_string()]).ok().stdout;
    assert!(told.contains("calls of web_search") && told.contains("at most 3 calls of web_search"), "{told}");
    audited(&house.daemon);
}

#[test]
fn the_tier_that_was_billed_and_the_length_of_the_input_choose_the_price() {
    let house = House::new();
    let priority = json!({"service_tier": "priority"});
    let call = house.call(&priority, used(3, 2), "priority");
    assert_eq!((call.story().as_str(), call.charge()), ("exact answered", 14_000_000));
    // A provider that had no room bills the standard price.
    let call = house.call(&priority, used(3, 2), "default");
    assert_eq!((call.story().as_str(), call.charge()), ("exact answered", 7_000_000));
    let call = house.call(&priority, used(101, 2), "priority");
    assert_eq!((call.story().as_str(), call.charge()), ("exact answered", 101 * 20_000_000 + 2 * 40_000_000));
    // One that nobody asked for and that has no price is the dearest, and no exact charge.
    let call = house.call(&json!({}), used(3, 2), "scale");
    assert_eq!((call.story().as_str(), call.charge()), ("estimated answered", 14_000_000));
    let unknown = ledger::events(&house.daemon).pop().expect("an event");
    assert_eq!(unknown["body"]["unknown_usage"], json!([["service_tier", "\"scale\""]]));
    let seen = house.provider.requests().len();
    let mut asked = chat_with(&json!({"service_tier": "scale"}));
    asked["model"] = json!("p1");
    let refused = client::post_json(&house.daemon.chat_url(), &house.token, &asked);
    refusal::denied(&house.daemon, &house.provider, seen, &refused, &forbidden("", "price", &["`scale`"]));
    audited(&house.daemon);
}

#[test]
fn prices_of_a_public_file_come_into_force_and_entries_that_are_there_stay() {
    let house = House::new();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../ctl/tests/fixtures/litellm.json");
    let path = house.daemon.home().join("config/models.yaml");
    let models = || std::fs::read_to_string(&path).expect("models.yaml");
    let before = models();
    let import = |flags: &[&str]| {
        let words = ["--json", "models", "import", file].into_iter().chain(flags.iter().copied());
        serde_json::from_str::<Value>(&house.daemon.ctl(words).ok().stdout).expect("a report")
    };
    // `mock` is none of LiteLLM's providers.
    assert_eq!(import(&[])["added"], json!([]));
    let dry = import(&["--provider", "openai", "--dry-run"]);
    assert_eq!(dry["added"], json!(["gpt-5.5", "long-in-part", "text-embedding-3-small"]));
    assert_eq!(models(), before, "a dry run writes nothing");
    let only = import(&["--provider", "openai", "--only", "gpt-5*"]);
    assert_eq!((&only["added"], &only["providers_added"]), (&json!(["gpt-5.5"]), &json!(["openai"])));
    house.daemon.ctl(["models", "reload"]).ok();
    let told = house.daemon.ctl(["models", "show", "gpt-5.5"]).ok().stdout;
    for line in ["above 272,000 tokens of input", "tier flex", "input              $5.00 per million tokens"] {
        assert!(told.contains(line), "{told}");
    }
    // What was there is there still, byte by byte, and a second import adds nothing.
    let after = models();
    assert!(before.lines().all(|line| after.lines().any(|kept| kept == line)), "{after}");
    let again = import(&["--provider", "openai", "--only", "gpt-5*"]);
    assert_eq!((&again["added"], &again["kept"]), (&json!([]), &json!(["gpt-5.5"])));
    assert_eq!(models(), after);
    let names: Vec<String> = std::fs::read_dir(house.daemon.home().join("config"))
        .expect("the folder")
        .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
        .collect();
    assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
}
