//! Denials and faults in the words and forms of the dialects. The only place where a refusal gets a status.
//!
//! Each message says what was refused, why, and what lifts it, with the request id. Must not: decide, or tell a secret.

mod answer;
mod fault;
pub mod page;
mod policy;
mod stream;
mod tool;
mod whose;

pub use answer::{Addressee, Refusal};
pub use fault::{Misdirected, UpstreamFault, misdirected, of_tool, upstream};
pub use stream::{stream_denial, stream_fault};

use super::request::FIELD;
use aex_core::decision::{AccountState, AuthCause, Denial, KeyUse, Named, RateKind};
use aex_core::price::Unbounded;
use aex_core::window::Period;
use aex_proto::value::RequestId;
use policy::{policy, ruled_out};
use whose::{called, inspect, is_run, reference, resume, subject};

/// The wait that is told when the ledger is away or the daemon is leaving.
const AWAY_RETRY_MS: u64 = 1_000;
/// The wait that is told when the first call with an idempotency key is under way.
const KEY_RETRY_MS: u64 = 1_000;

const INVALID_REQUEST: &str = "invalid_request_error";
const PERMISSION: &str = "permission_error";
const POLICY_VIOLATION: &str = "policy_violation";
const MODEL_NOT_ALLOWED: &str = "model_not_allowed";

/// A denial as an answer.
#[must_use]
pub fn worded(denial: &Denial, to: Addressee) -> Refusal {
    refusal(denial).told(to)
}

