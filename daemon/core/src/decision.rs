//! Refusals as data. Made here and at the gate, kept by the ledger, worded only by the dialects and the command line.

pub use aex_proto::account::AccountState;

use crate::books::AccountKind;
use crate::policy::{Breach, Rule, Ruled};
use crate::price::Unbounded;
use crate::tool::ToolDenied;
use crate::window::Period;
use aex_proto::value::{AccountId, Pico, RequestId, Stamp};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// An account as a denial names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its number.
    pub id: AccountId,
    /// What it stands for; absent in the first ledgers, and for an account that is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<AccountKind>,
    /// Its name at that time.
    pub name: String,
}

/// Why a caller is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthCause {
    /// No token was sent.
    Missing,
    /// It does not have the form of a token, or its checksum is wrong.
    Malformed,
    /// No such token.
    Unknown,
    /// Its time is over.
    Expired,
    /// It was revoked or rotated away.
    Revoked,
}

/// Whose API a path is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Anthropic's messages.
    Anthropic,
    /// OpenAI's API.
    OpenAi,
}

impl Protocol {
    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Anthropic => "Anthropic's API",
            Protocol::OpenAi => "OpenAI's API",
        }
    }
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateKind {
    /// Requests in any 60 seconds.
    RequestsPerMinute,
    /// Requests in flight.
    Concurrent,
}

/// Why an idempotency key runs no second call and gives no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyUse {
    /// The first call is under way.
    Running,
    /// The first call had another path or body.
    OtherRequest,
    /// The first call was charged, and its answer is not at hand: it broke off, was too large, or the daemon was started since.
    AnswerGone,
}

