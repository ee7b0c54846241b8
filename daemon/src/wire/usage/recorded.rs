//! Usage objects as providers document or report them, against charges that were computed by hand from their price lists.

use super::*;
use aex_core::price::{Charge, LongContext, Price, ToolPrice};
use aex_proto::value::Pico;

#[derive(Clone, Copy)]
enum Read {
    Chat,
    Embeddings,
    Responses,
    /// The objects of a message, each of which replaces what it says again.
    Messages,
}

/// USD per million tokens.
fn usd(text: &str) -> Pico {
    Pico::parse_usd_per_million(text).unwrap()
}

fn price(input: &str, cached: &str, output: &str) -> Price {
    Price { cached_input: Some(usd(cached)), ..Price::of(usd(input), usd(output)) }
}

fn searches(mut price: Price, tool: &str, per_call: &str) -> Price {
    price.tools.insert(tool.to_owned(), ToolPrice { max_calls: None, per_call: Pico::parse_usd(per_call).unwrap() });
    price
}

fn sonnet() -> Price {
    let written = |five, hour| (Some(usd(five)), Some(usd(hour)));
    let (cache_write, cache_write_1h) = written("3.75", "6");
    let long = Price { cache_write: Some(usd("7.5")), cache_write_1h: Some(usd("12")), ..price("6", "0.6", "22.5") };
    let long_context = vec![LongContext { above: 200_000, price: long }];
    searches(Price { cache_write, cache_write_1h, long_context, ..price("3", "0.3", "15") }, "web_search", "0.01")
}

fn opus() -> Price {
    let mut opus = Price { cache_write: Some(usd("6.25")), cache_write_1h: Some(usd("10")), ..price("5", "0.5", "25") };
    opus.tiers.insert("fast".to_owned(), Price { cache_write: Some(usd("37.5")), ..price("30", "3", "150") });
    opus.tiers.insert("us".to_owned(), Price { cache_write: Some(usd("6.875")), ..price("5.5", "0.55", "27.5") });
    opus
}

fn gpt_4o() -> Price {
    let mut gpt = price("2.5", "1.25", "10");
    gpt.tiers.insert("priority".to_owned(), price("4.25", "2.125", "17"));
    gpt
}

/// Every row is known in full: a charge that the provider's report proves.
#[track_caller]
fn check(source: &str, how: Read, usage: &str, tier: &str, price: &Price, pico: i64) {
    let mut scanner = Scanner::new(usage.as_bytes()).unwrap();
    let read = match how {
        Read::Chat => chat(&mut scanner).unwrap(),
        Read::Embeddings => embeddings(&mut scanner).unwrap(),
        Read::Responses => responses(&mut scanner).unwrap(),
        Read::Messages => {
            let mut all = Messages::default();
            let mut list = scanner.list().unwrap();
            while scanner.item(&mut list).unwrap() {
                all.read(&mut scanner).unwrap();
            }
            all.usage()
        }
    };
    let mut read = read.unwrap();
    tiered(&mut read, tier);
    let charge = Charge::of(&read, price).unwrap();
    assert_eq!((charge.total.get(), charge.priced), (pico, true), "{source}: {read:?}");
}

#[test]
fn openai() {
    // API reference, chat completions and responses.
    let plain = r#"{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},
        "completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#;
    check("gpt-4o-mini", Read::Chat, plain, "default", &price("0.15", "0.075", "0.6"), 8_850_000);
    check("gpt-4o, priority", Read::Chat, plain, "priority", &gpt_4o(), 19 * 4_250_000 + 10 * 17_000_000);
    let response = r#"{"input_tokens":36,"input_tokens_details":{"cached_tokens":0},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":123}"#;
    check("gpt-4.1", Read::Responses, response, "default", &price("2", "0.5", "8"), 768_000_000);
    // Guide "Prompt caching".
    let cached = r#"{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,"prompt_tokens_details":{"cached_tokens":1920},
        "completion_tokens_details":{"reasoning_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#;
    check("gpt-4o", Read::Chat, cached, "", &gpt_4o(), 5_615_000_000);
    // Guide "Reasoning models".
    let thought = r#"{"input_tokens":75,"input_tokens_details":{"cached_tokens":0},"output_tokens":1186,"output_tokens_details":{"reasoning_tokens":1024},"total_tokens":1261}"#;
    check("o4-mini", Read::Responses, thought, "", &price("1.1", "0.275", "4.4"), 5_300_900_000);
    // The types of openai 3.52: what was written to the cache, by lifetime.
    let written = r#"{"input_tokens":2000,"input_tokens_details":{"cached_tokens":500,"cache_write_tokens":1000,
        "cache_write_tokens_details":{"ttl_30m_tokens":600,"ttl_12h_tokens":400}},"output_tokens":10,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":2010}"#;
    let writes = Price { cache_write: Some(usd("6.25")), ..price("5", "0.5", "30") };
    check("gpt-5.6", Read::Responses, written, "", &writes, 9_300_000_000);
    check("text-embedding-3-small", Read::Embeddings, r#"{"prompt_tokens":8,"total_tokens":8}"#, "", &price("0.02", "0.02", "0"), 160_000);
    let spoken = r#"{"prompt_tokens":117,"completion_tokens":278,"total_tokens":395,"prompt_tokens_details":{"cached_tokens":0,"text_tokens":17,"audio_tokens":100,
        "image_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":220,"text_tokens":58}}"#;
    let audio = Price { audio_input: Some(usd("40")), audio_output: Some(usd("80")), ..gpt_4o() };
    check("gpt-4o-audio-preview", Read::Chat, spoken, "", &audio, 22_222_500_000);
}