fn refusal(denial: &Denial) -> Refusal {
    match denial {
        Denial::Unauthenticated { cause } => Refusal::lasting(401, INVALID_REQUEST, "invalid_api_key", unauthenticated(*cause).to_owned()),
        Denial::AuthThrottled { retry_after_ms } => {
            rate_limited(*retry_after_ms, "Too many failed authentications from this address: use a valid token, or wait.".to_owned())
        }
        Denial::ReadOnlyToken => forbidden(
            POLICY_VIOLATION,
            "This token is read-only and may make no calls: use the agent's execution token; `aexctl agent rotate-token NAME` makes a new one.".to_owned(),
        ),
        Denial::Account { account, reason, state } => inactive(account, reason, *state),
        Denial::Rate { account, kind, limit, retry_after_ms } => rate(account, *kind, *limit, *retry_after_ms),
        Denial::TokenRate { account, asked, limit, model, retry_after_ms } => token_rate(account.as_ref(), model, *asked, *limit, *retry_after_ms),
        Denial::Malformed { message, param } => Refusal { param: param.clone(), ..invalid(INVALID_REQUEST, format!("Malformed request: {message}.")) },
        Denial::TooLarge { limit } => Refusal {
            status: 413,
            ..invalid("request_too_large", format!("The request's body is larger than {limit} bytes: send less, or raise `max_body` in aexd.yaml."))
        },
        Denial::UnknownModel { model } => unknown_model(model),
        Denial::Protocol { model, protocol, provider, setting } => {
            let lift = setting.as_ref().map_or_else(
                || "use a model of another provider".to_owned(),
                |setting| format!("use a model of a provider that does, or set `{setting}` of this one in models.yaml to where it does"),
            );
            let message = format!("Provider `{provider}` of model `{model}` is not known to speak {}: {lift}.", protocol.name());
            invalid(INVALID_REQUEST, message).about("model")
        }
        Denial::Policy { also, breach } => policy(breach, also),
        Denial::Rule(ruled) => forbidden(POLICY_VIOLATION, ruled_out(ruled)),
        Denial::TwoProfiles { profiles: [first, second] } => forbidden(
            POLICY_VIOLATION,
            format!("Two profiles are bound to this agent, {first} and {second}, so none holds: bind one of them in policy.yaml."),
        ),
        Denial::Unbounded { model, why } => forbidden(POLICY_VIOLATION, unbounded(model, why)),
        Denial::KeyMissing { provider, variable } => Refusal::lasting(
            500,
            "api_error",
            "provider_key_missing",
            format!("aexd has no key for provider `{provider}`: set {variable} in its .env or environment, then run `aexctl models reload`."),
        ),
        Denial::Passthrough => forbidden(
            POLICY_VIOLATION,
            "This agent may not bring its own provider key: leave out `x-aex-provider-key` (or what stands beside `x-aex-token`), or create an agent with `aexctl agent create NAME BUDGET RPM \
             --allow-passthrough`."
                .to_owned(),
        ),
        Denial::PassthroughElsewhere { provider } => forbidden(
            POLICY_VIOLATION,
            format!(
                "The client's own credentials beside `x-aex-token` go to a provider of `type: anthropic` alone, not to `{provider}`: leave \
                 them out, or bring a key for `{provider}` in `x-aex-provider-key`."
            ),
        ),
        Denial::ProviderDown { provider, retry_after_ms } => Refusal::passing(
            503,
            "upstream_error",
            "upstream_unavailable",
            *retry_after_ms,
            format!("Provider `{provider}` has failed again and again and is not called for now: wait {}.", seconds(*retry_after_ms)),
        ),
        Denial::Budget { account, asked, left, limit, period, resets_at } => {
            let when = resets_at.map_or_else(|| "It does not reset".to_owned(), |at| format!("It resets at {at}"));
            let of = called(account);
            let lift = inspect(account).map_or_else(
                || "start a new run with a larger --budget".to_owned(),
                |command| format!("ask for a larger budget; `{command}` shows it"),
            );
            let period_of = period_adjective(*period);
            // A call that may cost anything does not pass when nothing is left.
            let message = if left.get() > 0 {
                format!(
                    "The {period_of} budget of {of} does not suffice: this call may cost up to {asked}, {left} of {limit} are left. {when}: make \
                     a smaller call (lower max_tokens), or {lift}."
                )
            } else {
                let over = if left.is_negative() { format!("; it is overdrawn: {left}") } else { String::new() };
                let until = if resets_at.is_some() { " until then" } else { "" };
                format!("The {period_of} budget of {of}, {limit}, is used up or reserved{over}. {when}: no smaller call passes{until}; {lift}.")
            };
            let (account, period) = (Some(reference(account)), Some(period.name()));
            Refusal { account, period, resets_at: *resets_at, ..Refusal::lasting(402, "insufficient_quota", "insufficient_quota", message) }
        }
        // As OpenAI words a response or an item that it does not have.
        Denial::NotStored { item: false, name } => {
            Refusal::lasting(404, INVALID_REQUEST, "previous_response_not_found", format!("Response with id '{name}' not found: this agent got none."))
        }
        Denial::NotStored { item: true, name } => {
            Refusal::lasting(404, INVALID_REQUEST, "item_not_found", format!("Item with id '{name}' not found: this agent got none."))
        }
        Denial::Idempotency { cause, first } => key_used(*cause, *first),
        Denial::IdempotencyFull { limit } => Refusal::passing(
            503,
            "api_error",
            "idempotency_keys_full",
            answer::MAX_RETRY_MS,
            format!("{limit} idempotency keys of the last 24 hours are kept, and no more can be: call without one, or raise `idempotency_keys` in aexd.yaml."),
        ),
        Denial::UnknownTool { tool } => Refusal::lasting(
            404,
            INVALID_REQUEST,
            "tool_not_found",
            format!("There is no tool `{tool}` for this agent: `/mcp` lists those that it may call; `aexctl tools list` shows the servers."),
        ),
        Denial::Tool(denied) => forbidden("tool_denied", tool::denied(denied)),
        Denial::ToolQuarantined { tool, why } => forbidden(
            "tool_quarantined",
            format!("Tool `{tool}` is quarantined: {why}. `aexctl tools approve {tool}` shows what its server says of it, and lifts it."),
        ),
        Denial::ToolRate { limit, retry_after_ms, rule, tool } => rate_limited(
            *retry_after_ms,
            format!(
                "The rate of rule `{rule}` in permissions.json for tool `{tool}`, {limit} calls per minute, is used up: wait {}.",
                seconds(*retry_after_ms)
            ),
        ),
        Denial::LedgerUnavailable => Refusal::passing(
            503,
            "api_error",
            "ledger_unavailable",
            AWAY_RETRY_MS,
            "aexd cannot write its ledger and admits no call: `aexctl status` and its log say why.".to_owned(),
        ),
        Denial::Draining => {
            Refusal::passing(503, "api_error", "shutting_down", AWAY_RETRY_MS, "aexd is shutting down and admits no new call: try again when it is back.".to_owned())
        }
    }
}