/// Why a call was refused. Data only: `wire::denial` gives it words and a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denial {
    /// The caller is not known.
    Unauthenticated {
        /// Why not.
        cause: AuthCause,
    },
    /// Too many failed authentications from one peer.
    AuthThrottled {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The token may read only.
    ReadOnlyToken,
    /// The account, or one above it, is not active.
    Account {
        /// The account that is not active.
        account: Named,
        /// Why a person or the daemon set it so.
        reason: String,
        /// Its state.
        state: AccountState,
    },
    /// A rate is used up.
    Rate {
        /// The account whose rate it is.
        account: Named,
        /// What is counted.
        kind: RateKind,
        /// The limit.
        limit: u32,
        /// When a call would pass, in milliseconds; at most 60,000.
        retry_after_ms: u64,
    },
    /// The tokens of a minute are used up.
    TokenRate {
        /// The account whose rate it is; absent when it is the model's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<Named>,
        /// Tokens that the call is estimated at.
        asked: u64,
        /// The limit.
        limit: u32,
        /// The model.
        model: String,
        /// When the call would pass, in milliseconds; absent when it never would, for it is larger than the limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// The request is no valid request.
    Malformed {
        /// What is wrong with it.
        message: String,
        /// The field, when one is at fault.
        param: Option<String>,
    },
    /// The body is larger than `max_body`.
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// No such model is configured.
    UnknownModel {
        /// The name asked for; empty when the request names none and there is no default.
        model: String,
    },
    /// The model's provider does not speak the protocol of the call.
    Protocol {
        /// The model.
        model: String,
        /// The protocol of the call.
        protocol: Protocol,
        /// The provider.
        provider: String,
        /// The setting of the provider that names where it does; absent where none could.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        setting: Option<String>,
    },
    /// The policy of the agent or the capabilities of the model refuse it.
    Policy {
        /// Other rules that it breaks.
        also: Vec<Rule>,
        /// The rule that decided.
        breach: Breach,
    },
    /// A rule of the agent's profile refuses it, or no rule lets it pass.
    Rule(Box<Ruled>),
    /// Two profiles are bound to the agent: nothing passes until one is.
    TwoProfiles {
        /// Both, with file and line.
        profiles: [String; 2],
    },
    /// Nothing known bounds its price.
    Unbounded {
        /// The model.
        model: String,
        /// What is not known.
        why: Unbounded,
    },
    /// The daemon has no key for the provider.
    KeyMissing {
        /// The provider.
        provider: String,
        /// The environment variable to set.
        variable: String,
    },
    /// The agent may not bring its own provider key.
    Passthrough,
    /// A client's own credentials for Anthropic would go to another provider.
    PassthroughElsewhere {
        /// The provider.
        provider: String,
    },
    /// The provider failed so often that it is given a rest.
    ProviderDown {
        /// The provider.
        provider: String,
        /// When a call may pass, in milliseconds.
        retry_after_ms: u64,
    },
    /// The money of an account does not suffice.
    Budget {
        /// The account whose budget it is.
        account: Named,
        /// The most that the call could cost.
        asked: Pico,
        /// What is left: limit − spent − reserved; negative in overdraft.
        left: Pico,
        /// The budget.
        limit: Pico,
        /// The period of the budget.
        period: Period,
        /// When the period ends; `None` for a total.
        resets_at: Option<Stamp>,
    },
    /// It names something stored that the agent does not own at this provider, or that does not exist.
    NotStored {
        /// An item of an answer, not an answer.
        #[serde(default, skip_serializing_if = "is_false")]
        item: bool,
        /// Its name.
        name: String,
    },
    /// The idempotency key was used for a call before.
    Idempotency {
        /// What stands in the way.
        cause: KeyUse,
        /// The call that used it.
        first: RequestId,
    },
    /// So many idempotency keys were used within a day that no further one can be kept.
    IdempotencyFull {
        /// How many can be.
        limit: u64,
    },
    /// No such tool is offered to the agent.
    UnknownTool {
        /// The name asked for.
        tool: String,
    },
    /// The permissions do not let a call of a tool pass.
    Tool(Box<ToolDenied>),
    /// The tool is quarantined: nobody has approved what its server says of it.
    ToolQuarantined {
        /// `SERVER.TOOL`.
        tool: String,
        /// Why.
        why: String,
    },
    /// A rule's rate of calls is used up.
    ToolRate {
        /// Calls of one agent in any 60 seconds.
        limit: u32,
        /// When the call would pass, in milliseconds.
        retry_after_ms: u64,
        /// The rule of the permissions.
        rule: String,
        /// `SERVER.TOOL`.
        tool: String,
    },
    /// The ledger cannot commit: no call is admitted.
    LedgerUnavailable,
    /// The daemon is shutting down.
    Draining,
}

impl Denial {
    /// A short name of the rule that denied, for events and counters.
    #[must_use]
    pub fn rule(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Denial::Unauthenticated { .. } => "authentication",
            Denial::AuthThrottled { .. } => "authentication_rate",
            Denial::ReadOnlyToken => "token_scope",
            Denial::Account { .. } => "account_state",
            Denial::Rate { kind: RateKind::RequestsPerMinute, .. } => "rpm",
            Denial::Rate { kind: RateKind::Concurrent, .. } => "concurrency",
            Denial::TokenRate { .. } => "tpm",
            Denial::Malformed { .. } => "request_form",
            Denial::TooLarge { .. } => "max_body",
            Denial::UnknownModel { .. } => "known_model",
            Denial::Protocol { .. } => "protocol",
            Denial::Policy { breach, .. } => breach.rule.setting(),
            // A prefix keeps names that people choose apart from ours.
            Denial::Rule(ruled) => return Cow::Owned(format!("rule:{}", ruled.rule)),
            Denial::TwoProfiles { .. } => "profiles",
            Denial::Unbounded { .. } => "price",
            Denial::KeyMissing { .. } => "provider_key",
            Denial::Passthrough | Denial::PassthroughElsewhere { .. } => "allow_passthrough",
            Denial::ProviderDown { .. } => "provider_down",
            Denial::Budget { .. } => "budget",
            Denial::NotStored { .. } => "stored_response",
            Denial::Idempotency { .. } => "idempotency",
            Denial::IdempotencyFull { .. } => "idempotency_keys",
            Denial::UnknownTool { .. } => "known_tool",
            Denial::Tool(denied) => return Cow::Owned(format!("permission:{}", denied.by.rule)),
            Denial::ToolQuarantined { .. } => "tool_pin",
            Denial::ToolRate { rule, .. } => return Cow::Owned(format!("permission:{rule}")),
            Denial::LedgerUnavailable => "ledger",
            Denial::Draining => "shutdown",
        })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}
