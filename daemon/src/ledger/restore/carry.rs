//! What a restore must not bring back: tokens that were revoked, accounts that were closed or stopped, since the backup was made.

use super::{Current, Readable};
use crate::ledger::load::word;
use crate::ledger::writer::Writer;
use crate::ledger::{LedgerFault, TokenView};
use aex_core::decision::AccountState;
use aex_core::event::{By, Event};
use aex_proto::value::{AccountId, Stamp};
use rusqlite::{OptionalExtension, Row};
use std::collections::{BTreeSet, HashSet};

/// Why, as the events say it.
const REVOKED: &str = "revoked before the restore";
const CLOSED: &str = "closed before the restore";

/// What was carried over.
#[derive(Default)]
pub(super) struct Carried {
    pub(super) revoked: u64,
    pub(super) stopped: u64,
    pub(super) warnings: Vec<String>,
}

/// An account of the ledger that is replaced, to be found again by all that never changes of one.
struct Stopped {
    id: i64,
    key: Key,
    state: String,
    reason: String,
}

type Key = (String, String, i64);

/// `apart`: the last event that both have, when the backup has others behind it.
pub(super) fn carry(writer: &mut Writer<'_>, current: &Current, apart: Option<i64>, by: &By) -> Result<Carried, LedgerFault> {
    let lost = || Carried { warnings: vec![UNKNOWN.to_owned()], ..Carried::default() };
    let current = match current {
        Current::Readable(current) => current,
        // Whoever restores on a new machine may have lost a ledger that knew more, too.
        Current::None | Current::Unreadable(_) => return Ok(lost()),
    };
    // All of it is read before any of it is written: half of it would be a half-truth.
    let (Ok(tokens), Ok(accounts), Ok(known)) = (revoked(current, writer.now()), stopped(current), tokens(current)) else {
        return Ok(lost());
    };
    let mut carried = Carried::default();
    for account in accounts {
        carried.stopped += u64::from(stop(writer, account, by)?);
    }
    for (hash, at) in tokens {
        let Some(token) = writer.state.tokens.get(&hash) else { continue };
        if token.revoked_at.is_none_or(|revoked| revoked > at) {
            let account = token.account;
            writer.revoke(account, &hash, at, REVOKED, Some(by))?;
            carried.revoked += 1;
        }
    }
    carried.warnings.extend(apart.map(|last| strangers(writer, last, &known)));
    Ok(carried)
}

/// What to say of a backup whose events the replaced ledger does not have: what was revoked behind them, it cannot know.
fn strangers(writer: &Writer<'_>, last: i64, known: &HashSet<[u8; 32]>) -> String {
    let now = writer.now();
    let is_good = |token: &TokenView| token.revoked_at.is_none() && token.expires_at.is_none_or(|at| at > now);
    let found = writer.state.tokens.iter().filter(|(hash, token)| !known.contains(*hash) && is_good(token));
    let names: BTreeSet<&str> =
        found.filter_map(|(_, token)| writer.state.books.account(token.account)).map(|account| account.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let those =
        if names.is_empty() { String::new() } else { format!(". It did not know tokens of {}, which are good again", names.join(", ")) };
    format!("the ledger that was replaced is not known to have the backup's events behind event {last}. {UNKNOWN}{those}")
}

/// What is to be done by hand where nothing is known.
const UNKNOWN: &str = "tokens that were revoked after the backup was made are good again, and agents that were deleted, paused or killed \
    after it are as before: nothing is known of that here. Look through `aexctl agent list` and `aexctl token list`, and \
    `aexctl agent rotate-token` where in doubt";

/// Tokens that are revoked, and from when on: from now on, but for those that still have their grace. A row whose time is to come is
/// of a token in its grace, or was written while the clock stood ahead: the token's newest event tells. Where that is sealed, nobody
/// can tell, and a token that is too short-lived does less harm.
fn revoked(current: &Readable, now: Stamp) -> Result<Vec<([u8; 32], Stamp)>, LedgerFault> {
    let mut statement = current.conn.prepare("SELECT hash, revoked_us FROM tokens WHERE revoked_us IS NOT NULL ORDER BY hash")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, Stamp::new(row.get(1)?))))?;
    let mut tokens: Vec<([u8; 32], Stamp)> = rows.collect::<Result<_, _>>()?;
    let mut coming: HashSet<[u8; 32]> = tokens.iter().filter(|(_, at)| *at > now).map(|(hash, _)| *hash).collect();
    let mut graces = HashSet::new();
    let mut statement = current.conn.prepare("SELECT at_us, body FROM events WHERE kind = 'token.revoked' ORDER BY seq DESC")?;
    let mut rows = statement.query([])?;
    while !coming.is_empty() {
        let Some(row) = rows.next()? else { break };
        let (written, body): (Stamp, String) = (Stamp::new(row.get(0)?), row.get(1)?);
        let Ok(Event::TokenRevoked(revoked)) = Event::parse("token.revoked", &body) else { continue };
        if coming.remove(revoked.token.bytes()) && revoked.at > written {
            graces.insert(*revoked.token.bytes());
        }
    }
    for (hash, at) in &mut tokens {
        if !graces.contains(hash) {
            *at = now;
        }
    }
    Ok(tokens)
}

fn tokens(current: &Readable) -> Result<HashSet<[u8; 32]>, LedgerFault> {
    let mut statement = current.conn.prepare("SELECT hash FROM tokens")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The deepest first: what is closed closes all below it.
fn stopped(current: &Readable) -> Result<Vec<Stopped>, LedgerFault> {
    let sql = "SELECT id, kind, name, created_us, state, reason FROM accounts WHERE state <> 'active' ORDER BY id DESC";
    let mut statement = current.conn.prepare(sql)?;
    let read = |row: &Row<'_>| {
        Ok(Stopped { id: row.get(0)?, key: (row.get(1)?, row.get(2)?, row.get(3)?), state: row.get(4)?, reason: row.get(5)? })
    };
    let rows = statement.query_map([], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// `false`: the backup does not have the account, or has it stopped in the same way.
fn stop(writer: &mut Writer<'_>, stopped: Stopped, by: &By) -> Result<bool, LedgerFault> {
    let sql = "SELECT kind, name, created_us FROM accounts WHERE id = ? AND closed_us IS NULL";
    let key = writer.conn.query_row(sql, [stopped.id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    let account = writer.state.books.account(AccountId::new(stopped.id)).cloned();
    let Some(account) = account.filter(|_| key == Some(stopped.key)) else { return Ok(false) };
    match word::<AccountState>(&stopped.state)? {
        AccountState::Closed => {
            writer.close_account(account.id, CLOSED, Some(by))?;
            Ok(true)
        }
        state if state == account.state => Ok(false),
        state => {
            writer.set_state(&account, state, &stopped.reason, Some(by.clone()))?;
            Ok(true)
        }
    }
}
