//! Brings the tables of an older version to this one: a copy beside the ledger first, then every step in one transaction.

use super::copy::{self, with_suffix};
use super::schema::VERSION;
use super::{LedgerFault, file_fault};
use rusqlite::Connection;
use std::path::{Path, PathBuf};

/// The version that a step starts from, and its SQL.
pub(super) type Step = (u32, &'static str);

/// Columns that a version got without a number of its own: some ledgers of that version have them, and some do not.
const LATE: [(u32, &str, &str, &str); 1] = [(1, "tokens", "label", "TEXT NOT NULL DEFAULT ''")];

/// Runs the steps that are due. A fault leaves the ledger as it was, and the copy where it is.
pub(super) fn run(conn: &Connection, path: &Path, found: u32, steps: &[Step]) -> Result<(), LedgerFault> {
    let failed = |backup: Option<&Path>, fault: LedgerFault| LedgerFault::Migration {
        path: path.to_owned(),
        from: found,
        to: VERSION,
        copy: backup.map_or_else(String::new, |backup| format!("; {} is a copy of it", backup.display())),
        fault: Box::new(fault),
    };
    let backup = beside(conn, path, found).map_err(|fault| failed(None, fault))?;
    in_one_transaction(conn, found, steps).map_err(|fault| failed(Some(&backup), fault.into()))?;
    tracing::info!(from = found, to = VERSION, backup = %backup.display(), "the ledger's tables were brought to this version");
    Ok(())
}

/// The steps alone, for a file that is a copy itself.
pub(super) fn in_one_transaction(conn: &Connection, found: u32, steps: &[Step]) -> Result<(), rusqlite::Error> {
    let mut due: String = steps.iter().filter(|(from, _)| *from >= found).map(|(_, step)| format!("{step}\n")).collect();
    for (_, table, column, definition) in LATE.iter().filter(|(version, ..)| found <= *version) {
        let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_info(?) WHERE name = ?)";
        if !conn.query_row(sql, [table, column], |row| row.get::<_, bool>(0))? {
            due.push_str(&format!("ALTER TABLE {table} ADD COLUMN {column} {definition};\n"));
        }
    }
    let done = conn.execute_batch(&format!("BEGIN IMMEDIATE; {due} PRAGMA user_version = {VERSION}; COMMIT"));
    if done.is_err() && !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK")?;
    }
    done
}

/// `ledger.db.schema-1.backup`, or the next free name of that kind. A copy that an earlier attempt left is not made again.
fn beside(conn: &Connection, path: &Path, found: u32) -> Result<PathBuf, LedgerFault> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut made = copy::write(conn, folder, &format!("schema-{found}"))?;
    let mut number: u32 = 1;
    loop {
        let suffix = if number == 1 { format!(".schema-{found}.backup") } else { format!(".schema-{found}.backup-{number}") };
        let backup = with_suffix(path, &suffix);
        match made.publish(&backup)? {
            Some(_) => return Ok(backup),
            None if copy::sha256(&backup)? == made.sha256() => return Ok(backup),
            None => {}
        }
        number = number.checked_add(1).ok_or_else(|| file_fault(&backup, std::io::ErrorKind::AlreadyExists.into()))?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::{STEPS, open_for_writing};
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn sample() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/ledger/schema-1/ledger.db");
        std::fs::copy(sample, &path).unwrap();
        (folder, path)
    }

    fn version(path: &Path) -> u32 {
        Connection::open(path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    }

    fn columns(path: &Path) -> u32 {
        let sql = "SELECT count(*) FROM pragma_table_info('accounts') WHERE name IN ('tpm', 'extra')";
        Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn backups(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> =
            names.filter(|name| !matches!(name.as_str(), "ledger.db" | "ledger.db-wal" | "ledger.db-shm")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_ledger_of_an_older_version_is_copied_beside_before_it_is_changed() {
        let (folder, path) = sample();
        drop(open_for_writing(&path).unwrap());
        assert_eq!((version(&path), backups(folder.path())), (VERSION, vec!["ledger.db.schema-1.backup".to_owned()]));
        let backup = folder.path().join("ledger.db.schema-1.backup");
        assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!((version(&backup), columns(&backup)), (1, 0));
        // A second start has nothing to do.
        drop(open_for_writing(&path).unwrap());
        assert_eq!(backups(folder.path()).len(), 1);
    }

    #[test]
    fn a_file_that_has_the_copys_name_is_left_alone() {
        let (folder, path) = sample();
        std::fs::write(folder.path().join("ledger.db.schema-1.backup"), "mine").unwrap();
        drop(open_for_writing(&path).unwrap());
        assert_eq!(backups(folder.path()), ["ledger.db.schema-1.backup", "ledger.db.schema-1.backup-2"]);
        assert_eq!(std::fs::read_to_string(folder.path().join("ledger.db.schema-1.backup")).unwrap(), "mine");
        assert_eq!(version(&folder.path().join("ledger.db.schema-1.backup-2")), 1);
    }

    #[test]
    fn a_step_that_fails_leaves_all_as_it_was_and_the_fault_names_the_copy() {
        let (folder, path) = sample();
        let steps = [STEPS[0], (2, "ALTER TABLE accounts ADD COLUMN extra INTEGER; ALTER TABLE gone ADD COLUMN x INTEGER;")];
        // A daemon that is started again and again fills no disk.
        for _ in 0..3 {
            let fault = run(&Connection::open(&path).unwrap(), &path, 1, &steps).unwrap_err().to_string();
            let backup = folder.path().join("ledger.db.schema-1.backup");
            assert!(fault.contains("from schema 1") && fault.contains("no such table: gone"), "{fault}");
            assert!(fault.contains(&format!("{} is a copy of it", backup.display())), "{fault}");
            assert_eq!((version(&path), columns(&path)), (1, 0));
            assert_eq!(backups(folder.path()), ["ledger.db.schema-1.backup"]);
        }
    }

    #[test]
    fn where_no_copy_can_be_made_nothing_is_changed() {
        let (folder, path) = sample();
        let before = std::fs::read(&path).unwrap();
        let conn = Connection::open(&path).unwrap();
        std::fs::create_dir(folder.path().join("ledger.db.schema-1.backup")).unwrap();
        let fault = run(&conn, &path, 1, &STEPS).unwrap_err().to_string();
        assert!(fault.contains("it is as it was"), "{fault}");
        drop(conn);
        assert_eq!((version(&path), std::fs::read(&path).unwrap() == before), (1, true));
    }

    #[test]
    fn a_kill_in_the_middle_leaves_the_old_version() {
        let (folder, path) = sample();
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA cache_size = 1; PRAGMA cache_spill = 1").unwrap();
        conn.execute_batch(&format!("BEGIN IMMEDIATE; {} PRAGMA user_version = {VERSION};", STEPS[0].1)).unwrap();
        // Enough that pages of the transaction are in the log already.
        conn.execute_batch("CREATE TABLE more (text TEXT); INSERT INTO more SELECT body FROM events").unwrap();
        let killed = folder.path().join("killed.db");
        std::fs::copy(&path, &killed).unwrap();
        std::fs::copy(with_suffix(&path, "-wal"), with_suffix(&killed, "-wal")).unwrap();
        assert!(std::fs::metadata(with_suffix(&killed, "-wal")).unwrap().len() > 0);
        assert_eq!((version(&killed), columns(&killed)), (1, 0));
        drop(open_for_writing(&killed).unwrap());
        assert_eq!((version(&killed), columns(&killed)), (VERSION, 1));
    }
}
