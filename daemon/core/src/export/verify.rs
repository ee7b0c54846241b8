//! Verifies what was read: the audit of a file, or of several that go on from each other.

use super::VERSION;
use super::line::{End, Header, Row, Sum};
use super::read::{Part, What};
use crate::chain::Head;
use crate::verify::{Audit, Checkpoint, Counts, Finding, Zones};
use aex_proto::value::{Digest, Stamp};

/// What a file proves.
#[derive(Clone, Debug)]
pub struct Verified {
    /// One finding per invariant.
    pub findings: Vec<Finding>,
    /// Where the chain ends.
    pub head: Head,
    /// What the events count up to.
    pub counts: Counts,
    /// When the last file was made.
    pub made_at: Option<Stamp>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
}

/// How far the reading of a file has come.
#[derive(Debug, Default)]
struct File {
    header: Option<Header>,
    /// The state that it begins with, as far as it was read.
    state: Option<Checkpoint>,
    /// The audit stands where its first event goes on.
    is_under_way: bool,
    has_chain: bool,
    is_whole: bool,
    /// The digest of a segment as a file.
    digest: Option<Digest>,
}

/// Verifies files in their order.
#[derive(Debug)]
pub struct Verifier {
    zones: Zones,
    audit: Audit,
    expected: Vec<Head>,
    name: String,
    file: File,
    files: u64,
    /// Rows have been compared: no state is left to go on from.
    has_rows: bool,
    /// Nothing more can be judged.
    is_stopped: bool,
    unchecked: Vec<String>,
}

impl Verifier {
    /// With heads that were noted elsewhere.
    #[must_use]
    pub fn new(zones: Zones, expected: Vec<Head>) -> Verifier {
        let mut verifier = Verifier {
            zones,
            audit: Audit::new(zones),
            expected: Vec::new(),
            name: String::new(),
            file: File::default(),
            files: 0,
            has_rows: false,
            is_stopped: false,
            unchecked: Vec::new(),
        };
        verifier.expect(expected);
        verifier
    }

    fn expect(&mut self, expected: Vec<Head>) {
        expected.iter().for_each(|head| self.audit.expect(*head));
        self.expected = expected;
    }

    /// A file begins. Its name is told with what is found; empty for the only one.
    pub fn begin(&mut self, name: &str) {
        self.files = self.files.saturating_add(1);
        name.clone_into(&mut self.name);
        self.audit.in_file(name);
        self.file = File::default();
    }

    /// Takes in the next line.
    pub fn part(&mut self, part: Part) {
        if self.is_stopped {
            return;
        }
        self.audit.at_line(part.line);
        if let Err(why) = self.take(part.line, part.what) {
            self.audit.form(false, || why);
            self.unchecked.push(format!("{}what stands behind line {}", self.prefix(), part.line));
            self.is_stopped = true;
        }
    }

    /// The file is over.
    pub fn end(&mut self) {
        if self.is_stopped {
            return;
        }
        self.audit.at_line(0);
        let is_whole = self.file.is_whole;
        self.audit.form(is_whole, || "it ends without its last line: it was cut off".to_owned());
        let Some(header) = self.file.header.as_ref().filter(|_| is_whole) else {
            self.is_stopped = true;
            return;
        };
        let named = self.audit.ledger().map(str::to_owned);
        self.audit.form(named.as_ref().is_none_or(|named| *named == header.ledger), || {
            format!("line 1: the ledger is called {}, by its events {named:?}", header.ledger)
        });
        if header.rows {
            self.has_rows = true;
            if !self.file.has_chain {
                self.audit.chain(None);
            }
        } else {
            self.audit.mark(self.file.digest);
        }
    }

    /// What was found.
    #[must_use]
    pub fn finish(mut self) -> Verified {
        self.audit.at_line(0);
        self.audit.in_file("");
        self.audit.form(self.files > 0, || "there is no file".to_owned());
        let header = self.file.header.take();
        if let Some(agent) = header.as_ref().and_then(|header| header.agent.as_ref()) {
            let stubs = self.audit.stubs();
            self.unchecked.push(format!(
                "what {stubs} events say that are left out as not of agent '{}' (account {}), and the balances above it; their links in the chain were checked. \
                 One of its own may be among them: what it spent is no less than told, and may be more",
                agent.name, agent.account
            ));
        }
        let unproven: Vec<i64> = self.audit.unproven().map(|basis| basis.head.seq).collect();
        for seq in unproven {
            self.unchecked.push(format!("the state behind event {seq} that the file begins with: no event in it names that state"));
        }
        if !self.is_stopped && !self.has_rows {
            self.unchecked.push("rows: there are none in it, so that balances were not compared".to_owned());
        }
        let (head, counts) = (self.audit.head(), self.audit.counts());
        let findings = match self.has_rows && !self.is_stopped {
            true => self.audit.finish(),
            false => self.audit.finish_without_rows(),
        };
        Verified { findings, head, counts, made_at: header.map(|header| header.made_at), unchecked: self.unchecked }
    }

