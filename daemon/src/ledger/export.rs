//! The ledger as a file (core's `export`), on one snapshot of the database.

use super::audit::{ACCOUNTS, BALANCES, BUDGETS, CHAIN, HOLDS, TOKENS, account, budget, chain, hold, snapshot, token, zone};
use super::load::balance;
use super::read::{BELOW, Reader, record};
use super::seal::SealedPart;
use super::{LedgerFault, Refused};
use aex_core::chain::Head;
use aex_core::event::Event;
use aex_core::export::{Agent, Filter, Header, Row, VERSION, Writer, named};
use aex_core::verify::{Audit, Checkpoint, Record, Stub};
use aex_proto::value::{AccountId, Digest, Stamp};
use rusqlite::OptionalExtension;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// Bytes that are handed on at once, and the longest line beyond that.
const CHUNK: usize = 128 * 1024;

/// What is exported.
#[derive(Clone, Debug, Default)]
pub struct ExportWanted {
    /// The events of this agent only.
    pub agent: Option<String>,
    /// From where on.
    pub since: Since,
}

/// Where an export begins.
#[derive(Clone, Copy, Debug, Default)]
pub enum Since {
    /// With the first event that is there.
    #[default]
    Start,
    /// With this event.
    Seq(i64),
    /// With the first event of this instant or later.
    At(Stamp),
}

/// Whose events are told.
pub(super) struct Scope {
    agent: Agent,
    above: BTreeSet<AccountId>,
    below: BTreeSet<AccountId>,
}

impl Scope {
    fn owns(&self, account: AccountId) -> bool {
        self.below.contains(&account)
    }

    fn tells(&self, account: AccountId) -> bool {
        self.owns(account) || self.above.contains(&account)
    }
}

/// Where lines go. It may refuse them: the export ends then.
pub type Sink<'s> = &'s mut dyn FnMut(Vec<u8>) -> Result<(), LedgerFault>;

/// A file under way.
pub(super) struct Export<'s> {
    pub(super) writer: Writer,
    pub(super) out: Vec<u8>,
    pub(super) sink: Sink<'s>,
}

impl Export<'_> {
    pub(super) fn line(&mut self, write: impl FnOnce(&mut Writer, &mut Vec<u8>)) -> Result<(), LedgerFault> {
        write(&mut self.writer, &mut self.out);
        if self.out.len() < CHUNK { Ok(()) } else { (self.sink)(std::mem::take(&mut self.out)) }
    }

    pub(super) fn end(self, head: Head) -> Result<(), LedgerFault> {
        let Export { writer, mut out, sink } = self;
        writer.end(head, &mut out);
        sink(out)
    }

    fn row(&mut self, row: &Row) -> Result<(), LedgerFault> {
        self.line(|writer, out| writer.row(row, out))
    }
}

