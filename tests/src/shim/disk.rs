//! A model of the disk below the daemon: what a flush has promised, and what may or may not be there after a power cut.
//!
//! A cut keeps what was flushed, and any part of the rest: whole writes or single sectors, in any order, with or without the new size;
//! new and removed names as far as the folder was flushed, and a beginning of the later ones. After a failed flush nobody flushes those
//! writes again, though the page cache shows them: a later flush that succeeds says nothing of them (LWN, "PostgreSQL's fsync()
//! surprise", 2018). Only what is written anew counts anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;
use std::path::Path;

use super::chance::Chance;
use super::log::{Kind, Record};

const SECTOR: usize = 512;

/// The disk of one home over several runs of its daemon.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: Vec<File>,
    /// Names that are on the disk.
    names: BTreeMap<String, usize>,
    /// Changes of names that may be, in their order.
    renames: Vec<(u64, Name)>,
    /// Names as programs see them.
    shown: BTreeMap<String, usize>,
    /// What a run's numbers stand for.
    objects: BTreeMap<u32, Object>,
}

#[derive(Clone, Copy, Debug)]
enum Object {
    Folder,
    File(usize),
}

#[derive(Clone, Debug)]
enum Name {
    Made(String, usize),
    Removed(String),
    Moved(String, String),
}

#[derive(Clone, Debug, Default)]
struct File {
    flushed: Vec<u8>,
    waiting: Vec<Waiting>,
}

/// A change that no flush has promised.
#[derive(Clone, Debug)]
struct Waiting {
    ended: u64,
    change: Change,
    /// A flush of it has failed.
    is_given_up: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Size(usize),
}

/// How a cut treats what was not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taste {
    /// All of it is lost.
    Nothing,
    /// All of it is there: a killed process.
    All,
    /// Each write by chance.
    Any,
    /// Only the newest.
    Newest,
    /// All but one.
    AllButOne,
    /// A single one.
    One,
    /// A beginning, the last of it torn.
    Beginning,
    /// An end, its first torn.
    End,
    /// Each write torn at its sectors.
    Torn,
    /// Of the log all, of the database nothing.
    Log,
    /// Of the database all, of the log nothing.
    Database,
    /// Of the database some sectors, of the log nothing.
    DatabaseTorn,
    /// Of the database some sectors, of the log all.
    DatabaseTornLog,
}

impl Taste {
    /// All of them.
    pub const EVERY: [Taste; 13] = [
        Taste::Nothing,
        Taste::All,
        Taste::Any,
        Taste::Newest,
        Taste::AllButOne,
        Taste::One,
        Taste::Beginning,
        Taste::End,
        Taste::Torn,
        Taste::Log,
        Taste::Database,
        Taste::DatabaseTorn,
        Taste::DatabaseTornLog,
    ];
}

/// What becomes of one write.
#[derive(Clone, Copy)]
enum Fate {
    Kept,
    Lost,
    Torn,
}

/// What a cut left.
#[derive(Clone, Debug)]
pub struct Image {
    /// The files by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What was kept of what, in words.
    pub story: String,
}

impl Image {
    /// Lays it into a home.
    #[track_caller]
    pub fn write(&self, home: &Path) {
        for (name, bytes) in &self.files {
            std::fs::write(home.join(name), bytes).expect("write a file of the image");
        }
    }
}

impl Disk {
    /// Another daemon is started: its log counts anew.
    pub fn restart(&mut self) {
        self.objects.clear();
        self.renames.iter_mut().for_each(|(ended, _)| *ended = 0);
        self.files.iter_mut().flat_map(|file| &mut file.waiting).for_each(|waiting| waiting.ended = 0);
    }

    /// Takes in one operation, at its moment.
    pub fn take(&mut self, record: &Record) {
        match record.kind {
            Kind::Opened => self.open(record),
            Kind::Written if record.result > 0 => {
                let (at, bytes) = (place(record.at), record.data.clone());
                self.wait(record, Change::Write { at, bytes });
            }
            Kind::Sized if record.result == 0 => self.wait(record, Change::Size(place(record.at))),
            Kind::Unlinked if record.result == 0 => {
                let name = file_name(&record.data);
                self.shown.remove(&name);
                self.renames.push((record.end, Name::Removed(name)));
            }
            Kind::Renamed if record.result == 0 => {
                let (from, to) = record.data.split_at(record.data.iter().position(|byte| *byte == 0).expect("two names"));
                let (from, to) = (file_name(from), file_name(&to[1..]));
                if let Some(file) = self.shown.remove(&from) {
                    self.shown.insert(to.clone(), file);
                }
                self.renames.push((record.end, Name::Moved(from, to)));
            }
            Kind::Synced => self.sync(record),
            Kind::Written | Kind::Sized | Kind::Unlinked | Kind::Renamed | Kind::Sent => {}
        }
    }