fn key_used(cause: KeyUse, first: RequestId) -> Refusal {
    let lasting = |code, message| Refusal::lasting(409, INVALID_REQUEST, code, message);
    match cause {
        KeyUse::Running => Refusal::passing(
            409,
            INVALID_REQUEST,
            "idempotency_key_in_use",
            KEY_RETRY_MS,
            format!("The first call with this `idempotency-key`, {first}, is still under way: ask again for its answer."),
        ),
        KeyUse::OtherRequest => lasting(
            "idempotency_key_reused",
            format!("This `idempotency-key` belongs to call {first}, which had another path or body: use a new key for each call."),
        ),
        KeyUse::AnswerGone => lasting(
            "idempotency_answer_gone",
            format!(
                "Call {first} with this `idempotency-key` was charged, and its answer is no longer kept: `aexctl explain {first}` tells what became of \
                 it; use a new key to call, and pay, again."
            ),
        ),
    }
}

fn invalid(code: &'static str, message: String) -> Refusal {
    Refusal::lasting(400, INVALID_REQUEST, code, message)
}

fn forbidden(code: &'static str, message: String) -> Refusal {
    Refusal::lasting(403, PERMISSION, code, message)
}

fn rate_limited(wait_ms: u64, message: String) -> Refusal {
    Refusal::passing(429, "requests", "rate_limit_exceeded", wait_ms, message)
}

fn unauthenticated(cause: AuthCause) -> &'static str {
    match cause {
        AuthCause::Missing => {
            "No token was sent: use an agent's token as the API key (`Authorization: Bearer aex_…`); `aexctl agent create NAME BUDGET RPM` prints one."
        }
        AuthCause::Malformed => {
            "The API key is no token of aexd, or it was mistyped: use the token that `aexctl agent create` or `rotate-token` printed."
        }
        // Of closed accounts no token is kept, so this is all that is known of theirs.
        AuthCause::Unknown => {
            "aexd does not know this token: it never was one, its run has ended, or its agent was deleted. Use the one that \
             `aexctl agent create` or `rotate-token` printed."
        }
        AuthCause::Expired => "This token has expired: `aexctl agent rotate-token NAME` makes a new one.",
        AuthCause::Revoked => "This token was revoked: use the agent's current one; `aexctl agent rotate-token NAME` makes a new one.",
    }
}

fn inactive(account: &Named, reason: &str, state: AccountState) -> Refusal {
    let resume = resume(account);
    let shown = inspect(account).map(|command| format!("look at `{command}`, then ")).unwrap_or_default();
    let (code, is, lift) = match state {
        AccountState::Paused => ("account_paused", "is paused", format!("`{resume}` lifts it")),
        AccountState::Suspended => ("account_suspended", "is suspended", format!("{shown}`{resume}` lifts it")),
        AccountState::Killed if is_run(account) => ("account_killed", "was killed", "start a new run with `aexctl run`".to_owned()),
        AccountState::Killed => ("account_killed", "was killed", format!("`{resume}` lifts it")),
        AccountState::Closed if is_run(account) => ("account_closed", "is over", "start a new run with `aexctl run`".to_owned()),
        AccountState::Closed => {
            ("account_closed", "is closed for ever", "`aexctl agent create NAME BUDGET RPM` makes a new one".to_owned())
        }
        // No decision denies an active account; should one do so, the answer is still a refusal.
        AccountState::Active => (POLICY_VIOLATION, "is active", "see `aexctl budget show`".to_owned()),
    };
    let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    let who = if account.kind.is_some() || is_run(account) { subject(account) } else { format!("Account `{}`", account.name) };
    forbidden(code, format!("{who} {is}{why}: {lift}."))
}

