//! Puts a backup in the place of a ledger that no daemon has open. The backup is made ready in a copy of its own, audited, and then
//! takes the ledger's name in one step, so that a crash leaves the one or the other, whole. What it replaces is kept.

mod carry;
mod common;
mod swap;

pub(super) use swap::tidy;

use super::copy::{self, with_suffix};
use super::read::Reader;
use super::writer::Writer;
use super::{LedgerFault, check, file_fault, load, migrate, schema};
use crate::os::clock;
use aex_core::chain::Head;
use aex_core::event::{By, EpochClosed, LedgerRestored};
use aex_proto::value::{Digest, Pico, Stamp};
use jiff::tz::TimeZone;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How far starts are counted on when nobody knows how many there were since the backup: no request may get the id of one that is
/// lost.
const UNKNOWN_STARTS: u32 = 1_024;
/// The schema stops starts at 2²³ − 1.
const LAST_EPOCH: u32 = 8_388_000;

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Where the backup's chain ended.
    pub backup: Head,
    /// Where the chain ends now.
    pub head: Head,
    /// The SHA-256 of the backup's file.
    pub sha256: Digest,
    /// The start that the restore counts as.
    pub epoch: u32,
    /// The ledger that was there.
    pub kept: Option<PathBuf>,
    /// What it held beyond the backup.
    pub lost: Option<Lost>,
    /// Tokens that were revoked there, and are here too.
    pub revoked: u64,
    /// Accounts that were closed, paused or killed there, and are here too.
    pub stopped: u64,
    /// What is to be looked after by hand.
    pub warnings: Vec<String>,
}

/// Why a file did not take the ledger's place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRestored {
    /// It cannot.
    #[error("{0}")]
    Unfit(String),
    /// Something would be lost with the ledger that is there.
    #[error("{0}")]
    WouldLose(String),
}

/// What a ledger holds beyond a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Events.
    pub events: u64,
    /// Calls that have ended.
    pub calls: u64,
    /// What they were charged.
    pub charged: Pico,
}

/// The ledger that is there.
enum Current {
    None,
    Readable(Box<Readable>),
    /// Why.
    Unreadable(String),
}

struct Readable {
    conn: Connection,
    head: Head,
    epoch: u32,
    ledger: String,
}

/// Restores a ledger from a file. The ledger's lock is held meanwhile.
///
/// # Errors
/// Outer: a daemon runs, or the system refuses. Inner: the file is no sound backup, or what is there would be lost and that was not
/// accepted.
pub fn restore(ledger: &Path, file: &Path, accept_loss: bool, by: By) -> Result<Result<Restored, NotRestored>, LedgerFault> {
    schema::assert_sqlite_version()?;
    let _lock = super::lock::take(ledger)?;
    tidy(ledger)?;
    let same = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    if same(ledger).is_some() && same(ledger) == same(file) {
        return Ok(Err(NotRestored::Unfit(format!("{} is the ledger itself", file.display()))));
    }
    let staged = Staged::copy(file, ledger)?;
    let backup = match staged.ready() {
        Ok(head) => head,
        Err(fault) => match check::damaged(file, fault) {
            LedgerFault::Damaged { what, .. } => {
                return Ok(Err(NotRestored::Unfit(format!("{} is no sound backup of a ledger: {what}", file.display()))));
            }
            fault => return Err(fault),
        },
    };
    let current = Current::open(ledger)?;
    let losses = losses(&staged, &current).or_else(|fault| match check::damaged(ledger, fault) {
        LedgerFault::Damaged { what, .. } => Ok(Losses::unknown(&what)),
        fault => Err(fault),
    })?;
    if !accept_loss && !losses.words.is_empty() {
        return Ok(Err(NotRestored::WouldLose(losses.words.join("; "))));
    }
    let apart = losses.common.filter(|last| *last < backup.seq);
    let mut done = staged.written(&current, backup, apart, by)?;
    (done.lost, done.kept) = (losses.lost, swap::swap(&staged.path, ledger, current)?);
    Ok(Ok(done))
}

/// What would be lost.
#[derive(Default)]
struct Losses {
    /// As a number, where anybody knows it.
    lost: Option<Lost>,
    words: Vec<String>,
    /// The last event that the ledger and the backup are known to have both.
    common: Option<i64>,
}

