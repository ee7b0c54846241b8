//! How the daemon's own configuration becomes servers that run: what they are given, what they never see, and where their files are.

use super::approvals::Approvals;
use super::gatekeeper::Gatekeeper;
use super::pins::Pins;
use super::sandbox::cgroup;
use super::secret::resolver;
use super::server::Server;
use super::supervisor::{Options, Pace, Tools};
use crate::gate::{Active, Gate, Source};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Variables of the daemon that each server has.
const PASSED: [&str; 4] = ["PATH", "LANG", "LC_ALL", "TZ"];

/// Starts what the configuration in force names, over an open gate.
///
/// # Errors
/// When the system gives no random bytes, or no thread for a server that begins at once.
pub async fn open(gate: &Gate) -> io::Result<Gatekeeper> {
    let source = gate.source();
    let user_home = source.environment.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let tools = Tools::new(options(source, user_home.clone())?, servers(&gate.active()))?;
    let folder = source.paths.home.join("tools");
    let trust = (Approvals::new(folder.join("approvals.json")), Pins::open(folder.join("pins.json")));
    let keeper = Gatekeeper::new(gate.clone(), tools, trust, user_home);
    keeper.load_approvals().await;
    Ok(keeper)
}

/// The servers of a configuration.
#[must_use]
pub fn servers(active: &Active) -> Vec<Server> {
    active.config.tools.servers.clone()
}

fn options(source: &Source, user_home: Option<PathBuf>) -> io::Result<Options> {
    let paths = &source.paths;
    let passed = |name: &&str| Some(((*name).to_owned(), source.environment.get(*name)?.clone()));
    // A socket may lie elsewhere than the home; its folder holds nothing but the daemon's.
    let mut deny = vec![paths.home.clone(), paths.config_dir.clone(), paths.log_dir.clone(), paths.socket.clone(), paths.env_file.clone()];
    deny.extend(ledger_files(&paths.ledger));
    Ok(Options {
        home: paths.home.join("tools"),
        logs: paths.log_dir.join("tools"),
        // Not by its path: that may be another version's by then.
        aexd: PathBuf::from(super::sandbox::SELF),
        env: PASSED.iter().filter_map(passed).collect(),
        groups: cgroup::Home::find().map(Arc::new),
        deny,
        user_home,
        resolve: resolver(paths, &source.environment),
        pace: Pace::DEFAULT,
    })
}

/// The ledger, which may lie elsewhere than the home, with what SQLite and we put beside it: logs, lock, segments, copies of older tables,
/// what a restore leaves.
fn ledger_files(ledger: &Path) -> Vec<PathBuf> {
    let beside = |suffix: &str| {
        let mut path = OsString::from(ledger);
        path.push(suffix);
        PathBuf::from(path)
    };
    let mut files: Vec<PathBuf> = ["", "-wal", "-shm", "-journal"].map(beside).into();
    files.extend([ledger.with_extension("lock"), ledger.with_file_name("segments")]);
    let named = |entry: fs::DirEntry| {
        let is_ours = ledger.file_name().is_some_and(|own| entry.file_name().as_bytes().starts_with(own.as_bytes()));
        is_ours.then(|| entry.path()).filter(|path| !files.contains(path))
    };
    let entries = ledger.parent().and_then(|folder| fs::read_dir(folder).ok());
    let others: Vec<PathBuf> = entries.into_iter().flatten().filter_map(Result::ok).filter_map(named).collect();
    files.into_iter().chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beside_the_ledger_is_the_daemons_own() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ledger.db", "ledger.db-wal", "ledger.db.schema-3.backup", "ledger.db.replaced-1", "notes", "ledger"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let mut found = ledger_files(&folder.path().join("ledger.db"));
        found.sort_unstable();
        let wanted = [
            "ledger.db",
            "ledger.db-journal",
            "ledger.db-shm",
            "ledger.db-wal",
            "ledger.db.replaced-1",
            "ledger.db.schema-3.backup",
            "ledger.lock",
            "segments",
        ];
        assert_eq!(found, wanted.map(|name| folder.path().join(name)));
    }
}
