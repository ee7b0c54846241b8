//! Queries for administrators: tokens, what a run did, whose event is whose.

use super::LedgerFault;
use super::load::digest;
use super::read::{BELOW, EventRow, Reader, count};
use aex_core::chain::Head;
use aex_core::event::CallSettled;
use aex_core::price::Line;
use aex_proto::value::{AccountId, Pico, RequestId, Stamp, TokenHash};
use rusqlite::{OptionalExtension, params};
use std::collections::BTreeMap;

/// A token's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// The digest of its text.
    pub hash: TokenHash,
    /// It may read only.
    pub read_only: bool,
    /// When it was made.
    pub created_at: Stamp,
    /// When it ends by itself.
    pub expires_at: Option<Stamp>,
    /// From when on it is refused; may lie ahead.
    pub revoked_at: Option<Stamp>,
    /// What it is for.
    pub label: String,
}

/// What the calls of an account came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunSums {
    /// Calls that were charged.
    pub calls: u64,
    /// Their tokens; those of a worst case are its bound's.
    pub tokens: u64,
    /// Tokens of input on their bills.
    pub input_tokens: u64,
    /// Tokens of output on their bills.
    pub output_tokens: u64,
    /// What they cost.
    pub charged: Pico,
    /// Those among them of which the cost is an estimate.
    pub estimated: u64,
    /// Those among them of which the cost is the worst case.
    pub worst_case: u64,
}

/// An event and whose it is.
#[derive(Clone, Debug)]
pub struct OwnedEvent {
    /// The event.
    pub record: EventRow,
    /// The account that it is about.
    pub account: Option<AccountId>,
    /// The name of the agent on that account's path.
    pub agent: Option<String>,
    /// The name of the nearest group on it.
    pub group: Option<String>,
}

/// The accounts from one up to the root, and the names of the agent and the nearest group among them.
#[derive(Clone, Debug, Default)]
struct Lineage {
    path: Vec<AccountId>,
    agent: Option<String>,
    group: Option<String>,
}

