//! The audit's whole state behind an event, as text, and how an audit goes on from it.
//!
//! The text is lines of canonical JSON: one `checkpoint`, then accounts, balances, holds and tokens as they were, each in ascending
//! order. Its SHA-256 names the state: an event that seals old events holds it. Fields may be added as optional ones.

use super::calls::Held;
use super::consents::Consents;
use super::rows::{Ended, Token};
use super::tree::Node;
use super::words::Said;
use super::{Audit, Basis, Configs, Counts, Zones};
use crate::books::Balance;
use crate::canon;
use crate::chain::Head;
use crate::event::{LedgerSealed, WindowOpened};
use aex_proto::value::{AccountId, Digest, Pico};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// What a state holds once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The prices that the configurations of the living epoch had, by model.
    cards: BTreeSet<(String, Digest)>,
    /// What people let pass.
    #[serde(default, skip_serializing_if = "Consents::is_empty")]
    consents: Consents,
    counts: Counts,
    pub(super) ended: Ended,
    epoch: u32,
    /// One of these configurations does not charge gateway errors.
    free_gateway_errors: bool,
    head: Head,
    /// The largest number that an account has.
    last_account: i64,
    /// The ledger's own name; absent before the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ledger: Option<String>,
    /// A window that the next event has to give its budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<(i64, WindowOpened)>,
    /// The event was a restore: the start from which the next one has the ledger count on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restored: Option<u32>,
    /// What was taken out into files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    seals: Vec<LedgerSealed>,
    /// The event is a bill beyond a limit: it, and the agent that the next event has to suspend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suspends: Option<(i64, AccountId)>,
    /// The account that it is about; absent when it is the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<AccountId>,
    /// The zone in which windows are counted; absent before the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
}

/// One line of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece<'a> {
    /// What it holds once: the first line.
    Checkpoint(Cow<'a, State>),
    /// An account and what it once was.
    WasAccount(Cow<'a, Node>),
    /// A balance.
    WasBalance(Cow<'a, Balance>),
    /// A call in flight.
    WasHold(Cow<'a, Held>),
    /// A token.
    WasToken(Cow<'a, Token>),
}

/// A state behind an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    state: State,
    accounts: Vec<Node>,
    balances: Vec<Balance>,
    holds: Vec<Held>,
    tokens: Vec<Token>,
}

impl Checkpoint {
    /// A state of which only the first line is known.
    ///
    /// # Errors
    /// When the line is no first one.
    pub fn begin(piece: Piece<'_>) -> Result<Checkpoint, String> {
        let Piece::Checkpoint(state) = piece else { return Err("a state does not begin with its `checkpoint`".to_owned()) };
        Ok(Checkpoint { state: state.into_owned(), accounts: Vec::new(), balances: Vec::new(), holds: Vec::new(), tokens: Vec::new() })
    }

    /// Adds the next line.
    ///
    /// # Errors
    /// When it does not stand in its order.
    pub fn push(&mut self, piece: Piece<'_>) -> Result<(), String> {
        let Checkpoint { accounts, balances, holds, tokens, .. } = self;
        let in_order = match piece {
            Piece::Checkpoint(_) => false,
            Piece::WasAccount(node) => {
                let fits = balances.is_empty() && holds.is_empty() && tokens.is_empty();
                fits && append(accounts, node.into_owned(), |node| node.row.id)
            }
            Piece::WasBalance(balance) => {
                holds.is_empty() && tokens.is_empty() && append(balances, balance.into_owned(), |balance| balance.id)
            }
            Piece::WasHold(held) => tokens.is_empty() && append(holds, held.into_owned(), |held| held.row.key),
            Piece::WasToken(token) => append(tokens, token.into_owned(), |token| token.hash),
        };
        if in_order { Ok(()) } else { Err("they do not stand in the order of a state".to_owned()) }
    }

    /// Its lines, in order.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let accounts = self.accounts.iter().map(|node| Piece::WasAccount(Cow::Borrowed(node)));
        let balances = self.balances.iter().map(|balance| Piece::WasBalance(Cow::Borrowed(balance)));
        let holds = self.holds.iter().map(|held| Piece::WasHold(Cow::Borrowed(held)));
        let tokens = self.tokens.iter().map(|token| Piece::WasToken(Cow::Borrowed(token)));
        std::iter::once(Piece::Checkpoint(Cow::Borrowed(&self.state))).chain(accounts).chain(balances).chain(holds).chain(tokens)
    }

    /// Its text: each line with its line feed.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for piece in self.pieces() {
            text.push_str(&canon::text(&piece));
            text.push('\n');
        }
        text
    }

    /// The digest of its text.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.text().as_bytes())
    }

    /// Reads a text back.
    ///
    /// # Errors
    /// When it is not the text of a state, to the byte.
    pub fn parse(text: &str) -> Result<Checkpoint, String> {
        let mut lines = text.lines().map(|line| serde_json::from_str::<Piece<'_>>(line).map_err(|fault| fault.to_string()));
        let first = lines.next().ok_or("it is empty")??;
        let mut read = Checkpoint::begin(first)?;
        lines.try_for_each(|piece| read.push(piece?))?;
        if read.text() == text { Ok(read) } else { Err("its text is not canonical".to_owned()) }
    }

    /// The event that it stands behind.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.state.head
    }

    /// The name of its ledger.
    #[must_use]
    pub fn ledger(&self) -> Option<&str> {
        self.state.ledger.as_deref()
    }

    /// The account that it is about; `None`: it is the whole.
    #[must_use]
    pub const fn filter(&self) -> Option<AccountId> {
        self.state.within
    }

    /// The calls in flight.
    pub fn open(&self) -> impl Iterator<Item = &super::rows::Hold> {
        self.holds.iter().map(|held| &held.row)
    }

    /// The digests of the texts that an audit needs to go on.
    pub fn named(&self) -> impl Iterator<Item = Digest> {
        let stated = self.accounts.iter().flat_map(|node| node.policies_had.iter().copied());
        let held = self.holds.iter().map(|held| held.row.card);
        self.state.cards.iter().map(|(_, card)| *card).chain(stated).chain(held)
    }

    pub(super) const fn state(&self) -> &State {
        &self.state
    }

    /// What is left of it for whoever may see one account: that and those below it, and what limits the accounts above it.
    #[must_use]
    pub fn within(mut self, account: AccountId, above: &BTreeSet<AccountId>, below: &BTreeSet<AccountId>) -> Checkpoint {
        let is_told = |id: &AccountId| above.contains(id) || below.contains(id);
        self.accounts.retain(|node| is_told(&node.row.id));
        self.tokens.retain(|token| below.contains(&token.account));
        self.holds.retain(|held| below.contains(&held.row.account));
        self.balances.retain(|balance| is_told(&balance.account));
        for balance in self.balances.iter_mut().filter(|balance| !below.contains(&balance.account)) {
            let held = self.holds.iter().filter(|held| held.row.balances.contains(&balance.id));
            balance.reserved = held.fold(Pico::ZERO, |sum, held| sum.plus(held.row.amount).unwrap_or(Pico::MAX));
            balance.spent = Pico::ZERO;
        }
        let State { consents, counts, ended, pending, suspends, within, .. } = &mut self.state;
        consents.within(below);
        *suspends = suspends.take().filter(|(_, agent)| is_told(agent));
        (*counts, *ended, *within) = (Counts::default(), Ended::NONE, Some(account));
        *pending = pending.take().filter(|(_, opened)| is_told(&opened.account));
        self
    }
}

