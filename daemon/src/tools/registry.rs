//! Which servers of tools there are, as mcp.json has them.
//!
//! The file is read by `config/mcp.rs`; here is what it says, and how its text is changed. Must not: start anything, know a secret.

pub mod edit;
mod snapshot;

use super::server::Server;

/// All that mcp.json says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    /// Programs that the daemon starts, in the order of the file.
    pub servers: Vec<Server>,
    /// Servers elsewhere, which are not supported, in the order of the file.
    pub remote: Vec<Remote>,
}

/// A server that is no program here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its name.
    pub name: String,
    /// How it would be reached: `http`, `sse` …
    pub transport: String,
}

impl Registry {
    /// A server of ours.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.name == name)
    }

    /// Whether a name is taken.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.server(name).is_some() || self.remote.iter().any(|remote| remote.name == name)
    }

    /// The servers that are not the same in both, by name: added, removed or changed.
    #[must_use]
    pub fn differing(&self, other: &Registry) -> Vec<String> {
        let of = |one: &Registry, two: &Registry| {
            let differs = |server: &&Server| two.server(&server.name) != Some(server);
            one.servers.iter().filter(differs).map(|server| server.name.clone()).collect::<Vec<_>>()
        };
        let mut names = of(self, other);
        names.extend(of(other, self));
        names.sort_unstable();
        names.dedup();
        names
    }
}
