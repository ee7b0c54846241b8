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
use std::io;
use std::path::PathBuf;
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
    // So may the ledger, with the files that SQLite and we put beside it.
    let beside = |suffix: &str| {
        let mut path = OsString::from(&paths.ledger);
        path.push(suffix);
        PathBuf::from(path)
    };
    deny.extend(["", "-wal", "-shm"].map(beside));
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
