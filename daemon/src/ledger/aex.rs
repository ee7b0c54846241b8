//! Reads the database of AEX, the earlier program. Must not: change it, or let a raw token out; only its digest leaves here.

use aex_proto::value::{Digest, TokenHash};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row};
use sha2::Digest as _;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The columns that every version of its table `agents` has.
const COLUMNS: [&str; 6] = ["name", "api_token", "budget_micro", "spent_micro", "reserved_micro", "rpm_limit"];
/// What SQLite keeps beside a database that was not closed: the newest rows may be there only.
const LOGS: [&str; 2] = ["-wal", "-journal"];
const CHUNK: usize = 65_536;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum AexFault {
    /// It is something else.
    #[error("{path} is no database of AEX: {why}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// The system refused it.
    #[error("{path}: {fault}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        fault: std::io::Error,
    },
    /// SQLite refused it.
    #[error("{path}: {fault}")]
    Sql {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        fault: rusqlite::Error,
    },
    /// Another program wrote to it meanwhile.
    #[error("{0} changed while it was read: stop AEX first, and all else that has it open")]
    Changed(PathBuf),
}

/// What its table of agents says.
#[derive(Clone, Debug)]
pub struct AexDatabase {
    /// The SHA-256 of the file, and of its log behind it.
    pub digest: Digest,
    /// Its agents, in the order of their making.
    pub agents: Vec<AexAgent>,
}

/// One row of it, as it stands there.
#[derive(Clone, Debug)]
pub struct AexAgent {
    /// Its token.
    pub token: AexToken,
    cells: BTreeMap<String, Cell>,
}

/// An agent's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AexToken {
    /// Its digest.
    Is(TokenHash),
    /// Its digest; the row holds another token's text, which AEX took as well.
    DiffersFromText(TokenHash),
    /// What the row holds is neither a digest nor a token.
    Unreadable,
}

/// A cell. The program's defaults stand for what is absent, never for what is malformed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// This version has no such column.
    Absent,
    /// NULL.
    Null,
    /// A whole number.
    Whole(i64),
    /// A text.
    Text(String),
    /// Anything else.
    Other,
}

impl AexAgent {
    /// The cell of a column.
    #[must_use]
    pub fn cell(&self, column: &str) -> &Cell {
        self.cells.get(column).unwrap_or(&Cell::Absent)
    }

    /// A row for tests.
    #[cfg(test)]
    pub fn of(token: AexToken, cells: &[(&str, Cell)]) -> AexAgent {
        AexAgent { token, cells: cells.iter().map(|(name, cell)| ((*name).to_owned(), cell.clone())).collect() }
    }
}

/// Reads a database without a trace on it. One that was not closed has rows in its log, and reading those takes a file beside
/// it that is written: then a copy below `scratch` is read, and removed at once.
///
/// # Errors
/// When it is no such database, cannot be read, or changes meanwhile.
pub fn read_aex(path: &Path, scratch: &Path) -> Result<AexDatabase, AexFault> {
    let (digest, before) = fingerprint(path)?;
    let copy = if LOGS.iter().any(|log| before.contains_key(&beside(path, log))) { Some(PrivateCopy::of(path, scratch)?) } else { None };
    let read = match &copy {
        Some(copy) => Connection::open_with_flags(&copy.file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX),
        None => open_untouched(path),
    };
    let agents = read.map_err(|fault| refused(path, fault)).and_then(|conn| agents(path, &conn));
    drop(copy);
    if fingerprint(path)? != (digest, before) {
        return Err(AexFault::Changed(path.to_owned()));
    }
    Ok(AexDatabase { digest, agents: agents? })
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// `immutable` keeps SQLite from making any file beside the database, and from waiting for a lock on it.
fn open_untouched(path: &Path) -> Result<Connection, rusqlite::Error> {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?mode=ro&immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(uri, flags)
}

/// Inode, length and time of writing of each file that holds something.
type Files = BTreeMap<PathBuf, (u64, u64, i64, i64)>;

fn fingerprint(path: &Path) -> Result<(Digest, Files), AexFault> {
    let mut hash = sha2::Sha256::new();
    let mut files = Files::new();
    for suffix in std::iter::once("").chain(LOGS) {
        let file = beside(path, suffix);
        let failed = |fault| AexFault::File { path: file.clone(), fault };
        let mut open = match File::open(&file) {
            Err(fault) if fault.kind() == std::io::ErrorKind::NotFound && !suffix.is_empty() => continue,
            open => open.map_err(failed)?,
        };
        let meta = open.metadata().map_err(failed)?;
        if meta.len() > 0 || suffix.is_empty() {
            files.insert(file.clone(), (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()));
        }
        let mut chunk = vec![0; CHUNK];
        loop {
            match open.read(&mut chunk).map_err(failed)? {
                0 => break,
                read => hash.update(chunk.get(..read).unwrap_or_default()),
            }
        }
    }
    Ok((Digest::from_bytes(hash.finalize().into()), files))
}

/// A copy for this process alone: it holds raw tokens.
struct PrivateCopy {
    folder: PathBuf,
    file: PathBuf,
}

impl PrivateCopy {
    fn of(path: &Path, scratch: &Path) -> Result<PrivateCopy, AexFault> {
        let folder = scratch.join(format!(".aex-import-{}", std::process::id()));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |fault| AexFault::File { path, fault }
        };
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(failed(&folder))?;
        let copy = PrivateCopy { file: folder.join("aex.db"), folder };
        for suffix in std::iter::once("").chain(LOGS) {
            let source = beside(path, suffix);
            match fs::copy(&source, beside(&copy.file, suffix)) {
                Err(fault) if fault.kind() == std::io::ErrorKind::NotFound && !suffix.is_empty() => {}
                copied => drop(copied.map_err(failed(&source))?),
            }
        }
        Ok(copy)
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        if let Err(fault) = fs::remove_dir_all(&self.folder) {
            tracing::error!(%fault, "{} holds tokens and could not be removed", self.folder.display());
        }
    }
}

