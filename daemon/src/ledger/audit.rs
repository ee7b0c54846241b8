//! Feeds the audit: every event in order, then every row, on one snapshot of the database. What follows from them is decided in
//! the core.

use super::load::{balance, digest, key, word};
use super::read::{Reader, count};
use super::{LedgerFault, schema};
use aex_core::books::{HoldKey, Limits};
use aex_core::chain::Head;
use aex_core::verify::{Audit, Counts, Finding, Prepared, Zones, rows};
use aex_proto::value::{AccountId, BalanceId, Digest, Pico, Stamp};
use jiff::tz::TimeZone;
use rusqlite::types::Type;
use rusqlite::{Error as SqlError, OptionalExtension, Row, Statement, params};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Terminal rows without an event that are named; all of them are counted.
const STRAYS: u32 = 20;

/// Events that are read ahead of the replay, in batches.
const BATCH: usize = 512;
const BATCHES: usize = 16;

/// What the audit says.
#[derive(Clone, Debug)]
pub struct AuditReport {
    /// One finding per invariant.
    pub findings: Vec<Finding>,
    /// Where the chain ends.
    pub head: Head,
    /// What the events count up to.
    pub counts: Counts,
}

impl AuditReport {
    fn of(audit: Audit) -> AuditReport {
        let (head, counts) = (audit.head(), audit.counts());
        AuditReport { findings: audit.finish(), head, counts }
    }
}

/// Nothing can be judged without the state that the ledger begins with.
fn untrusted(why: &str) -> Audit {
    let mut audit = Audit::new(zone);
    audit.form(false, || format!("{why}; nothing behind it was checked"));
    audit
}

/// Audits a database that no daemon has open, without changing it.
///
/// # Errors
/// When the file cannot be opened or read.
pub fn read_only_audit(path: &Path) -> Result<AuditReport, LedgerFault> {
    read_only(path, |reader| reader.audit(crate::os::clock::wall(), None))
}

