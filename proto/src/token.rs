//! Tokens as an administrator sees them. The text of one stands only in the reply that creates it.

use crate::account::AgentName;
use crate::value::{AccountId, NewToken, Stamp};
use serde::{Deserialize, Serialize};

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Calls and reading.
    Execution,
    /// Reading only: no call at all.
    ReadOnly,
}

impl Scope {
    /// Both.
    pub const ALL: [Scope; 2] = [Scope::Execution, Scope::ReadOnly];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Execution => "execution",
            Scope::ReadOnly => "read-only",
        }
    }

    /// The scope of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.name() == name)
    }

    pub(crate) const fn execution() -> Scope {
        Scope::Execution
    }
}

/// One token of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The first 12 hex digits of its SHA-256: names it to a person, opens nothing.
    pub hash_prefix: String,
    /// What it is for, in the words of whoever made it; may be empty.
    pub label: String,
    /// What it may do.
    pub scope: Scope,
    /// When it was made.
    pub created_at: Stamp,
    /// When it ends by itself; `None`: never. A rotation with grace sets it.
    pub expires_at: Option<Stamp>,
    /// When it was revoked.
    pub revoked_at: Option<Stamp>,
}

/// A token that a rotation made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// The agent.
    pub agent: String,
    /// The new token: shown here and never again.
    pub token: NewToken,
    /// What it may do: what the old one could.
    pub scope: Scope,
    /// When it ends by itself; `None`: never.
    pub expires_at: Option<Stamp>,
    /// Until when the old tokens still pass; `None`: they are revoked.
    pub old_until: Option<Stamp>,
    /// How many old tokens that concerns.
    pub old_tokens: u32,
}

/// `token.create`: one more token; those that are there go on working.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {
    /// The agent; `None`: the root, whose token reads the figures of all accounts and can only be read-only.
    #[serde(default)]
    pub agent: Option<AgentName>,
    /// What it is for.
    #[serde(default)]
    pub label: String,
    /// What it may do.
    #[serde(default = "Scope::execution")]
    pub scope: Scope,
    /// How long it lives; `None`: for ever.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
    /// Why, for the event.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Reply of `token.create`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCreated {
    /// Whose it is: an agent, or `root`.
    pub account: String,
    /// The account's number.
    pub account_id: AccountId,
    /// The new token: shown here and never again.
    pub token: NewToken,
    /// The first 12 hex digits of its SHA-256, by which it is revoked.
    pub hash_prefix: String,
    /// What it is for.
    pub label: String,
    /// What it may do.
    pub scope: Scope,
    /// When it ends by itself; `None`: never.
    pub expires_at: Option<Stamp>,
}

/// `token.list`: the tokens of an agent, or of all living agents and the root; those of runs are not among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenQuery {
    /// The agent; `None`: all.
    #[serde(default)]
    pub agent: Option<AgentName>,
}

/// A token and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedToken {
    /// An agent, or `root`.
    pub account: String,
    /// The token.
    #[serde(flatten)]
    pub token: Token,
}

/// Reply of `token.list`: by account, newest first, revoked and expired ones included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenList {
    /// The tokens.
    pub tokens: Vec<OwnedToken>,
}

/// `token.revoke`: from now on the token is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRevoke {
    /// The beginning of its SHA-256 in hex, at least [`TokenRevoke::MIN_DIGITS`] digits and long enough to name one token.
    pub hash_prefix: String,
    /// Why, for the event.
    #[serde(default)]
    pub reason: Option<String>,
}

impl TokenRevoke {
    /// Fewer digits name a token by chance.
    pub const MIN_DIGITS: usize = 4;
}
