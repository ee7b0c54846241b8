//! A segment: old events as a file of their own, written, read back and proven before the ledger forgets them.

use super::audit::{snapshot, zone};
use super::export::{Export, Scope};
use super::read::Reader;
use super::{LedgerFault, Refused, copy};
use aex_core::chain::Head;
use aex_core::export::{Header, MAX_LINE, Reader as Lines, VERSION, Verifier, Writer, named};
use aex_core::verify::{Audit, Checkpoint, Finding};
use aex_proto::value::{Digest, Stamp};
use sha2::Digest as _;
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Digits of a segment's digest in its name, where the plain name is taken.
const SHORT: usize = 8;

/// Events that were written to a file, and what the ledger keeps of them.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The first event.
    pub first: i64,
    /// The last event.
    pub last: i64,
    /// Its hash.
    pub(super) hash: Digest,
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: Digest,
    /// The audit's state behind the last event, as text.
    pub(super) state: String,
    /// What is known of refusals, as text.
    pub(super) denials: String,
}

impl Reader<'_> {
    /// Writes the events before an instant that are not sealed yet to a file in a folder, reads it back and proves it. Events of
    /// runs that are open stay, and all behind them: a run's sums are made of them.
    ///
    /// # Errors
    /// Outer: the ledger or the file. Inner: the instant lies ahead, there are none, or an audit of them finds something.
    pub fn segment(&self, before: Stamp, folder: &Path, now: Stamp) -> Result<Result<Segment, Refused>, LedgerFault> {
        if before > now {
            return Ok(Err(Refused::State(format!("nothing is sealed: the date lies ahead, {before} of {now}"))));
        }
        let Some((first, last)) = self.sealable(before, now)? else {
            return Ok(Err(Refused::State(format!("no event from before {before} is left to be sealed"))));
        };
        let base = match self.base()?.transpose() {
            Ok(base) => base,
            Err(why) => return Ok(Err(unsound(&why))),
        };
        let mut audit = base.clone().map_or_else(|| Audit::new(zone), |base| Audit::resume(zone, base));
        self.snapshots_into(&mut audit)?;
        let audit = self.replayed(audit, last)?;
        let (state, head) = (audit.checkpoint().text(), audit.head());
        if let Some(broken) = first_broken(audit.finish_without_rows()) {
            return Ok(Err(unsound(&broken)));
        }
        if head.seq != last {
            return Ok(Err(unsound(&format!("event {last} is missing"))));
        }
        // Two ledgers may share a folder: each has drafts of its own. One that a kill left is of no use to anybody.
        let draft = folder.join(format!("{first}-{last}.{}.draft", self.name()?));
        let fault = |fault| LedgerFault::File { path: draft.clone(), fault };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault)?;
        let sha256 = self.write_segment(&draft, base.as_ref(), first, head, now)?;
        if let Some(broken) = proven(&draft, head, sha256).map_err(fault)? {
            return Ok(Err(unsound(&format!("{}: {broken}", draft.display()))));
        }
        let Some(path) = named_anew(&draft, (first, last), sha256)? else {
            return Ok(Err(unsound(&format!("{} holds other files of the same name", folder.display()))));
        };
        let denials = self.refusals_up_to(last, now)?;
        Ok(Ok(Segment { first, last, hash: head.hash, path, sha256, state, denials }))
    }

    fn sealable(&self, before: Stamp, now: Stamp) -> Result<Option<(i64, i64)>, LedgerFault> {
        let runs: Option<i64> =
            self.conn.query_row("SELECT min(created_us) FROM accounts WHERE kind = 'run' AND closed_us IS NULL", [], |row| row.get(0))?;
        let before = runs.map_or(before, |oldest| before.min(Stamp::new(oldest)));
        let first = self.sealed_last()?.saturating_add(1);
        let sql = "SELECT min(seq) FROM events WHERE seq >= ? AND at_us >= ?";
        let dated: Option<i64> = self.conn.query_row(sql, [first, before.micros()], |row| row.get(0))?;
        // A start tells a grace from a revocation at once by its event.
        let sql = "SELECT min(e.seq) FROM events e JOIN tokens t ON t.hash = unhex(e.body ->> '$.token')
            WHERE e.kind = 'token.revoked' AND e.seq >= ? AND t.revoked_us > ?";
        let graces: Option<i64> = self.conn.query_row(sql, [first, now.micros()], |row| row.get(0))?;
        let keyed = self.first_keyed(first, now)?;
        let kept = dated.into_iter().chain(graces).chain(keyed).min();
        let last = match kept {
            Some(kept) => kept.saturating_sub(1),
            None => self.head()?.seq,
        };
        Ok((first <= last).then_some((first, last)))
    }

    fn write_segment(
        &self,
        draft: &Path,
        base: Option<&Checkpoint>,
        first: i64,
        head: Head,
        made_at: Stamp,
    ) -> Result<Digest, LedgerFault> {
        let fault = |fault| LedgerFault::File { path: draft.to_owned(), fault };
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(draft).map_err(fault)?;
        // Two copies of one ledger have one name: the second of them waits for no one, and takes nothing from the first.
        file.try_lock().map_err(std::io::Error::from).and_then(|()| file.set_len(0)).map_err(fault)?;
        let mut hasher = sha2::Sha256::new();
        let mut sink = |bytes: Vec<u8>| {
            hasher.update(&bytes);
            file.write_all(&bytes).map_err(fault)
        };
        let header = Header {
            agent: None,
            ledger: self.name()?,
            living: None,
            made_at,
            rows: false,
            since: base.map(Checkpoint::head),
            version: VERSION,
        };
        let mut out = Vec::new();
        let mut export = Export { writer: Writer::begin(&header, &mut out), out, sink: &mut sink };
        if let Some(base) = base {
            export.line(|writer, out| writer.checkpoint(base, out))?;
        }
        let mut needed: BTreeSet<Digest> = base.into_iter().flat_map(Checkpoint::named).collect();
        let within = first..=head.seq;
        self.told(None::<&Scope>, None, within.clone(), |record, _| {
            let event = aex_core::event::Event::parse(&record.kind, &record.body);
            needed.extend(event.iter().flat_map(named));
            Ok(())
        })?;
        self.each_row("SELECT digest, kind, body FROM snapshots ORDER BY digest", snapshot, |(digest, kind, text)| {
            match needed.contains(&digest) {
                true => export.line(|writer, out| writer.snapshot(digest, &kind, &text, out)),
                false => Ok(()),
            }
        })?;
        self.told(None, None, within, |record, _| export.line(|writer, out| writer.event(&record, out)))?;
        export.end(head)?;
        file.sync_all().map_err(fault)?;
        Ok(Digest::from_bytes(hasher.finalize().into()))
    }
}