#[test]
fn anthropic() {
    // "Prompt caching", 1-hour duration.
    let lifetimes = r#"[{"input_tokens":2048,"cache_read_input_tokens":1800,"cache_creation_input_tokens":248,"output_tokens":503,
        "cache_creation":{"ephemeral_5m_input_tokens":148,"ephemeral_1h_input_tokens":100}}]"#;
    check("sonnet 4.5", Read::Messages, lifetimes, "", &sonnet(), 15_384_000_000);
    // "Web search tool".
    let searched = r#"[{"input_tokens":105,"output_tokens":6039,"cache_read_input_tokens":7123,"cache_creation_input_tokens":7345,"server_tool_use":{"web_search_requests":1}}]"#;
    check("sonnet 4.5", Read::Messages, searched, "", &sonnet(), 130_580_650_000);
    // Recorded from Claude Code by a public evaluation.
    let recorded = r#"[{"cache_creation":{"ephemeral_1h_input_tokens":6853,"ephemeral_5m_input_tokens":0},"cache_creation_input_tokens":6853,
        "cache_read_input_tokens":0,"inference_geo":"","input_tokens":10,"iterations":[],"output_tokens":792,"server_tool_use":{"web_fetch_requests":0,
        "web_search_requests":0},"service_tier":"standard","speed":"standard"}]"#;
    let haiku = Price { cache_write: Some(usd("1.25")), cache_write_1h: Some(usd("2")), ..price("1", "0.1", "5") };
    check("haiku 4.5", Read::Messages, recorded, "", &haiku, 17_676_000_000);
    // "Streaming messages": message_start, then message_delta.
    check("sonnet 4.5", Read::Messages, r#"[{"input_tokens":25,"output_tokens":1},{"output_tokens":15}]"#, "", &sonnet(), 300_000_000);
    let fast = r#"[{"input_tokens":100,"output_tokens":10,"service_tier":"standard","speed":"fast"}]"#;
    check("opus 4.6, fast", Read::Messages, fast, "", &opus(), 4_500_000_000);
    let here = r#"[{"input_tokens":100,"cache_read_input_tokens":200,"output_tokens":10,"inference_geo":"us","speed":"standard"}]"#;
    check("opus 4.6, us", Read::Messages, here, "", &opus(), 550_000_000 + 110_000_000 + 275_000_000);
    // "Long context pricing": what was read from the cache counts, too.
    let long = r#"[{"input_tokens":190000,"cache_read_input_tokens":20000,"output_tokens":1000}]"#;
    check("sonnet 4.5, long", Read::Messages, long, "", &sonnet(), 1_174_500_000_000);
    // "Compaction".
    let compacted = r#"[{"input_tokens":23000,"output_tokens":1000,"iterations":[{"type":"compaction","input_tokens":180000,"output_tokens":3500},
        {"type":"message","input_tokens":23000,"output_tokens":1000}]}]"#;
    check("opus 4.6", Read::Messages, compacted, "", &opus(), 1_127_500_000_000);
}

/// What xAI's responses with tools bill is told by itself, in 10⁻¹⁰ USD: `cost_in_usd_ticks` of two recorded answers of grok-4.3.
#[test]
fn xai() {
    // Its API reference: reasoning stands beside the output.
    let chatted = r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"prompt_tokens_details":{"text_tokens":32,"audio_tokens":0,"image_tokens":0,
        "cached_tokens":6},"completion_tokens_details":{"reasoning_tokens":94,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0},
        "num_sources_used":0}"#;
    check("grok-4", Read::Chat, chatted, "", &price("3", "0.75", "15"), 1_627_500_000);
    let grok = searches(price("1.25", "0.2", "2.5"), "x_search", "0.005");
    let searched = |input: u64, output: u64, calls: u64, ticks: u64| {
        format!(
            r#"{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":3072}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":0}},
            "total_tokens":{},"num_sources_used":0,"num_server_side_tools_used":{calls},"cost_in_usd_ticks":{ticks},"server_side_tool_usage_details":{{
            "web_search_calls":0,"x_search_calls":{calls},"code_interpreter_calls":0,"file_search_calls":0,"mcp_calls":0,"document_search_calls":0,
            "image_generation_calls":0}},"context_details":{{"input_tokens":5993,"output_tokens":2995}}}}"#,
            input + output
        )
    };
    check("grok-4.3", Read::Responses, &searched(7_583, 3_192, 3, 292_331_500), "", &grok, 29_233_150_000);
    check("grok-4.3", Read::Responses, &searched(12_190, 4_801, 5, 490_144_000), "", &grok, 49_014_400_000);
}

