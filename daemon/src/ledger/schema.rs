//! The tables, their version, and how connections are opened.

use super::{LedgerFault, migrate};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The version of the tables that this program writes.
pub(super) const VERSION: u32 = 4;

/// Below this version SQLite can corrupt a database when a WAL is reset (fixed in 3.51.3, forum post of 2026-02).
const MIN_SQLITE: i32 = 3_051_003;

/// How long a reader waits for a lock.
const BUSY: Duration = Duration::from_secs(5);

/// Money is whole pico-USD, time whole microseconds since 1970, a hash 32 bytes, a request the 64 bits of its id.
pub(super) const TABLES: &str = "
CREATE TABLE chain (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    epoch INTEGER NOT NULL CHECK (epoch BETWEEN 0 AND 8388607),
    next_account INTEGER NOT NULL CHECK (next_account > 0),
    ledger TEXT NOT NULL CHECK (length(ledger) = 32)
) STRICT;
INSERT INTO chain VALUES (1, 0, zeroblob(32), 0, 1, lower(hex(randomblob(16))));

CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    parent INTEGER REFERENCES accounts (id),
    kind TEXT NOT NULL CHECK (kind IN ('root', 'group', 'agent', 'run')),
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'paused', 'suspended', 'killed', 'closed')),
    reason TEXT NOT NULL,
    rpm INTEGER CHECK (rpm >= 0),
    concurrent INTEGER CHECK (concurrent >= 0),
    policy TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    closed_us INTEGER,
    tpm INTEGER CHECK (tpm >= 0),
    CHECK ((parent IS NULL) = (id = 1)),
    CHECK ((closed_us IS NULL) = (state <> 'closed'))
) STRICT;
CREATE UNIQUE INDEX accounts_by_name ON accounts (kind, name) WHERE closed_us IS NULL;

