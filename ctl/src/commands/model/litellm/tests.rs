//! Facts of LiteLLM's file (BerriAI/litellm, MIT, July 2026) and what they become, computed by hand.

use super::super::{decimal, entries};
use super::*;

const FACTS: &str = include_str!("../../../../tests/fixtures/litellm.json");

fn one(name: &str) -> Result<Entry, String> {
    file(FACTS).unwrap().remove(name).unwrap().entry
}

#[track_caller]
fn check(name: &str, own: &str, provider: &str, wanted: &str) {
    assert_eq!(entries::model(own, provider, &one(name).unwrap()), format!("\n{}", wanted.trim_start()), "{name}");
}

#[test]
fn prices_by_tier_and_by_length_are_written_as_models_yaml_has_them() {
    check(
        "gpt-5.5",
        "gpt-5.5",
        "openai",
        r#"
gpt-5.5:
  provider: openai
  provider_model: gpt-5.5
  pricing:
    input_per_mtok: "5"
    output_per_mtok: "30"
    cached_input_per_mtok: "0.5"
    long_context:
      - above: 272000
        input_per_mtok: "10"
        output_per_mtok: "45"
        cached_input_per_mtok: "1"
    tiers:
      batch:
        input_per_mtok: "2.5"
        output_per_mtok: "15"
      flex:
        input_per_mtok: "2.5"
        output_per_mtok: "15"
        cached_input_per_mtok: "0.25"
      priority:
        input_per_mtok: "10"
        output_per_mtok: "60"
        cached_input_per_mtok: "1"
  limits:
    max_tokens: 128000
    max_tokens_field: max_completion_tokens
    context_tokens: 1050000
  capabilities: {reasoning: true, tools: true, vision: true}
"#,
    );
}

#[test]
fn caches_searches_and_multiplied_tiers_are_written() {
    check(
        "claude-opus-4-6",
        "claude-opus-4-6",
        "anthropic",
        r#"
claude-opus-4-6:
  provider: anthropic
  provider_model: claude-opus-4-6
  pricing:
    input_per_mtok: "5"
    output_per_mtok: "25"
    cached_input_per_mtok: "0.5"
    cache_write_per_mtok: "6.25"
    cache_write_1h_per_mtok: "10"
    tiers:
      fast: {multiply: "6"}
      us: {multiply: "1.1"}
  hosted_tools:
    web_search: {per_call: "0.01"}
  limits:
    max_tokens: 128000
    context_tokens: 1000000
  capabilities: {reasoning: true, tools: true, vision: true}
"#,
    );
}

#[test]
fn an_embedding_has_no_output_and_a_prefix_is_not_part_of_the_name() {
    check(
        "text-embedding-3-small",
        "text-embedding-3-small",
        "openai",
        r#"
text-embedding-3-small:
  provider: openai
  provider_model: text-embedding-3-small
  pricing:
    input_per_mtok: "0.02"
    output_per_mtok: "0"
    tiers:
      batch:
        input_per_mtok: "0.01"
        output_per_mtok: "0"
  limits:
    max_tokens: 1
    context_tokens: 8191
  capabilities: {reasoning: false, tools: false, vision: false}
"#,
    );
    assert_eq!(one("groq/openai/gpt-oss-20b").unwrap().model, "openai/gpt-oss-20b");
}

#[test]
fn what_is_not_known_in_full_is_left_out_with_its_reason() {
    #[track_caller]
    fn left_out(name: &str, why: &str) {
        assert_eq!(one(name).unwrap_err(), why, "{name}");
    }
    left_out("gpt-image-1", "is of the mode image_generation");
    left_out("gpt-4o-search-preview", "searches in every call, at a price that depends on the search");
    left_out("together_ai/Qwen/Qwen2.5-7B-Instruct-Turbo", "states no limit of its output");
    left_out("unpriced", "has no price per token");
    left_out("nothing", "costs nothing, or nobody knows: `pricing: free` is for you to say");
    left_out("thinks-apart", "prices reasoning apart from other output");
    left_out("ft:gpt-4o-2024-08-06", "is a price for models of one's own, which have other names");
}

#[test]
fn a_price_that_is_not_exact_is_told_and_one_by_the_image_closes_images() {
    let databricks = one("databricks/databricks-claude-3-7-sonnet").unwrap();
    let input = databricks.rates[&(None, 0)]["input"];
    assert_eq!((input.pico.get(), input.exact), (2_999_991, false));
    let written = entries::model("m-x", "databricks", &databricks);
    assert!(written.contains("    input_per_mtok: \"2.999991\"  # rounded up\n"), "{written}");
    assert_eq!(databricks.not_understood, ["input_dbu_cost_per_token", "output_dbu_cost_per_token"]);
    let seen = one("openrouter/anthropic/claude-3.7-sonnet").unwrap();
    assert_eq!((seen.vision, seen.not_understood.as_slice()), (false, &["input_cost_per_image".to_owned()][..]));
    assert_eq!(decimal::per_million(seen.rates[&(None, 0)]["output"].pico), "15");
}

/// A long input costs at least what the file says of it; what it leaves out costs as without it, but for reads of the cache.
#[test]
fn what_a_long_input_leaves_out_costs_what_it_costs_without_it() {
    let sonnet = one("claude-sonnet-4-5").unwrap();
    let long = &sonnet.rates[&(None, 200_000)];
    let told: Vec<(&str, String)> = long.iter().map(|(key, price)| (*key, decimal::per_million(price.pico))).collect();
    let wanted = [("cache_write", "7.5"), ("cache_write_1h", "12"), ("cached_input", "0.6"), ("input", "6"), ("output", "22.5")];
    assert_eq!(told, wanted.map(|(key, price)| (key, price.to_owned())));
    let part = one("long-in-part").unwrap();
    let long: Vec<&str> = part.rates[&(None, 128_000)].keys().copied().collect();
    assert_eq!(long, ["cache_write", "input", "output"]);
    assert!(!part.rates.contains_key(&(Some("flex".to_owned()), 0)), "a tier without output is none");
}
