//! The gateway: agents that speak MCP, of every revision, byte by byte. What is listed, what is called, what is refused, and what ends a call.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "mcp/answers.rs"]
mod answers;
#[path = "mcp/context.rs"]
mod context;
#[path = "mcp/direct.rs"]
mod direct;
#[path = "mcp/door.rs"]
mod door;
#[path = "mcp/law.rs"]
mod law;
#[path = "mcp/speech.rs"]
mod speech;
#[path = "mcp/streams.rs"]
mod streams;

use aex_tests::daemon::{Config, Daemon};
use aex_tests::mcp::registry;

/// Denies one tool of each server, and what no server has.
const LAW: &str = r#"{
  "global_policy": "deny",
  "rules": [
    {"name": "most", "effect": "allow", "tool": ["*.*"]},
    {"name": "no hanging", "effect": "deny", "agent": "tame", "tool": ["hang", "delete_system32"], "reason": "nobody waits"},
    {"name": "one word", "effect": "deny", "agent": "tame", "tool": "echo", "when": {"/text": {"equals": "forbidden"}}}
  ]
}
"#;

/// A daemon with a server of an old revision, one of the newest, and the demo tool.
fn house() -> Daemon {
    house_with(LAW)
}

fn house_with(law: &str) -> Daemon {
    let servers: [(&str, &str, &[&str]); 3] = [
        ("mock", "mock_tool", &[]),
        ("new", "scripted-tool", &["--revision", "2026-07-28"]),
        ("old", "scripted-tool", &["--revision", "2024-11-05"]),
    ];
    let config = Config::with_base_url("http://127.0.0.1:9/v1", "sk-nobody");
    Daemon::start_with(config.permissions_json(law).mcp_json(&registry(&servers)))
}