/// Reads a database that no daemon has open.
///
/// # Errors
/// When the file cannot be opened or read.
pub fn read_only<T>(path: &Path, query: impl FnOnce(&Reader<'_>) -> Result<T, LedgerFault>) -> Result<T, LedgerFault> {
    let conn = schema::open_at_rest(path)?;
    let transaction = conn.unchecked_transaction()?;
    query(&Reader::new(&transaction))
}

/// What the reading half of an audit hands to the replaying one.
enum Step {
    /// An event, and the row of the call that it ends.
    Event(Prepared, Option<rows::Call>),
    /// A row that was not written by the ledger.
    Unreadable(&'static str, String),
}

impl Reader<'_> {
    /// Replays all events and compares every row. `living` is the epoch of the daemon that runs.
    ///
    /// # Errors
    /// When a query fails. A row that cannot be read is a finding.
    pub fn audit(&self, now: Stamp, living: Option<u32>) -> Result<AuditReport, LedgerFault> {
        self.audit_with(zone, now, living, &[], |_| {})
    }

    /// As [`Reader::audit`], with heads that were noted elsewhere.
    ///
    /// # Errors
    /// As [`Reader::audit`].
    pub fn audit_against(&self, now: Stamp, living: Option<u32>, expected: &[Head]) -> Result<AuditReport, LedgerFault> {
        self.audit_with(zone, now, living, expected, |_| {})
    }

    /// The same with other rules of zones, and an audit that is prepared.
    pub(super) fn audit_with(
        &self,
        zones: Zones,
        now: Stamp,
        living: Option<u32>,
        expected: &[Head],
        prepare: fn(&mut Audit),
    ) -> Result<AuditReport, LedgerFault> {
        let base = match self.base()?.transpose() {
            Ok(base) => base,
            Err(why) => return Ok(AuditReport::of(untrusted(&why))),
        };
        let mut audit = base.clone().map_or_else(|| Audit::new(zones), |base| Audit::resume(zones, base));
        expected.iter().for_each(|head| audit.expect(*head));
        prepare(&mut audit);
        self.snapshots_into(&mut audit)?;
        let mut audit = self.replayed(audit, i64::MAX)?;
        self.audit_seals(&mut audit, base.as_ref())?;
        for (table, object, is_ours) in schema::compared(self.conn)? {
            audit.form(is_ours, || format!("table {table}: {object} is not what this version makes"));
        }
        self.tables(&mut audit, now, living)?;
        Ok(AuditReport::of(audit))
    }

    pub(super) fn snapshots_into(&self, audit: &mut Audit) -> Result<(), LedgerFault> {
        self.each(audit, "snapshots", SNAPSHOTS, |audit, row| {
            snapshot(row).map(|(digest, kind, body)| audit.snapshot(digest, &kind, &body))
        })
    }

    /// Replays the events from behind the audit's head up to one. Half of the work, reading and hashing, is done here, the other
    /// half on a thread of its own.
    pub(super) fn replayed(&self, mut audit: Audit, until: i64) -> Result<Audit, LedgerFault> {
        let after = audit.head().seq;
        std::thread::scope(|scope| {
            let (steps, taken) = sync_channel::<Vec<Step>>(BATCHES);
            let replay = scope.spawn(move || {
                taken.iter().flatten().for_each(|step| match step {
                    Step::Event(event, row) => {
                        if let Some(expected) = audit.take(event) {
                            audit.ended(&expected, row.as_ref());
                        }
                    }
                    Step::Unreadable(table, fault) => audit.unreadable(table, &fault),
                });
                audit
            });
            let read = self.steps(after, until, &steps);
            drop(steps);
            let audit = replay.join().map_err(|_| LedgerFault::Broken("the audit ended by a panic".to_owned()))?;
            read.map(|()| audit)
        })
    }

    fn steps(&self, after: i64, until: i64, steps: &SyncSender<Vec<Step>>) -> Result<(), LedgerFault> {
        let mut calls = self.conn.prepare(CALL)?;
        let mut statement = self.conn.prepare(EVENTS)?;
        let mut rows = statement.query([after, until])?;
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(row) = rows.next()? {
            match prepared(row) {
                Ok(event) => {
                    let found = event.ends().map(|key| ended_row(&mut calls, key)).transpose();
                    let row = match found {
                        Err(fault) if is_of_row(&fault) => {
                            batch.push(Step::Unreadable("calls", fault.to_string()));
                            None
                        }
                        found => found?.flatten(),
                    };
                    batch.push(Step::Event(event, row));
                }
                Err(fault) if is_of_row(&fault) => batch.push(Step::Unreadable("events", fault.to_string())),
                Err(fault) => return Err(fault),
            }
            // Whoever takes them has gone when it panicked; its end tells.
            if batch.len() >= BATCH && steps.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).is_err() {
                return Ok(());
            }
        }
        drop(steps.send(batch));
        Ok(())
    }

    fn tables(&self, audit: &mut Audit, now: Stamp, living: Option<u32>) -> Result<(), LedgerFault> {
        self.each(audit, "accounts", ACCOUNTS, |audit, row| account(row).map(|row| audit.account(&row)))?;
        self.each(audit, "budgets", BUDGETS, |audit, row| budget(row).map(|row| audit.budget(&row)))?;
        self.each(audit, "tokens", TOKENS, |audit, row| token(row).map(|row| audit.token(&row)))?;
        self.each(audit, "balances", BALANCES, |audit, row| balance(row).map(|row| audit.balance(&row)))?;
        self.each(audit, "holds", HOLDS, |audit, row| hold(row).map(|row| audit.open(&row, now, living)))?;
        if !audit.count_ended(self.conn.query_row("SELECT count(*) FROM calls", [], |row| count(row, 0))?) {
            let strays = format!("{STRAY} AND c.ended_seq > {} LIMIT {STRAYS}", self.sealed_last()?);
            self.each(audit, "calls", &strays, |audit, row| Ok(key(row, 0).map(|key| audit.stray(key))?))?;
        }
        let mut is_there = false;
        self.each(audit, "chain", CHAIN, |audit, row| {
            is_there = true;
            chain(row).map(|row| audit.chain(Some(&row)))
        })?;
        if !is_there {
            audit.chain(None);
        }
        Ok(())
    }

    /// Gives each row of a query to the audit. A row that cannot be read was not written by the ledger: it is a finding, and the
    /// audit goes on.
    fn each(
        &self,
        audit: &mut Audit,
        table: &str,
        sql: &str,
        mut take: impl FnMut(&mut Audit, &Row<'_>) -> Result<(), LedgerFault>,
    ) -> Result<(), LedgerFault> {
        let mut statement = self.conn.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            match take(audit, row) {
                Err(fault) if is_of_row(&fault) => audit.unreadable(table, &fault.to_string()),
                done => done?,
            }
        }
        Ok(())
    }
}

