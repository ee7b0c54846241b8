//! Reads the whole state that the writer keeps in memory.

use super::LedgerFault;
use super::directory::{StopFlag, StoredPolicy, TokenView};
use crate::os::clock;
use aex_core::books::{Account, AccountKind, Balance, Books, HoldKey, Limits, OpenHold};
use aex_core::chain::Head;
use aex_core::decision::AccountState;
use aex_core::event::Event;
use aex_core::policy::Fields;
use aex_core::window::{Period, Window};
use aex_proto::value::{AccountId, BalanceId, Digest, Pico, RequestId, Stamp};
use jiff::tz::TimeZone;
use rusqlite::{Connection, Row};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// What the writer keeps in memory. The tables are the truth: after any failed transaction it is read anew.
pub(super) struct State {
    pub(super) zone: TimeZone,
    pub(super) books: Books,
    pub(super) rows: HashMap<HoldKey, HoldRow>,
    pub(super) policies: BTreeMap<AccountId, StoredPolicy>,
    pub(super) tokens: HashMap<[u8; 32], TokenView>,
    pub(super) stops: BTreeMap<AccountId, Arc<StopFlag>>,
    pub(super) snapshots: HashSet<Digest>,
    pub(super) head: Head,
    pub(super) epoch: u32,
    pub(super) next_account: i64,
    pub(super) ledger: String,
}

/// What the row of an open hold says beside the books: it goes into the call's terminal row.
pub(super) struct HoldRow {
    pub(super) model: String,
    pub(super) held_us: i64,
    pub(super) held_seq: i64,
    pub(super) tokens: i64,
    /// When it has lasted for as long as it may, by the clock that nobody sets; `deadline` of the event tells it as wall time.
    pub(super) due: Duration,
}

/// Reads the state. Closed accounts are left out, unless a hold of theirs is open.
pub(super) fn load(conn: &Connection, zone: TimeZone, now: Stamp) -> Result<State, LedgerFault> {
    let (head, epoch, next_account, ledger) = conn.query_row("SELECT seq, hash, epoch, next_account, ledger FROM chain", [], |row| {
        Ok((Head { seq: row.get(0)?, hash: digest(row, 1)? }, row.get(2)?, row.get(3)?, row.get(4)?))
    })?;
    let next_balance: i64 = conn.query_row("SELECT coalesce(max(id), 0) + 1 FROM balances", [], |row| row.get(0))?;
    let mut state = State {
        books: Books::new(zone.clone(), next_balance),
        rows: HashMap::new(),
        zone,
        policies: BTreeMap::new(),
        tokens: HashMap::new(),
        stops: BTreeMap::new(),
        snapshots: HashSet::new(),
        head,
        epoch,
        next_account,
        ledger,
    };
    check_head(conn, head)?;
    accounts(conn, &mut state)?;
    balances(conn, &mut state)?;
    holds(conn, &mut state)?;
    tokens(conn, &mut state, now)?;
    let mut statement = conn.prepare("SELECT digest FROM snapshots")?;
    for row in statement.query_map([], |row| digest(row, 0))? {
        state.snapshots.insert(row?);
    }
    Ok(state)
}

/// The head that is kept beside the events has to be the last event: a tail cut off is noticed at once.
pub(super) fn check_head(conn: &Connection, head: Head) -> Result<(), LedgerFault> {
    let last = conn.query_row("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1", [], |row| {
        Ok(Head { seq: row.get(0)?, hash: digest(row, 1)? })
    });
    let last = match last {
        Err(rusqlite::Error::QueryReturnedNoRows) => Head::START,
        other => other?,
    };
    if last == head {
        return Ok(());
    }
    Err(LedgerFault::Broken(format!(
        "the events end at {}, but the chain's head is {}: events were removed or added by hand",
        last.seq, head.seq
    )))
}

