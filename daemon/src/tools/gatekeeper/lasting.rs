//! Words that last, as far as the ledger tells of them: a ledger that is another one, or was set back, has given none of the later ones.

use super::super::approvals::Lasting;
use super::Gatekeeper;
use crate::ledger::{EventFilter, LedgerFault, Reader};
use aex_core::event::{Answered, ApprovalGiven};

impl Gatekeeper {
    /// Reads the words that last, unless they are in use.
    pub async fn load_approvals(&self) {
        let ledger = self.gate.ledger().clone();
        let told = |all: Vec<Lasting>| async move {
            let left = ledger.read_at_once(move |reader| {
                let name = reader.name()?;
                let mut left = Vec::new();
                for word in all {
                    if word.ledger == name && is_told(reader, &word)? {
                        left.push(word);
                    }
                }
                Ok(left)
            });
            left.await.map_err(|fault: LedgerFault| format!("whether they hold cannot be told: {fault}"))
        };
        self.approvals.load(told).await;
    }
}

/// Whether a word's event is in the ledger. What is in a segment was there when the ledger that was set back was whole.
fn is_told(reader: &Reader<'_>, word: &Lasting) -> Result<bool, LedgerFault> {
    if reader.sealed()?.is_some_and(|sealed| word.event <= sealed.last) {
        return Ok(true);
    }
    let one = EventFilter { after: word.event.saturating_sub(1), until: Some(word.event), newest: false, limit: 1, account: None };
    let event = reader.events(&one)?.pop().filter(|row| row.seq == word.event);
    let given = event.and_then(|row| serde_json::from_str::<ApprovalGiven>(&row.body).ok());
    Ok(given.is_some_and(|given| {
        let tool = word.tool.to_string();
        given.answer == Answered::Always && (given.account, given.tool, given.stated) == (word.account, tool, Some(word.stated))
    }))
}