    fn open(&mut self, record: &Record) {
        let name = file_name(&record.data);
        if !name.starts_with("ledger.db") {
            self.objects.insert(record.object, Object::Folder);
            return;
        }
        let is_known = matches!(self.objects.get(&record.object), Some(Object::File(_)));
        if let (Some(file), false) = (self.shown.get(&name), is_known) {
            self.objects.insert(record.object, Object::File(*file));
        } else if !is_known {
            self.files.push(File::default());
            let file = self.files.len() - 1;
            self.objects.insert(record.object, Object::File(file));
            self.shown.insert(name.clone(), file);
            self.renames.push((record.end, Name::Made(name, file)));
        }
    }

    fn wait(&mut self, record: &Record, change: Change) {
        let Some(Object::File(file)) = self.objects.get(&record.object) else { panic!("{record:?}: never opened") };
        self.files[*file].waiting.push(Waiting { ended: record.end, change, is_given_up: false });
    }

    fn sync(&mut self, record: &Record) {
        let (covered, failed) = (record.start, record.result != 0);
        match self.objects.get(&record.object) {
            Some(Object::Folder) if !failed => {
                let waiting = std::mem::take(&mut self.renames);
                for (ended, name) in waiting {
                    if ended < covered {
                        rename(&mut self.names, &name);
                    } else {
                        self.renames.push((ended, name));
                    }
                }
            }
            Some(Object::Folder) => {}
            Some(Object::File(file)) => self.files[*file].sync(covered, failed),
            None => panic!("{record:?}: never opened"),
        }
    }

    /// How many changes no flush has promised.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.files.iter().map(|file| file.waiting.len()).sum::<usize>() + self.renames.len()
    }

    /// What a cut leaves now.
    #[must_use]
    pub fn image(&self, taste: Taste, chance: &mut Chance) -> Image {
        let mut story = format!("{taste:?}:");
        let mut names = self.names.clone();
        let kept = match taste {
            Taste::Nothing => 0,
            Taste::All => self.renames.len(),
            _ => chance.below(self.renames.len() + 1),
        };
        self.renames.iter().take(kept).for_each(|(_, name)| rename(&mut names, name));
        write!(story, " {kept} of {} names", self.renames.len()).expect("write to a string");
        // Files draw their blocks before or after their size is known.
        let is_grown = chance.once_in(3);
        let mut files = BTreeMap::new();
        for (name, file) in names {
            let file = &self.files[file];
            let count = file.waiting.len();
            let mut bytes = file.flushed.clone();
            let turn = if count == 0 { 0 } else { chance.below(count) };
            let mut lost = 0;
            for (number, waiting) in file.waiting.iter().enumerate() {
                let fate = fate(taste, chance, name == "ledger.db", number, turn, count);
                lost += usize::from(!matches!(fate, Fate::Kept));
                waiting.change.strike(&mut bytes, fate, is_grown, chance);
            }
            write!(story, "; {name}: {lost} of {count} lost or torn, {} bytes", bytes.len()).expect("write to a string");
            files.insert(name, bytes);
        }
        Image { files, story }
    }
}

fn fate(taste: Taste, chance: &mut Chance, is_database: bool, number: usize, turn: usize, count: usize) -> Fate {
    let by = |kept: bool| if kept { Fate::Kept } else { Fate::Lost };
    match taste {
        Taste::Nothing => Fate::Lost,
        Taste::All => Fate::Kept,
        Taste::Any => by(chance.once_in(2)),
        Taste::Newest => by(number + 1 == count),
        Taste::AllButOne => by(number != turn),
        Taste::One => by(number == turn),
        Taste::Beginning | Taste::End if number == turn => Fate::Torn,
        Taste::Beginning => by(number < turn),
        Taste::End => by(number > turn),
        Taste::Torn => Fate::Torn,
        Taste::Log => by(!is_database),
        Taste::Database => by(is_database),
        Taste::DatabaseTorn if !is_database => Fate::Lost,
        Taste::DatabaseTornLog if !is_database => Fate::Kept,
        Taste::DatabaseTorn | Taste::DatabaseTornLog => Fate::Torn,
    }
}

