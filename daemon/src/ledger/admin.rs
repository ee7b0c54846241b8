//! Admin actions, inside the writer's transaction: accounts, tokens, states, configurations. Each is an event.
//!
//! An action checks all that it needs before it changes anything, so that a refusal leaves nothing behind.

use super::LedgerFault;
use super::directory::TokenView;
use super::load;
use super::writer::{Snapshot, Writer};
use aex_core::books::{Account, AccountKind, Limits};
use aex_core::decision::{AccountState, Denial};
use aex_core::event::{AccountCreated, BudgetSet, By, ConfigLoaded, Event, Imported, TokenCreated, TokenRevoked};
use aex_core::policy::Fields;
use aex_core::price::ModelCard;
use aex_core::window::Period;
use aex_proto::value::{AccountId, Digest, Pico, Stamp, TokenHash};
use rusqlite::params;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why an admin action is not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The name is taken.
    #[error("{0} exists already")]
    Exists(String),
    /// There is no such thing.
    #[error("{0} does not exist")]
    NotFound(String),
    /// Its state does not allow it.
    #[error("{0}")]
    State(String),
}

/// An account to be created.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// The account above it.
    pub parent: AccountId,
    /// What it stands for.
    pub kind: AccountKind,
    /// Its name.
    pub name: String,
    /// Its limits on calls.
    pub limits: Limits,
    /// What it states; runs are held to their agent's.
    pub policy: Fields,
    /// Its budgets.
    pub budgets: Vec<(Period, Pico)>,
    /// Why it is made, when that was said.
    pub reason: Option<String>,
}

/// A token to be stored.
#[derive(Clone, Debug)]
pub struct NewTokenRow {
    /// The digest of its text.
    pub hash: TokenHash,
    /// It may read only.
    pub read_only: bool,
    /// How long it lives, in microseconds.
    pub lasts_us: Option<i64>,
    /// What it is for; may be empty.
    pub label: String,
    /// Why it is made, when that was said.
    pub reason: Option<String>,
}