fn refused(path: &Path, fault: rusqlite::Error) -> AexFault {
    match fault.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => AexFault::Foreign { path: path.to_owned(), why: "it is no SQLite database".to_owned() },
        _ => AexFault::Sql { path: path.to_owned(), fault },
    }
}

fn agents(path: &Path, conn: &Connection) -> Result<Vec<AexAgent>, AexFault> {
    let failed = |fault| refused(path, fault);
    let mut statement = conn.prepare("SELECT name FROM pragma_table_info('agents')").map_err(failed)?;
    let columns: Vec<String> = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).map_err(failed)?;
    let missing: Vec<&str> = COLUMNS.into_iter().filter(|wanted| !columns.iter().any(|column| column == wanted)).collect();
    if !missing.is_empty() {
        let why = if columns.is_empty() { "it has no table `agents`".to_owned() } else { lacks(&missing) };
        return Err(AexFault::Foreign { path: path.to_owned(), why: why + " (wanted: the aex.db of AEX 1.x or 2.0)" });
    }
    let mut statement = conn.prepare("SELECT * FROM agents ORDER BY rowid").map_err(failed)?;
    let names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let rows = statement.query_map([], |row| agent(&names, row)).map_err(failed)?;
    rows.collect::<Result<_, _>>().map_err(failed)
}

fn lacks(missing: &[&str]) -> String {
    format!("its table `agents` lacks {}", missing.join(", "))
}

fn agent(names: &[String], row: &Row<'_>) -> Result<AexAgent, rusqlite::Error> {
    let mut cells = BTreeMap::new();
    for (at, name) in names.iter().enumerate() {
        let cell = match row.get_ref(at)? {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(number) => Cell::Whole(number),
            ValueRef::Text(bytes) => std::str::from_utf8(bytes).map_or(Cell::Other, |text| Cell::Text(text.to_owned())),
            ValueRef::Real(_) | ValueRef::Blob(_) => Cell::Other,
        };
        cells.insert(name.clone(), cell);
    }
    let text = cells.remove("api_token").unwrap_or(Cell::Absent);
    let hash = cells.remove("token_hash").unwrap_or(Cell::Absent);
    Ok(AexAgent { token: token(&text, &hash), cells })
}

/// The digest decides, as it did in AEX, which looked it up first. Its first versions kept none.
fn token(text: &Cell, hash: &Cell) -> AexToken {
    let own = if let Cell::Text(text) = text { TokenHash::of(text).ok() } else { None };
    match (own, hash) {
        (Some(own), Cell::Absent | Cell::Null) => AexToken::Is(own),
        (own, Cell::Text(digest)) => match digest.parse::<Digest>().map(|digest| TokenHash::from_bytes(*digest.bytes())) {
            Ok(digest) if own.is_some_and(|own| own != digest) => AexToken::DiffersFromText(digest),
            Ok(digest) => AexToken::Is(digest),
            Err(_) => AexToken::Unreadable,
        },
        _ => AexToken::Unreadable,
    }
}