/// Accounts that the books need: open ones, those with an open hold, and all above them.
const NEEDED: &str = "WITH RECURSIVE needed (id) AS (
    SELECT id FROM accounts WHERE closed_us IS NULL UNION SELECT account FROM holds
    UNION SELECT parent FROM accounts JOIN needed USING (id) WHERE parent IS NOT NULL)";

fn accounts(conn: &Connection, state: &mut State) -> Result<(), LedgerFault> {
    let sql = format!(
        "{NEEDED} SELECT id, parent, kind, name, state, reason, rpm, concurrent, policy, tpm FROM accounts JOIN needed USING (id) ORDER BY id"
    );
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id = AccountId::new(row.get(0)?);
        let (kind, account_state): (String, String) = (row.get(2)?, row.get(4)?);
        let account = Account {
            id,
            parent: row.get::<_, Option<i64>>(1)?.map(AccountId::new),
            kind: word(&kind)?,
            name: row.get(3)?,
            state: word(&account_state)?,
            reason: row.get(5)?,
            limits: Limits { rpm: row.get(6)?, concurrent: row.get(7)?, tpm: row.get(9)? },
            budgets: BTreeMap::new(),
        };
        let policy: String = row.get(8)?;
        state.policies.insert(id, stored_policy(&policy));
        if account.state == AccountState::Active {
            state.stops.entry(id).or_default();
        }
        state.books.put_account(account);
    }
    let mut statement = conn.prepare("SELECT account, period, limit_pico FROM budgets")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let period: String = row.get(1)?;
        if let Some(account) = state.books.account(AccountId::new(row.get(0)?)) {
            let mut account = account.clone();
            account.budgets.insert(word::<Period>(&period)?, Pico::new(row.get(2)?));
            state.books.put_account(account);
        }
    }
    Ok(())
}

/// A policy that cannot be read denies every call: it is kept as `None`.
pub(super) fn stored_policy(text: &str) -> StoredPolicy {
    let policy = serde_json::from_str::<Fields>(text);
    if let Err(fault) = &policy {
        tracing::error!(%fault, "a stored policy cannot be read: its agent's calls are all denied");
    }
    StoredPolicy { policy: policy.ok().map(Arc::new), digest: Digest::of(text.as_bytes()) }
}

fn balances(conn: &Connection, state: &mut State) -> Result<(), LedgerFault> {
    let sql = format!(
        "{NEEDED} SELECT b.id, account, period, start_us, end_us, limit_pico, spent_pico, reserved_pico, overdraft_pico FROM balances b JOIN needed n ON n.id = b.account ORDER BY b.id"
    );
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        state.books.put_balance(balance(row)?);
    }
    Ok(())
}

pub(super) fn balance(row: &Row<'_>) -> Result<Balance, LedgerFault> {
    let period: String = row.get(2)?;
    Ok(Balance {
        id: BalanceId::new(row.get(0)?),
        account: AccountId::new(row.get(1)?),
        period: word(&period)?,
        window: Window { start: Stamp::new(row.get(3)?), end: row.get::<_, Option<i64>>(4)?.map(Stamp::new) },
        limit: row.get::<_, Option<i64>>(5)?.map(Pico::new),
        spent: Pico::new(row.get(6)?),
        reserved: Pico::new(row.get(7)?),
        overdraft: Pico::new(row.get(8)?),
    })
}

