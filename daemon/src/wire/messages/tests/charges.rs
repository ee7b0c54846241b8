//! Usage objects as Anthropic's documentation and recorded answers have them, against charges that were worked out by hand.

use super::*;
use crate::wire::usage::Messages;
use aex_core::price::{Charge, Price, ToolPrice};
use aex_core::usage::Usage;
use aex_proto::value::Pico;

/// Claude Sonnet 4.5, in pico-USD per token: $3, $3.75 and $6 (written for 5 minutes, for an hour), $0.30 (read), $15 per million; a
/// search is a cent.
fn sonnet() -> Price {
    let search = ToolPrice { max_calls: None, per_call: Pico::new(10_000_000_000) };
    Price {
        cache_write: Some(Pico::new(3_750_000)),
        cache_write_5m: Some(Pico::new(3_750_000)),
        cache_write_1h: Some(Pico::new(6_000_000)),
        cached_input: Some(Pico::new(300_000)),
        tools: [("web_search".to_owned(), search)].into(),
        ..Price::of(Pico::new(3_000_000), Pico::new(15_000_000))
    }
}

fn told(usages: &[&str]) -> Option<Usage> {
    let mut counted = Messages::default();
    for usage in usages {
        counted.read(&mut Scanner::new(usage.as_bytes()).unwrap()).unwrap();
    }
    counted.usage()
}

/// The charge of what the usage objects of one answer say, and what of it nobody knows a price of.
#[track_caller]
fn check(usages: &[&str], pico: i64, unpriced: &[(&str, &str)]) {
    let usage = told(usages).unwrap_or_else(|| panic!("{usages:?} is no usage"));
    let charge = Charge::of(&usage, &sonnet()).unwrap();
    let unknown: Vec<_> = usage.unknown.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!((charge.total, charge.priced, unknown.as_slice()), (Pico::new(pico), unpriced.is_empty(), unpriced), "{usages:?}");
}