CREATE TABLE tokens (
    hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
    account INTEGER NOT NULL REFERENCES accounts (id),
    read_only INTEGER NOT NULL CHECK (read_only IN (0, 1)),
    created_us INTEGER NOT NULL,
    expires_us INTEGER,
    revoked_us INTEGER,
    label TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_by_account ON tokens (account);

CREATE TABLE budgets (
    account INTEGER NOT NULL REFERENCES accounts (id),
    period TEXT NOT NULL CHECK (period IN ('total', 'day', 'week', 'month')),
    limit_pico INTEGER NOT NULL CHECK (limit_pico >= 0),
    PRIMARY KEY (account, period)
) STRICT, WITHOUT ROWID;

CREATE TABLE balances (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES accounts (id),
    period TEXT NOT NULL CHECK (period IN ('total', 'day', 'week', 'month')),
    start_us INTEGER NOT NULL,
    end_us INTEGER,
    limit_pico INTEGER CHECK (limit_pico >= 0),
    spent_pico INTEGER NOT NULL CHECK (spent_pico >= 0),
    reserved_pico INTEGER NOT NULL CHECK (reserved_pico >= 0),
    overdraft_pico INTEGER NOT NULL CHECK (overdraft_pico >= 0),
    UNIQUE (account, period, start_us),
    CHECK (limit_pico IS NULL OR spent_pico + reserved_pico - overdraft_pico <= limit_pico)
) STRICT;

-- Holds that are open. A hold ends by a row in calls, which takes it from here.
CREATE TABLE holds (
    request INTEGER NOT NULL,
    attempt INTEGER NOT NULL CHECK (attempt BETWEEN 0 AND 255),
    account INTEGER NOT NULL,
    model TEXT NOT NULL,
    card BLOB NOT NULL CHECK (length(card) = 32),
    amount_pico INTEGER NOT NULL CHECK (amount_pico >= 0),
    tokens INTEGER NOT NULL CHECK (tokens >= 0),
    balances TEXT NOT NULL,
    held_us INTEGER NOT NULL,
    deadline_us INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    sent INTEGER NOT NULL CHECK (sent IN (0, 1)),
    held_seq INTEGER NOT NULL,
    PRIMARY KEY (request, attempt)
) STRICT, WITHOUT ROWID;

-- Calls that have ended, for ever. charge_pico is zero exactly when nothing was billed.
CREATE TABLE calls (
    request INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    account INTEGER NOT NULL,
    model TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state = 'exact' OR state = 'estimated' OR state = 'worst_case' OR state = 'released'),
    amount_pico INTEGER NOT NULL,
    charge_pico INTEGER NOT NULL CHECK (charge_pico >= 0),
    tokens INTEGER NOT NULL,
    held_us INTEGER NOT NULL,
    ended_us INTEGER NOT NULL,
    held_seq INTEGER NOT NULL,
    ended_seq INTEGER NOT NULL,
    PRIMARY KEY (request, attempt),
    CHECK (state <> 'released' OR charge_pico = 0)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER calls_are_final BEFORE UPDATE ON calls
    BEGIN SELECT RAISE(ABORT, 'a call that has ended does not change'); END;
CREATE TRIGGER calls_are_kept BEFORE DELETE ON calls
    BEGIN SELECT RAISE(ABORT, 'a call that has ended is kept'); END;

CREATE TABLE snapshots (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
    kind TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    at_us INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE TRIGGER events_are_final BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_are_kept BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
";

/// Old events may be taken out. The newest seal alone keeps its texts: the audit's state behind its last event, and what is known of
/// refusals up to it.
const SEALS: &str = "
DROP TRIGGER events_are_kept;
CREATE TABLE seals (
    last INTEGER PRIMARY KEY,
    first INTEGER NOT NULL CHECK (first BETWEEN 1 AND last),
    path TEXT NOT NULL,
    segment BLOB NOT NULL CHECK (length(segment) = 32),
    state BLOB NOT NULL CHECK (length(state) = 32),
    denials BLOB NOT NULL CHECK (length(denials) = 32),
    state_text TEXT,
    denials_text TEXT
) STRICT;
CREATE TRIGGER seals_are_final BEFORE UPDATE OF last, first, segment, state, denials ON seals
    BEGIN SELECT RAISE(ABORT, 'a seal does not change'); END;
CREATE TRIGGER seals_are_kept BEFORE DELETE ON seals
    BEGIN SELECT RAISE(ABORT, 'a seal is kept'); END;
CREATE TRIGGER events_are_kept BEFORE DELETE ON events WHEN NOT EXISTS (SELECT 1 FROM seals WHERE last >= OLD.seq)
    BEGIN SELECT RAISE(ABORT, 'events are append-only, but for those that are sealed'); END;
";

/// A call's states one by one: of a list of more than two SQLite makes a table anew for each row that it checks. A constraint can only be
/// changed where the table's text is kept (<https://www.sqlite.org/lang_altertable.html#otheralter>).
const STATES: &str = "
PRAGMA writable_schema = 1;
UPDATE sqlite_schema
    SET sql = replace(sql, 'state IN (''exact'', ''estimated'', ''worst_case'', ''released'')',
        'state = ''exact'' OR state = ''estimated'' OR state = ''worst_case'' OR state = ''released''')
    WHERE type = 'table' AND name = 'calls';
PRAGMA writable_schema = RESET;
";

/// A call ends once, and only while it is held: its row takes the hold, or is none. With ROLLBACK no statement can fail in the middle and
/// leave the transaction standing, so that SQLite copies no page for each of them; a group fails as a whole anyway.
const ENDS: &str = "
DROP TRIGGER IF EXISTS calls_end_an_open_hold;
DROP TRIGGER IF EXISTS calls_take_their_hold;
CREATE TRIGGER calls_take_their_hold AFTER INSERT ON calls BEGIN
    DELETE FROM holds WHERE request = NEW.request AND attempt = NEW.attempt;
    SELECT RAISE(ROLLBACK, 'a call ends once, and only while it is held') WHERE changes() <> 1;
END;
";

/// Where a name that a provider gave stands: the events decide whose it is.
const STORED: &str = "
CREATE TABLE stored (
    name TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (name, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX stored_by_event ON stored (seq);
";

/// What makes tables of a version those of the next one.
pub(super) const STEPS: [migrate::Step; 5] =
    [(1, "ALTER TABLE accounts ADD COLUMN tpm INTEGER CHECK (tpm >= 0);"), (2, SEALS), (3, STATES), (3, ENDS), (3, STORED)];

/// Refuses to run on a SQLite that can corrupt a WAL.
pub(super) fn assert_sqlite_version() -> Result<(), LedgerFault> {
    let found = rusqlite::version_number();
    if found >= MIN_SQLITE {
        return Ok(());
    }
    Err(LedgerFault::Broken(format!("SQLite {} has the WAL-reset bug; 3.51.3 or newer is needed", rusqlite::version())))
}

/// The writer's connection, its tables made or checked.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection, LedgerFault> {
    let conn = Connection::open(path)?;
    conn.busy_timeout(BUSY)?;
    let found = version(&conn, path)?;
    let is_new = found == 0;
    if is_new {
        // Half the writes to the log that pages of 2 KiB need, as ledgers before version 4 have them.
        conn.execute_batch("PRAGMA page_size = 4096")?;
    }
    configure(&conn)?;
    if is_new {
        conn.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} {SEALS} {ENDS} {STORED} PRAGMA user_version = {VERSION}; COMMIT"))?;
    } else if found < VERSION {
        migrate::run(&conn, path, found, &STEPS)?;
    }
    Ok(conn)
}

/// The version of a ledger's tables; 0 when there is nothing in the file.
pub(super) fn version(conn: &Connection, path: &Path) -> Result<u32, LedgerFault> {
    let found: u32 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let is_new: bool = conn.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?;
    if found > VERSION {
        return Err(LedgerFault::Newer { path: path.to_owned(), found, known: VERSION });
    }
    if (found == 0) != is_new {
        return Err(LedgerFault::Broken(format!("{} is a database of another program", path.display())));
    }
    Ok(found)
}

/// Whether tables, indexes and triggers are those of this version. Columns that a step added stand at the end of their table.
pub(super) fn check(conn: &Connection) -> Result<(), LedgerFault> {
    match compared(conn)?.into_iter().find(|(.., is_ours)| !is_ours) {
        None => Ok(()),
        Some((table, object, _)) => Err(LedgerFault::Broken(format!("`{object} on {table}` is not what this version makes"))),
    }
}

/// Each table, index and trigger of this version: its table, what it is, and whether it is what this version makes. What else is
/// there is its owner's.
pub(super) fn compared(conn: &Connection) -> Result<Vec<(String, String, bool)>, LedgerFault> {
    let ours = Connection::open_in_memory()?;
    ours.execute_batch(&format!("{TABLES} {SEALS} {ENDS} {STORED}"))?;
    let (wanted, found) = (objects(&ours)?, objects(conn)?);
    Ok(wanted
        .into_iter()
        .map(|((table, object), parts)| {
            let is_ours = found.get(&(table.clone(), object.clone())) == Some(&parts);
            (table, object, is_ours)
        })
        .collect())
}

/// What makes up each object, by its table and its name, in no order and without white space.
fn objects(conn: &Connection) -> Result<BTreeMap<(String, String), Vec<String>>, LedgerFault> {
    let mut statement = conn.prepare("SELECT tbl_name, type || ' ' || name, sql FROM sqlite_schema WHERE sql IS NOT NULL")?;
    let rows = statement.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), parts(&row.get::<_, String>(2)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn parts(sql: &str) -> Vec<String> {
    let (mut parts, mut part, mut depth) = (Vec::new(), String::new(), 0_u32);
    for letter in sql.chars() {
        depth = match letter {
            '(' => depth.saturating_add(1),
            ')' => depth.saturating_sub(1),
            _ => depth,
        };
        // Between the columns of a table, and around all of them.
        if depth <= 1 && matches!(letter, ',' | '(' | ')') {
            parts.push(std::mem::take(&mut part));
        } else if !letter.is_ascii_whitespace() {
            part.push(letter);
        }
    }
    parts.push(part);
    parts.sort_unstable();
    parts
}

/// A connection that only reads.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection, rusqlite::Error> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY)?;
    configure(&conn)?;
    conn.execute_batch("PRAGMA query_only = 1")?;
    Ok(conn)
}

/// A connection that only reads a ledger that no daemon has open. One of another version cannot be read.
pub(super) fn open_at_rest(path: &Path) -> Result<Connection, LedgerFault> {
    if !path.exists() {
        return Err(LedgerFault::File { path: path.to_owned(), fault: std::io::Error::from(std::io::ErrorKind::NotFound) });
    }
    let conn = open_for_reading(path)?;
    match version(&conn, path)? {
        VERSION => Ok(conn),
        found => Err(LedgerFault::Older { path: path.to_owned(), found, known: VERSION }),
    }
}

/// What every connection needs: `synchronous` is a property of the connection, and an automatic checkpoint would run on the
/// thread that commits.
pub(super) fn configure(conn: &Connection) -> Result<(), rusqlite::Error> {
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    conn.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0; PRAGMA foreign_keys = 0; PRAGMA cache_size = -4096; PRAGMA temp_store = MEMORY")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_every_older_version_become_those_of_this_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let first = TABLES.replace("    tpm INTEGER CHECK (tpm >= 0),\n", "");
        assert_ne!(first, TABLES);
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch(&format!(
            "{first} PRAGMA user_version = 1; INSERT INTO accounts VALUES (1, NULL, 'root', 'root', 'active', '', 5, NULL, '{{}}', 0, NULL)"
        ))
        .unwrap();
        drop(conn);
        for _ in 0..2 {
            let conn = open_for_writing(&path).unwrap();
            let read = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).unwrap();
            assert_eq!((read("PRAGMA user_version"), read("SELECT rpm FROM accounts")), (Some(i64::from(VERSION)), Some(5)));
            assert_eq!(read("SELECT tpm FROM accounts"), None);
        }
    }

    /// In a ledger that was made now, and in one that an older program made.
    #[test]
    fn a_call_ends_once_in_a_state_that_there_is_and_only_while_it_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new.db"), folder.path().join("old.db"));
        std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/ledger/schema-3/ledger.db"), &old).unwrap();
        for path in [new, old] {
            let conn = open_for_writing(&path).unwrap();
            check(&conn).unwrap();
            let held = "INSERT INTO holds VALUES (9, 0, 1, 'm', zeroblob(32), 5, 1, '1', 0, 1, 1, 1, 1)";
            let ended = |state: &str| format!("INSERT INTO calls VALUES (9, 0, 1, 'm', '{state}', 5, 0, 1, 0, 1, 1, 2)");
            let count =
                |table: &str| conn.query_row(&format!("SELECT count(*) FROM {table} WHERE request = 9"), [], |row| row.get::<_, u32>(0));
            let refused = |sql: &str| conn.execute_batch(sql).unwrap_err().to_string();
            for state in ["exact", "estimated", "worst_case", "released"] {
                conn.execute_batch(&format!("BEGIN; {held}; {}", ended(state))).unwrap();
                assert_eq!((count("holds"), count("calls")), (Ok(0), Ok(1)), "{state}");
                conn.execute_batch("ROLLBACK").unwrap();
            }
            let never = refused(&format!("BEGIN; {}", ended("exact")));
            assert!(never.contains("a call ends once, and only while it is held") && conn.is_autocommit(), "{never}");
            conn.execute_batch(held).unwrap();
            for state in ["", "open", "Exact"] {
                assert!(refused(&ended(state)).contains("CHECK constraint failed"), "{state}");
            }
            conn.execute_batch(&ended("exact")).unwrap();
            assert!(refused(&ended("exact")).contains("UNIQUE constraint failed"));
            conn.execute_batch(held).unwrap();
            assert!(refused(&ended("exact")).contains("UNIQUE constraint failed"));
            assert_eq!((count("holds"), count("calls")), (Ok(1), Ok(1)));
        }
    }

    #[test]
    fn a_ledger_of_another_version_is_not_read_at_rest_and_the_words_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        drop(open_for_writing(&path).unwrap());
        drop(open_at_rest(&path).unwrap());
        let next = VERSION.checked_add(1).unwrap();
        for version in (1..VERSION).chain([next]) {
            Connection::open(&path).unwrap().execute_batch(&format!("PRAGMA user_version = {version}")).unwrap();
            let said = [
                crate::ledger::read_only_audit(&path).map(drop).unwrap_err().to_string(),
                crate::ledger::read_only(&path, |_| Ok(())).unwrap_err().to_string(),
                crate::ledger::read_only_explain(&path, aex_proto::explain::ExplainId::Event(1)).map(drop).unwrap_err().to_string(),
            ];
            let what =
                if version < VERSION { "the next start of the daemon migrates it" } else { "use the newer aexd, or restore a backup" };
            let words = format!("has schema {version}, this aexd knows {VERSION}: {what}");
            assert!(said.iter().all(|said| said.ends_with(&words) && *said == said.trim()), "{said:?}");
            assert_eq!((&said[0], &said[0]), (&said[1], &said[2]));
        }
        // As a start says it.
        assert!(open_for_writing(&path).unwrap_err().to_string().contains("use the newer aexd"));
    }
}
