//! The calls under way, as their clients number them: a client that wants one no more says so in a message of its own.

use aex_proto::value::AccountId;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Calls by account and number. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Calls(Arc<Mutex<HashMap<Key, Vec<Arc<Notify>>>>>);

type Key = (AccountId, String);

/// A call's place among them; it is left when this is dropped.
pub(super) struct Place {
    calls: Calls,
    key: Key,
    cancelled: Arc<Notify>,
}

impl Calls {
    pub(super) fn join(&self, account: AccountId, number: &impl serde::Serialize) -> Place {
        let key = (account, written(number));
        let cancelled = Arc::new(Notify::new());
        self.locked().entry(key.clone()).or_default().push(Arc::clone(&cancelled));
        Place { calls: self.clone(), key, cancelled }
    }

    /// Cancels the call that an account's client calls so. Two clients with one token may both have a call of that number: then nobody knows
    /// which is meant, and neither is cancelled; MCP lets a cancellation be without effect.
    pub(super) fn cancel(&self, account: AccountId, number: &Value) {
        if let Some([only]) = self.locked().get(&(account, written(number))).map(Vec::as_slice) {
            only.notify_one();
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Vec<Arc<Notify>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Resolves when the client cancels the call.
    pub(super) async fn cancelled(&self) {
        self.cancelled.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut calls = self.calls.locked();
        let Some(same) = calls.get_mut(&self.key) else { return };
        same.retain(|other| !Arc::ptr_eq(other, &self.cancelled));
        if same.is_empty() {
            calls.remove(&self.key);
        }
    }
}

/// A number is not the text of the same digits.
fn written(number: &impl serde::Serialize) -> String {
    serde_json::to_value(number).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    #[test]
    fn a_cancellation_means_one_call_of_one_account() {
        let is_cancelled = |place: &Place| pin!(place.cancelled()).poll(&mut Context::from_waker(Waker::noop())).is_ready();
        let calls = Calls::default();
        let (mine, other) = (AccountId::new(1), AccountId::new(2));
        let place = calls.join(mine, &json!(7));
        for (account, number) in [(other, json!(7)), (mine, json!("7")), (mine, json!(8)), (mine, Value::Null)] {
            calls.cancel(account, &number);
            assert!(!is_cancelled(&place), "{account:?} {number}");
        }
        let twin = calls.join(mine, &json!(7));
        calls.cancel(mine, &json!(7));
        assert!(!is_cancelled(&place) && !is_cancelled(&twin), "nobody knows which is meant");
        drop(twin);
        calls.cancel(mine, &json!(7));
        assert!(is_cancelled(&place));
        drop(place);
        assert!(calls.locked().is_empty());
    }
}