#[test]
fn a_plain_usage() {
    // 2095 × 3 + 2051 × 3.75 + 2051 × 0.30 + 503 × 15 µUSD.
    check(
        &[
            r#"{"cache_creation":{"ephemeral_1h_input_tokens":0,"ephemeral_5m_input_tokens":0},"cache_creation_input_tokens":2051,"cache_read_input_tokens":2051,
        "input_tokens":2095,"output_tokens":503,"server_tool_use":{"web_search_requests":0},"service_tier":"standard"}"#,
        ],
        6_285_000_000 + 7_691_250_000 + 615_300_000 + 7_545_000_000,
        &[],
    );
    check(&[r#"{"input_tokens":0,"output_tokens":0}"#], 0, &[]);
    check(
        &[
            r#"{"input_tokens":1,"output_tokens":2,"cache_creation":null,"cache_read_input_tokens":null,"server_tool_use":null,"service_tier":null}"#,
        ],
        33_000_000,
        &[],
    );
}

#[test]
fn a_cache_that_is_written_and_then_read() {
    // "Prompt caching": a book of 188,086 tokens. 21 × 3 + 188,086 × 3.75 + 393 × 15 µUSD.
    check(
        &[r#"{"cache_creation_input_tokens":188086,"cache_read_input_tokens":0,"input_tokens":21,"output_tokens":393}"#],
        63_000_000 + 705_322_500_000 + 5_895_000_000,
        &[],
    );
    check(
        &[r#"{"cache_creation_input_tokens":0,"cache_read_input_tokens":188086,"input_tokens":21,"output_tokens":393}"#],
        63_000_000 + 56_425_800_000 + 5_895_000_000,
        &[],
    );
}

#[test]
fn a_stream_of_claude_code_whose_last_counts_replace_the_first() {
    check(
        &[
            r#"{"input_tokens":2,"cache_creation_input_tokens":16805,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_1h_input_tokens":0,"ephemeral_5m_input_tokens":16805},
            "output_tokens":4,"service_tier":"standard","inference_geo":"not_available"}"#,
            r#"{"input_tokens":2,"cache_creation_input_tokens":16805,"cache_read_input_tokens":0,"output_tokens":208,"output_tokens_details":{"thinking_tokens":43}}"#,
        ],
        // 2 × 3 + 16,805 × 3.75 + 208 × 15 µUSD.
        6_000_000 + 63_018_750_000 + 3_120_000_000,
        &[],
    );
    // A delta that tells its output alone.
    check(&[r#"{"input_tokens":25,"output_tokens":1}"#, r#"{"output_tokens":15}"#], 75_000_000 + 225_000_000, &[]);
}

#[test]
fn an_hours_write_has_a_price_of_its_own() {
    check(
        &[
            r#"{"input_tokens":32,"cache_creation_input_tokens":38846,"cache_read_input_tokens":562163,"output_tokens":22572,"output_tokens_details":{"thinking_tokens":9820},
        "server_tool_use":{"web_search_requests":0,"web_fetch_requests":0},"service_tier":"standard","cache_creation":{"ephemeral_1h_input_tokens":38846,"ephemeral_5m_input_tokens":0},
        "inference_geo":"not_available","iterations":[{"input_tokens":2,"output_tokens":796,"cache_read_input_tokens":48209,"cache_creation_input_tokens":6540,
        "cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":6540},"type":"message"}],"speed":"standard"}"#,
        ],
        96_000_000 + 233_076_000_000 + 168_648_900_000 + 338_580_000_000,
        &[],
    );
    // The documentation's own example, whose parts are more than their whole.
    check(
        &[r#"{"input_tokens":2048,"cache_read_input_tokens":1800,"cache_creation_input_tokens":248,"output_tokens":503,
        "cache_creation":{"ephemeral_5m_input_tokens":456,"ephemeral_1h_input_tokens":100}}"#],
        6_144_000_000 + 540_000_000 + 1_710_000_000 + 600_000_000 + 7_545_000_000,
        &[],
    );
}

#[test]
fn a_summary_made_within_the_call_is_charged_too() {
    // "Compaction": what is billed is the sum of all iterations. (180,000 + 23,000) × 3 + (3,500 + 1,000) × 15 µUSD.
    check(
        &[r#"{"input_tokens":23000,"output_tokens":1000,"iterations":[{"type":"compaction","input_tokens":180000,"output_tokens":3500},
        {"type":"message","input_tokens":23000,"output_tokens":1000}]}"#],
        609_000_000_000 + 67_500_000_000,
        &[],
    );
    // Told again, not twice.
    let once = r#"{"input_tokens":1,"output_tokens":1,"iterations":[{"type":"compaction","input_tokens":2,"output_tokens":2}]}"#;
    check(&[once, once], 9_000_000 + 45_000_000, &[]);
}

#[test]
fn what_has_no_price_is_told() {
    check(
        &[
            r#"{"input_tokens":10682,"output_tokens":3,"server_tool_use":{"web_search_requests":0}}"#,
            r#"{"input_tokens":10682,"output_tokens":510,"server_tool_use":{"web_search_requests":1,"web_fetch_requests":0}}"#,
        ],
        32_046_000_000 + 7_650_000_000 + 10_000_000_000,
        &[],
    );
    let dear = told(&[r#"{"input_tokens":1,"output_tokens":0,"service_tier":"priority","speed":"fast","inference_geo":"us"}"#]).unwrap();
    assert_eq!(dear.tier.as_deref(), Some("priority+fast+us"));
    assert!(!Charge::of(&dear, &sonnet()).unwrap().priced);
    let advisor = r#"{"type":"advisor_message","model":"claude-opus-4-8","input_tokens":5,"output_tokens":6}"#;
    check(&[&format!(r#"{{"input_tokens":1,"output_tokens":0,"iterations":[{advisor}]}}"#)], 3_000_000, &[("iterations", advisor)]);
    check(&[r#"{"input_tokens":1,"output_tokens":0,"video_tokens":7,"free":0}"#], 3_000_000, &[("video_tokens", "7")]);
}

#[test]
fn what_cannot_be_right_is_no_usage() {
    for text in [
        "null",
        "[]",
        "{}",
        r#"{"input_tokens":5}"#,
        r#"{"output_tokens":5}"#,
        r#"{"input_tokens":-5,"output_tokens":1}"#,
        r#"{"input_tokens":5.5,"output_tokens":1}"#,
        r#"{"input_tokens":"5","output_tokens":1}"#,
        r#"{"input_tokens":5,"output_tokens":9007199254740992}"#,
        r#"{"input_tokens":5,"output_tokens":1,"cache_read_input_tokens":-1}"#,
        r#"{"input_tokens":9007199254740991,"output_tokens":1,"iterations":[{"type":"compaction","input_tokens":1,"output_tokens":1}]}"#,
    ] {
        assert_eq!(told(&[text]), None, "{text}");
    }
}
