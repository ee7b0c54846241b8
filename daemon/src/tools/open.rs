//! How the daemon's own configuration becomes servers that run: what they are given, what they never see, and where their files are.

use super::gatekeeper::Gatekeeper;
use super::server::Server;
use super::supervisor::{Options, Pace, Resolved, Tools};
use crate::gate::{Active, Gate, Source};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Variables of the daemon that each server has.
const PASSED: [&str; 4] = ["PATH", "LANG", "LC_ALL", "TZ"];

/// Starts what the configuration in force names, over an open gate.
///
/// # Errors
/// When the system gives no random bytes, or no thread for a server that begins at once.
pub fn open(gate: &Gate, source: &Source) -> io::Result<Gatekeeper> {
    let user_home = source.environment.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let tools = Tools::new(options(source, user_home.clone())?, servers(&gate.active()))?;
    Ok(Gatekeeper::new(gate.clone(), tools, user_home))
}

/// The servers of a configuration.
#[must_use]
pub fn servers(_active: &Active) -> Vec<Server> {
    Vec::new()
}

fn options(source: &Source, user_home: Option<PathBuf>) -> io::Result<Options> {
    let paths = &source.paths;
    let passed = |name: &&str| Some(((*name).to_owned(), source.environment.get(*name)?.clone()));
    // Each of them may lie elsewhere than the home.
    let mut deny = vec![paths.home.clone(), paths.config_dir.clone(), paths.log_dir.clone(), paths.socket.clone(), paths.ledger.clone()];
    deny.dedup();
    Ok(Options {
        home: paths.home.join("tools"),
        logs: paths.log_dir.join("tools"),
        // Not by its path: that may be another version's by then.
        aexd: PathBuf::from(super::sandbox::SELF),
        env: PASSED.iter().filter_map(passed).collect(),
        deny,
        user_home,
        resolve: resolver(&source.environment),
        pace: Pace::DEFAULT,
    })
}

fn resolver(_environment: &Arc<HashMap<String, String>>) -> super::supervisor::Resolve {
    Arc::new(|server: &Server| if server.env.is_empty() { Ok(Resolved::default()) } else { Err("its environment".to_owned()) })
}