    fn prefix(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!("{}: ", self.name) }
    }

    /// # Errors
    /// When nothing behind it can be judged.
    fn take(&mut self, line: u64, what: What) -> Result<(), String> {
        if let What::Header(header) = what {
            return self.header(*header);
        }
        let rows_told = match &self.file.header {
            Some(header) => header.rows,
            None => return Err(reason(what, "it is not the first line of an export")),
        };
        if let What::Piece(piece) = what {
            return match (&mut self.file.state, self.file.is_under_way) {
                (_, true) => Err("a line of the state does not belong here".to_owned()),
                (Some(state), _) => state.push(*piece).map_err(|why| format!("lines {} and {line}: {why}", line.saturating_sub(1))),
                (state @ None, _) => Checkpoint::begin(*piece).map(|begun| *state = Some(begun)),
            };
        }
        if !self.file.is_under_way {
            if let What::Wrong(why) = what {
                return Err(why);
            }
            self.under_way(line)?;
        }
        match what {
            What::Snapshot { digest, kind, text } => self.audit.snapshot(digest, &kind, &text),
            What::Event(event) => drop(self.audit.take(*event)),
            What::Stub(stub) => self.audit.stub(&stub),
            What::Row(row) => {
                self.audit.form(rows_told, || "a row, and by the first line there are none".to_owned());
                self.row(&row);
            }
            What::End(end, sums, digest) => {
                self.file.digest = digest;
                self.last(&end, &sums);
            }
            What::Wrong(why) => self.audit.form(false, || why),
            What::Header(_) | What::Piece(_) => {}
        }
        Ok(())
    }

    fn header(&mut self, header: Header) -> Result<(), String> {
        if header.version == 0 || header.version > VERSION {
            return Err(format!("the format has version {}, this program knows {VERSION}", header.version));
        }
        if self.files > 1 {
            if self.has_rows {
                return Err("nothing can go on from a file with rows: segments come before it".to_owned());
            }
            let head = self.audit.head();
            if header.since != Some(head) {
                return Err(format!("it goes on from {:?}, the file before it ends with {head:?}", header.since));
            }
        }
        if let Some(agent) = &header.agent {
            self.audit.within(agent.account);
        }
        self.file.header = Some(header);
        Ok(())
    }

    /// The first line behind the state: the audit goes on from it.
    fn under_way(&mut self, line: u64) -> Result<(), String> {
        let (header, state) = (self.file.header.as_ref(), self.file.state.take());
        let since = header.and_then(|header| header.since);
        let agent = header.and_then(|header| header.agent.as_ref()).map(|agent| agent.account);
        match (since, state) {
            (None, None) => {}
            (Some(since), Some(state)) => {
                if state.head() != since || state.filter() != agent {
                    let (head, filter) = (state.head(), state.filter());
                    return Err(format!(
                        "by line 1 it begins behind {since:?} and is of account {agent:?}; by line 2 the state stands behind {head:?} and is of {filter:?}"
                    ));
                }
                if self.files > 1 {
                    let (found, known) = (state.digest(), self.audit.mark(None));
                    let same = found == known;
                    self.audit
                        .form(same, || format!("the state behind event {} is {found}, the events before it lead to {known}", since.seq));
                } else {
                    self.audit = Audit::resume(self.zones, state);
                    self.audit.in_file(&self.name);
                    self.audit.at_line(line);
                    self.expect(self.expected.clone());
                }
            }
            (since, _) => return Err(format!("by line 1 it begins behind {since:?}, and its state says otherwise")),
        }
        self.file.is_under_way = true;
        Ok(())
    }

    fn row(&mut self, row: &Row) {
        let header = self.file.header.as_ref();
        let (now, living) = header.map_or((Stamp::new(0), None), |header| (header.made_at, header.living));
        match row {
            Row::Account(row) => self.audit.account(row),
            Row::Balance(row) => self.audit.balance(row),
            Row::Budget(row) => self.audit.budget(row),
            Row::Hold(row) => self.audit.open(row, now, living),
            Row::Token(row) => self.audit.token(row),
            Row::Chain(row) => {
                self.file.has_chain = true;
                self.audit.chain(Some(row));
            }
        }
    }

    fn last(&mut self, end: &End, sums: &[(u64, Sum)]) {
        self.file.is_whole = true;
        let head = self.audit.head();
        self.audit.form(end.head == head, || format!("the chain ends with {:?}, the events with {head:?}", end.head));
        let lines = sums.iter().fold(1, |all: u64, (_, sum)| all.saturating_add(sum.lines));
        self.audit.form(end.lines == lines, || format!("it counts {} lines, there are {lines}", end.lines));
        let sections = |sums: &mut dyn Iterator<Item = &Sum>| sums.map(|sum| sum.name.name()).collect::<Vec<_>>().join(", ");
        let (told, found) = (sections(&mut end.sections.iter()), sections(&mut sums.iter().map(|(_, sum)| sum)));
        self.audit.form(told == found, || format!("it tells of the sections {told}, there are {found}"));
        for ((first, sum), told) in sums.iter().zip(&end.sections) {
            let last = first.saturating_add(sum.lines).saturating_sub(1);
            self.audit.form(sum == told, || {
                format!(
                    "lines {first} to {last} ({}) are {} with the SHA-256 {}; it tells of {} with {}",
                    sum.name.name(),
                    sum.lines,
                    sum.sha256,
                    told.lines,
                    told.sha256
                )
            });
        }
    }
}

fn reason(what: What, or: &str) -> String {
    if let What::Wrong(why) = what { why } else { or.to_owned() }
}