impl Reader<'_> {
    /// Writes the ledger as a file. `living` is the epoch of the daemon that runs.
    ///
    /// # Errors
    /// Outer: a query fails, or the sink does. Inner: there is no such agent, or no such event.
    pub fn export(
        &self,
        wanted: &ExportWanted,
        made_at: Stamp,
        living: Option<u32>,
        sink: Sink<'_>,
    ) -> Result<Result<Head, Refused>, LedgerFault> {
        let scope = match &wanted.agent {
            None => None,
            Some(name) => match self.scope(name)? {
                Some(scope) => Some(scope),
                None => return Ok(Err(Refused::NotFound(format!("agent '{name}'")))),
            },
        };
        let head = self.head()?;
        let sealed = self.sealed()?;
        let first = self.first(wanted.since, head, sealed.as_ref().map_or(0, |sealed| sealed.last))?;
        if let Since::At(at) = wanted.since
            && at > made_at
            && first > head.seq
        {
            return Ok(Err(Refused::State(format!("the ledger ends with event {}, and {at} lies ahead", head.seq))));
        }
        if let Some(sealed) = sealed.filter(|sealed| first <= sealed.last) {
            let SealedPart { last, path } = sealed;
            return Ok(Err(Refused::State(format!("events up to {last} are in segments, the newest of them in {path}"))));
        }
        if first > head.seq.saturating_add(1) {
            return Ok(Err(Refused::State(format!("the ledger ends with event {}", head.seq))));
        }
        let state = self.state_before(first)?;
        let state = match &scope {
            Some(scope) => state.map(|state| state.within(scope.agent.account, &scope.above, &scope.below)),
            None => state,
        };
        let header = Header {
            agent: scope.as_ref().map(|scope| scope.agent.clone()),
            ledger: self.name()?,
            living,
            made_at,
            rows: true,
            since: state.as_ref().map(Checkpoint::head),
            version: VERSION,
        };
        let mut out = Vec::new();
        let mut export = Export { writer: Writer::begin(&header, &mut out), out, sink };
        if let Some(state) = &state {
            export.line(|writer, out| writer.checkpoint(state, out))?;
        }
        self.texts(&mut export, scope.as_ref(), state.as_ref(), first)?;
        self.chained(&mut export, scope.as_ref(), state.as_ref(), first)?;
        self.rows(&mut export, scope.as_ref())?;
        export.end(head).map(|()| Ok(head))
    }

    fn first(&self, since: Since, head: Head, sealed: i64) -> Result<i64, LedgerFault> {
        Ok(match since {
            Since::Start => sealed.saturating_add(1),
            Since::Seq(seq) => seq.max(1),
            Since::At(at) => {
                let sql = "SELECT min(seq) FROM events WHERE at_us >= ? AND seq > ?";
                let first: Option<i64> = self.conn.query_row(sql, [at.micros(), sealed], |row| row.get(0))?;
                first.unwrap_or(head.seq.saturating_add(1))
            }
        })
    }

    /// The audit's state before an event; `None` before the first of all.
    fn state_before(&self, first: i64) -> Result<Option<Checkpoint>, LedgerFault> {
        if first <= 1 {
            return Ok(None);
        }
        let base = self.base()?.transpose().map_err(LedgerFault::Broken)?;
        if base.as_ref().is_some_and(|base| base.head().seq.saturating_add(1) == first) {
            return Ok(base);
        }
        let mut audit = base.map_or_else(|| Audit::new(zone), |base| Audit::resume(zone, base));
        self.snapshots_into(&mut audit)?;
        let audit = self.replayed(audit, first.saturating_sub(1))?;
        Ok(Some(audit.checkpoint()))
    }

    /// The living agent of a name, else the last that had it.
    fn scope(&self, name: &str) -> Result<Option<Scope>, LedgerFault> {
        let sql = "SELECT id FROM accounts WHERE kind = 'agent' AND name = ? ORDER BY closed_us IS NULL DESC, id DESC LIMIT 1";
        let found: Option<i64> = self.conn.query_row(sql, [name], |row| row.get(0)).optional()?;
        let Some(account) = found else { return Ok(None) };
        let mut above = BTreeSet::new();
        let mut next = Some(account);
        while let Some(id) = next {
            next = self.conn.query_row("SELECT parent FROM accounts WHERE id = ?", [id], |row| row.get(0)).optional()?.flatten();
            above.extend(next.map(AccountId::new));
        }
        let mut statement = self.conn.prepare(&format!("{BELOW} SELECT id FROM below"))?;
        let below = statement.query_map([account], |row| row.get(0).map(AccountId::new))?.collect::<Result<_, _>>()?;
        Ok(Some(Scope { agent: Agent { account: AccountId::new(account), name: name.to_owned() }, above, below }))
    }

    /// The texts that are named: all when nothing is left out, else those that the told events and the state name.
    fn texts(&self, export: &mut Export<'_>, scope: Option<&Scope>, state: Option<&Checkpoint>, first: i64) -> Result<(), LedgerFault> {
        let needed: Option<BTreeSet<Digest>> = match scope {
            None => None,
            Some(scope) => {
                let mut needed: BTreeSet<Digest> = state.into_iter().flat_map(Checkpoint::named).collect();
                self.told(Some(scope), state, first..=i64::MAX, |_, event| {
                    needed.extend(event.iter().flat_map(named));
                    Ok(())
                })?;
                Some(needed)
            }
        };
        let mut statement = self.conn.prepare("SELECT digest, kind, body FROM snapshots ORDER BY digest")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (digest, kind, text) = snapshot(row)?;
            if needed.as_ref().is_none_or(|needed| needed.contains(&digest)) {
                export.line(|writer, out| writer.snapshot(digest, &kind, &text, out))?;
            }
        }
        Ok(())
    }

    /// Each event, with what it says when that is told.
    pub(super) fn told(
        &self,
        scope: Option<&Scope>,
        state: Option<&Checkpoint>,
        within: RangeInclusive<i64>,
        mut take: impl FnMut(Record, Option<Event>) -> Result<(), LedgerFault>,
    ) -> Result<(), LedgerFault> {
        let open = state.into_iter().flat_map(Checkpoint::open).map(|hold| hold.key).collect();
        let mut filter = scope.map(|scope| Filter::new(scope.above.clone(), scope.below.clone(), open));
        let mut statement =
            self.conn.prepare("SELECT seq, at_us, kind, body, hash FROM events WHERE seq >= ? AND seq <= ? ORDER BY seq")?;
        let mut rows = statement.query([within.start(), within.end()])?;
        while let Some(row) = rows.next()? {
            let record = record(row)?;
            let event = match &mut filter {
                None => None,
                Some(filter) => Event::parse(&record.kind, &record.body).ok().filter(|event| filter.tells(event)),
            };
            take(record, event)?;
        }
        Ok(())
    }

    fn chained(&self, export: &mut Export<'_>, scope: Option<&Scope>, state: Option<&Checkpoint>, first: i64) -> Result<(), LedgerFault> {
        self.told(scope, state, first..=i64::MAX, |record, event| {
            if scope.is_none() || event.is_some() {
                return export.line(|writer, out| writer.event(&record, out));
            }
            let Record { seq, at, kind, body, hash } = record;
            export.line(|writer, out| writer.stub(Stub { at, digest: Digest::of(body.as_bytes()), hash, kind, seq }, out))
        })
    }

    fn rows(&self, export: &mut Export<'_>, scope: Option<&Scope>) -> Result<(), LedgerFault> {
        let tells = |account: AccountId| scope.is_none_or(|scope| scope.tells(account));
        let owns = |account: AccountId| scope.is_none_or(|scope| scope.owns(account));
        self.each_row(ACCOUNTS, account, |row| if tells(row.id) { export.row(&Row::Account(row)) } else { Ok(()) })?;
        self.each_row(BUDGETS, budget, |row| if tells(row.account) { export.row(&Row::Budget(row)) } else { Ok(()) })?;
        self.each_row(TOKENS, token, |row| if owns(row.account) { export.row(&Row::Token(row)) } else { Ok(()) })?;
        self.each_row(BALANCES, balance, |row| if owns(row.account) { export.row(&Row::Balance(row)) } else { Ok(()) })?;
        self.each_row(HOLDS, hold, |row| if owns(row.account) { export.row(&Row::Hold(row)) } else { Ok(()) })?;
        self.each_row(CHAIN, chain, |row| export.row(&Row::Chain(row)))
    }

    pub(super) fn each_row<T>(
        &self,
        sql: &str,
        read: impl Fn(&rusqlite::Row<'_>) -> Result<T, LedgerFault>,
        mut take: impl FnMut(T) -> Result<(), LedgerFault>,
    ) -> Result<(), LedgerFault> {
        let mut statement = self.conn.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            take(read(row)?)?;
        }
        Ok(())
    }
}