/// Appends what comes behind the last; `false` when it does not.
fn append<T, K: Ord>(list: &mut Vec<T>, item: T, key: impl Fn(&T) -> K) -> bool {
    let behind = list.last().is_none_or(|last| key(last) < key(&item));
    list.push(item);
    behind
}

impl Audit {
    /// All of its state but the texts of snapshots and what was found.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        let state = State {
            cards: self.configs.cards.clone(),
            consents: self.consents.clone(),
            counts: self.counts,
            ended: self.ended,
            epoch: self.epoch,
            free_gateway_errors: self.configs.free_gateway_errors,
            head: self.head,
            last_account: self.tree.last,
            ledger: self.ledger.clone(),
            pending: self.money.pending.clone(),
            restored: self.restored,
            seals: self.seals.clone(),
            suspends: self.suspends,
            within: self.within,
            zone: self.zone_name.clone(),
        };
        Checkpoint {
            state,
            accounts: self.tree.accounts.values().cloned().collect(),
            balances: self.money.balances.values().cloned().collect(),
            holds: self.open.values().cloned().collect(),
            tokens: self.tree.tokens.values().cloned().collect(),
        }
    }

    /// An audit that goes on from a state. Snapshots that events behind it name, or that it names itself, are to be given anew.
    #[must_use]
    pub fn resume(zones: Zones, from: Checkpoint) -> Audit {
        let mut audit = Audit::new(zones);
        let basis = Basis { head: from.head(), state: from.digest(), is_proven: false, file: None };
        let Checkpoint { state, accounts, balances, holds, tokens } = from;
        audit.consents = state.consents;
        audit.configs = Configs { cards: state.cards, free_gateway_errors: state.free_gateway_errors };
        (audit.counts, audit.ended, audit.epoch, audit.head) = (state.counts, state.ended, state.epoch, state.head);
        (audit.ledger, audit.seals, audit.within) = (state.ledger, state.seals, state.within);
        (audit.restored, audit.suspends) = (state.restored, state.suspends);
        audit.zone = state.zone.as_deref().and_then(zones);
        audit.found.integrity.check(audit.zone.is_some() == state.zone.is_some(), || {
            format!("event {}: the zone {} is not known here, so its windows cannot be checked", basis.head.seq, state.zone.said())
        });
        audit.zone_name = state.zone;
        audit.tree.last = state.last_account;
        audit.tree.accounts = accounts.into_iter().map(|node| (node.row.id, node)).collect();
        audit.tree.tokens = tokens.into_iter().map(|token| (token.hash, token)).collect();
        balances.into_iter().for_each(|balance| audit.money.open(balance));
        audit.money.pending = state.pending;
        audit.open = holds.into_iter().map(|held| (held.row.key, held)).collect();
        audit.bases.insert(basis.head.seq, basis);
        audit
    }
}

/// A map as a list of pairs, so that its order is ours and not that of the keys' names.
pub(super) mod pairs {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;

    pub(crate) fn serialize<S: Serializer, K: Serialize, V: Serialize>(map: &BTreeMap<K, V>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(crate) fn deserialize<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        D: Deserializer<'de>,
        K: Ord + Deserialize<'de>,
        V: Deserialize<'de>,
    {
        Vec::<(K, V)>::deserialize(deserializer).map(|pairs| pairs.into_iter().collect())
    }
}
