//! Fields of a messages request that are known and cost nothing extra.

/// Top-level fields that are documented by Anthropic, and cost nothing extra: they pass, also under `strict`. Sorted. From the
/// parameters of its Python SDK 2.12; `anthropic_beta` and `anthropic_version` are those of Bedrock and Vertex, `betas` is a header.
pub(super) const KNOWN: &[&str] = &[
    "anthropic_beta",
    "anthropic_version",
    // Who of Anthropic's customers is billed.
    "billing_policy",
    "diagnostics",
    // A refund for a call that was refused.
    "fallback_credit_token",
    "metadata",
    "output_config",
    "output_format",
    "stop_sequences",
    // Its `budget_tokens` are within `max_tokens`.
    "top_k",
    "top_p",
    "user_profile_id",
    "workspace_id",
];
