//! Servers that one run, or one agent, has for itself end with it.

use super::Gatekeeper;
use crate::ledger::AccountView;
use aex_core::decision::{AccountState, Denial};
use std::time::Duration;
use tokio::time::sleep;

/// How long changes of the ledger are gathered before owners are looked at.
const GATHER: Duration = Duration::from_millis(10);

impl Gatekeeper {
    /// Kills the servers of runs and agents that are over. Never ends by itself.
    pub async fn end_with_owners(self) {
        let (mut head, mut owned) = (self.gate.ledger().head(), self.tools.owned());
        loop {
            head.mark_unchanged();
            owned.mark_unchanged();
            let owners = self.tools.owners();
            for owner in owners.iter().copied() {
                let is_over = self.gate.ledger().directory().accounts.get(&owner).is_none_or(|view| is_ended(view));
                if is_over {
                    self.tools.kill_scope(owner).await;
                }
            }
            let changed = tokio::select! {
                changed = head.changed(), if !owners.is_empty() => changed.is_ok(),
                changed = owned.changed() => changed.is_ok(),
            };
            if !changed {
                return;
            }
            sleep(GATHER).await;
        }
    }
}

/// Whether nothing of an account can go on: its agent was killed or suspended.
fn is_ended(view: &AccountView) -> bool {
    matches!(view.stopped, Some(Denial::Account { state: AccountState::Killed | AccountState::Suspended, .. }))
}
