//! Queries. Each runs on a reader's connection, on one snapshot of the database.

use super::load::{balance, digest, word};
use super::{LedgerFault, schema};
use aex_core::books::{AccountKind, Balance, Limits};
use aex_core::decision::AccountState;
use aex_core::policy::Fields;
use aex_core::verify::Record;
use aex_proto::value::{AccountId, Pico, Stamp};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Readers at once.
pub(super) const READERS: u32 = 4;
/// Readers that are kept for what must not wait behind a report: the end of runs.
pub(super) const KEPT: u32 = 1;
/// How long a query waits for a free reader.
const WAIT: Duration = Duration::from_secs(10);

/// The pool of readers' connections.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    pool: r2d2::Pool<r2d2_sqlite::SqliteConnectionManager>,
}

impl Readers {
    /// A pool of at most so many connections.
    pub(super) fn open(path: &Path, most: u32) -> Result<Readers, LedgerFault> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let manager = r2d2_sqlite::SqliteConnectionManager::file(path).with_flags(flags).with_init(|conn| {
            schema::configure(conn)?;
            conn.execute_batch("PRAGMA query_only = 1")
        });
        // Connections are made at first need: an idle daemon keeps one.
        let pool = r2d2::Pool::builder().max_size(most).min_idle(Some(0)).connection_timeout(WAIT).build(manager)?;
        Ok(Readers { pool })
    }

    pub(super) fn with<T>(&self, query: impl FnOnce(&Reader<'_>) -> Result<T, LedgerFault>) -> Result<T, LedgerFault> {
        let mut conn = self.pool.get()?;
        let transaction = conn.transaction()?;
        query(&Reader::new(&transaction))
    }
}

/// A reader on one snapshot.
pub struct Reader<'c> {
    pub(super) conn: &'c Connection,
}

/// An account's row.
#[derive(Clone, Debug)]
pub struct AccountRow {
    /// Its number.
    pub id: AccountId,
    /// The account above.
    pub parent: Option<AccountId>,
    /// What it stands for.
    pub kind: AccountKind,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: AccountState,
    /// Why it is in that state.
    pub reason: String,
    /// Its limits on calls.
    pub limits: Limits,
    /// What it states; `None` when what is stored cannot be read.
    pub policy: Option<Fields>,
    /// When it was created.
    pub created_at: Stamp,
    /// Budgets and what is used of them, running windows only; the total comes first.
    pub balances: Vec<BalanceRow>,
}

/// A balance in a running window.
pub type BalanceRow = Balance;

/// A call that counts in the rates.
#[derive(Clone, Debug)]
pub struct RecentCall {
    /// Whose it is.
    pub account: AccountId,
    /// The account above.
    pub above: Option<AccountId>,
    /// When it was held.
    pub at: Stamp,
    /// What it used; in flight, what its bound assumes.
    pub tokens: u64,
    /// The model.
    pub model: String,
    /// It is the first attempt of its request.
    pub is_first: bool,
}

/// Which events are asked for.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only events after this number.
    pub after: i64,
    /// Only events up to this number.
    pub until: Option<i64>,
    /// The newest ones before all, rather than the oldest; answered oldest first either way.
    pub newest: bool,
    /// At most so many.
    pub limit: u32,
    /// Only events of this account and those below it.
    pub account: Option<AccountId>,
}

/// An event's row.
pub type EventRow = Record;

impl<'c> Reader<'c> {
    pub(super) const fn new(conn: &'c Connection) -> Reader<'c> {
        Reader { conn }
    }

    /// Open accounts of a kind, by number.
    ///
    /// # Errors
    /// When the query fails or a row does not fit.
    pub fn accounts(&self, kind: AccountKind, now: Stamp) -> Result<Vec<AccountRow>, LedgerFault> {
        let sql = format!("{ACCOUNT} WHERE kind = ? AND closed_us IS NULL ORDER BY id");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut rows = statement.query([super::load::name_of(&kind)])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(self.account_row(row, now)?);
        }
        Ok(found)
    }

