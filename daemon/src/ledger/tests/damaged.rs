//! Bits that turned over in a closed ledger: the start refuses to serve, or nothing of the ledger was in them.

use super::tampered::house;
use super::*;
use crate::ledger::check::{self, Looked};
use crate::ledger::{load, schema};
use rusqlite::Connection;
use rusqlite::types::Value;
use std::fs;

/// Bits that are turned over on each page, at places that a run of the test always chooses alike.
const FLIPS_PER_PAGE: usize = 6;
const PAGE: usize = 4096;

/// A closed ledger, with pages that are free.
async fn sample() -> (tempfile::TempDir, Vec<u8>) {
    let house = house().await;
    house.ledger.close();
    let House { home, ledger, .. } = house;
    drop(ledger);
    let path = home.path().join("ledger.db");
    let conn = Connection::open(&path).unwrap();
    let fill = "CREATE TABLE junk (text TEXT); WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
        INSERT INTO junk SELECT hex(randomblob(100)) FROM n; DROP TABLE junk";
    conn.execute_batch(fill).unwrap();
    assert!(conn.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0)).unwrap() > 3);
    conn.close().unwrap();
    let bytes = fs::read(&path).unwrap();
    (home, bytes)
}

/// All that a ledger says, in text. `None`: it cannot be read.
fn said(path: &Path) -> Option<Vec<String>> {
    let conn = Connection::open(path).ok()?;
    let mut statement = conn.prepare("SELECT type, name, tbl_name, replace(sql, char(10), ' ') FROM sqlite_schema").ok()?;
    let objects = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Value>(3)?)));
    let objects: Vec<_> = objects.ok()?.collect::<Result<_, _>>().ok()?;
    let mut all: Vec<String> = objects.iter().map(|object| format!("{object:?}")).collect();
    for (_, table, _) in objects.iter().filter(|(kind, ..)| kind == "table") {
        let mut statement = conn.prepare(&format!("SELECT * FROM \"{table}\"")).ok()?;
        let count = statement.column_count();
        let rows = statement.query_map([], |row| (0..count).map(|at| row.get::<_, Value>(at)).collect::<Result<Vec<_>, _>>());
        all.extend(rows.ok()?.map(|row| row.map(|row| format!("{table} {row:?}"))).collect::<Result<Vec<_>, _>>().ok()?);
    }
    Some(all)
}

/// What a start does before the writer has the ledger.
fn start(path: &Path) -> Result<Looked, LedgerFault> {
    let conn = schema::open_for_writing(path).map_err(|fault| check::damaged(path, fault))?;
    let looked = check::at_start(&conn, path)?;
    load::load(&conn, TimeZone::UTC, clock::wall()).map_err(|fault| check::damaged(path, fault))?;
    Ok(looked)
}

/// A copy with one bit turned over, for a start and for a look.
fn flipped(folder: &Path, bytes: &[u8], at: usize, bit: u32) -> [PathBuf; 2] {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << bit;
    ["start.db", "look.db"].map(|name| {
        for suffix in ["", "-wal", "-shm"] {
            drop(fs::remove_file(folder.join(format!("{name}{suffix}"))));
        }
        fs::write(folder.join(name), &bytes).unwrap();
        folder.join(name)
    })
}

/// Numbers without a pattern, the same in each run (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit).unwrap()).unwrap()
    }
}