/// Gives a segment its name, never that of another file: one that is there may be all that is left of its events, for another
/// ledger, or for this one before it was restored. `None`: all names are taken.
fn named_anew(draft: &Path, (first, last): (i64, i64), sha256: Digest) -> Result<Option<PathBuf>, LedgerFault> {
    let short: String = sha256.to_string().chars().take(SHORT).collect();
    for name in [format!("{first}-{last}.ndjson"), format!("{first}-{last}-{short}.ndjson")] {
        let path = draft.with_file_name(name);
        match copy::name(draft, &path) {
            Ok(()) => {}
            // The same bytes are the same segment. What cannot be read is another one.
            Err(fault) if fault.kind() == ErrorKind::AlreadyExists => match copy::sha256(&path) {
                Ok(found) if found == sha256 => {}
                _ => continue,
            },
            Err(fault) => return Err(LedgerFault::File { path, fault }),
        }
        match std::fs::remove_file(draft) {
            Err(fault) if fault.kind() != ErrorKind::NotFound => return Err(LedgerFault::File { path: draft.to_owned(), fault }),
            _ => copy::sync_folder(&path)?,
        }
        return Ok(Some(path));
    }
    Ok(None)
}

/// What is wrong with a segment as it lies on the disk.
fn proven(path: &Path, head: Head, sha256: Digest) -> std::io::Result<Option<String>> {
    let mut input = BufReader::with_capacity(1 << 20, File::open(path)?);
    let (mut lines, mut verifier, mut line) = (Lines::new(), Verifier::new(zone, vec![head]), Vec::new());
    let mut hasher = sha2::Sha256::new();
    verifier.begin("");
    let cap = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    loop {
        line.clear();
        // A line beyond the cap has no line feed, and that is told.
        if input.by_ref().take(cap).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        hasher.update(&line);
        verifier.part(lines.line(&line));
    }
    verifier.end();
    if Digest::from_bytes(hasher.finalize().into()) != sha256 {
        return Ok(Some("it is not what was written".to_owned()));
    }
    Ok(first_broken(verifier.finish().findings))
}

fn first_broken(findings: Vec<Finding>) -> Option<String> {
    findings.into_iter().find_map(|finding| finding.broken.into_iter().next())
}

fn unsound(what: &str) -> Refused {
    Refused::State(format!("nothing is sealed: {what}"))
}
