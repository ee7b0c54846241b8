//! What the ledger is told of the servers of tools: which hold, and what a person did to them.
//!
//! Must not: start or stop one.

use super::{Active, Gate};
use crate::ledger::LedgerFault;
use crate::tools::registry::Registry;
use aex_core::event::{By, ToolsAction, ToolsChanged};
use std::sync::Arc;

/// What a person did to some servers of mcp.json.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolsDone {
    /// What it was.
    pub action: ToolsAction,
    /// To which, by name.
    pub servers: Vec<String>,
}

impl Gate {
    /// Reads the configuration anew, as [`Gate::reload`] does, after somebody changed mcp.json on the control socket.
    ///
    /// # Errors
    /// All that is wrong with the new one, or the ledger's fault, as text. Nothing of it holds then.
    pub async fn reload_tools(&self, by: By, done: ToolsDone) -> Result<Arc<Active>, String> {
        self.reload_after(Some(by), Some(done)).await
    }

    /// Records what is done to servers as they are in force.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn note_tools(&self, by: By, done: ToolsDone) -> Result<(), LedgerFault> {
        self.record_tools(&self.active().config.tools, Some(by), done).await
    }

    /// Records the servers of a configuration that comes into force, where they are not those of the one before.
    pub(super) async fn record_servers(
        &self,
        registry: &Registry,
        before: &Registry,
        by: Option<By>,
        done: Option<ToolsDone>,
    ) -> Result<(), LedgerFault> {
        let servers = registry.differing(before);
        let done = done.or_else(|| (!servers.is_empty()).then_some(ToolsDone { action: ToolsAction::Loaded, servers }));
        match done {
            Some(done) => self.record_tools(registry, by, done).await,
            None => Ok(()),
        }
    }

    async fn record_tools(&self, registry: &Registry, by: Option<By>, done: ToolsDone) -> Result<(), LedgerFault> {
        let ToolsDone { action, servers } = done;
        let changed = ToolsChanged { action, by, registry: registry.digest(), servers };
        self.note(changed.into()).await.map(drop)
    }
}
