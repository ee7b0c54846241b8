//! Tests of `messages`: requests, answers event by event, and usage objects against charges that were worked out by hand.

use super::answer::{Told, event, message};
use super::{read, read_countable};
use crate::wire::dialect::Dialect;
use crate::wire::edit::{Edits, edit};
use crate::wire::json::Scanner;
use crate::wire::request::Malformed;
use aex_core::ask::Ask;
use serde_json::{Value, json};

mod answers;
mod charges;

fn ask(members: &str) -> Ask {
    let body = format!(r#"{{"model":"m","max_tokens":9,"messages":[],{members}}}"#);
    read(body.as_bytes()).unwrap_or_else(|fault| panic!("{body}: {fault}")).ask
}

/// What is asked for beyond a plain call: only members that differ from those of an empty request.
#[track_caller]
fn check(members: &str, expected: Ask) {
    let got = ask(members);
    assert_eq!(
        Ask { body_bytes: 0, rewritten_tokens: 0, ..got },
        Ask { choices: 1, hidden_tokens: Some(0), max_tokens: Some(9), model: "m".to_owned(), ..expected },
        "{members}"
    );
}

/// What the blocks of one message are told as.
#[track_caller]
fn check_blocks(blocks: &str, expected: Ask) {
    let body = format!(r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":{blocks}}}]}}"#);
    let got = read(body.as_bytes()).unwrap_or_else(|fault| panic!("{body}: {fault}")).ask;
    let expected = Ask { choices: 1, hidden_tokens: Some(0), max_tokens: Some(9), messages: 1, model: "m".to_owned(), ..expected };
    assert_eq!(Ask { body_bytes: 0, ..got }, expected, "{blocks}");
}

#[track_caller]
fn refuses(body: &str, param: &str) {
    let Err(Malformed { param: found, message }) = read(body.as_bytes()) else { panic!("{body} passes") };
    assert_eq!(found.unwrap_or_default(), param, "{body}: {message}");
}

fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn how_much_may_be_thought_unseen_is_what_the_request_says() {
    for (thinking, hidden) in [
        ("null", Some(0)),
        (r#"{"type":"disabled","budget_tokens":9}"#, Some(0)),
        (r#"{"type":"enabled","budget_tokens":1024,"display":"omitted"}"#, Some(1_024)),
        (r#"{"type":"enabled"}"#, None),
        (r#"{"type":"adaptive"}"#, None),
        ("{}", None),
        (r#"{"type":5,"budget_tokens":"9"}"#, None),
    ] {
        assert_eq!(ask(&format!(r#""thinking":{thinking}"#)).hidden_tokens, hidden, "{thinking}");
    }
    for (thinking, param) in [
        ("true", "thinking"),
        (r#"{"type":"enabled","type":"disabled"}"#, "thinking.type"),
        (r#"{"budget_tokens":1,"budget_tokens":2}"#, "thinking.budget_tokens"),
        (r#"{"budget_tokens":-1}"#, "thinking.budget_tokens"),
    ] {
        refuses(&format!(r#"{{"model":"m","max_tokens":9,"messages":[],"thinking":{thinking}}}"#), param);
    }
}

#[test]
fn a_request_is_read_in_one_pass() {
    let body = r#"{"model":"claude","max_tokens":7,"system":"sys","messages":[{"role":"user","content":"hello"}],"stream":true,"temperature":0.50,"top_k":5,"new":1}"#;
    let request = read(body.as_bytes()).unwrap();
    let expected = Ask {
        body_bytes: u64::try_from(body.len()).unwrap(),
        choices: 1,
        hidden_tokens: Some(0),
        max_tokens: Some(7),
        messages: 1,
        model: "claude".to_owned(),
        stream: true,
        temperature: Some("0.50".to_owned()),
        text_chars: 8,
        unknown_fields: named(&["new"]),
        ..Ask::default()
    };
    assert_eq!(request.ask, expected);
    let at = |span: std::ops::Range<usize>| body.get(span).unwrap();
    assert_eq!(at(request.places.model.unwrap()), "\"claude\"");
    assert_eq!(at(request.places.stream.unwrap()), "true");
    assert_eq!(at(request.places.max_tokens.unwrap().value), "7");
}

#[test]
fn the_first_request_of_claude_code_is_known_whole() {
    let body = json!({
        "model": "claude-sonnet-4-5",
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": "<system-reminder>x</system-reminder>"},
            {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}},
        ]}],
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.329"},
            {"type": "text", "text": "You are Claude Code", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "rules", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        ],
        "tools": [
            {"name": "Bash", "description": "runs", "input_schema": {"type": "object", "properties": {"type": {"type": "string"}}}},
            {"name": "Read", "description": "reads", "input_schema": {"type": "object"}, "eager_input_streaming": true},
        ],
        "metadata": {"user_id": "{\"device_id\":\"x\"}"},
        "max_tokens": 32000,
        "thinking": {"type": "enabled", "budget_tokens": 31999, "display": "omitted"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high"},
        "stream": true,
    });
    let text = body.to_string();
    let ask = read(text.as_bytes()).unwrap().ask;
    let chars = [36, 2, 46, 19, 5];
    let expected = Ask {
        body_bytes: u64::try_from(text.len()).unwrap(),
        cache_lifetimes: named(&["1h", "5m"]),
        choices: 1,
        hidden_tokens: Some(31_999),
        max_tokens: Some(32_000),
        messages: 1,
        model: "claude-sonnet-4-5".to_owned(),
        rewritten_tokens: 75,
        stream: true,
        text_chars: chars.iter().sum(),
        tool_names: named(&["Bash", "Read"]),
        tools: 2,
        ..Ask::default()
    };
    assert_eq!(ask, expected);
}

#[test]
fn blocks_count_as_what_they_hold() {
    let text = |chars| Ask { text_chars: chars, ..Ask::default() };
    check_blocks(r#""héllo""#, text(5));
    check_blocks("null", text(0));
    check_blocks(r#"[{"type":"text","text":"ab\u00e9"},{"type":"thinking","thinking":"abcd","signature":"c2ln"}]"#, text(7));
    check_blocks(
        r#"[{"type":"tool_use","id":"t","name":"f","input":{"type":"image","content":[1]}},{"type":"redacted_thinking","data":"x"}]"#,
        text(0),
    );
    check_blocks(r#"[{"type":"tool_result","tool_use_id":"t","content":"four"},{"type":"tool_result","tool_use_id":"t"}]"#, text(4));
    let image = |kind: &str| format!(r#"{{"type":"image","source":{{"type":"{kind}","data":"aGk="}}}}"#);
    let seen = |images, attachments, chars| Ask { images, attachments, text_chars: chars, ..Ask::default() };
    for kind in ["base64", "url", "file"] {
        check_blocks(&format!("[{},{{\"type\":\"text\",\"text\":\"x\"}}]", image(kind)), seen(1, 0, 1));
    }
    check_blocks(&format!(r#"[{{"content":[{}],"type":"tool_result"}}]"#, image("base64")), seen(1, 0, 0));
    check_blocks(r#"[{"type":"document","source":{"type":"text","media_type":"text/plain","data":"paper"}}]"#, text(5));
    check_blocks(r#"[{"source":{"content":[{"type":"text","text":"paper"}],"type":"content"},"type":"document"}]"#, text(5));
    for hidden in [
        r#"{"type":"document","source":{"type":"base64","data":"JVBERg=="}}"#,
        r#"{"type":"document","source":{"type":"url","url":"https://x"}}"#,
        r#"{"type":"document","source":{"type":"file","file_id":"f"}}"#,
        r#"{"type":"document"}"#,
        r#"{"type":"container_upload","file_id":"f"}"#,
        r#"{"type":"video","of":"tomorrow"}"#,
        r#"{"type":"web_fetch_tool_result","content":{"type":"web_fetch_result","content":{"type":"document","source":{"type":"base64","data":"JQ=="}}}}"#,
    ] {
        check_blocks(&format!("[{hidden}]"), seen(0, 1, 0));
    }
    check_blocks(r#"[{"type":"search_result","source":"https://x","title":"t","content":[{"type":"text","text":"found"}]}]"#, text(5));
    check_blocks(
        r#"[{"type":"server_tool_use","id":"s","name":"web_search","input":{}},{"type":"web_search_tool_result","tool_use_id":"s","content":[{"type":"web_search_result","url":"u","encrypted_content":"e"}]},
        {"type":"code_execution_tool_result","tool_use_id":"s","content":{"type":"code_execution_result","stdout":"1","content":[]}}]"#,
        text(0),
    );
}

#[test]
fn a_tool_is_its_clients_or_its_providers() {
    check(
        r#""tools":[{"name":"a","input_schema":{}},{"type":"custom","name":"b"},{"type":null,"name":"c"}],"tool_choice":{"type":"auto"}"#,
        Ask { tools: 3, tool_names: named(&["a", "b", "c"]), function_calling: true, ..Ask::default() },
    );
    check(
        r#""tools":[{"type":"bash_20250124","name":"bash"},{"type":"text_editor_20250728","name":"str_replace_based_edit_tool"},{"type":"memory_20250818","name":"memory"}]"#,
        Ask { tools: 3, tool_names: named(&["bash", "str_replace_based_edit_tool", "memory"]), known_tool_tokens: 4_608, ..Ask::default() },
    );
    check(
        r#""tools":[{"type":"computer_20251124","name":"computer","display_width_px":1024},{"type":"browser_toolset_20260801"}]"#,
        Ask {
            tools: 2,
            tool_names: named(&["computer", "browser_toolset_20260801"]),
            known_tool_tokens: 2_048,
            attachments: 1,
            ..Ask::default()
        },
    );
    for hosted in [
        "web_search_20250305",
        "web_search_20260318",
        "web_fetch_20260309",
        "code_execution_20260521",
        "tool_search_tool_regex_20251119",
        "advisor_20260301",
        "mcp_toolset",
        "of_tomorrow_20270101",
    ] {
        check(
            &format!(r#""tools":[{{"type":"{hosted}","name":"x","max_uses":1}}]"#),
            Ask { tools: 1, hosted_tools: named(&[hosted]), hosted_uses: [(hosted.to_owned(), 1)].into(), ..Ask::default() },
        );
    }
    // Defined within the conversation, where it cannot be taken out: no price and no list has that name.
    check_blocks(
        r#"[{"type":"tool_addition","tool":{"type":"tool_definition","definition":{"type":"web_search_20260318","name":"web_search"}}}]"#,
        Ask { tools: 1, hosted_tools: named(&["tool_addition/web_search_20260318"]), ..Ask::default() },
    );
}

#[test]
fn what_costs_beyond_the_models_prices_is_told_as_hosted() {
    let hosted = |name: &str| Ask { tools: 1, hosted_tools: named(&[name]), ..Ask::default() };
    check(r#""mcp_servers":[{"type":"url","url":"https://x","name":"x"}]"#, hosted("mcp_servers"));
    check(r#""mcp_servers":[]"#, Ask::default());
    check(r#""fallbacks":[{"model":"claude-opus-4-8"}]"#, hosted("request/fallbacks"));
    check(r#""fallbacks":"default""#, hosted("request/fallbacks"));
    check(r#""compaction":{"type":"summarize"}"#, hosted("request/compaction"));
    check(r#""container":{"id":null,"skills":[{"type":"anthropic","skill_id":"pptx"}]}"#, hosted("request/container.skills"));
    check(r#""container":"container_1""#, Ask::default());
    check(r#""context_management":{"edits":[{"type":"compact_20260112"}]}"#, hosted("request/context_management"));
    check(
        r#""context_management":{"edits":[{"type":"clear_tool_uses_20250919"},{"type":"compact_20260112"}]}"#,
        hosted("request/context_management"),
    );
    check(r#""context_management":{"edits":[{}]}"#, hosted("request/context_management"));
    check(r#""context_management":{"edits":[{"type":"clear_tool_uses_20250919"},{"type":"clear_thinking_20251015"}]}"#, Ask::default());
    check(r#""thread":{"type":"continue","previous_message_id":"msg_1"}"#, Ask { attachments: 1, ..Ask::default() });
}

#[test]
fn what_is_to_be_cached_is_told_by_its_lifetime_wherever_it_stands() {
    let cached = |lifetimes: &[&str]| Ask { cache_lifetimes: named(lifetimes), ..Ask::default() };
    check(r#""cache_control":null"#, cached(&[]));
    check(r#""cache_control":{"type":"ephemeral"}"#, cached(&["5m"]));
    check(r#""system":[{"type":"text","text":"","cache_control":{"type":"ephemeral","ttl":"1h"}}]"#, cached(&["1h"]));
    check(r#""cache_control":{"ttl":"1d"},"system":[{"type":"text","cache_control":{"ttl":"5m"}}]"#, cached(&["1d", "5m"]));
    let tool = Ask { tools: 1, tool_names: named(&["a"]), ..cached(&["1h"]) };
    check(r#""tools":[{"name":"a","cache_control":{"ttl":"1h"}}]"#, tool);
    check_blocks(r#"[{"type":"tool_result","content":[{"type":"text","text":"","cache_control":{"ttl":null}}]}]"#, cached(&["5m"]));
}

#[test]
fn a_tool_that_is_taken_out_leaves_a_request_that_anthropic_takes() {
    let without = |members: &str| {
        let body = bytes::Bytes::from(format!(r#"{{"messages":[],"max_tokens":9,{members}}}"#));
        let request = read(&body).unwrap();
        let edits = Edits {
            drop_tools: &["web_search_20260318", "mcp_servers"],
            auto_choice: Some(Dialect::Messages.auto_choice()),
            ..Edits::default()
        };
        String::from_utf8(edit(&body, &request, &edits).to_vec()).unwrap()
    };
    let search = r#"{"type":"web_search_20260318","name":"web_search"}"#;
    let rest = |members: &str| format!(r#"{{"messages":[],"max_tokens":9{members}}}"#);
    assert_eq!(without(&format!(r#""tools":[{search}],"tool_choice":{{"type":"auto"}}"#)), rest(""));
    assert_eq!(
        without(&format!(r#""tools":[{search},{{"name":"a"}}],"mcp_servers":[{{"name":"x"}}]"#)),
        rest(r#","tools":[{"name":"a"}]"#)
    );
    let chosen = format!(r#""tools":[{search},{{"name":"a"}}],"tool_choice":{{"name":"web_search","type":"tool"}}"#);
    assert_eq!(without(&chosen), rest(r#","tools":[{"name":"a"}],"tool_choice":{"type":"auto"}"#));
    let other = format!(r#""tools":[{search},{{"name":"a"}}],"tool_choice":{{"type":"tool","name":"a"}}"#);
    assert_eq!(without(&other), rest(r#","tools":[{"name":"a"}],"tool_choice":{"type":"tool","name":"a"}"#));
}

#[test]
fn another_price_is_told_as_a_tier() {
    let tier = |tier: &str| Ask { service_tier: Some(tier.to_owned()), ..Ask::default() };
    for standard in [
        r#""service_tier":"auto""#,
        r#""service_tier":"standard_only""#,
        r#""speed":"standard""#,
        r#""speed":null,"inference_geo":"global""#,
    ] {
        check(standard, Ask::default());
    }
    check(r#""speed":"fast""#, tier("fast"));
    check(r#""inference_geo":"us","speed":"fast""#, tier("fast+us"));
    check(r#""service_tier":"flex""#, tier("flex"));
}

#[test]
fn what_two_readers_could_understand_differently_is_refused() {
    refuses("{}", "messages");
    refuses(r#"{"messages":[]}"#, "max_tokens");
    refuses(r#"{"messages":[],"max_tokens":null}"#, "max_tokens");
    for limit in ["-1", "1.5", "\"9\"", "9999999999"] {
        refuses(&format!(r#"{{"messages":[],"max_tokens":{limit}}}"#), "max_tokens");
    }
    let with = |members: &str| format!(r#"{{"max_tokens":9,{members}}}"#);
    refuses(&with(r#""messages":{}"#), "messages");
    refuses(&with(r#""messages":[1]"#), "messages[0]");
    refuses(&with(r#""messages":[{"content":1}]"#), "messages[0].content");
    refuses(&with(r#""messages":[{"content":"a","content":"b"}]"#), "messages[0].content");
    refuses(&with(r#""messages":[{"content":["a"]}]"#), "messages[0].content");
    refuses(&with(r#""messages":[{"content":[{"text":"a"}]}]"#), "messages[0].content[].type");
    refuses(&with(r#""messages":[{},{"content":[{"type":"text","text":"a","type":"image"}]}]"#), "messages[1].content[].type");
    refuses(
        &with(r#""messages":[{"content":[{"type":"document","source":{"type":"text","type":"url"}}]}]"#),
        "messages[0].content[].source.type",
    );
    refuses(&with(r#""messages":[],"messages":[]"#), "messages");
    refuses(&with(r#""messages":[],"max_tokens":8"#), "max_tokens");
    refuses(&with(r#""messages":[],"Max_Tokens":8"#), "Max_Tokens");
    refuses(&with(r#""messages":[],"system":[{"type":1}]"#), "system[].type");
    refuses(&with(r#""messages":[],"system":5"#), "system");
    refuses(&with(r#""messages":[],"stream":"yes""#), "stream");
    refuses(&with(r#""messages":[],"speed":2"#), "speed");
    refuses(&with(r#""messages":[],"tools":{}"#), "tools");
    refuses(&with(r#""messages":[],"tools":[{"name":5}]"#), "tools[0].name");
    refuses(&with(r#""messages":[],"tools":[{"name":"a","name":"b"}]"#), "tools[0].name");
    refuses(
        &with(r#""messages":[],"context_management":{"edits":[{"type":"clear_a","type":"compact_b"}]}"#),
        "context_management.edits[0].type",
    );
    for text in ["", "[]", "{\"messages\":[],\"max_tokens\":NaN}", "{\"messages\":[],\"max_tokens\":9} {}"] {
        refuses(text, "");
    }
    assert!(read(b"{\"messages\":[{\"content\":\"\xff\"}],\"max_tokens\":9}").is_err());
}

#[test]
fn no_output_fills_the_cache_and_a_count_needs_no_limit() {
    assert_eq!(read(br#"{"messages":[],"max_tokens":0}"#).unwrap().ask.max_tokens, Some(0));
    assert_eq!(read_countable(br#"{"model":"m","messages":[{"role":"user","content":"hey"}]}"#).unwrap().ask.text_chars, 3);
    assert!(read_countable(br#"{"model":"m"}"#).is_err());
}
