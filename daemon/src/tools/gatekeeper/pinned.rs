//! Lists of tools as far as they are trusted; what becomes of pins is recorded.

use super::super::fault::ToolFault;
use super::super::pins::{Pins, Told, Trusted};
use super::super::server::Server;
use super::super::supervisor::{Caller, Listing};
use super::Gatekeeper;
use crate::ledger::LedgerFault;
use aex_core::event::{By, ToolPinned};
use aex_proto::value::AccountId;
use std::sync::Arc;

/// Whoever looks at a server for nobody in particular.
const NOBODY: Caller = Caller { agent: AccountId::ROOT, run: None };

impl Gatekeeper {
    /// Which definitions are trusted.
    #[must_use]
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The tools of a server, which is started for that where it must be: those that are not trusted in quarantine.
    pub(super) async fn listing(&self, server: &Server, caller: &Caller) -> Result<Arc<Listing>, ToolFault> {
        Ok(self.trusted(server, caller).await?.listing)
    }

    /// The same with what the trust rests on.
    pub(super) async fn trusted(&self, server: &Server, caller: &Caller) -> Result<Trusted, ToolFault> {
        let raw = self.tools.list(&server.name, caller).await?;
        Ok(self.screened(server, raw).await)
    }

    /// The same for an administrator.
    ///
    /// # Errors
    /// Why there is no list.
    pub async fn listed(&self, server: &str) -> Result<Arc<Listing>, ToolFault> {
        let found = self.tools.servers().into_iter().find(|known| known.name == server);
        let found = found.ok_or_else(|| ToolFault::Disabled { server: server.to_owned() })?;
        self.listing(&found, &NOBODY).await
    }

    /// A list as far as it is trusted.
    pub(super) async fn screened(&self, server: &Server, raw: Arc<Listing>) -> Trusted {
        if let Some(trusted) = self.pins.known(server, &raw) {
            return trusted;
        }
        let (keeper, server, listed) = (self.clone(), server.clone(), Arc::clone(&raw));
        // A task of its own: what became of pins is recorded, also when nobody waits for the list any more.
        let screened = tokio::spawn(async move {
            let mut looked = keeper.pins.screen(&server, listed).await;
            for told in std::mem::take(&mut looked.told) {
                if let Err(fault) = keeper.record_pins(&server.name, None, told).await {
                    tracing::error!(%fault, server = server.name, "what became of pins could not be recorded");
                }
            }
            keeper.pins.keep(looked)
        });
        screened.await.unwrap_or_else(|_| Trusted::nothing(&raw))
    }

    /// Records what became of pins.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn record_pins(&self, server: &str, by: Option<By>, told: Told) -> Result<(), LedgerFault> {
        let Told { what, pins } = told;
        self.gate.note(ToolPinned { by, pins, server: server.to_owned(), what }.into()).await.map(drop)
    }

    /// Looks at each list that servers give, so that a change is known before somebody calls. Never ends by itself.
    pub async fn look_on(self) {
        let mut changed = self.tools.changed();
        loop {
            for server in self.tools.servers() {
                if let Some(raw) = self.tools.known(&server.name).filter(|raw| !raw.tools.is_empty()) {
                    self.screened(&server, raw).await;
                }
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}
