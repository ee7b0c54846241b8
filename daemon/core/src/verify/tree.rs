//! Accounts and tokens as the events make them.

use super::rows::{Account, Token};
use super::words::Said;
use super::{Audit, Place};
use crate::books::{AccountKind, Limits};
use crate::decision::AccountState;
use crate::event::{AccountCreated, AccountStateChanged, AccountUpdated, TokenCreated, TokenRevoked};
use crate::window::Period;
use aex_proto::value::{AccountId, Digest, Pico};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An account, with what it once was: a refusal may be recorded a moment after it was decided. Written down in checkpoints: fields
/// stand in alphabetical order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// What it had spent in an earlier program.
    pub(super) brought: Pico,
    /// Its budgets by period.
    #[serde(with = "super::checkpoint::pairs")]
    pub(super) budgets: BTreeMap<Period, Pico>,
    /// Every budget that it ever had.
    pub(super) limits_had: Vec<(Period, Pico)>,
    /// The digest of all that it ever stated about its calls: a call is decided by what held when it came in.
    pub(super) policies_had: Vec<Digest>,
    /// All limits on calls that it ever had.
    pub(super) rates_had: Vec<Limits>,
    /// What its row has to say.
    pub(super) row: Account,
    /// Every state but active that it ever was in, with its reason.
    pub(super) stops_had: Vec<(AccountState, String)>,
}

/// All accounts and tokens that ever were.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) accounts: BTreeMap<AccountId, Node>,
    pub(super) tokens: BTreeMap<Digest, Token>,
    /// The largest number that an account has.
    pub(super) last: i64,
}

impl Tree {
    /// An account and all above it. An account above has a smaller number, so this ends whatever the events say.
    pub(super) fn path(&self, account: AccountId) -> Vec<&Node> {
        let mut path = Vec::with_capacity(4);
        let mut next = self.accounts.get(&account);
        while let Some(node) = next {
            path.push(node);
            next = node.row.parent.filter(|parent| *parent < node.row.id).and_then(|parent| self.accounts.get(&parent));
        }
        path
    }

    /// The number that the next account gets: they are counted from 1 without a gap.
    pub(super) fn next_account(&self) -> AccountId {
        AccountId::new(self.last.saturating_add(1))
    }
}

/// The account whose policy holds on a path: the agent, or the path's first when there is none.
pub(super) fn governor<'t>(path: &[&'t Node]) -> Option<&'t Node> {
    path.iter().find(|node| node.row.kind == AccountKind::Agent).or(path.first()).copied()
}

impl Audit {
    pub(super) fn account_created(&mut self, place: Place, created: AccountCreated) {
        let id = created.account;
        self.found.integrity.check(id == self.tree.next_account(), || {
            format!("{place}: account {id} is created, account {} was to be next", self.tree.next_account())
        });
        let above = created.parent.and_then(|parent| self.tree.accounts.get(&parent));
        let fits = match created.parent {
            None => id == AccountId::ROOT && created.kind == AccountKind::Root,
            Some(_) => above.is_some_and(|above| above.row.state != AccountState::Closed),
        };
        self.found
            .integrity
            .check(fits, || format!("{place}: account {id} is created below account {}, which is not open", created.parent.said()));
        self.referenced(place, created.policy);
        let row = Account {
            id,
            parent: created.parent,
            kind: created.kind,
            name: created.name,
            state: AccountState::Active,
            reason: String::new(),
            limits: created.limits,
            policy: created.policy,
            created_at: created.imported.as_ref().map_or(place.at, |before| before.created_at),
            closed_at: None,
        };
        let brought = created.imported.map_or(Pico::ZERO, |before| before.spent);
        let (policies_had, rates_had) = (vec![row.policy], vec![row.limits]);
        let node = Node { row, brought, budgets: BTreeMap::new(), limits_had: Vec::new(), policies_had, rates_had, stops_had: Vec::new() };
        self.tree.last = self.tree.last.max(id.get());
        self.tree.accounts.entry(id).or_insert(node);
    }

    pub(super) fn account_updated(&mut self, place: Place, updated: &AccountUpdated) {
        let id = updated.account;
        self.referenced(place, updated.policy);
        let Some(node) = self.tree.accounts.get_mut(&id).filter(|node| node.row.state != AccountState::Closed) else {
            return self.found.integrity.fail(format!("{place}: account {id} is changed, and it is not open"));
        };
        (node.row.limits, node.row.policy) = (updated.limits, updated.policy);
        node.policies_had.push(updated.policy);
        node.rates_had.push(updated.limits);
    }

    pub(super) fn account_state(&mut self, place: Place, changed: AccountStateChanged) {
        let id = changed.account;
        let Some(node) = self.tree.accounts.get_mut(&id) else {
            return self.found.integrity.fail(format!("{place}: account {id} changes its state, and no event made it"));
        };
        let follows = node.row.state == changed.from && changed.from != AccountState::Closed;
        self.found.integrity.check(follows, || {
            format!("{place}: account {id} goes from {} to {}, it was {}", changed.from.said(), changed.to.said(), node.row.state.said())
        });
        node.row.state = changed.to;
        node.row.closed_at = (changed.to == AccountState::Closed).then_some(place.at);
        node.row.reason.clone_from(&changed.reason);
        let stop = (changed.to, changed.reason);
        if changed.to != AccountState::Active && !node.stops_had.contains(&stop) {
            node.stops_had.push(stop);
        }
    }

    pub(super) fn token_created(&mut self, place: Place, created: TokenCreated) {
        let open = self.tree.accounts.get(&created.account).is_some_and(|node| node.row.state != AccountState::Closed);
        self.found.integrity.check(open, || format!("{place}: a token is made for account {}, which is not open", created.account));
        let token = Token {
            hash: created.token,
            account: created.account,
            read_only: created.read_only,
            created_at: place.at,
            expires_at: created.expires_at,
            revoked_at: None,
            label: created.label.unwrap_or_default(),
        };
        let fresh = self.tree.tokens.insert(created.token, token).is_none();
        self.found.integrity.check(fresh, || format!("{place}: token {} is made again", created.token));
    }

    pub(super) fn token_revoked(&mut self, place: Place, revoked: &TokenRevoked) {
        let token = self.tree.tokens.get_mut(&revoked.token).filter(|token| token.account == revoked.account);
        let Some(token) = token else {
            return self
                .found
                .integrity
                .fail(format!("{place}: revokes token {}, which account {} has not", revoked.token, revoked.account));
        };
        let earlier = token.revoked_at.is_none_or(|before| revoked.at < before);
        self.found.integrity.check(earlier, || format!("{place}: token {} is brought back by a later revocation", revoked.token));
        token.revoked_at = Some(revoked.at);
    }
}
