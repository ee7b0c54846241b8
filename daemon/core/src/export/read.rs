//! Reads lines: each has to be canonical to the byte and stand where it may. What they say is not judged here, so that this half of
//! the work can be done on a thread of its own.

use super::line::{End, Header, Key, Line, Row, Section, Sum};
use super::write::Sums;
use super::{MAX_LINE, line};
use crate::canon;
use crate::verify::{Piece, Prepared, Stub};
use aex_proto::value::{Digest, Stamp};
use sha2::Digest as _;

/// What stands in a line.
#[derive(Debug)]
pub(super) enum What {
    Header(Box<Header>),
    Piece(Box<Piece<'static>>),
    Snapshot {
        digest: Digest,
        kind: String,
        text: String,
    },
    Event(Box<Prepared>),
    Stub(Stub),
    Row(Box<Row>),
    /// The last line, the sums of what was read, each with the first line of its section, and the digest of a segment as a file.
    End(End, Vec<(u64, Sum)>, Option<Digest>),
    Wrong(String),
}

/// A line that was read.
#[derive(Debug)]
pub struct Part {
    pub(super) line: u64,
    pub(super) what: What,
}

/// Reads a file, line by line.
#[derive(Debug, Default)]
pub struct Reader {
    line: u64,
    sums: Sums,
    /// The last snapshot or row.
    last: Option<Key>,
    /// A file without rows is a segment: an event names the digest of all its bytes.
    whole: Option<sha2::Sha256>,
    is_over: bool,
}

impl Reader {
    /// A reader of a file that begins.
    #[must_use]
    pub fn new() -> Reader {
        Reader::default()
    }

    /// Reads the next line, its line feed included. One without is the end of a file that was cut off.
    pub fn line(&mut self, bytes: &[u8]) -> Part {
        self.line = self.line.saturating_add(1);
        let what = match self.read(bytes) {
            Ok(what) => what,
            Err(why) => {
                // Whatever it is, its bytes belong to the section that it stands in.
                self.sums.add(self.sums.section().unwrap_or(Section::Header), bytes);
                What::Wrong(why)
            }
        };
        Part { line: self.line, what }
    }

    /// In place of a line of more than [`MAX_LINE`] bytes: nothing behind it can be read.
    pub fn too_long(&mut self) -> Part {
        self.line = self.line.saturating_add(1);
        Part { line: self.line, what: What::Wrong(format!("it is longer than {MAX_LINE} bytes; nothing behind it was read")) }
    }

    fn read(&mut self, bytes: &[u8]) -> Result<What, String> {
        if self.is_over {
            return Err("it stands behind the end".to_owned());
        }
        let text = bytes.strip_suffix(b"\n").ok_or("it is not ended by a line feed: the file was cut off")?;
        let text = std::str::from_utf8(text).map_err(|fault| format!("it is no text: {fault}"))?;
        let what = parse(text)?;
        if let What::Header(header) = &what
            && self.line == 1
            && !header.rows
        {
            self.whole = Some(sha2::Sha256::new());
        }
        if let Some(whole) = &mut self.whole {
            whole.update(bytes);
        }
        if let What::End(end, ..) = what {
            self.is_over = true;
            let (_, sums) = std::mem::take(&mut self.sums).all();
            let file = self.whole.take().map(|whole| Digest::from_bytes(whole.finalize().into()));
            return Ok(What::End(end, sums, file));
        }
        let (section, key) = place(&what);
        let behind = self.sums.section().is_none_or(|current| current <= section);
        if !behind || (self.line == 1) != (section == Section::Header) {
            return Err(format!("a line of the {} does not belong here", section.name()));
        }
        if let Some(key) = key {
            if self.last.as_ref().is_some_and(|last| *last >= key) {
                return Err(format!("{key:?} stands behind {:?}", self.last));
            }
            self.last = Some(key);
        }
        self.sums.add(section, bytes);
        Ok(what)
    }
}

fn place(what: &What) -> (Section, Option<Key>) {
    match what {
        What::Header(_) | What::End(..) | What::Wrong(_) => (Section::Header, None),
        What::Piece(_) => (Section::Checkpoint, None),
        What::Snapshot { digest, .. } => (Section::Snapshots, Some(Key::Snapshot(*digest))),
        What::Event(_) | What::Stub(_) => (Section::Events, None),
        What::Row(row) => (Section::Rows, Some(row.key())),
    }
}

/// Beginnings of lines of a state.
const STATE: [&str; 2] = ["{\"checkpoint\":", "{\"was_"];
/// Beginnings of lines that are neither rows, events nor of a state.
const OTHERS: [&str; 4] = ["{\"end\":", "{\"export\":", "{\"snapshot\":", "{\"stub\":"];

fn parse(text: &str) -> Result<What, String> {
    if text.starts_with("{\"event\":") {
        return event(text).map(|event| What::Event(Box::new(event))).ok_or_else(|| "it is not the canonical line of an event".to_owned());
    }
    if STATE.iter().any(|start| text.starts_with(start)) {
        let piece: Piece<'static> = serde_json::from_str(text).map_err(|fault| fault.to_string())?;
        return canonical(&piece, text).map(|()| What::Piece(Box::new(piece)));
    }
    if !OTHERS.iter().any(|start| text.starts_with(start)) {
        let row: Row = serde_json::from_str(text).map_err(|fault| fault.to_string())?;
        return canonical(&row, text).map(|()| What::Row(Box::new(row)));
    }
    let line: Line<'_> = serde_json::from_str(text).map_err(|fault| fault.to_string())?;
    canonical(&line, text)?;
    Ok(match line {
        Line::End(end) => What::End(end, Vec::new(), None),
        Line::Export(header) => What::Header(Box::new(header)),
        Line::Snapshot(line::Snapshot { digest, kind, text }) => {
            What::Snapshot { digest, kind: kind.into_owned(), text: text.into_owned() }
        }
        Line::Stub(stub) => What::Stub(stub),
    })
}

fn canonical<T: serde::Serialize>(value: &T, text: &str) -> Result<(), String> {
    if canon::is_text_of(value, text) { Ok(()) } else { Err("it is not canonical".to_owned()) }
}

/// Characters of an instant, and of a digest.
const STAMP: usize = 27;
const DIGEST: usize = 64;

/// An event's line, cut where a canonical one has to be cut: all but the body has one form, and the body is judged with the event.
fn event(text: &str) -> Option<Prepared> {
    let rest = text.strip_prefix("{\"event\":{\"at\":\"")?.strip_suffix("}}")?;
    let (at, rest) = rest.split_at_checked(STAMP)?;
    let rest = rest.strip_prefix("\",\"body\":")?;
    let (rest, seq) = rest.rsplit_once(':')?;
    let (rest, kind) = rest.strip_suffix("\",\"seq\"")?.rsplit_once('"')?;
    let rest = rest.strip_suffix("\",\"kind\":")?;
    let (body, hash) = rest.split_at_checked(rest.len().checked_sub(DIGEST)?)?;
    let body = body.strip_suffix(",\"hash\":\"")?;
    let (stamp, number, digest) = (Stamp::parse(at).ok()?, seq.parse::<i64>().ok()?, hash.parse::<Digest>().ok()?);
    // In the one form that each of them has.
    let is_number = seq.bytes().all(|byte| byte.is_ascii_digit()) && !seq.starts_with('0');
    let is_kind = kind.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'.' | b'_'));
    let is_hash = !hash.bytes().any(|byte| byte.is_ascii_uppercase());
    (is_number && is_kind && is_hash && stamp.to_string() == at).then(|| Prepared::of(number, stamp, kind, body, digest))
}
