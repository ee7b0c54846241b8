//! Answers that providers have stored: whose they are. A provider knows its key alone, and would show them to every agent.

use super::Gate;
use crate::ledger::{AccountView, LedgerFault};
use aex_core::ask::Reference;
use aex_core::decision::Denial;
use aex_core::event::{Event, ResponseStored};

impl Gate {
    /// Notes whose a stored answer is. In line behind the end of its call, and before all that its client asks next.
    pub fn note_stored(&self, stored: ResponseStored) {
        let request = stored.request;
        if let Err(fault) = self.ledger().record(stored.into(), [None, None]) {
            tracing::warn!(%request, %fault, "a stored response could not be noted: nobody may ask for it");
        }
    }

    /// Records that a stored answer is to be deleted or cancelled, and waits until that is on disk: nothing is done at a provider that
    /// no event tells of.
    ///
    /// # Errors
    /// When the ledger cannot commit: the provider must not be asked then.
    pub async fn will_change_stored(&self, event: Event) -> Result<(), LedgerFault> {
        match self.ledger().admin(move |writer| writer.note(&event).map(Ok)).await? {
            Ok(_) => Ok(()),
            Err(_) => Err(LedgerFault::Unavailable),
        }
    }

    /// The answer that an agent got under this name.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn stored(&self, view: &AccountView, name: String) -> Result<Option<ResponseStored>, LedgerFault> {
        let agent = view.agent.id;
        self.ledger().settled().await?;
        self.ledger().read(move |reader| reader.stored(&name, agent, None)).await
    }

    /// The denial of the first of these names that the agent does not own at a provider.
    pub(super) async fn not_owned(
        &self,
        view: &AccountView,
        provider: &str,
        refers: Vec<Reference>,
    ) -> Result<Option<Denial>, LedgerFault> {
        if refers.is_empty() {
            return Ok(None);
        }
        let (agent, provider) = (view.agent.id, provider.to_owned());
        self.ledger().settled().await?;
        let read = move |reader: &crate::ledger::Reader<'_>| {
            for reference in refers {
                let found = reader.stored(reference.id(), agent, Some(&provider))?;
                let is_owned = found.is_some_and(|stored| match &reference {
                    Reference::Response(id) => stored.response == *id,
                    Reference::Item(_) => true,
                });
                if !is_owned {
                    let item = matches!(reference, Reference::Item(_));
                    return Ok(Some(Denial::NotStored { item, name: reference.id().to_owned() }));
                }
            }
            Ok(None)
        };
        self.ledger().read(read).await
    }
}
