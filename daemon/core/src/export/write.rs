//! Writes the lines and keeps the sums of the sections.

use super::line::{End, Header, Line, Row, Section, Snapshot, Sum};
use crate::canon;
use crate::chain::Head;
use crate::verify::{Checkpoint, Record, Stub};
use aex_proto::value::Digest;
use sha2::Digest as _;
use std::borrow::Cow;

/// Makes lines, to be written in the order in which they are made. The caller keeps to the order of sections, rows and snapshots.
#[derive(Debug)]
pub struct Writer {
    sums: Sums,
}

impl Writer {
    /// Begins a file with its header.
    #[must_use]
    pub fn begin(header: &Header, out: &mut Vec<u8>) -> Writer {
        let mut writer = Writer { sums: Sums::default() };
        writer.line(Section::Header, &canon::text(&Line::Export(header.clone())), out);
        writer
    }

    /// The state before the first event.
    pub fn checkpoint(&mut self, checkpoint: &Checkpoint, out: &mut Vec<u8>) {
        for piece in checkpoint.pieces() {
            self.line(Section::Checkpoint, &canon::text(&piece), out);
        }
    }

    /// A text that is named by its digest.
    pub fn snapshot(&mut self, digest: Digest, kind: &str, text: &str, out: &mut Vec<u8>) {
        let snapshot = Snapshot { digest, kind: Cow::Borrowed(kind), text: Cow::Borrowed(text) };
        self.line(Section::Snapshots, &canon::text(&Line::Snapshot(snapshot)), out);
    }

    /// An event. Its body stands in it as it is.
    pub fn event(&mut self, record: &Record, out: &mut Vec<u8>) {
        let Record { at, body, hash, kind, seq } = record;
        let line = format!("{{\"event\":{{\"at\":\"{at}\",\"body\":{body},\"hash\":\"{hash}\",\"kind\":\"{kind}\",\"seq\":{seq}}}}}");
        self.line(Section::Events, &line, out);
    }

    /// What stays of an event of others.
    pub fn stub(&mut self, stub: Stub, out: &mut Vec<u8>) {
        self.line(Section::Events, &canon::text(&Line::Stub(stub)), out);
    }

    /// A row.
    pub fn row(&mut self, row: &Row, out: &mut Vec<u8>) {
        self.line(Section::Rows, &canon::text(row), out);
    }

    /// The last line.
    pub fn end(self, head: Head, out: &mut Vec<u8>) {
        let (lines, sections) = self.sums.all();
        let sections = sections.into_iter().map(|(_, sum)| sum).collect();
        out.extend(canon::text(&Line::End(End { head, lines: lines.saturating_add(1), sections })).into_bytes());
        out.push(b'\n');
    }

    fn line(&mut self, section: Section, text: &str, out: &mut Vec<u8>) {
        let from = out.len();
        out.extend(text.as_bytes());
        out.push(b'\n');
        self.sums.add(section, out.get(from..).unwrap_or_default());
    }
}

/// The sums of the sections as lines pass: for whoever writes and for whoever reads.
#[derive(Debug, Default)]
pub(super) struct Sums {
    done: Vec<(u64, Sum)>,
    section: Option<(Section, u64, u64)>,
    hasher: sha2::Sha256,
    lines: u64,
}

impl Sums {
    /// The section that is under way.
    pub(super) fn section(&self) -> Option<Section> {
        self.section.map(|(section, ..)| section)
    }

    /// Counts a line, its line feed included.
    pub(super) fn add(&mut self, section: Section, line: &[u8]) {
        if self.section() != Some(section) {
            self.close();
        }
        self.lines = self.lines.saturating_add(1);
        let (_, _, lines) = self.section.get_or_insert((section, self.lines, 0));
        *lines = lines.saturating_add(1);
        self.hasher.update(line);
    }

    fn close(&mut self) {
        if let Some((name, first, lines)) = self.section.take() {
            let hasher = std::mem::take(&mut self.hasher);
            self.done.push((first, Sum { lines, name, sha256: Digest::from_bytes(hasher.finalize().into()) }));
        }
    }

    /// All lines, and each section with its first line.
    pub(super) fn all(mut self) -> (u64, Vec<(u64, Sum)>) {
        self.close();
        (self.lines, self.done)
    }
}