#[tokio::test]
async fn a_bit_that_turned_over_is_found_at_the_start_unless_nothing_was_in_it() {
    let (home, bytes) = sample().await;
    let whole = said(&home.path().join("ledger.db")).unwrap();
    assert_eq!(start(&home.path().join("ledger.db")).unwrap(), Looked::Whole);
    let mut numbers = Numbers(0x5eed);
    let header = (0..100).map(|at| (at, 0)).chain((16..100).map(|at| (at, 1)));
    let header: Vec<(usize, u32)> = header.collect();
    let pages = bytes.len() / PAGE;
    let flips: Vec<(usize, u32)> = (0..pages * FLIPS_PER_PAGE)
        .map(|number| (number / FLIPS_PER_PAGE * PAGE + numbers.below(PAGE), u32::try_from(numbers.below(8)).unwrap()))
        .collect();
    let (mut found, mut empty) = (0, 0);
    for (at, bit) in header.into_iter().chain(flips) {
        let [to_start, to_look] = flipped(home.path(), &bytes, at, bit);
        let is_same = said(&to_look).as_ref() == Some(&whole);
        match start(&to_start) {
            Ok(_) => {
                assert!(is_same, "byte {at}, bit {bit}: the ledger says something else, and the start did not see it");
                empty += 1;
            }
            Err(LedgerFault::Damaged { what, .. }) => {
                assert!(!what.is_empty());
                found += 1;
            }
            // A version that is another one: refused as what it says, or no step of a migration fits.
            Err(LedgerFault::Newer { .. } | LedgerFault::Migration { .. }) if (60..64).contains(&at) => found += 1,
            // A write version that this SQLite does not know makes the file read-only.
            Err(LedgerFault::Disk { .. }) if (18..20).contains(&at) => found += 1,
            Err(fault) => panic!("byte {at}, bit {bit}: {fault}"),
        }
    }
    assert!(found > 50 && empty > 20, "{found} found, {empty} empty");
}

#[tokio::test]
async fn a_damaged_ledger_is_refused_with_what_to_do() {
    let (home, bytes) = sample().await;
    let path = home.path().join("ledger.db");
    let place =
        bytes.windows(13).rposition(|window| window == b"\"call.settled").or_else(|| bytes.windows(8).rposition(|w| w == b"answered"));
    let mut bytes = bytes;
    bytes[place.unwrap()] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let options = Options { path: path.clone(), durability: Durability::Normal, zone: TimeZone::UTC, wal_limit: 1 << 20 };
    let fault = Ledger::open(&options).unwrap_err().to_string();
    for piece in [path.to_str().unwrap(), "is damaged: event ", "aexctl audit", "aexctl restore FILE"] {
        assert!(fault.contains(piece), "{piece}: {fault}");
    }
    // It was not changed by the attempt.
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn what_is_damaged_in_a_large_ledger_ends_the_one_that_serves_it() {
    let mut house = House::new().await;
    let agent = house.account(1, AccountKind::Agent, "a", &[]).await;
    // More than is looked at before the start.
    for _ in 0..2_100 {
        let key = house.call(agent, 5, true).await.unwrap();
        house.ledger.end(key, refusing::exact(10)).unwrap();
    }
    house.ledger.close();
    let House { home, ledger, .. } = house;
    drop(ledger);
    let path = home.path().join("ledger.db");
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("DROP TRIGGER events_are_final").unwrap();
    let trigger = schema::TABLES.split_inclusive("END;").find(|sql| sql.contains("events_are_final")).unwrap();
    let (_, trigger) = trigger.split_once("CREATE TRIGGER").unwrap();
    conn.execute("UPDATE events SET at_us = at_us + 1 WHERE seq = 100", []).unwrap();
    conn.execute_batch(&format!("CREATE TRIGGER {trigger}")).unwrap();
    conn.close().unwrap();
    let ledger = open(home.path(), TimeZone::UTC);
    ledger.failed().await;
    assert!(!ledger.is_available());
    assert_eq!(ledger.damage(), Some("event 100: its hash does not follow from what it holds"));
    ledger.close();
}

#[tokio::test]
async fn a_table_that_was_changed_by_hand_is_refused() {
    let (home, bytes) = sample().await;
    let path = home.path().join("ledger.db");
    for sql in ["DROP TRIGGER events_are_kept", "DROP INDEX tokens_by_account", "ALTER TABLE holds ADD COLUMN more TEXT"] {
        fs::write(&path, &bytes).unwrap();
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let fault = start(&path).unwrap_err().to_string();
        assert!(fault.contains("is not what this version makes"), "{sql}: {fault}");
    }
    // What somebody added for reports is theirs.
    fs::write(&path, &bytes).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE VIEW mine AS SELECT * FROM calls; CREATE INDEX own ON calls (account)").unwrap();
    assert_eq!(start(&path).unwrap(), Looked::Whole);
}
