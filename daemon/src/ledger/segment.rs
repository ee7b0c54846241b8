//! A segment: old events as a file of their own, written, read back and proven before the ledger forgets them.

use super::audit::{snapshot, zone};
use super::export::{Export, Scope};
use super::read::Reader;
use super::{LedgerFault, Refused};
use aex_core::chain::Head;
use aex_core::export::{Header, MAX_LINE, Reader as Lines, VERSION, Verifier, Writer, named};
use aex_core::verify::{Audit, Checkpoint, Finding};
use aex_proto::value::{Digest, Stamp};
use sha2::Digest as _;
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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
    /// Outer: the ledger or the file. Inner: there are none, or an audit of them finds something.
    pub fn segment(&self, before: Stamp, folder: &Path, now: Stamp) -> Result<Result<Segment, Refused>, LedgerFault> {
        let Some((first, last)) = self.sealable(before.min(now), now)? else {
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
        let path = folder.join(format!("{first}-{last}.ndjson"));
        let fault = |fault| LedgerFault::File { path: path.clone(), fault };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault)?;
        let sha256 = self.write_segment(&path, base.as_ref(), first, head, now)?;
        if let Some(broken) = proven(&path, head, sha256).map_err(fault)? {
            return Ok(Err(unsound(&format!("{}: {broken}", path.display()))));
        }
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
        let kept = dated.into_iter().chain(graces).min();
        let last = match kept {
            Some(kept) => kept.saturating_sub(1),
            None => self.head()?.seq,
        };
        Ok((first <= last).then_some((first, last)))
    }

    fn write_segment(&self, path: &Path, base: Option<&Checkpoint>, first: i64, head: Head, made_at: Stamp) -> Result<Digest, LedgerFault> {
        let draft = path.with_extension("draft");
        let fault = |fault| LedgerFault::File { path: draft.clone(), fault };
        // A draft that a kill left is of no use to anybody.
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(fault)?;
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
        let folder = path.parent().unwrap_or(Path::new("/"));
        let kept = file.sync_all().and_then(|()| std::fs::rename(&draft, path)).and_then(|()| File::open(folder)?.sync_all());
        kept.map_err(fault)?;
        Ok(Digest::from_bytes(hasher.finalize().into()))
    }
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