    /// One account, closed ones included.
    ///
    /// # Errors
    /// When the query fails or a row does not fit.
    pub fn account(&self, id: AccountId, now: Stamp) -> Result<Option<AccountRow>, LedgerFault> {
        let mut statement = self.conn.prepare_cached(&format!("{ACCOUNT} WHERE id = ?"))?;
        let mut rows = statement.query([id.get()])?;
        rows.next()?.map(|row| self.account_row(row, now)).transpose()
    }

    fn account_row(&self, row: &rusqlite::Row<'_>, now: Stamp) -> Result<AccountRow, LedgerFault> {
        let id = AccountId::new(row.get(0)?);
        let (kind, state, policy): (String, String, String) = (row.get(2)?, row.get(4)?, row.get(8)?);
        Ok(AccountRow {
            id,
            parent: row.get::<_, Option<i64>>(1)?.map(AccountId::new),
            kind: word(&kind)?,
            name: row.get(3)?,
            state: word(&state)?,
            reason: row.get(5)?,
            limits: Limits { rpm: row.get(6)?, concurrent: row.get(7)?, tpm: row.get(10)? },
            policy: serde_json::from_str(&policy).ok(),
            created_at: Stamp::new(row.get(9)?),
            balances: self.balances_at(id, now)?,
        })
    }