fn rate(account: &Named, kind: RateKind, limit: u32, retry_after_ms: u64) -> Refusal {
    let who = subject(account);
    let counted = match kind {
        RateKind::RequestsPerMinute if limit == 1 => "request per minute",
        RateKind::RequestsPerMinute => "requests per minute",
        RateKind::Concurrent if limit == 1 => "concurrent request",
        RateKind::Concurrent => "concurrent requests",
    };
    if limit == 0 {
        let shown = inspect(account).map(|command| format!(" `{command}` shows it.")).unwrap_or_default();
        let message = format!("{who} may make no calls: its limit is 0 {counted}.{shown}");
        return Refusal { retry_after_ms: None, no_retry: true, ..rate_limited(0, message) };
    }
    rate_limited(retry_after_ms, format!("{who} has used up its limit of {limit} {counted}: wait {wait}.", wait = seconds(retry_after_ms)))
}

fn token_rate(account: Option<&Named>, model: &str, asked: u64, limit: u32, retry_after_ms: Option<u64>) -> Refusal {
    let whose = account.map_or_else(|| format!("model `{model}`"), called);
    match retry_after_ms {
        Some(wait) => rate_limited(
            wait,
            format!(
                "The limit of {whose}, {limit} tokens per minute, has no room for a call of about {asked} tokens: wait {}.",
                seconds(wait)
            ),
        ),
        None => {
            let message = format!(
                "This call of about {asked} tokens is larger than the limit of {whose}, {limit} tokens per minute: lower max_tokens or send less."
            );
            Refusal { retry_after_ms: None, no_retry: true, ..rate_limited(0, message) }
        }
    }
}

fn seconds(millis: u64) -> String {
    let millis = millis.clamp(1, answer::MAX_RETRY_MS);
    format!("{}.{:03} s", millis / 1000, millis % 1000)
}

fn unknown_model(model: &str) -> Refusal {
    let message = if model.is_empty() {
        "The request names no model, and none is configured as the default: set `model`; `aexctl models list` shows the names.".to_owned()
    } else {
        format!("Model `{model}` is not configured: `aexctl models list` shows the names; models.yaml defines them.")
    };
    forbidden(MODEL_NOT_ALLOWED, message).about("model")
}

fn unbounded(model: &str, why: &Unbounded) -> String {
    let what = match why {
        Unbounded::Unpriced => "it has no price in models.yaml (`pricing: free` if it costs nothing)".to_owned(),
        Unbounded::AudioUnpriced => "the call uses audio, for which models.yaml has no price".to_owned(),
        Unbounded::ContextUnknown => {
            "it has parts whose size its bytes do not show (images, files, what the provider has stored or finds), and models.yaml has no `limits.context_tokens` to bound them".to_owned()
        }
        Unbounded::HostedTool(tool) => match tool.strip_prefix(FIELD) {
            Some(field) => format!("its field `{field}` lets the provider choose or run what has no price here"),
            None => format!("it asks for `{tool}`, which the provider runs or chooses by itself and which has no price here"),
        },
        Unbounded::HostedUnlimited(tool) => format!(
            "it asks for `{tool}`, which the provider may run as often as it likes: state `max_tool_calls` or `max_uses`, or set `max_calls` in models.yaml"
        ),
        Unbounded::CacheUnpriced(lifetime) => {
            format!("it writes to the provider's cache for `{lifetime}`, for which models.yaml has no price")
        }
        Unbounded::Tier(tier) => format!("service tier `{tier}` has no price here"),
        Unbounded::TooLarge => "its bound is more money than aexd can hold".to_owned(),
    };
    format!("Nothing bounds what this call to model `{model}` may cost: {what}.")
}

fn period_adjective(period: Period) -> &'static str {
    match period {
        Period::Total => "total",
        Period::Day => "daily",
        Period::Week => "weekly",
        Period::Month => "monthly",
    }
}

#[cfg(test)]
mod tests;
