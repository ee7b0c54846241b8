//! What of the chain is told to whoever may see one agent.

use crate::books::HoldKey;
use crate::event::Event;
use aex_proto::value::{AccountId, Digest};
use std::collections::BTreeSet;

/// Tells the events of one account and those below it, and of the accounts above what limits it: their making, states, limits,
/// budgets and windows. What is nobody's own is told to all.
#[derive(Clone, Debug)]
pub struct Filter {
    above: BTreeSet<AccountId>,
    below: BTreeSet<AccountId>,
    open: BTreeSet<HoldKey>,
}

impl Filter {
    /// By the accounts above one, that one with all below it, and its calls in flight.
    #[must_use]
    pub const fn new(above: BTreeSet<AccountId>, below: BTreeSet<AccountId>, open: BTreeSet<HoldKey>) -> Filter {
        Filter { above, below, open }
    }

    /// Whether the next event is told.
    pub fn tells(&mut self, event: &Event) -> bool {
        let own = |account: AccountId| self.below.contains(&account);
        let limiting = |account: AccountId| own(account) || self.above.contains(&account);
        match event {
            Event::EpochOpened(_)
            | Event::EpochClosed(_)
            | Event::ClockJumped(_)
            | Event::ConfigLoaded(_)
            | Event::LedgerRestored(_)
            | Event::LedgerSealed(_)
            | Event::ToolPinned(_)
            | Event::ToolsChanged(_) => true,
            Event::AuthFailed(_) | Event::AdminBarred(_) => false,
            Event::ApprovalGiven(given) => own(given.account),
            Event::AccountCreated(created) => limiting(created.account),
            Event::AccountStateChanged(changed) => limiting(changed.account),
            Event::AccountUpdated(updated) => limiting(updated.account),
            Event::BudgetSet(set) => limiting(set.account),
            Event::WindowOpened(opened) => limiting(opened.account),
            Event::TokenCreated(created) => own(created.account),
            Event::TokenRevoked(revoked) => own(revoked.account),
            Event::CallDenied(denied) => own(denied.account),
            Event::ResponseCancelled(cancelled) => own(cancelled.account),
            Event::ResponseDeleted(deleted) => own(deleted.account),
            Event::ResponseStored(stored) => own(stored.account),
            Event::CallDeniedAgain(denied) => own(denied.account),
            Event::CallHeld(held) => {
                let told = own(held.account);
                if told {
                    self.open.insert(HoldKey { request: held.request, attempt: held.attempt });
                }
                told
            }
            Event::CallSent(sent) => self.open.contains(&HoldKey { request: sent.request, attempt: sent.attempt }),
            Event::CallSettled(settled) => self.open.remove(&HoldKey { request: settled.request, attempt: settled.attempt }),
            Event::CallReleased(released) => self.open.remove(&HoldKey { request: released.request, attempt: released.attempt }),
        }
    }
}

/// The digests of the texts that an event names.
#[must_use]
pub fn named(event: &Event) -> Vec<Digest> {
    match event {
        Event::AccountCreated(created) => vec![created.policy],
        Event::AccountUpdated(updated) => vec![updated.policy],
        Event::ConfigLoaded(loaded) => loaded.cards.values().copied().collect(),
        Event::CallHeld(held) => [held.card, held.policy].into_iter().chain(held.tool.as_ref().map(|tool| tool.permissions)).collect(),
        Event::CallDenied(denied) => {
            let permissions = denied.tool.as_ref().map(|tool| tool.permissions);
            denied.card.into_iter().chain([denied.policy]).chain(permissions).collect()
        }
        _ => Vec::new(),
    }
}
