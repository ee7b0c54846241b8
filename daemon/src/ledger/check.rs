//! Whether a ledger is still what was written. A small one is looked at whole before it serves; of a large one, at first what is
//! read at each call and the end of the chain, the rest by a slow thread beside the calls. What it finds ends the daemon.

use super::disk::Disk;
use super::load::digest;
use super::queue::Queue;
use super::read::{Reader, record};
use super::{LedgerFault, schema};
use crate::os::clock;
use aex_core::chain::Head;
use aex_core::verify::Audit;
use aex_proto::value::Digest;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Up to so many events, and so many bytes, a ledger is looked at whole at the start: about 40 ms of it.
const SMALL_EVENTS: i64 = 4_000;
const SMALL_BYTES: i64 = 16 << 20;
/// Tables that the writer has in memory.
const HOT: [&str; 6] = ["chain", "accounts", "tokens", "budgets", "balances", "holds"];
/// What a snapshot may be of.
const KINDS: [&str; 4] = ["card", "fields", "permissions", "policy"];
/// Events at the end of the chain that are linked at every start.
const LAST: i64 = 64;
/// Events that the slow thread links in one transaction.
const SLICE: i64 = 512;
/// The invariants that speak of rows. What follows from events alone, their hashes hold; and holds of a daemon that died are put right
/// by the start.
const OF_ROWS: [&str; 2] = ["event_log_integrity", "spent_matches_events"];

/// How much a start has looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// All of it.
    Whole,
    /// The rest is for [`beside`].
    Part,
}

/// The look at the start.
///
/// # Errors
/// [`LedgerFault::Damaged`], or what kept it from looking.
pub(super) fn at_start(conn: &Connection, path: &Path) -> Result<Looked, LedgerFault> {
    schema::check(conn).and_then(|()| look(conn)).map_err(|fault| damaged(path, fault))
}

/// Says of a fault that it comes from the file, or from the disk below it, where it does.
pub(super) fn damaged(path: &Path, fault: LedgerFault) -> LedgerFault {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseCorrupt, DatabaseLocked, NotADatabase, Unknown};
    let what = match &fault {
        LedgerFault::Sql(sql) => match sql.sqlite_error_code() {
            // The last one is SQLITE_ERROR: a table or column that is missing, a format that it does not know.
            Some(DatabaseCorrupt | NotADatabase | Unknown) => sql.to_string(),
            Some(DatabaseBusy | DatabaseLocked) => return fault,
            // Anything else that SQLite tells by a code is of the system.
            Some(_) => return LedgerFault::Disk { path: path.to_owned(), fault: Box::new(fault) },
            None => format!("a row does not fit its table: {sql}"),
        },
        LedgerFault::Broken(what) => what.clone(),
        LedgerFault::Books(books) => books.to_string(),
        _ => return fault,
    };
    LedgerFault::Damaged { path: path.to_owned(), what }
}

