//! Streams that stay open to tell of changes: each takes a connection for as long as its client likes, so an agent has few of them, and all
//! together leave room for calls.

use aex_proto::value::AccountId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Those of one agent and its runs.
const OF_AGENT: usize = 8;
/// All together have one of so many connections.
const SHARE: usize = 4;

/// The streams by agent. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Listeners(Arc<Mutex<HashMap<AccountId, usize>>>);

/// A stream's place among them; it is left when this is dropped.
pub(super) struct Listening {
    listeners: Listeners,
    agent: AccountId,
}

impl Listeners {
    /// A place for a stream of an agent; `None` when none is left. `connections`: all that the daemon takes.
    pub(super) fn enter(&self, agent: AccountId, connections: usize) -> Option<Arc<Listening>> {
        let mut open = self.locked();
        let all: usize = open.values().sum();
        let own = open.get(&agent).copied().unwrap_or(0);
        if own >= OF_AGENT || all >= (connections / SHARE).max(1) {
            return None;
        }
        open.insert(agent, own + 1);
        drop(open);
        Some(Arc::new(Listening { listeners: self.clone(), agent }))
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<AccountId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut open = self.listeners.locked();
        match open.get_mut(&self.agent) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(open.remove(&self.agent)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_has_few_streams_and_all_have_a_share_of_the_connections() {
        let listeners = Listeners::default();
        let [one, other, third] = [3, 4, 5].map(AccountId::new);
        let own: Vec<_> = std::iter::from_fn(|| listeners.enter(one, 40)).collect();
        assert_eq!(own.len(), OF_AGENT);
        let others: Vec<_> = std::iter::from_fn(|| listeners.enter(other, 40)).collect();
        assert_eq!(others.len(), 40 / SHARE - OF_AGENT);
        assert!(listeners.enter(third, 40).is_none());
        drop(own);
        assert!(listeners.enter(third, 40).is_some());
        drop(others);
        assert!(listeners.enter(one, 1).is_some() && listeners.locked().is_empty());
    }
}
