//! What the gatekeeper and administrators ask of the servers without starting or calling one.

use super::super::lock;
use super::super::server::{EnvPart, Server};
use super::{Caller, Listing, Scope, Tools, life};
use std::path::PathBuf;
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

    /// One of them.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<Arc<Server>> {
        lock(&self.0.state).servers.get(name).filter(|slot| slot.server.enabled).map(|slot| Arc::clone(&slot.server))
    }

    /// The folder that a caller's process of a server starts in.
    #[must_use]
    pub fn cwd(&self, server: &Server, caller: &Caller) -> PathBuf {
        life::cwd(&self.0.options, server, Scope::of(server, caller))
    }

    /// The tools of a server, as they were listed last; nothing before the first list of the process that is there.
    #[must_use]
    pub fn known(&self, server: &str) -> Option<Arc<Listing>> {
        let state = lock(&self.0.state);
        let instances = state.servers.get(server)?.instances.values();
        let listings = instances.map(|instance| Arc::clone(&lock(&instance.facts).listing));
        listings.max_by_key(|listing| listing.tools.len().saturating_add(listing.quarantined.len()))
    }

    /// Where a server's program is found now. Whether the process may see it, its confinement decides.
    #[must_use]
    pub fn program(&self, server: &Server) -> Option<PathBuf> {
        let is_file = |path: &PathBuf| path.is_file();
        if server.command.contains('/') {
            return Some(PathBuf::from(&server.command)).filter(is_file);
        }
        let own = server.env.get("PATH").and_then(|value| match value.0.as_slice() {
            [EnvPart::Text(text)] => Some(text.as_str()),
            _ => None,
        });
        let passed = || self.0.options.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str());
        let folders = own.or_else(passed).unwrap_or_default();
        std::env::split_paths(folders).map(|folder| folder.join(&server.command)).find(is_file)
    }

    /// What of a server's variables cannot be looked up now, in words that name no value. Reads files.
    #[must_use]
    pub fn missing(&self, server: &Server) -> Option<String> {
        (self.0.options.resolve)(server).err()
    }
}