const SNAPSHOTS: &str = "SELECT digest, kind, body FROM snapshots";
const EVENTS: &str = "SELECT seq, at_us, kind, body, hash FROM events WHERE seq > ? AND seq <= ? ORDER BY seq";
pub(super) const ACCOUNTS: &str =
    "SELECT id, parent, kind, name, state, reason, rpm, concurrent, policy, created_us, closed_us, tpm FROM accounts ORDER BY id";
pub(super) const BUDGETS: &str = "SELECT account, period, limit_pico FROM budgets ORDER BY account, period";
pub(super) const TOKENS: &str = "SELECT hash, account, read_only, created_us, expires_us, revoked_us, label FROM tokens ORDER BY hash";
pub(super) const CHAIN: &str = "SELECT seq, hash, epoch, next_account, ledger FROM chain";
const CALL: &str =
    "SELECT request, attempt, account, model, state, amount_pico, charge_pico, tokens, held_us, ended_us, held_seq, ended_seq
    FROM calls WHERE request = ? AND attempt = ?";
pub(super) const BALANCES: &str =
    "SELECT id, account, period, start_us, end_us, limit_pico, spent_pico, reserved_pico, overdraft_pico FROM balances ORDER BY id";
pub(super) const HOLDS: &str =
    "SELECT request, attempt, account, model, card, amount_pico, tokens, balances, held_us, deadline_us, epoch, sent, held_seq
    FROM holds ORDER BY request, attempt";
/// Terminal rows whose event is not the end of that call.
const STRAY: &str = "SELECT request, attempt FROM calls c WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.seq = c.ended_seq
    AND e.kind IN ('call.settled', 'call.released') AND e.body ->> 'request' = format('req_%016x', c.request)
    AND e.body ->> 'attempt' = c.attempt)";

/// A zone by its name; the ledger names UTC when a zone has no name.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    if name == "UTC" { Some(TimeZone::UTC) } else { TimeZone::get(name).ok() }
}

/// Whether one row is at fault, not the database.
fn is_of_row(fault: &LedgerFault) -> bool {
    match fault {
        LedgerFault::Broken(_) => true,
        LedgerFault::Sql(fault) => matches!(
            fault,
            SqlError::InvalidColumnType(..)
                | SqlError::FromSqlConversionFailure(..)
                | SqlError::IntegralValueOutOfRange(..)
                | SqlError::Utf8Error(..)
        ),
        _ => false,
    }
}

/// The digest of the row of a call that has ended.
pub(super) fn ended_digest(row: &Row<'_>) -> Result<Digest, LedgerFault> {
    call(row).map(|row| row.digest())
}

/// An event's row, read without a copy of what it holds.
fn prepared(row: &Row<'_>) -> Result<Prepared, LedgerFault> {
    let text = |at: usize| row.get_ref(at)?.as_str().map_err(|fault| SqlError::FromSqlConversionFailure(at, Type::Text, Box::new(fault)));
    Ok(Prepared::of(row.get(0)?, stamp(row, 1)?, text(2)?, text(3)?, digest(row, 4)?))
}

fn ended_row(calls: &mut Statement<'_>, key: HoldKey) -> Result<Option<rows::Call>, LedgerFault> {
    let key = params![key.request.bits().cast_signed(), key.attempt];
    calls.query_row(key, |row| Ok(call(row))).optional()?.transpose()
}