impl Writer<'_> {
    /// The time of this transaction.
    #[must_use]
    pub fn now(&self) -> Stamp {
        self.now
    }

    /// The open account of a kind and name.
    ///
    /// # Errors
    /// [`Refused::NotFound`].
    pub fn find(&self, kind: AccountKind, name: &str) -> Result<Account, Refused> {
        let mut open = self.state.books.accounts().filter(|account| account.state != AccountState::Closed);
        let word = load::name_of(&kind);
        open.find(|account| account.kind == kind && account.name == name)
            .cloned()
            .ok_or_else(|| Refused::NotFound(format!("{word} '{name}'")))
    }

    /// An open account by its number.
    ///
    /// # Errors
    /// [`Refused::NotFound`].
    pub fn open_account(&self, id: AccountId) -> Result<Account, Refused> {
        let open = self.state.books.account(id).filter(|account| account.state != AccountState::Closed);
        open.cloned().ok_or_else(|| Refused::NotFound(format!("account {id}")))
    }

    /// Open accounts below another, at any depth.
    #[must_use]
    pub fn open_below(&self, id: AccountId) -> Vec<Account> {
        let books = &self.state.books;
        let open = books.accounts().filter(|account| account.id != id && account.state != AccountState::Closed);
        open.filter(|account| load::is_below(books, account.id, id)).cloned().collect()
    }

    /// How many groups stand on an account's path.
    #[must_use]
    pub fn depth(&self, id: AccountId) -> usize {
        let books = &self.state.books;
        books.path(id).iter().filter_map(|id| books.account(*id)).filter(|above| above.kind == AccountKind::Group).count()
    }

    /// Why calls of an account do not pass, when they do not.
    #[must_use]
    pub fn stopped(&self, account: AccountId) -> Option<Denial> {
        let books = &self.state.books;
        books.stopped(&books.path(account))
    }

    /// What an account states; `None` when what is stored cannot be read.
    #[must_use]
    pub fn policy(&self, account: AccountId) -> Option<&Fields> {
        self.state.policies.get(&account).and_then(|stored| stored.policy.as_deref())
    }

    /// How full the fullest budget on an account's path is, in percent.
    pub(super) fn budget_share(&self, account: AccountId) -> Result<u64, LedgerFault> {
        Ok(self.state.books.fullest_share(account, self.now)?)
    }

    /// The number that the next account gets.
    #[must_use]
    pub fn next_account(&self) -> AccountId {
        AccountId::new(self.state.next_account)
    }

    /// Whether an account of a kind and name is open, or ever was.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn has_been(&self, kind: AccountKind, name: &str) -> Result<bool, LedgerFault> {
        let sql = "SELECT EXISTS (SELECT 1 FROM accounts WHERE kind = ? AND name = ?)";
        Ok(self.conn.prepare_cached(sql)?.query_row(params![load::name_of(&kind), name], |row| row.get(0))?)
    }

    /// Whether a token's digest is stored, whoever's it is or was.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn knows_token(&self, hash: &TokenHash) -> Result<bool, LedgerFault> {
        let sql = "SELECT EXISTS (SELECT 1 FROM tokens WHERE hash = ?)";
        Ok(self.conn.prepare_cached(sql)?.query_row(params![hash.bytes()], |row| row.get(0))?)
    }

    /// The account of this machine, made when a ledger is new.
    pub(super) fn ensure_root(&mut self) -> Result<(), LedgerFault> {
        if self.state.books.account(AccountId::ROOT).is_some() {
            return Ok(());
        }
        let root = NewAccount {
            parent: AccountId::ROOT,
            kind: AccountKind::Root,
            name: "root".to_owned(),
            limits: Limits::default(),
            policy: Fields::default(),
            budgets: Vec::new(),
            reason: None,
        };
        self.insert_account(&root, None, None).map(|_| ())
    }

    /// Creates an account.
    ///
    /// # Errors
    /// Outer: the ledger. Inner: the name is taken, or the account above is closed.
    pub fn create_account(&mut self, new: &NewAccount, by: Option<By>) -> Result<Result<AccountId, Refused>, LedgerFault> {
        self.create_account_from(new, None, by)
    }

    /// Creates an account that may bring spending along from an earlier program: its budgets begin with that.
    ///
    /// # Errors
    /// As [`Writer::create_account`].
    pub fn create_account_from(
        &mut self,
        new: &NewAccount,
        imported: Option<&Imported>,
        by: Option<By>,
    ) -> Result<Result<AccountId, Refused>, LedgerFault> {
        if self.find(new.kind, &new.name).is_ok() {
            return Ok(Err(Refused::Exists(format!("{} '{}'", load::name_of(&new.kind), new.name))));
        }
        let parent = self.state.books.account(new.parent).filter(|parent| parent.state != AccountState::Closed);
        if parent.is_none() {
            return Ok(Err(Refused::NotFound(format!("account {}", new.parent))));
        }
        self.insert_account(new, imported, by).map(Ok)
    }

    fn insert_account(&mut self, new: &NewAccount, imported: Option<&Imported>, by: Option<By>) -> Result<AccountId, LedgerFault> {
        let id = AccountId::new(self.state.next_account);
        self.state.next_account = self.state.next_account.saturating_add(1);
        let parent = (new.kind != AccountKind::Root).then_some(new.parent);
        let (policy, digest) = new.policy.snapshot();
        self.snapshot("fields", digest, &policy)?;
        let mut statement = self.conn.prepare_cached("INSERT INTO accounts VALUES (?, ?, ?, ?, 'active', '', ?, ?, ?, ?, NULL, ?)")?;
        let (rpm, concurrent) = (new.limits.rpm, new.limits.concurrent);
        statement.execute(params![
            id.get(),
            parent.map(AccountId::get),
            load::name_of(&new.kind),
            new.name,
            rpm,
            concurrent,
            policy,
            imported.map_or(self.now, |before| before.created_at).micros(),
            new.limits.tpm
        ])?;
        let created = AccountCreated {
            account: id,
            by: by.clone(),
            imported: imported.cloned(),
            kind: new.kind,
            limits: new.limits,
            name: new.name.clone(),
            parent,
            policy: digest,
            reason: new.reason.clone(),
        };
        self.append(&created.into())?;
        self.state.books.put_account(Account {
            id,
            parent,
            kind: new.kind,
            name: new.name.clone(),
            state: AccountState::Active,
            reason: String::new(),
            limits: new.limits,
            budgets: BTreeMap::new(),
        });
        self.state.policies.insert(id, load::stored_policy(&policy));
        self.directory_changed = true;
        for (period, limit) in &new.budgets {
            self.set_new_budget(id, *period, *limit, imported.map(|before| before.spent), by.clone())?;
        }
        Ok(id)
    }

    /// Sets a budget of an account that is new: nothing is held on it yet, and nothing spent but what it brings along.
    fn set_new_budget(
        &mut self,
        account: AccountId,
        period: Period,
        limit: Pico,
        spent: Option<Pico>,
        by: Option<By>,
    ) -> Result<(), LedgerFault> {
        let mut statement = self.conn.prepare_cached("INSERT INTO budgets VALUES (?, ?, ?)")?;
        statement.execute(params![account.get(), period.name(), limit.get()])?;
        let (balance, opened) = self.state.books.set_budget(account, period, Some(limit), self.now, spent.unwrap_or(Pico::ZERO))?;
        if spent.is_some() {
            // The budget's own event opens the balance, because it says what had been spent.
            self.insert_balance(balance)?;
        } else if opened {
            self.window_opened(balance)?;
        }
        let set = BudgetSet { account, balance, by, holds: Vec::new(), limit: Some(limit), period, reason: None, spent };
        self.append(&set.into())?;
        Ok(())
    }

    /// Stores a token of an account.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn create_token(&mut self, account: AccountId, token: &NewTokenRow, by: Option<By>) -> Result<Option<Stamp>, LedgerFault> {
        let expires_at = token.lasts_us.map(|lasts| self.now.offset(lasts));
        let mut statement = self.conn.prepare_cached("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, NULL, ?)")?;
        let (hash, made, ends) = (token.hash.bytes(), self.now.micros(), expires_at.map(Stamp::micros));
        statement.execute(params![hash, account.get(), token.read_only, made, ends, token.label])?;
        let created = TokenCreated {
            account,
            by,
            expires_at,
            label: Some(token.label.clone()).filter(|label| !label.is_empty()),
            read_only: token.read_only,
            reason: token.reason.clone(),
            token: Digest::from_bytes(*hash),
        };
        self.append(&created.into())?;
        let view = TokenView { account, read_only: token.read_only, expires_at, revoked_at: None };
        self.state.tokens.insert(*token.hash.bytes(), view);
        self.directory_changed = true;
        Ok(expires_at)
    }

    /// Revokes all tokens of an account that are not revoked by then; from `at` on they are refused. Returns how many.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn revoke_tokens(&mut self, account: AccountId, at: Stamp, reason: &str, by: Option<&By>) -> Result<u64, LedgerFault> {
        let mut hashes: Vec<[u8; 32]> = self
            .state
            .tokens
            .iter()
            .filter(|(_, token)| token.account == account && token.revoked_at.is_none_or(|revoked| revoked > at))
            .map(|(hash, _)| *hash)
            .collect();
        hashes.sort_unstable();
        for hash in &hashes {
            self.revoke(account, hash, at, reason, by)?;
        }
        Ok(u64::try_from(hashes.len()).unwrap_or(u64::MAX))
    }

    /// Revokes one token of an open account from now on. Revoking one that is revoked already changes nothing.
    ///
    /// # Errors
    /// Outer: the ledger cannot be written. Inner: there is no such token.
    pub fn revoke_token(&mut self, hash: &TokenHash, reason: &str, by: Option<&By>) -> Result<Result<(), Refused>, LedgerFault> {
        let now = self.now;
        let Some(token) = self.state.tokens.get(hash.bytes()) else {
            return Ok(Err(Refused::NotFound(format!("token {}…", hash.short()))));
        };
        let account = token.account;
        if token.revoked_at.is_none_or(|revoked| revoked > now) {
            self.revoke(account, hash.bytes(), now, reason, by)?;
        }
        Ok(Ok(()))
    }

    pub(super) fn revoke(
        &mut self,
        account: AccountId,
        hash: &[u8; 32],
        at: Stamp,
        reason: &str,
        by: Option<&By>,
    ) -> Result<(), LedgerFault> {
        let mut statement = self.conn.prepare_cached("UPDATE tokens SET revoked_us = ? WHERE hash = ?")?;
        statement.execute(params![at.micros(), hash])?;
        let revoked = TokenRevoked { account, at, by: by.cloned(), reason: reason.to_owned(), token: Digest::from_bytes(*hash) };
        self.append(&revoked.into())?;
        if let Some(token) = self.state.tokens.get_mut(hash) {
            token.revoke(at, self.now);
        }
        self.directory_changed = true;
        Ok(())
    }

    /// Sets an account's state. Setting the state that it has changes nothing.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn set_state(&mut self, account: &Account, to: AccountState, reason: &str, by: Option<By>) -> Result<(), LedgerFault> {
        if account.state == to {
            return Ok(());
        }
        self.change_state(account, to, reason.to_owned(), by)?;
        let flag = Arc::clone(self.state.stops.entry(account.id).or_default());
        self.flags.push((account.id, flag, to));
        Ok(())
    }

    /// Closes an account and all below it, for ever: tokens are revoked, live calls end. Returns those that it closed.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn close_account(&mut self, account: AccountId, reason: &str, by: Option<&By>) -> Result<Vec<AccountId>, LedgerFault> {
        let books = &self.state.books;
        let open = books.accounts().filter(|node| node.state != AccountState::Closed && load::is_below(books, node.id, account));
        let subtree: Vec<Account> = open.cloned().collect();
        self.close_all(subtree, reason, by)
    }

    /// Closes open accounts, with whom all below them have to be; the deepest first.
    pub(super) fn close_all(&mut self, mut nodes: Vec<Account>, reason: &str, by: Option<&By>) -> Result<Vec<AccountId>, LedgerFault> {
        nodes.sort_by_key(|node| std::cmp::Reverse(node.id));
        // One look at the tokens for all: a kill may close thousands of runs.
        let mut tokens: BTreeMap<AccountId, Vec<[u8; 32]>> = nodes.iter().map(|node| (node.id, Vec::new())).collect();
        for (hash, token) in &self.state.tokens {
            if let Some(hashes) = tokens.get_mut(&token.account)
                && token.revoked_at.is_none_or(|revoked| revoked > self.now)
            {
                hashes.push(*hash);
            }
        }
        for node in &nodes {
            let mut hashes = tokens.get(&node.id).cloned().unwrap_or_default();
            hashes.sort_unstable();
            for hash in &hashes {
                self.revoke(node.id, hash, self.now, reason, by)?;
            }
            self.set_state(node, AccountState::Closed, reason, by.cloned())?;
            self.closed.insert(node.id);
        }
        self.state.tokens.retain(|_, token| !tokens.contains_key(&token.account));
        Ok(nodes.iter().map(|node| node.id).collect())
    }

    /// Records a configuration that came into force, what its models cost and where its providers are reached.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn config_loaded(
        &mut self,
        cards: &[ModelCard],
        default_model: Option<String>,
        gateway_errors_charged: bool,
        providers: BTreeMap<String, String>,
        by: Option<By>,
    ) -> Result<(), LedgerFault> {
        let mut digests = BTreeMap::new();
        for card in cards {
            let (text, digest) = card.snapshot();
            self.snapshot("card", digest, &text)?;
            digests.insert(card.name.clone(), digest);
        }
        self.append(&ConfigLoaded { by, cards: digests, default_model, gateway_errors_charged, providers }.into())?;
        Ok(())
    }

    /// Records an event that changes nothing in the books; its number.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn note(&mut self, event: &Event) -> Result<i64, LedgerFault> {
        self.append(event)
    }

    /// Keeps a text that events will name.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn keep(&mut self, snapshot: &Snapshot) -> Result<(), LedgerFault> {
        self.snapshot(snapshot.kind, snapshot.digest, &snapshot.text)
    }

    /// Keeps the text that a digest stands for.
    pub(super) fn snapshot(&mut self, kind: &str, digest: Digest, text: &str) -> Result<(), LedgerFault> {
        if self.state.snapshots.insert(digest) {
            let mut statement = self.conn.prepare_cached("INSERT OR IGNORE INTO snapshots VALUES (?, ?, ?)")?;
            statement.execute(params![digest.bytes(), kind, text])?;
        }
        Ok(())
    }
}
