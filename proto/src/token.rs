//! Tokens as an administrator sees them. The text of one stands only in the reply that creates it.

use crate::value::{NewToken, Stamp};
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
