//! Who may call: tokens and accounts as of the last commit, read without a lock.

use aex_core::books::{AccountKind, Books, Limits};
use aex_core::decision::{AccountState, Denial, Named};
use aex_core::policy::Fields;
use aex_proto::value::{AccountId, Digest, Stamp};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Raised when an account is deleted or killed: its live calls end.
#[derive(Debug, Default)]
pub struct StopFlag {
    raised: AtomicU8,
    notify: tokio::sync::Notify,
}

const LOWERED: u8 = 0;
const KILLED: u8 = 1;
const CLOSED: u8 = 2;

impl StopFlag {
    /// Ends the account's live calls: it was closed for ever, or killed until it is resumed.
    pub fn raise(&self, state: AccountState) {
        self.raised.store(if state == AccountState::Closed { CLOSED } else { KILLED }, Ordering::Release);
        self.notify.notify_waiters();
    }

    /// Calls may go on again.
    pub fn lower(&self) {
        self.raised.store(LOWERED, Ordering::Release);
    }

    /// The state for which live calls are to end; `None`: they are not.
    #[must_use]
    pub fn state(&self) -> Option<AccountState> {
        match self.raised.load(Ordering::Acquire) {
            LOWERED => None,
            CLOSED => Some(AccountState::Closed),
            _ => Some(AccountState::Killed),
        }
    }

    /// Resolves when live calls are to end.
    pub async fn raised(&self) {
        loop {
            let waiting = self.notify.notified();
            if self.state().is_some() {
                return;
            }
            waiting.await;
        }
    }
}

/// A token's row.
#[derive(Clone, Debug)]
pub struct TokenView {
    /// Whose it is.
    pub account: AccountId,
    /// It may read only.
    pub read_only: bool,
    /// When it ends by itself.
    pub expires_at: Option<Stamp>,
    /// From when on it is refused; the beginning of time when it was revoked at once.
    pub revoked_at: Option<Stamp>,
}

impl TokenView {
    /// Revokes it from an instant on. What is revoked at once stays so, wherever the wall clock is set.
    pub(super) fn revoke(&mut self, from: Stamp, now: Stamp) {
        self.revoked_at = Some(if from <= now { Stamp::new(0) } else { from });
    }
}

/// An open account, with all that a decision needs of the accounts above it.
#[derive(Clone, Debug)]
pub struct AccountView {
    /// Its number and name.
    pub named: Named,
    /// What it stands for.
    pub kind: AccountKind,
    /// The agent that it is, or is a run of; itself for root and groups.
    pub agent: Named,
    /// Itself and all above it.
    pub path: Vec<AccountId>,
    /// Limits on its path, from itself up; accounts without limits are left out.
    pub limits: Vec<(AccountId, Limits)>,
    /// Why calls do not pass, when they do not.
    pub stopped: Option<Denial>,
    /// Names of the groups that it is in.
    pub groups: Vec<String>,
    /// What its agent states; `None` when what is stored cannot be read: then nothing passes.
    pub policy: Option<Arc<Fields>>,
    /// The digest of the text of that.
    pub policy_digest: Digest,
    /// Raised when its live calls are to end.
    pub stop: Arc<StopFlag>,
}

/// Tokens and open accounts.
#[derive(Debug, Default)]
pub struct Directory {
    /// Tokens by the SHA-256 of their text.
    pub tokens: HashMap<[u8; 32], TokenView>,
    /// Open accounts.
    pub accounts: BTreeMap<AccountId, Arc<AccountView>>,
}

impl Directory {
    /// The open account of a kind and name.
    #[must_use]
    pub fn named(&self, kind: AccountKind, name: &str) -> Option<&Arc<AccountView>> {
        self.accounts.values().find(|view| view.kind == kind && view.named.name == name)
    }

    /// An account's name, for words about it.
    #[must_use]
    pub fn name_of(&self, id: AccountId) -> Named {
        self.accounts.get(&id).map_or_else(|| Named { id, kind: None, name: id.to_string() }, |view| view.named.clone())
    }
}

/// A policy as it is stored.
#[derive(Clone, Debug)]
pub(super) struct StoredPolicy {
    pub(super) policy: Option<Arc<Fields>>,
    pub(super) digest: Digest,
}

/// Makes the view of one account out of the books.
pub(super) fn view(books: &Books, policies: &BTreeMap<AccountId, StoredPolicy>, id: AccountId, stop: Arc<StopFlag>) -> Option<AccountView> {
    let account = books.account(id)?;
    let path = books.path(id);
    let agent = path.iter().filter_map(|id| books.account(*id)).find(|above| above.kind == AccountKind::Agent).unwrap_or(account);
    let stored = policies.get(&agent.id)?;
    let limits = path
        .iter()
        .filter_map(|id| books.account(*id).map(|above| (*id, above.limits)))
        .filter(|(_, limits)| *limits != Limits::default())
        .collect();
    let groups = path.iter().filter_map(|id| books.account(*id)).filter(|above| above.kind == AccountKind::Group);
    Some(AccountView {
        groups: groups.map(|group| group.name.clone()).collect(),
        named: account.named(),
        kind: account.kind,
        agent: agent.named(),
        limits,
        stopped: books.stopped(&path),
        policy: stored.policy.clone(),
        policy_digest: stored.digest,
        stop,
        path,
    })
}