fn holds(conn: &Connection, state: &mut State) -> Result<(), LedgerFault> {
    let mut statement = conn.prepare(
        "SELECT request, attempt, account, amount_pico, balances, sent, epoch, deadline_us, model, held_us, held_seq, tokens FROM holds",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let balances: String = row.get(4)?;
        let hold = OpenHold {
            account: AccountId::new(row.get(2)?),
            amount: Pico::new(row.get(3)?),
            balances: super::audit::balances(&balances)?,
            sent: row.get(5)?,
            epoch: row.get(6)?,
            deadline: Stamp::new(row.get(7)?),
        };
        let held_us: i64 = row.get(9)?;
        // When it was held by this process, the writer knows better.
        let lasts_us = u64::try_from(hold.deadline.since(Stamp::new(held_us))).unwrap_or(0);
        let due = clock::mono().saturating_add(Duration::from_micros(lasts_us));
        let kept = HoldRow { model: row.get(8)?, held_us, held_seq: row.get(10)?, tokens: row.get(11)?, due };
        state.rows.insert(key(row, 0)?, kept);
        state.books.put_hold(key(row, 0)?, hold);
    }
    Ok(())
}

pub(super) fn key(row: &Row<'_>, at: usize) -> Result<HoldKey, rusqlite::Error> {
    let bits: i64 = row.get(at)?;
    Ok(HoldKey { request: RequestId::from_bits(bits.cast_unsigned()), attempt: row.get(at + 1)? })
}

fn tokens(conn: &Connection, state: &mut State, now: Stamp) -> Result<(), LedgerFault> {
    let mut coming = HashSet::new();
    let mut statement = conn.prepare("SELECT t.hash, t.account, t.read_only, t.expires_us, t.revoked_us FROM tokens t JOIN accounts a ON a.id = t.account WHERE a.closed_us IS NULL")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let token = TokenView {
            account: AccountId::new(row.get(1)?),
            read_only: row.get(2)?,
            expires_at: row.get::<_, Option<i64>>(3)?.map(Stamp::new),
            revoked_at: None,
        };
        let revoked_at: Option<i64> = row.get(4)?;
        let hash = row.get(0)?;
        let token = state.tokens.entry(hash).or_insert(token);
        if let Some(at) = revoked_at.map(Stamp::new) {
            token.revoke(at, now);
            if at > now {
                coming.insert(hash);
            }
        }
    }
    finally_revoked(conn, state, coming)
}

/// A token that was revoked at once stays revoked when the wall clock goes back to before that; its row alone does not tell it
/// from one that still has its grace, its newest event does, unless that is sealed: then the grace is long over. Most starts find
/// no such token, and read no event.
fn finally_revoked(conn: &Connection, state: &mut State, mut coming: HashSet<[u8; 32]>) -> Result<(), LedgerFault> {
    let mut statement = conn.prepare("SELECT at_us, body FROM events WHERE kind = 'token.revoked' ORDER BY seq DESC")?;
    let mut rows = statement.query([])?;
    while !coming.is_empty() {
        let Some(row) = rows.next()? else { break };
        let (at, body): (Stamp, String) = (Stamp::new(row.get(0)?), row.get(1)?);
        let Ok(Event::TokenRevoked(revoked)) = Event::parse("token.revoked", &body) else { continue };
        if coming.remove(revoked.token.bytes())
            && let Some(token) = state.tokens.get_mut(revoked.token.bytes())
        {
            token.revoke(revoked.at, at);
        }
    }
    for hash in coming {
        if let Some(token) = state.tokens.get_mut(&hash) {
            token.revoke(Stamp::new(0), Stamp::new(0));
        }
    }
    Ok(())
}

/// A digest column.
pub(super) fn digest(row: &Row<'_>, at: usize) -> Result<Digest, rusqlite::Error> {
    row.get::<_, [u8; 32]>(at).map(Digest::from_bytes)
}

/// An enumerated column, by its name in JSON.
pub(super) fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, LedgerFault> {
    serde_json::from_value(serde_json::Value::from(text)).map_err(|fault| LedgerFault::Broken(fault.to_string()))
}

/// The name of an enumerated value, as its column holds it.
pub(super) fn name_of<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Kinds of accounts whose calls can be stopped with a parent's.
pub(super) fn is_below(books: &Books, id: AccountId, above: AccountId) -> bool {
    books.account(id).is_some_and(|account| account.kind != AccountKind::Root) && books.path(id).contains(&above)
}