impl Losses {
    fn unknown(why: &str) -> Losses {
        let words = vec![format!("the ledger cannot be read ({why}), so nobody can say what it holds beyond the backup")];
        Losses { words, ..Losses::default() }
    }
}

fn losses(staged: &Staged, current: &Current) -> Result<Losses, LedgerFault> {
    let current = match current {
        Current::None => return Ok(Losses::default()),
        Current::Unreadable(why) => return Ok(Losses::unknown(why)),
        Current::Readable(current) => current,
    };
    let conn = staged.open()?;
    let ours: String = conn.query_row("SELECT ledger FROM chain", [], |row| row.get(0))?;
    let mut words = Vec::new();
    let common = if ours == current.ledger {
        common::common(&conn, &current.conn)?
    } else {
        words.push(format!("it is a backup of another ledger, {ours}; this one is {}", current.ledger));
        common::Common { last: 0, is_exact: true }
    };
    if !common.is_exact {
        words.push(format!(
            "nothing proves that they are one ledger behind event {}, for one of them has sealed away what the other has; \
             all behind it counts as lost",
            common.last
        ));
    }
    let lost = current.beyond(common.last)?;
    if lost.events > 0 {
        let Lost { events, calls, charged } = lost;
        words.push(format!("the ledger is ahead of the backup by {events} events, among them {calls} calls for {charged}"));
    }
    Ok(Losses { lost: Some(lost), words, common: Some(common.last) })
}

impl Current {
    /// What is damaged is one thing; a ledger that is busy, or that the system does not give out, may be whole.
    fn open(path: &Path) -> Result<Current, LedgerFault> {
        let has_log = with_suffix(path, "-wal").exists();
        match std::fs::metadata(path) {
            Ok(found) if found.len() == 0 && !has_log => return Ok(Current::None),
            Ok(_) => {}
            Err(fault) if fault.kind() != ErrorKind::NotFound => return Err(file_fault(path, fault)),
            Err(_) if has_log => return Ok(Current::Unreadable("there is nothing of it but its log".to_owned())),
            Err(_) => return Ok(Current::None),
        }
        match Readable::open(path).map_err(|fault| check::damaged(path, fault)) {
            Ok(readable) => Ok(Current::Readable(Box::new(readable))),
            Err(LedgerFault::Damaged { what, .. }) => Ok(Current::Unreadable(what)),
            Err(fault) => Err(fault),
        }
    }
}

impl Readable {
    fn open(path: &Path) -> Result<Readable, LedgerFault> {
        let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        for table in ["chain", "accounts", "tokens"] {
            check::integrity(&conn, &format!("PRAGMA quick_check({table})"))?;
        }
        let head = copy::head(&conn)?;
        let (epoch, ledger) = conn.query_row("SELECT epoch, ledger FROM chain", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Readable { conn, head, epoch, ledger })
    }