impl Reader<'_> {
    /// Tokens of an account, newest first, revoked and expired ones included.
    ///
    /// # Errors
    /// When the query fails.
    pub fn token_rows(&self, account: AccountId) -> Result<Vec<TokenRow>, LedgerFault> {
        let sql = "SELECT hash, read_only, created_us, expires_us, revoked_us, label FROM tokens WHERE account = ? ORDER BY created_us DESC, hash";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map([account.get()], |row| {
            Ok(TokenRow {
                hash: TokenHash::from_bytes(row.get(0)?),
                read_only: row.get(1)?,
                created_at: Stamp::new(row.get(2)?),
                expires_at: row.get::<_, Option<i64>>(3)?.map(Stamp::new),
                revoked_at: row.get::<_, Option<i64>>(4)?.map(Stamp::new),
                label: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What the calls of an account and all below it came to. `since` is the first of them: earlier ones are not looked at.
    ///
    /// # Errors
    /// When the query fails or an event does not fit its kind.
    pub fn run_sums(&self, account: AccountId, since: RequestId) -> Result<RunSums, LedgerFault> {
        let sql = format!(
            "{BELOW} SELECT c.state, c.charge_pico, e.body, c.tokens FROM calls c LEFT JOIN events e ON e.seq = c.ended_seq WHERE c.request >= ?2 AND c.account IN below AND c.state <> 'released'"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut rows = statement.query(params![account.get(), since.bits().cast_signed()])?;
        let mut sums = RunSums::default();
        while let Some(row) = rows.next()? {
            let (state, body): (String, Option<String>) = (row.get(0)?, row.get(2)?);
            // What is sealed belongs to no run that is open: only its sums are left.
            let settled: Option<CallSettled> =
                body.map(|body| serde_json::from_str(&body)).transpose().map_err(|fault| LedgerFault::Broken(fault.to_string()))?;
            sums.calls = sums.calls.saturating_add(1);
            sums.tokens = sums.tokens.saturating_add(count(row, 3)?);
            sums.estimated = sums.estimated.saturating_add(u64::from(state == "estimated"));
            sums.worst_case = sums.worst_case.saturating_add(u64::from(state == "worst_case"));
            sums.charged = sums.charged.plus(Pico::new(row.get(1)?)).unwrap_or(Pico::MAX);
            for Line(bucket, quantity, _) in settled.iter().flat_map(|settled| &settled.lines) {
                if bucket.is_input() {
                    sums.input_tokens = sums.input_tokens.saturating_add(*quantity);
                } else if bucket.is_output() {
                    sums.output_tokens = sums.output_tokens.saturating_add(*quantity);
                }
            }
        }
        Ok(sums)
    }

    /// Calls in flight of an account and all below it.
    ///
    /// # Errors
    /// When the query fails.
    pub fn open_holds(&self, account: AccountId) -> Result<u64, LedgerFault> {
        let sql = format!("{BELOW} SELECT count(*) FROM holds WHERE account IN below");
        Ok(self.conn.prepare_cached(&sql)?.query_row([account.get()], |row| count(row, 0))?)
    }

    /// Whose calls were denied for want of money in a part of the chain, with the number of the event.
    ///
    /// # Errors
    /// When the query fails.
    pub fn budget_denials(&self, after: i64, until: i64) -> Result<Vec<(AccountId, i64)>, LedgerFault> {
        let sql = "SELECT body ->> '$.account', seq FROM events WHERE seq > ? AND seq <= ? AND kind = 'call.denied' AND body ->> '$.rule' = 'budget'";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map([after, until], |row| Ok((AccountId::new(row.get(0)?), row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The ledger's own name.
    ///
    /// # Errors
    /// When the query fails.
    pub fn name(&self) -> Result<String, LedgerFault> {
        Ok(self.conn.query_row("SELECT ledger FROM chain", [], |row| row.get(0))?)
    }

    /// Where the chain ends.
    ///
    /// # Errors
    /// When the query fails.
    pub fn head(&self) -> Result<Head, LedgerFault> {
        let mut statement = self.conn.prepare_cached("SELECT seq, hash FROM chain")?;
        Ok(statement.query_row([], |row| Ok(Head { seq: row.get(0)?, hash: digest(row, 1)? }))?)
    }

    /// Finds whose events these are, and leaves out those that are not of `within` or an account below it.
    ///
    /// # Errors
    /// When a query fails.
    pub fn owned(&self, records: Vec<EventRow>, within: Option<AccountId>) -> Result<Vec<OwnedEvent>, LedgerFault> {
        let mut lineages: BTreeMap<AccountId, Lineage> = BTreeMap::new();
        let mut owned = Vec::with_capacity(records.len());
        for record in records {
            let account = self.account_of(&record)?;
            if let Some(account) = account
                && let std::collections::btree_map::Entry::Vacant(slot) = lineages.entry(account)
            {
                slot.insert(self.lineage(account)?);
            }
            let lineage = account.and_then(|account| lineages.get(&account));
            if within.is_none_or(|within| lineage.is_some_and(|lineage| lineage.path.contains(&within))) {
                let (agent, group) = lineage.map(|lineage| (lineage.agent.clone(), lineage.group.clone())).unwrap_or_default();
                owned.push(OwnedEvent { record, account, agent, group });
            }
        }
        Ok(owned)
    }

    /// The account that an event is about: its own field, or that of the call that it ends.
    fn account_of(&self, record: &EventRow) -> Result<Option<AccountId>, LedgerFault> {
        let body: serde_json::Value = serde_json::from_str(&record.body).map_err(|fault| LedgerFault::Broken(fault.to_string()))?;
        if let Some(account) = body.get("account").and_then(serde_json::Value::as_i64) {
            return Ok(Some(AccountId::new(account)));
        }
        let request = body.get("request").and_then(serde_json::Value::as_str).and_then(|text| text.parse::<RequestId>().ok());
        let Some(request) = request else { return Ok(None) };
        let attempt = body.get("attempt").and_then(serde_json::Value::as_i64).unwrap_or(0);
        let sql = "SELECT account FROM calls WHERE request = ?1 AND attempt = ?2 UNION ALL SELECT account FROM holds WHERE request = ?1 AND attempt = ?2";
        let mut statement = self.conn.prepare_cached(sql)?;
        let found: Option<i64> = statement.query_row(params![request.bits().cast_signed(), attempt], |row| row.get(0)).optional()?;
        Ok(found.map(AccountId::new))
    }

    fn lineage(&self, account: AccountId) -> Result<Lineage, LedgerFault> {
        let mut statement = self.conn.prepare_cached("SELECT parent, kind, name FROM accounts WHERE id = ?")?;
        let mut lineage = Lineage::default();
        let mut next = Some(account.get());
        while let Some(id) = next {
            let row: Option<(Option<i64>, String, String)> =
                statement.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
            let Some((parent, kind, name)) = row else { break };
            lineage.path.push(AccountId::new(id));
            match kind.as_str() {
                "agent" => lineage.agent = Some(name),
                "group" => lineage.group = lineage.group.or(Some(name)),
                _ => {}
            }
            next = parent;
        }
        Ok(lineage)
    }
}