    fn balances_at(&self, account: AccountId, now: Stamp) -> Result<Vec<Balance>, LedgerFault> {
        let sql = "SELECT id, account, period, start_us, end_us, limit_pico, spent_pico, reserved_pico, overdraft_pico FROM balances
            WHERE account = ?1 AND (end_us IS NULL OR (start_us <= ?2 AND ?2 < end_us)) ORDER BY end_us IS NOT NULL, end_us";
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows = statement.query(params![account.get(), now.micros()])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(balance(row)?);
        }
        Ok(found)
    }

    /// Budgets of an account, by period: they hold in windows that no call has opened yet.
    ///
    /// # Errors
    /// When the query fails or a row does not fit.
    pub fn budgets(&self, account: AccountId) -> Result<BTreeMap<aex_core::window::Period, Pico>, LedgerFault> {
        let mut statement = self.conn.prepare_cached("SELECT period, limit_pico FROM budgets WHERE account = ?")?;
        let mut rows = statement.query([account.get()])?;
        let mut found = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let period: String = row.get(0)?;
            found.insert(word(&period)?, Pico::new(row.get(1)?));
        }
        Ok(found)
    }

    /// The names of the groups above an account, the nearest first.
    ///
    /// # Errors
    /// When the query fails.
    pub fn groups_above(&self, account: AccountId) -> Result<Vec<String>, LedgerFault> {
        let mut statement = self.conn.prepare_cached("SELECT parent, kind, name FROM accounts WHERE id = ?")?;
        let (mut groups, mut next) = (Vec::new(), Some(account.get()));
        while let Some(id) = next {
            let row = statement.query_row([id], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))).optional()?;
            let Some((parent, kind, name)) = row else { break };
            if id != account.get() && word::<AccountKind>(&kind)? == AccountKind::Group {
                groups.push(name);
            }
            next = parent;
        }
        Ok(groups)
    }

    /// Tokens of an account: expiry and scope of those that are not revoked.
    ///
    /// # Errors
    /// When the query fails.
    pub fn tokens(&self, account: AccountId, now: Stamp) -> Result<Vec<(Option<Stamp>, bool)>, LedgerFault> {
        let sql =
            "SELECT expires_us, read_only FROM tokens WHERE account = ?1 AND coalesce(revoked_us > ?2, 1) AND coalesce(expires_us > ?2, 1)";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement
            .query_map(params![account.get(), now.micros()], |row| Ok((row.get::<_, Option<i64>>(0)?.map(Stamp::new), row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How the last state change of a closed account was reasoned.
    ///
    /// # Errors
    /// When the query fails.
    pub fn reason_of(&self, account: AccountId) -> Result<Option<(AccountKind, AccountState, String)>, LedgerFault> {
        let sql = "SELECT kind, state, reason FROM accounts WHERE id = ?";
        let row: Option<(String, String, String)> =
            self.conn.prepare_cached(sql)?.query_row([account.get()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
        row.map(|(kind, state, reason)| Ok((word(&kind)?, word(&state)?, reason))).transpose()
    }

    /// Events, oldest first.
    ///
    /// # Errors
    /// When the query fails.
    pub fn events(&self, filter: &EventFilter) -> Result<Vec<EventRow>, LedgerFault> {
        let below = filter.account.map_or("", |_| {
            "AND (body ->> '$.account' IN below OR (body ->> '$.request', coalesce(body ->> '$.attempt', 0)) IN
                (SELECT format('req_%016x', request), attempt FROM calls WHERE account IN below
                 UNION ALL SELECT format('req_%016x', request), attempt FROM holds WHERE account IN below))"
        });
        let order = if filter.newest { "DESC" } else { "ASC" };
        let sql = format!(
            "{BELOW} SELECT seq, at_us, kind, body, hash FROM events WHERE seq > ?2 AND seq <= ?3 {below} ORDER BY seq {order} LIMIT ?4"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let account = filter.account.unwrap_or(AccountId::ROOT);
        // Events that are sealed may not be deleted yet.
        let after = filter.after.max(self.sealed_last()?);
        let rows = statement.query_map(params![account.get(), after, filter.until.unwrap_or(i64::MAX), filter.limit], record)?;
        let mut found = rows.collect::<Result<Vec<_>, _>>()?;
        if filter.newest {
            found.reverse();
        }
        Ok(found)
    }

    /// Calls that were held so shortly before an instant, oldest first: what the rate windows are rebuilt from. Some may lie as
    /// far behind it, because the wall clock was set back a little; when it was set further, they are not found.
    ///
    /// # Errors
    /// When the query fails.
    pub fn held_around(&self, now: Stamp, window_us: i64) -> Result<Vec<RecentCall>, LedgerFault> {
        // Requests are numbered upwards: reading from the newest on stops at the first that is too old.
        let mut found = Vec::new();
        for table in ["holds", "calls"] {
            let sql = format!(
                "SELECT c.account, a.parent, c.held_us, c.tokens, c.model, c.attempt = 0 FROM {table} c JOIN accounts a ON a.id = c.account ORDER BY request DESC"
            );
            let mut statement = self.conn.prepare_cached(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let at = Stamp::new(row.get(2)?);
                if now.since(at).saturating_abs() > window_us {
                    break;
                }
                found.push(RecentCall {
                    account: AccountId::new(row.get(0)?),
                    above: row.get::<_, Option<i64>>(1)?.map(AccountId::new),
                    at,
                    tokens: count(row, 3)?,
                    model: row.get(4)?,
                    is_first: row.get(5)?,
                });
            }
        }
        found.sort_by_key(|call| call.at);
        Ok(found)
    }
}

/// The columns of an account's row.
const ACCOUNT: &str = "SELECT id, parent, kind, name, state, reason, rpm, concurrent, policy, created_us, tpm FROM accounts";

/// An account and all below it.
pub(super) const BELOW: &str =
    "WITH RECURSIVE below (id) AS (SELECT ?1 UNION ALL SELECT a.id FROM accounts a JOIN below ON a.parent = below.id)";

pub(super) fn count(row: &rusqlite::Row<'_>, at: usize) -> Result<u64, rusqlite::Error> {
    row.get::<_, i64>(at).map(i64::unsigned_abs)
}

pub(super) fn record(row: &rusqlite::Row<'_>) -> Result<Record, rusqlite::Error> {
    Ok(Record { seq: row.get(0)?, at: Stamp::new(row.get(1)?), kind: row.get(2)?, body: row.get(3)?, hash: digest(row, 4)? })
}
