//! A ledger as one writes it down on paper: lists of calls and budgets, summed anew for every question. It shares value types
//! and the calendar with the real one, and no other code.

use aex_core::books::{AccountKind, HoldKey};
use aex_core::decision::AccountState;
use aex_core::window::{Period, Window};
use aex_proto::value::{AccountId, Stamp, TokenHash, token_text};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};

/// Which balance: whose, of which period, from when on.
pub(super) type Place = (AccountId, Period, Stamp);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) limit: Option<i64>,
    pub(super) spent: i64,
    pub(super) reserved: i64,
    pub(super) overdraft: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Held,
    Stopped(AccountId, AccountState),
    Short(AccountId, Period, i64),
}

struct Account {
    parent: Option<AccountId>,
    kind: AccountKind,
    state: AccountState,
    budgets: BTreeMap<Period, i64>,
}

struct Call {
    key: HoldKey,
    account: AccountId,
    amount: i64,
    at: Stamp,
    sent: bool,
    /// `None` while it is open.
    charge: Option<i64>,
    /// The balances that count it.
    places: Vec<Place>,
}

/// A balance: its limit, and what had been spent when it was opened.
struct Opened {
    limit: Option<i64>,
    before: i64,
}

struct Token {
    account: AccountId,
    number: u8,
    /// From when on it is refused as it is written, and as the running daemon takes it: what is over stays so.
    revoked: Option<(Stamp, Stamp)>,
    /// It was revoked at once.
    at_once: bool,
}

pub(super) struct Naive {
    pub(super) now: Stamp,
    accounts: Vec<Account>,
    calls: Vec<Call>,
    opened: BTreeMap<Place, Opened>,
    tokens: Vec<Token>,
}

impl Naive {
    pub(super) fn new() -> Naive {
        let root = Account { parent: None, kind: AccountKind::Root, state: AccountState::Active, budgets: BTreeMap::new() };
        Naive { now: Stamp::new(0), accounts: vec![root], calls: Vec::new(), opened: BTreeMap::new(), tokens: Vec::new() }
    }

    fn node(&self, id: AccountId) -> &Account {
        &self.accounts[usize::try_from(id.get() - 1).unwrap()]
    }

    fn ids(&self) -> impl Iterator<Item = AccountId> + use<> {
        (1..=i64::try_from(self.accounts.len()).unwrap()).map(AccountId::new)
    }

    fn path(&self, id: AccountId) -> Vec<AccountId> {
        std::iter::successors(Some(id), |id| self.node(*id).parent).collect()
    }

    /// An account that is not closed.
    pub(super) fn account(&self, at: usize) -> AccountId {
        let open: Vec<AccountId> = self.ids().filter(|id| self.node(*id).state != AccountState::Closed).collect();
        open[at % open.len()]
    }

    /// A call that is not over.
    pub(super) fn open(&self, at: usize) -> Option<HoldKey> {
        let open: Vec<HoldKey> = self.calls.iter().filter(|call| call.charge.is_none()).map(|call| call.key).collect();
        (!open.is_empty()).then(|| open[at % open.len()])
    }

    pub(super) fn next_account(&self) -> usize {
        self.accounts.len() + 1
    }

    pub(super) fn create(&mut self, parent: AccountId, kind: AccountKind, budgets: &[(Period, i64)]) -> AccountId {
        let state = AccountState::Active;
        self.accounts.push(Account { parent: Some(parent), kind, state, budgets: BTreeMap::new() });
        let id = AccountId::new(i64::try_from(self.accounts.len()).unwrap());
        for (period, limit) in budgets {
            self.set_budget(id, *period, *limit);
        }
        id
    }

    fn place(&self, account: AccountId, period: Period) -> Place {
        (account, period, Window::of(period, self.now, &TimeZone::UTC).unwrap().start)
    }

    fn sums(&self, place: &Place) -> Sums {
        let Opened { limit, before } = self.opened[place];
        let on = || self.calls.iter().filter(|call| call.places.contains(place));
        let spent = on().filter_map(|call| call.charge).fold(before, i64::saturating_add);
        let reserved = on().filter(|call| call.charge.is_none()).map(|call| call.amount).sum();
        let overdraft = limit.map_or(0, |limit| (spent.saturating_add(reserved) - limit).max(0));
        Sums { limit, spent, reserved, overdraft }
    }

    pub(super) fn hold(&mut self, key: HoldKey, account: AccountId, amount: i64, sent: bool) -> Verdict {
        let path = self.path(account);
        if let Some(stopped) = path.iter().find(|id| self.node(**id).state != AccountState::Active) {
            return Verdict::Stopped(*stopped, self.node(*stopped).state);
        }
        let mut places = Vec::new();
        for id in path {
            let budgets = &self.node(id).budgets;
            for period in Period::ALL.into_iter().filter(|period| *period == Period::Total || budgets.contains_key(period)) {
                let place = self.place(id, period);
                let empty = Sums { limit: budgets.get(&period).copied(), spent: 0, reserved: 0, overdraft: 0 };
                let sums = if self.opened.contains_key(&place) { self.sums(&place) } else { empty };
                let used = sums.spent.saturating_add(sums.reserved);
                let fits = used.checked_add(amount).is_some_and(|used| sums.limit.is_none_or(|limit| used <= limit));
                if !fits {
                    return Verdict::Short(id, period, sums.limit.map_or(0, |limit| limit - used));
                }
                places.push((place, sums.limit));
            }
        }
        for (place, limit) in &places {
            self.opened.entry(*place).or_insert(Opened { limit: *limit, before: 0 });
        }
        let places = places.into_iter().map(|(place, _)| place).collect();
        self.calls.push(Call { key, account, amount, at: self.now, sent, charge: None, places });
        Verdict::Held
    }

