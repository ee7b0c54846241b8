//! What the gatekeeper and administrators ask of the servers without starting or calling one.

use super::super::lock;
use super::super::sandbox::{self, Level};
use super::super::server::{EnvPart, Server};
use super::instance::Phase;
use super::{Caller, Listing, Scope, Tools, private};
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Tools {
    /// Has whoever follows the lists look again: other tools are trusted.
    pub fn tell_changed(&self) {
        self.0.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The servers that may be started, by name.
    #[must_use]
    pub fn servers(&self) -> Vec<Arc<Server>> {
        lock(&self.0.state).servers.values().filter(|slot| slot.server.enabled).map(|slot| Arc::clone(&slot.server)).collect()
    }

    /// Whether a caller's process of a server has failed to start, and is not ready by now: nobody should wait for it unasked.
    #[must_use]
    pub fn is_in_trouble(&self, server: &str, caller: &Caller) -> bool {
        let state = lock(&self.0.state);
        let Some(slot) = state.servers.get(server) else { return false };
        let Some(instance) = slot.instances.get(&Scope::of(&slot.server, caller)) else { return false };
        let is_waiting = matches!(*instance.phase.borrow(), Phase::Starting | Phase::Backoff(..));
        let facts = lock(&instance.facts);
        is_waiting && facts.failed_starts > 0 && facts.ready_at.is_none()
    }

    /// One of them.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<Arc<Server>> {
        lock(&self.0.state).servers.get(name).filter(|slot| slot.server.enabled).map(|slot| Arc::clone(&slot.server))
    }

    /// The folder that a caller's process of a server starts in.
    #[must_use]
    pub fn cwd(&self, server: &Server, caller: &Caller) -> PathBuf {
        private::cwd(&self.0.options, server, Scope::of(server, caller))
    }

    /// The tools of a server, as they were listed last; nothing before the first list of the process that is there.
    #[must_use]
    pub fn known(&self, server: &str) -> Option<Arc<Listing>> {
        let state = lock(&self.0.state);
        let instances = state.servers.get(server)?.instances.values();
        let listings = instances.map(|instance| Arc::clone(&lock(&instance.facts).listing));
        listings.max_by_key(|listing| listing.tools.len().saturating_add(listing.quarantined.len()))
    }

    /// What a user should know of a server before it is started, in words that name no value of a variable. Looks at the disk.
    #[must_use]
    pub fn doubts(&self, server: &Server) -> Vec<String> {
        let program = self.program(server);
        let mut doubts = Vec::new();
        if program.is_none() {
            doubts.push(format!("its program `{}` is not found in the daemon's PATH", server.command));
        }
        doubts.extend(self.missing(server));
        let script = sandbox::script(Path::new(&server.command), &server.args).filter(|script| Path::new(script).is_relative());
        if let Some(script) = script.filter(|_| server.cwd.is_none()) {
            doubts.push(format!("`{script}` is looked for in a private folder, where it starts: give its absolute path, or a cwd"));
        }
        match self.examined(server, program.is_some()) {
            Err(why) => doubts.push(format!("it cannot start: {why}")),
            Ok(given) if server.confinement.level > Level::None => {
                let paths = server.args.iter().map(|arg| arg.split_once('=').map_or(arg.as_str(), |(_, path)| path));
                let unseen = paths.filter(|path| path.starts_with('/') && Path::new(path).exists() && !given.has(Path::new(path)));
                doubts.extend(unseen.map(|path| {
                    format!("its argument `{path}` is not granted, so it cannot be read: sandbox.read or sandbox.write (--read, --write)")
                }));
            }
            Ok(_) => {}
        }
        doubts
    }

    /// What of a server's variables cannot be looked up now, in words that name no value. Reads files.
    #[must_use]
    pub fn missing(&self, server: &Server) -> Option<String> {
        (self.0.options.resolve)(server).err()
    }

    fn examined(&self, server: &Server, has_program: bool) -> Result<sandbox::Given, String> {
        let (options, env) = (&self.0.options, self.path(server).map(|path| ("PATH".to_owned(), path.to_owned())));
        let mut writable = self.0.written.all()?;
        writable.push(private::root(&options.home));
        let plan = sandbox::Plan {
            program: has_program.then(|| server.command.clone()),
            args: server.args.clone(),
            env: env.into_iter().collect(),
            // Its own folders are made when it starts.
            cwd: server.cwd.clone().unwrap_or_else(|| PathBuf::from("/usr")),
            private: Vec::new(),
            tmp: None,
            deny: options.deny.clone(),
            writable,
            user_home: options.user_home.clone(),
            group: None,
            confinement: server.confinement.clone(),
        };
        sandbox::examine(plan).map_err(|failure| failure.to_string())
    }

    /// Writes what is doubtful of servers into the log, on a thread that ends then: disks may be slow.
    pub(super) fn tell_doubts(&self, servers: Vec<Arc<Server>>) {
        let tools = self.clone();
        let told = std::thread::Builder::new().name("aex-doubts".to_owned()).spawn(move || {
            for server in servers {
                for what in tools.doubts(&server) {
                    tracing::warn!(server = server.name, what, "a tool server");
                }
            }
        });
        if let Err(fault) = told {
            tracing::warn!(%fault, "servers of tools are not looked at");
        }
    }

    /// Where a server's program is found now. Whether the process may see it, its confinement decides.
    #[must_use]
    pub fn program(&self, server: &Server) -> Option<PathBuf> {
        let is_file = |path: &PathBuf| path.is_file();
        if server.command.contains('/') {
            return Some(PathBuf::from(&server.command)).filter(is_file);
        }
        std::env::split_paths(self.path(server).unwrap_or_default()).map(|folder| folder.join(&server.command)).find(is_file)
    }

    /// The PATH of a server: its own, or the daemon's.
    fn path<'a>(&'a self, server: &'a Server) -> Option<&'a str> {
        let own = server.env.get("PATH").and_then(|value| match value.0.as_slice() {
            [EnvPart::Text(text)] => Some(text.as_str()),
            _ => None,
        });
        let passed = || self.0.options.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str());
        own.or_else(passed)
    }
}