fn rename(names: &mut BTreeMap<String, usize>, name: &Name) {
    match name {
        Name::Made(name, file) => drop(names.insert(name.clone(), *file)),
        Name::Removed(name) => drop(names.remove(name)),
        Name::Moved(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}

impl File {
    /// All that ended before the flush began is on the disk, or is given up.
    fn sync(&mut self, covered: u64, failed: bool) {
        let mut left: Vec<Waiting> = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.ended >= covered || waiting.is_given_up || failed {
                let is_given_up = waiting.is_given_up || (failed && waiting.ended < covered);
                left.push(Waiting { is_given_up, ..waiting });
                continue;
            }
            waiting.change.strike(&mut self.flushed, Fate::Kept, false, &mut Chance::new(0));
            // What was given up and lies below cannot come back.
            left = left.into_iter().flat_map(|older| older.without(&waiting.change)).collect();
        }
        self.waiting = left;
    }
}

impl Waiting {
    /// What is left of it beside a newer change.
    fn without(self, newer: &Change) -> Vec<Waiting> {
        let Change::Write { at, bytes } = &self.change else { return vec![self] };
        let gone: Range<usize> = match newer {
            Change::Write { at, bytes } => *at..at + bytes.len(),
            Change::Size(size) => *size..usize::MAX,
        };
        let end = at + bytes.len();
        let (head, tail) = (*at..end.min(gone.start), (*at).max(gone.end)..end);
        let piece = |range: Range<usize>| Waiting {
            change: Change::Write { at: range.start, bytes: bytes[range.start - at..range.end - at].to_owned() },
            ..self.clone()
        };
        [head, tail].into_iter().filter(|range| !range.is_empty()).map(piece).collect()
    }
}

impl Change {
    fn strike(&self, file: &mut Vec<u8>, fate: Fate, is_grown: bool, chance: &mut Chance) {
        match (self, fate) {
            (Change::Size(size), Fate::Kept) => file.resize(*size, 0),
            (Change::Size(_), Fate::Lost | Fate::Torn) => {}
            (Change::Write { at, bytes }, Fate::Lost) => {
                if is_grown && file.len() < at + bytes.len() {
                    file.resize(at + bytes.len(), 0);
                }
            }
            (Change::Write { at, bytes }, Fate::Kept) => lay(file, *at, bytes),
            (Change::Write { at, bytes }, Fate::Torn) => {
                let mut place = 0;
                while place < bytes.len() {
                    // To the end of the sector.
                    let next = (place + SECTOR - (at + place) % SECTOR).min(bytes.len());
                    if chance.once_in(2) {
                        lay(file, at + place, &bytes[place..next]);
                    }
                    place = next;
                }
            }
        }
    }
}

fn lay(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn place(at: i64) -> usize {
    usize::try_from(at).expect("a place in a file")
}

fn file_name(path: &[u8]) -> String {
    String::from_utf8_lossy(path).trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(start, end, kind, at, result, bytes)`
    type Operation<'b> = (u64, u64, Kind, i64, i64, &'b [u8]);

    /// A file, and operations on it.
    fn after(operations: &[Operation<'_>]) -> Disk {
        let mut disk = Disk::default();
        let record = |start, end, kind, object, at, result, data: &[u8]| Record { start, end, kind, object, at, result, data: data.into() };
        disk.take(&record(1, 2, Kind::Opened, 1, 0, 3, b"/home"));
        disk.take(&record(3, 4, Kind::Opened, 2, 1, 4, b"/home/ledger.db"));
        disk.take(&record(5, 6, Kind::Synced, 1, 0, 0, b""));
        for (start, end, kind, at, result, data) in operations {
            disk.take(&record(*start, *end, *kind, 2, *at, *result, data));
        }
        disk
    }

    #[track_caller]
    fn check(disk: &Disk, taste: Taste, expected: &[u8]) {
        let image = disk.image(taste, &mut Chance::new(2));
        assert_eq!(image.files.get("ledger.db").map(Vec::as_slice), Some(expected), "{}", image.story);
    }

    const OLD: Operation<'_> = (10, 11, Kind::Written, 0, 4, b"aaaa");

    #[test]
    fn a_flush_promises_what_ended_before_it_began_and_nothing_else() {
        let disk = after(&[OLD, (12, 15, Kind::Written, 2, 2, b"bb"), (14, 16, Kind::Synced, 0, 0, b"")]);
        check(&disk, Taste::Nothing, b"aaaa");
        check(&disk, Taste::All, b"aabb");
        let disk = after(&[OLD, (14, 16, Kind::Synced, 0, 0, b""), (17, 18, Kind::Sized, 1, 0, b"")]);
        check(&disk, Taste::Nothing, b"aaaa");
        check(&disk, Taste::All, b"a");
    }

    #[test]
    fn after_a_failed_flush_only_what_is_written_anew_is_promised() {
        let failed = (12, 13, Kind::Synced, 0, -1, b"".as_slice());
        let later = (16, 17, Kind::Synced, 0, 0, b"".as_slice());
        let disk = after(&[OLD, failed, later]);
        check(&disk, Taste::Nothing, b"");
        let disk = after(&[OLD, failed, (14, 15, Kind::Written, 1, 2, b"bb"), later]);
        check(&disk, Taste::Nothing, b"\0bb");
        check(&disk, Taste::All, b"abba");
    }

    #[test]
    fn a_name_is_lost_until_its_folder_is_flushed() {
        let mut disk = Disk::default();
        let opened = Record { start: 1, end: 2, kind: Kind::Opened, object: 1, at: 1, result: 3, data: b"/home/ledger.db".to_vec() };
        disk.take(&opened);
        assert!(disk.image(Taste::Nothing, &mut Chance::new(1)).files.is_empty());
        assert_eq!(disk.image(Taste::All, &mut Chance::new(1)).files.len(), 1);
    }
}