fn stamp(row: &Row<'_>, at: usize) -> Result<Stamp, SqlError> {
    row.get(at).map(Stamp::new)
}

fn instant(row: &Row<'_>, at: usize) -> Result<Option<Stamp>, SqlError> {
    Ok(row.get::<_, Option<i64>>(at)?.map(Stamp::new))
}

fn text(row: &Row<'_>, at: usize) -> Result<String, SqlError> {
    row.get(at)
}

pub(super) fn snapshot(row: &Row<'_>) -> Result<(Digest, String, String), LedgerFault> {
    Ok((digest(row, 0)?, text(row, 1)?, text(row, 2)?))
}

pub(super) fn account(row: &Row<'_>) -> Result<rows::Account, LedgerFault> {
    Ok(rows::Account {
        id: AccountId::new(row.get(0)?),
        parent: row.get::<_, Option<i64>>(1)?.map(AccountId::new),
        kind: word(&text(row, 2)?)?,
        name: row.get(3)?,
        state: word(&text(row, 4)?)?,
        reason: row.get(5)?,
        limits: Limits { rpm: row.get(6)?, concurrent: row.get(7)?, tpm: row.get(11)? },
        policy: Digest::of(text(row, 8)?.as_bytes()),
        created_at: stamp(row, 9)?,
        closed_at: instant(row, 10)?,
    })
}

pub(super) fn budget(row: &Row<'_>) -> Result<rows::Budget, LedgerFault> {
    Ok(rows::Budget { account: AccountId::new(row.get(0)?), period: word(&text(row, 1)?)?, limit: Pico::new(row.get(2)?) })
}

pub(super) fn token(row: &Row<'_>) -> Result<rows::Token, LedgerFault> {
    Ok(rows::Token {
        hash: digest(row, 0)?,
        account: AccountId::new(row.get(1)?),
        read_only: row.get(2)?,
        created_at: stamp(row, 3)?,
        expires_at: instant(row, 4)?,
        revoked_at: instant(row, 5)?,
        label: row.get(6)?,
    })
}

pub(super) fn hold(row: &Row<'_>) -> Result<rows::Hold, LedgerFault> {
    Ok(rows::Hold {
        key: key(row, 0)?,
        account: AccountId::new(row.get(2)?),
        model: row.get(3)?,
        card: digest(row, 4)?,
        amount: Pico::new(row.get(5)?),
        tokens: row.get(6)?,
        balances: balances(&text(row, 7)?)?,
        held_at: stamp(row, 8)?,
        deadline: stamp(row, 9)?,
        epoch: row.get(10)?,
        sent: row.get(11)?,
        held_seq: row.get(12)?,
    })
}

/// A hold's balances as its row keeps them: numbers between commas.
pub(super) fn balances(list: &str) -> Result<Vec<BalanceId>, LedgerFault> {
    let ids = list.split(',').map(|id| id.parse().map(BalanceId::new)).collect::<Result<_, _>>();
    ids.map_err(|_| LedgerFault::Broken("a hold's list of balances is no list of numbers".to_owned()))
}

fn call(row: &Row<'_>) -> Result<rows::Call, LedgerFault> {
    let key: HoldKey = key(row, 0)?;
    let state = text(row, 4)?;
    Ok(rows::Call {
        key,
        account: AccountId::new(row.get(2)?),
        model: row.get(3)?,
        state: if state == "released" { None } else { Some(word(&state)?) },
        amount: Pico::new(row.get(5)?),
        charge: Pico::new(row.get(6)?),
        tokens: row.get(7)?,
        held_at: stamp(row, 8)?,
        ended_at: stamp(row, 9)?,
        held_seq: row.get(10)?,
        ended_seq: row.get(11)?,
    })
}

pub(super) fn chain(row: &Row<'_>) -> Result<rows::Chain, LedgerFault> {
    Ok(rows::Chain {
        head: Head { seq: row.get(0)?, hash: digest(row, 1)? },
        epoch: row.get(2)?,
        next_account: AccountId::new(row.get(3)?),
        ledger: row.get(4)?,
    })
}