#[test]
fn providers_that_follow_openai() {
    // Groq: API reference, and its guide "Prompt caching".
    let groq = r#"{"queue_time":0.037493756,"prompt_tokens":18,"prompt_time":0.000680594,"completion_tokens":556,"completion_time":0.463333333,"total_tokens":574,
        "total_time":0.464013927}"#;
    check("llama-3.3-70b at Groq", Read::Chat, groq, "on_demand", &price("0.59", "0.59", "0.79"), 449_860_000);
    let cached = r#"{"queue_time":0.026959759,"prompt_tokens":4641,"prompt_time":0.009995497,"completion_tokens":1817,"completion_time":5.57691751,
        "total_tokens":6458,"total_time":5.586913007,"prompt_tokens_details":{"cached_tokens":4608}}"#;
    check("kimi-k2 at Groq", Read::Chat, cached, "on_demand", &price("1", "0.5", "3"), 7_788_000_000);
    let deepseek = r#"{"prompt_tokens":1234,"completion_tokens":200,"total_tokens":1434,"prompt_tokens_details":{"cached_tokens":1152},
        "completion_tokens_details":{"reasoning_tokens":150},"prompt_cache_hit_tokens":1152,"prompt_cache_miss_tokens":82}"#;
    check("deepseek-chat", Read::Chat, deepseek, "", &price("0.28", "0.028", "0.42"), 139_216_000);
    let moonshot = r#"{"prompt_tokens":19,"completion_tokens":21,"total_tokens":40,"cached_tokens":10}"#;
    check("kimi-k2 at Moonshot", Read::Chat, moonshot, "", &price("0.6", "0.15", "2.5"), 59_400_000);
    let mistral = r#"{"prompt_tokens":16,"completion_tokens":34,"total_tokens":50,"prompt_audio_seconds":null}"#;
    check("mistral-large", Read::Chat, mistral, "", &price("0.5", "0.5", "1.5"), 59_000_000);
    let together = r#"{"prompt_tokens":44,"completion_tokens":65,"total_tokens":109,"cached_tokens":0}"#;
    check("llama-3.3-70b at Together", Read::Chat, together, "", &price("0.88", "0.88", "0.88"), 95_920_000);
    let fireworks = r#"{"prompt_tokens":1087,"total_tokens":1187,"completion_tokens":100,"prompt_tokens_details":{"cached_tokens":1024}}"#;
    check("deepseek-v3 at Fireworks", Read::Chat, fireworks, "", &price("0.9", "0.45", "0.9"), 607_500_000);
    // OpenRouter: guide "Usage accounting", with what it reports of a search beside.
    let openrouter = r#"{"prompt_tokens":194,"completion_tokens":2,"total_tokens":196,"cost":0.95,"is_byok":false,"cost_details":{"upstream_inference_cost":19},
        "prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":100,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0},
        "server_tool_use":{"web_search_requests":1}}"#;
    check("sonnet at OpenRouter", Read::Chat, openrouter, "", &sonnet(), 10_687_000_000);
    let perplexity = r#"{"prompt_tokens":14,"completion_tokens":198,"total_tokens":212,"search_context_size":"low","num_search_queries":1,
        "cost":{"input_tokens_cost":0.0,"output_tokens_cost":0.003,"request_cost":0.006,"total_cost":0.009}}"#;
    check("sonar-pro", Read::Chat, perplexity, "", &searches(price("3", "3", "15"), "web_search", "0.006"), 9_012_000_000);
    // Gemini's OpenAI endpoint: thoughts are in the total alone.
    let gemini = r#"{"completion_tokens":17,"prompt_tokens":13,"total_tokens":845}"#;
    check("gemini-2.5-flash", Read::Chat, gemini, "", &price("0.3", "0.03", "2.5"), 2_083_900_000);
    let ollama = r#"{"prompt_tokens":26,"completion_tokens":298,"total_tokens":324}"#;
    check("ollama", Read::Chat, ollama, "", &price("0", "0", "0"), 0);
    let vllm = r#"{"prompt_tokens":12,"total_tokens":28,"completion_tokens":16,"prompt_tokens_details":null}"#;
    check("vLLM", Read::Chat, vllm, "", &price("0.1", "0.1", "0.1"), 2_800_000);
}
