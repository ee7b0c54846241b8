//! The folders of servers' own: HOME, TMPDIR and working folder of each process, below `tools/private/NAME`.
//!
//! They belong to a program, not to a name: what one left there (start-up files of an interpreter, say) must not run in another, which
//! has other secrets. Of a server that is removed, or has another command by now, they are moved aside to `NAME.old`, which no server can be called.

use super::super::server::Server;
use super::super::{keep, lock};
use super::options::Options;
use super::{Scope, instance::Instance};
use aex_proto::value::Digest;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where they all are, below the tools' home.
const FOLDER: &str = "private";
/// Whose a folder is; no process has this file.
const OWNER: &str = "owner.json";
const MAX_OWNER: u64 = 1 << 10;
/// Tells folders that are being removed apart.
static GONE: AtomicU64 = AtomicU64::new(0);
/// Held while folders get another owner: processes of one server may begin at the same time.
static CLAIM: Mutex<()> = Mutex::new(());

/// Whose a folder is.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    /// SHA-256 of command and arguments as JSON: they may be secrets.
    command: Digest,
}

impl Owner {
    fn of(server: &Server) -> io::Result<Owner> {
        Ok(Owner { command: Digest::of(&serde_json::to_vec(&(&server.command, &server.args))?) })
    }
}

/// Where all of them are.
pub(super) fn root(home: &Path) -> PathBuf {
    home.join(FOLDER)
}

/// The folder of a process's own.
pub(super) fn folder(options: &Options, server: &str, scope: Scope) -> PathBuf {
    let own = root(&options.home).join(server);
    match scope {
        Scope::All => own.join("all"),
        Scope::Agent(agent) => own.join(format!("agent_{agent}")),
        Scope::Run(run) => own.join(format!("run_{run}")),
    }
}

/// The folder that a process starts in.
pub(super) fn cwd(options: &Options, server: &Server, scope: Scope) -> PathBuf {
    server.cwd.clone().unwrap_or_else(|| folder(options, &server.name, scope).join("work"))
}

/// Has a server find its own folders, or none. Blocks.
///
/// # Errors
/// When those of another program cannot be moved away: it must not start.
pub(super) fn claim(home: &Path, server: &Server) -> Result<(), String> {
    let _claim = lock(&CLAIM);
    let own = root(home).join(&server.name);
    let failed = |fault: io::Error| format!("{}: {fault}", own.display());
    let (path, wanted) = (own.join(OWNER), Owner::of(server).map_err(failed)?);
    match keep::read::<Owner>(&path, MAX_OWNER) {
        Ok(Some(owner)) if owner == wanted => return Ok(()),
        // A folder that nobody can tell the owner of is another one's.
        Ok(_) | Err(_) => move_aside(home, &server.name).map_err(failed)?,
    }
    keep::write(&path, &wanted).map_err(failed)
}

/// Moves the folders of a server aside, in the place of those that were moved before.
pub(super) fn set_aside(home: &Path, server: &str) -> io::Result<()> {
    let _claim = lock(&CLAIM);
    move_aside(home, server)
}

fn move_aside(home: &Path, server: &str) -> io::Result<()> {
    let (own, old) = (root(home).join(server), root(home).join(format!("{server}.old")));
    if !own.try_exists()? {
        return Ok(());
    }
    // Whatever fails from here on, nobody owns them.
    match fs::remove_file(own.join(OWNER)) {
        Err(fault) if fault.kind() != ErrorKind::NotFound => return Err(fault),
        _ => {}
    }
    if old.try_exists()? {
        let number = GONE.fetch_add(1, Ordering::Relaxed);
        let gone = old.with_file_name(format!("{server}.gone-{}-{number}", std::process::id()));
        fs::rename(&old, &gone)?;
        // It may hold much.
        std::thread::Builder::new().name("aex-remove".to_owned()).spawn(move || remove(&gone))?;
    }
    tracing::info!(server, folder = %old.display(), "the private folders of a tool were moved aside");
    fs::rename(&own, &old)
}

/// Removes what a run's process left: its run is over.
pub(super) async fn tidy(options: &Options, instance: &Instance) {
    if matches!(instance.scope, Scope::Run(_)) {
        let own = folder(options, &instance.server.name, instance.scope);
        drop(tokio::task::spawn_blocking(move || remove(&own)).await);
    }
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(fault) if fault.kind() != ErrorKind::NotFound => {
            tracing::warn!(%fault, folder = %folder.display(), "what a tool left cannot be removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_a_programs_own_and_the_last_ones_before_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let (own, old) = (root(home).join("x/all/home"), root(home).join("x.old/all/home"));
        let server = |command: &str, args: &[&str]| {
            let args = args.iter().map(|arg| (*arg).to_owned()).collect();
            Server { args, ..Server::named("x", command) }
        };
        let leave = |what: &str| {
            fs::create_dir_all(&own).unwrap();
            fs::write(own.join("left"), what).unwrap();
        };
        let left = |folder: &Path| fs::read_to_string(folder.join("left")).ok();
        // A folder without an owner is nobody's.
        leave("nobody");
        claim(home, &server("a", &[])).unwrap();
        assert_eq!((left(&own), left(&old)), (None, Some("nobody".to_owned())));
        leave("a");
        claim(home, &Server { price: Some(aex_proto::value::Pico::ZERO), ..server("a", &[]) }).unwrap();
        assert_eq!(left(&own), Some("a".to_owned()));
        claim(home, &server("a", &["b"])).unwrap();
        assert_eq!((left(&own), left(&old)), (None, Some("a".to_owned())));
        leave("b");
        set_aside(home, "x").unwrap();
        set_aside(home, "x").unwrap();
        assert_eq!((root(home).join("x").exists(), left(&old)), (false, Some("b".to_owned())));
        claim(home, &server("a", &["b"])).unwrap();
        assert_eq!((left(&own), left(&old)), (None, Some("b".to_owned())));
    }
}