    pub(super) fn mark_sent(&mut self, key: HoldKey) -> bool {
        let call = self.calls.iter_mut().find(|call| call.key == key).unwrap();
        !std::mem::replace(&mut call.sent, true)
    }

    pub(super) fn end(&mut self, key: HoldKey, charge: impl FnOnce(i64) -> i64) {
        let at = self.calls.iter().position(|call| call.key == key).unwrap();
        let overdraft = |naive: &Naive| naive.calls[at].places.iter().map(|place| naive.sums(place).overdraft).collect::<Vec<_>>();
        let before = overdraft(self);
        self.calls[at].charge = Some(charge(self.calls[at].amount));
        if overdraft(self).iter().zip(before).any(|(after, before)| *after > before) {
            let path = self.path(self.calls[at].account);
            let agent = path.into_iter().find(|id| self.node(*id).kind == AccountKind::Agent);
            if let Some(agent) = agent.filter(|id| self.node(*id).state == AccountState::Active) {
                self.set_state(agent, AccountState::Suspended);
            }
        }
    }

    /// Returns what is spent and held of it.
    pub(super) fn set_budget(&mut self, account: AccountId, period: Period, limit: i64) -> i64 {
        let at = usize::try_from(account.get() - 1).unwrap();
        self.accounts[at].budgets.insert(period, limit);
        let place = self.place(account, period);
        if let Some(opened) = self.opened.get_mut(&place) {
            opened.limit = Some(limit);
        } else {
            let window = Window::of(period, self.now, &TimeZone::UTC).unwrap();
            let below: Vec<bool> = self.calls.iter().map(|call| self.path(call.account).contains(&account)).collect();
            let mut before = 0i64;
            for (call, _) in self.calls.iter_mut().zip(below).filter(|(_, below)| *below) {
                match call.charge {
                    Some(charge) if window.holds(call.at) => before = before.saturating_add(charge),
                    Some(_) => {}
                    None => call.places.push(place),
                }
            }
            self.opened.insert(place, Opened { limit: Some(limit), before });
        }
        let sums = self.sums(&place);
        sums.spent.saturating_add(sums.reserved)
    }

    pub(super) fn set_state(&mut self, account: AccountId, state: AccountState) {
        let at = usize::try_from(account.get() - 1).unwrap();
        self.accounts[at].state = state;
    }

    pub(super) fn close(&mut self, account: AccountId) -> Vec<AccountId> {
        let below = |id: &AccountId| self.path(*id).contains(&account) && self.node(*id).state != AccountState::Closed;
        let closed: Vec<AccountId> = self.ids().filter(below).collect();
        for id in &closed {
            self.set_state(*id, AccountState::Closed);
        }
        closed
    }

    /// Revokes the account's tokens from a time on, at once for ever, and makes a new one. Returns its number.
    pub(super) fn rotate(&mut self, account: AccountId, from: Stamp) -> u8 {
        let at_once = from <= self.now;
        let taken = if at_once { Stamp::new(0) } else { from };
        for token in self.tokens.iter_mut().filter(|token| token.account == account) {
            if token.revoked.is_none_or(|(_, at)| at > from) {
                (token.revoked, token.at_once) = (Some((from, taken)), at_once);
            }
        }
        let number = u8::try_from(self.tokens.len() + 1).unwrap();
        self.tokens.push(Token { account, number, revoked: None, at_once: false });
        number
    }

    /// The next start: what was sent is charged in full, the rest is let go.
    pub(super) fn recover(&mut self) {
        self.read_anew();
        for call in self.calls.iter_mut().filter(|call| call.charge.is_none()) {
            call.charge = Some(if call.sent { call.amount } else { 0 });
        }
    }

    /// The tables are read anew: a grace that is over by now stays so, until they are read by a clock that was set back.
    pub(super) fn read_anew(&mut self) {
        let now = self.now;
        for token in &mut self.tokens {
            let over = token.at_once;
            token.revoked = token.revoked.map(|(at, _)| (at, if over || at <= now { Stamp::new(0) } else { at }));
        }
    }

    /// Calls that are open.
    pub(super) fn unended(&self) -> Vec<HoldKey> {
        let mut keys: Vec<HoldKey> = self.calls.iter().filter(|call| call.charge.is_none()).map(|call| call.key).collect();
        keys.sort_unstable();
        keys
    }

    pub(super) fn balances(&self) -> BTreeMap<Place, Sums> {
        self.opened.keys().map(|place| (*place, self.sums(place))).collect()
    }

    pub(super) fn holds(&self) -> Vec<(HoldKey, bool)> {
        let mut open: Vec<_> = self.calls.iter().filter(|call| call.charge.is_none()).map(|call| (call.key, call.sent)).collect();
        open.sort_unstable();
        open
    }

    /// Accounts whose calls pass, as far as states go.
    pub(super) fn active(&self) -> BTreeSet<AccountId> {
        self.ids().filter(|id| self.path(*id).iter().all(|id| self.node(*id).state == AccountState::Active)).collect()
    }

    pub(super) fn tokens(&self) -> BTreeMap<[u8; 32], (AccountId, Option<Stamp>)> {
        let open = self.tokens.iter().filter(|token| self.node(token.account).state != AccountState::Closed);
        let hash = |number| *TokenHash::of(token_text(&[number; 32]).expose()).unwrap().bytes();
        open.map(|token| (hash(token.number), (token.account, token.revoked.map(|(_, at)| at)))).collect()
    }
}