fn look(conn: &Connection) -> Result<Looked, LedgerFault> {
    let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let bytes: i64 = conn.query_row(sql, [], |row| row.get(0))?;
    let (first, last): (Option<i64>, Option<i64>) =
        conn.query_row("SELECT (SELECT seq FROM events ORDER BY seq LIMIT 1), seq FROM chain", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let events = last.unwrap_or(0).saturating_sub(first.unwrap_or(0));
    if bytes <= SMALL_BYTES && events <= SMALL_EVENTS {
        integrity(conn, "PRAGMA integrity_check(1)")?;
        rows(conn)?;
        return Ok(Looked::Whole);
    }
    for table in HOT {
        integrity(conn, &format!("PRAGMA quick_check({table})"))?;
    }
    let mut before = None;
    links(conn, last.unwrap_or(0).saturating_sub(LAST), LAST, &mut before)?;
    Ok(Looked::Part)
}

pub(super) fn integrity(conn: &Connection, pragma: &str) -> Result<(), LedgerFault> {
    let found: String = conn.query_row(pragma, [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(LedgerFault::Broken(found.replace('\n', "; "))) }
}

/// Every row against its events.
fn rows(conn: &Connection) -> Result<(), LedgerFault> {
    let transaction = conn.unchecked_transaction()?;
    // A zone that this machine does not know, or whose rules have changed, is no damage: its windows are checked by the audit.
    let zones = |name: &str| super::audit::zone(name).or(Some(jiff::tz::TimeZone::UTC));
    let report = Reader::new(&transaction).audit_with(zones, clock::wall(), None, &[], Audit::trust_windows)?;
    let broken = report.findings.into_iter().filter(|finding| OF_ROWS.contains(&finding.name) && !finding.passed());
    match broken.flat_map(|finding| finding.broken).find(|what| is_damage(what)) {
        None => snapshots(&transaction),
        Some(what) => Err(LedgerFault::Broken(what)),
    }
}

/// Whether a finding is of what is stored, not of what an event says: an event that is odd was written so.
fn is_damage(what: &str) -> bool {
    !what.starts_with("event ") || what.ends_with(" was expected") || what.ends_with("its hash does not follow from what it holds")
}

/// Links events behind a number, at most so many; where the chain is then. The first of them is taken as it is when nothing is
/// known of the one before it.
fn links(conn: &Connection, after: i64, limit: i64, before: &mut Option<Head>) -> Result<bool, LedgerFault> {
    let mut statement = conn.prepare_cached("SELECT seq, at_us, kind, body, hash FROM events WHERE seq > ? ORDER BY seq LIMIT ?")?;
    let mut rows = statement.query([after, limit])?;
    let mut any = false;
    while let Some(row) = rows.next()? {
        any = true;
        let event = record(row)?;
        let found = Head { seq: event.seq, hash: event.hash };
        let start = (event.seq == 1).then_some(Head::START);
        if let Some(before) = before.or(start)
            && before.link(event.at, &event.kind, &Digest::of(event.body.as_bytes())) != found
        {
            return Err(LedgerFault::Broken(format!("event {}: its hash does not follow from what it holds", event.seq)));
        }
        *before = Some(found);
    }
    Ok(any)
}

/// Looks at the rest, slowly, while the ledger serves. What is damaged is said to the disk, which admits nothing any more then.
///
/// # Errors
/// When the thread cannot be started.
pub(super) fn beside(path: &Path, queue: &Arc<Queue>, disk: &Disk) -> Result<JoinHandle<()>, LedgerFault> {
    let (path, queue, disk): (PathBuf, _, _) = (path.to_owned(), Arc::clone(queue), disk.clone());
    let thread = std::thread::Builder::new().name("aex-check".to_owned());
    let fault_path = path.clone();
    let body = move || match slowly(&path, &queue) {
        Ok(()) => tracing::debug!("the whole ledger was looked at, and it is what was written"),
        Err(_) if queue.is_closed() => {}
        Err(fault) => match damaged(&path, fault) {
            LedgerFault::Damaged { what, .. } => {
                tracing::error!(what, "the ledger is damaged; no call is admitted any more");
                disk.condemn(what);
            }
            fault => tracing::warn!(%fault, "the ledger could not be looked at"),
        },
    };
    thread.spawn(body).map_err(|fault| super::file_fault(&fault_path, fault))
}

fn slowly(path: &Path, queue: &Arc<Queue>) -> Result<(), LedgerFault> {
    let conn = schema::open_for_reading(path)?;
    let mut pace = Pace::default();
    let closing = Arc::clone(queue);
    conn.progress_handler(
        1_000,
        Some(move || {
            pace.step();
            closing.is_closed()
        }),
    )?;
    let mut statement = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")?;
    let tables: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for table in tables {
        // Table by table: a reader that stays for long keeps the log from starting anew.
        integrity(&conn, &format!("PRAGMA integrity_check('{table}')"))?;
    }
    snapshots(&conn)?;
    let (mut before, mut pace) = (None, Pace::default());
    while slice(&conn, &mut before)? {
        pace.step();
        if queue.is_closed() {
            return Ok(());
        }
    }
    Ok(())
}

/// The next events, in one transaction with what was compacted meanwhile: behind that, the chain is taken up anew.
pub(super) fn slice(conn: &Connection, before: &mut Option<Head>) -> Result<bool, LedgerFault> {
    let transaction = conn.unchecked_transaction()?;
    let sealed = Reader::new(&transaction).sealed_last()?;
    let mut after = before.map_or(0, |head| head.seq);
    if sealed > after {
        (after, *before) = (sealed, None);
    }
    links(&transaction, after, SLICE, before)
}

/// Prices and policies against their digests.
fn snapshots(conn: &Connection) -> Result<(), LedgerFault> {
    let mut statement = conn.prepare("SELECT digest, body, kind FROM snapshots")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (name, body, kind): (Digest, String, String) = (digest(row, 0)?, row.get(1)?, row.get(2)?);
        if !KINDS.contains(&kind.as_str()) {
            return Err(LedgerFault::Broken(format!("snapshot {name}: `{kind}` is no kind of snapshot")));
        }
        if Digest::of(body.as_bytes()) != name {
            return Err(LedgerFault::Broken(format!("snapshot {name}: its text has another digest")));
        }
    }
    Ok(())
}

/// Works for 5 ms of each 20, so that the disk and a core stay free for calls.
#[derive(Default)]
struct Pace {
    since: Option<Duration>,
}

impl Pace {
    const WORK: Duration = Duration::from_millis(5);
    const REST: Duration = Duration::from_millis(15);

    fn step(&mut self) {
        let now = crate::os::clock::mono();
        if now.saturating_sub(*self.since.get_or_insert(now)) >= Pace::WORK {
            std::thread::sleep(Pace::REST);
            self.since = None;
        }
    }
}
