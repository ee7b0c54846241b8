//! A look at an audit under way: how an account and all above it stood after the events taken in so far.

use super::Audit;
use super::tree::governor;
use crate::books::{AccountKind, Balance, Limits};
use crate::decision::AccountState;
use crate::policy::{Effective, Fields};
use crate::price::ModelCard;
use crate::tool::Permissions;
use crate::window::Period;
use aex_proto::value::{AccountId, Digest, Pico, Stamp};
use jiff::tz::TimeZone;

/// The money of an account in a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purse {
    /// The period.
    pub period: Period,
    /// The budget; `None` counts without a limit.
    pub limit: Option<Pico>,
    /// The running window's balance; `None`: no call has opened it yet, so nothing is spent in it.
    pub balance: Option<Balance>,
}

/// An account as it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub id: AccountId,
    /// What it stands for.
    pub kind: AccountKind,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: AccountState,
    /// Why it was in that state.
    pub reason: String,
    /// Its limits on calls.
    pub limits: Limits,
    /// The digest of what it stated.
    pub policy: Digest,
    /// Its total first, then each budget of a shorter period.
    pub purses: Vec<Purse>,
}

/// An account and all above it, from itself up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The accounts; none when no event made the account.
    pub path: Vec<Holder>,
    /// The name of the agent among them.
    pub agent: Option<String>,
}

impl Audit {
    /// How an account stood, its windows as of an instant.
    #[must_use]
    pub fn standing(&self, account: AccountId, at: Stamp) -> Standing {
        let zone = self.zone.clone().unwrap_or(TimeZone::UTC);
        let path = self.tree.path(account);
        let agent = governor(&path).filter(|node| node.row.kind == AccountKind::Agent).map(|node| node.row.name.clone());
        let holders = path.iter().map(|node| {
            let row = &node.row;
            let shorter = node.budgets.keys().filter(|period| **period != Period::Total);
            let purses = std::iter::once(&Period::Total).chain(shorter).map(|period| {
                let id = self.money.counting(row.id, *period, at, &zone);
                let balance = id.and_then(|id| self.money.balances.get(&id)).cloned();
                Purse { period: *period, limit: node.budgets.get(period).copied(), balance }
            });
            Holder {
                id: row.id,
                kind: row.kind,
                name: row.name.clone(),
                state: row.state,
                reason: row.reason.clone(),
                limits: row.limits,
                policy: row.policy,
                purses: purses.collect(),
            }
        });
        Standing { path: holders.collect(), agent }
    }

    /// A model's card, by its digest.
    #[must_use]
    pub fn card(&self, digest: &Digest) -> Option<&ModelCard> {
        self.snapshots.cards.get(digest)
    }

    /// A policy, by its digest.
    #[must_use]
    pub fn policy(&self, digest: &Digest) -> Option<&Effective> {
        self.snapshots.policies.get(digest)
    }

    /// Permissions, by their digest.
    #[must_use]
    pub fn permissions(&self, digest: &Digest) -> Option<&Permissions> {
        self.snapshots.permissions.get(digest)
    }

    /// What an account stated, by its digest.
    #[must_use]
    pub fn fields(&self, digest: &Digest) -> Option<&Fields> {
        self.snapshots.fields.get(digest)
    }
}
