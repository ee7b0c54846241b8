//! The supervisor of tools: servers are started, asked, watched and ended, and one that misbehaves hurts nobody else.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use aex_tests::tools::{AGENT, Shop, server, within};
use aexd::tools::fault::ToolFault;
use aexd::tools::supervisor::State;
use serde_json::json;

#[tokio::test]
async fn the_demo_tool_is_started_by_its_first_call_and_adds() {
    let shop = Shop::open(vec![server("mock", "mock_tool", &[])]);
    assert_eq!(shop.instance("mock"), None, "nothing is started before it is needed");
    assert_eq!(shop.call("mock", "calculate_sum", json!({"a": 2, "b": 3})).await, Ok("The sum is 5".to_owned()));
    let listing = within("the list", shop.tools.list("mock", &AGENT)).await.unwrap();
    assert_eq!(listing.tools.iter().map(|tool| &*tool.name).collect::<Vec<_>>(), ["calculate_sum"]);
    let refused = shop.call("mock", "delete_system32", json!({})).await;
    assert!(matches!(refused, Err(ToolFault::Refused { code: -32601, .. })), "{refused:?}");
    let ready = shop.state("mock", State::Ready).await;
    assert_eq!((ready.protocol.as_deref(), ready.implementation.as_deref()), (Some("2024-11-05"), Some("MockTool 1.0")));
    within("the end", shop.tools.shutdown()).await;
}
