//! Fields of a chat request that are known and cost nothing extra.

/// Top-level fields that are documented by OpenAI, Groq or the common servers of open models, and that cost nothing extra:
/// they pass, also under `strict`. Sorted.
pub(super) const KNOWN: &[&str] = &[
    "citation_options",
    "disable_tool_validation",
    "documents",
    "exclude_domains",
    "frequency_penalty",
    "include_domains",
    "include_reasoning",
    "logit_bias",
    "logprobs",
    "metadata",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_format",
    "response_format",
    "safety_identifier",
    "seed",
    "stop",
    "store",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
];
