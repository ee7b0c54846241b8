//! The shim's log, as `struct record` in `tests/shim/disk.c` lays it out.

/// What the daemon did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Opened a file, `data` its path; `at` is 1 when that made it.
    Opened,
    /// Wrote `data` at the offset `at`.
    Written,
    /// Cut the file to `at` bytes, or drew it out.
    Sized,
    /// Flushed it.
    Synced,
    /// Removed the name `data`.
    Unlinked,
    /// Renamed; `data` holds both names with a zero between them.
    Renamed,
    /// Sent `data` through a socket; `at` is its own port, shifted by 16 bits, and the other side's.
    Sent,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it began, on the log's own counter.
    pub start: u64,
    /// When it had ended.
    pub end: u64,
    /// What it was.
    pub kind: Kind,
    /// The file or connection.
    pub object: u32,
    /// See `Kind`.
    pub at: i64,
    /// What the call returned; negative is a failure.
    pub result: i64,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// A point in time at which a record counts.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'r> {
    /// On the log's counter.
    pub at: u64,
    /// What happened.
    pub record: &'r Record,
}

/// Records by the time at which they count: what is written may be on the disk, and what is sent may be seen, as soon as it began; a
/// flush promises nothing until it has ended.
#[must_use]
pub fn moments(records: &[Record]) -> Vec<Moment<'_>> {
    let at = |record: &Record| if record.kind == Kind::Synced { record.end } else { record.start };
    let mut moments: Vec<Moment<'_>> = records.iter().map(|record| Moment { at: at(record), record }).collect();
    moments.sort_by_key(|moment| moment.at);
    moments
}

const HEAD: usize = 48;

pub(super) fn parse(mut bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    // A killed daemon may leave the last one unfinished.
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() {
        let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let int = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let length = usize::try_from(int(44)).expect("a small number");
        let Some((data, after)) = rest.split_at_checked(length) else { break };
        let kind = match int(16) {
            1 => Kind::Opened,
            2 => Kind::Written,
            3 => Kind::Sized,
            4 => Kind::Synced,
            5 => Kind::Unlinked,
            6 => Kind::Renamed,
            7 => Kind::Sent,
            other => panic!("the daemon mapped a watched file (kind {other}): the shim does not see what is written there"),
        };
        let (at, result) = (long(24).cast_signed(), long(32).cast_signed());
        records.push(Record { start: long(0), end: long(8), kind, object: int(20), at, result, data: data.to_owned() });
        bytes = after;
    }
    records
}
