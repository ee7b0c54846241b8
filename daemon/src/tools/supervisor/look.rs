//! What the gatekeeper asks of the servers without calling one.

use super::super::lock;
use super::super::server::Server;
use super::{Caller, Scope, Tools, life};
use std::path::PathBuf;
use std::sync::Arc;

impl Tools {
    /// The servers that may be started, by name.
    #[must_use]
    pub fn servers(&self) -> Vec<Arc<Server>> {
        lock(&self.0.state).servers.values().filter(|slot| slot.server.enabled).map(|slot| Arc::clone(&slot.server)).collect()
    }

    /// The folder that a caller's process of a server starts in.
    #[must_use]
    pub fn cwd(&self, server: &Server, caller: &Caller) -> PathBuf {
        life::cwd(&self.0.options, server, Scope::of(server, caller))
    }

    /// How a caller's process of a server is confined; `None` while there is none.
    #[must_use]
    pub fn level(&self, server: &str, caller: &Caller) -> Option<String> {
        let state = lock(&self.0.state);
        let slot = state.servers.get(server)?;
        let instance = slot.instances.get(&Scope::of(&slot.server, caller))?;
        let report = lock(&instance.facts).report.clone()?;
        Some(report.active.name().to_owned())
    }
}