    /// What it holds behind an event.
    fn beyond(&self, seq: i64) -> Result<Lost, LedgerFault> {
        let sql = "SELECT count(*), coalesce(sum(charge_pico), 0) FROM calls WHERE ended_seq > ?";
        let (calls, charged): (i64, i64) = self.conn.query_row(sql, [seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let events = self.head.seq.saturating_sub(seq).unsigned_abs();
        Ok(Lost { events, calls: calls.unsigned_abs(), charged: Pico::new(charged) })
    }
}

/// The backup's copy beside the ledger, until it is the ledger.
struct Staged {
    path: PathBuf,
    file: PathBuf,
    sha256: Digest,
}

impl Staged {
    fn copy(file: &Path, ledger: &Path) -> Result<Staged, LedgerFault> {
        let path = swap::staged(ledger);
        let copy = |from: &Path, to: &Path| {
            let mut source = File::open(from).map_err(|fault| file_fault(from, fault))?;
            let made = File::options().write(true).create_new(true).mode(0o600).open(to);
            let copied = made.and_then(|mut made| std::io::copy(&mut source, &mut made).and_then(|_| made.sync_all()));
            copied.map_err(|fault| file_fault(to, fault))
        };
        let mut staged = Staged { path, file: file.to_owned(), sha256: Digest::ZERO };
        copy(file, &staged.path)?;
        staged.sha256 = copy::sha256(&staged.path)?;
        // A ledger that was kept by an earlier restore may have its log beside it.
        let log = with_suffix(file, "-wal");
        if log.exists() {
            copy(&log, &with_suffix(&staged.path, "-wal"))?;
        }
        Ok(staged)
    }

    fn open(&self) -> Result<Connection, LedgerFault> {
        let conn = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        schema::configure(&conn)?;
        Ok(conn)
    }

    /// Makes it a ledger of this version that stands an audit; where its chain ends. Reservations may be open in it.
    fn ready(&self) -> Result<Head, LedgerFault> {
        let conn = self.open()?;
        let found = schema::version(&conn, &self.file)?;
        if found == 0 {
            return Err(LedgerFault::Broken("there is nothing in it".to_owned()));
        }
        check::integrity(&conn, "PRAGMA integrity_check(1)")?;
        let head = copy::head(&conn)?;
        if found < schema::VERSION {
            migrate::in_one_transaction(&conn, found, &schema::STEPS)?;
        }
        schema::check(&conn)?;
        audited(&conn, &["no_orphaned_reservations"])?;
        Ok(head)
    }

    /// Writes into it that it was restored, and what the ledger that it replaces knew better. `apart`: the last event that both have,
    /// when the backup has others behind it.
    fn written(&self, current: &Current, backup: Head, apart: Option<i64>, by: By) -> Result<Restored, LedgerFault> {
        let conn = self.open()?;
        let (zone, name) = last_zone(&conn)?;
        let mut writer = Writer::new(&conn, load::load(&conn, zone, clock::wall())?, Arc::new(clock::wall))?;
        let known = if let Current::Readable(current) = current { Some(current) } else { None };
        let epoch = known.map_or(writer.state.epoch.saturating_add(UNKNOWN_STARTS), |current| current.epoch);
        let epoch = epoch.max(writer.state.epoch).min(LAST_EPOCH.max(writer.state.epoch));
        writer.begin()?;
        let restored = LedgerRestored {
            by: Some(by.clone()),
            epoch,
            file: self.sha256,
            head: backup.into(),
            replaced: known.map(|current| current.head.into()),
        };
        writer.append(&restored.into())?;
        writer.state.epoch = epoch;
        writer.open_epoch(name)?;
        let carried = carry::carry(&mut writer, current, apart, &by)?;
        let epoch = writer.state.epoch;
        writer.append(&EpochClosed { epoch }.into())?;
        writer.finish()?;
        let head = writer.state.head;
        drop(writer);
        audited(&conn, &[])?;
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        conn.close().map_err(|(_, fault)| fault)?;
        File::open(&self.path).and_then(|file| file.sync_all()).map_err(|fault| file_fault(&self.path, fault))?;
        let carry::Carried { revoked, stopped, warnings } = carried;
        Ok(Restored { backup, head, sha256: self.sha256, epoch, kept: None, lost: None, revoked, stopped, warnings })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Once it is the ledger, there is nothing at its path.
        swap::remove_staged(&self.path);
    }
}

/// Demands that every invariant holds but those named.
fn audited(conn: &Connection, but: &[&str]) -> Result<(), LedgerFault> {
    let transaction = conn.unchecked_transaction()?;
    let report = Reader::new(&transaction).audit(clock::wall(), None)?;
    let broken = report.findings.iter().find(|finding| !finding.passed() && !but.contains(&finding.name));
    broken.map_or(Ok(()), |finding| {
        let first = finding.broken.first().map_or("", String::as_str);
        Err(LedgerFault::Broken(format!("it does not stand an audit: {}: {first}", finding.name)))
    })
}

/// The zone in which the last start counted windows, as far as it is known here.
fn last_zone(conn: &Connection) -> Result<(TimeZone, String), LedgerFault> {
    let sql = "SELECT body ->> 'zone' FROM events WHERE kind = 'epoch.opened' ORDER BY seq DESC LIMIT 1";
    let name: Option<String> = conn.query_row(sql, [], |row| row.get(0)).optional()?.flatten();
    let found = name.and_then(|name| super::audit::zone(&name).map(|zone| (zone, name)));
    Ok(found.unwrap_or_else(|| (TimeZone::UTC, "UTC".to_owned())))
}

/// `20261121T130000Z`: a time as files are named by it.
fn file_time(at: Stamp) -> String {
    at.to_string().chars().filter(|letter| !matches!(letter, '-' | ':')).take_while(|letter| *letter != '.').chain(['Z']).collect()
}
