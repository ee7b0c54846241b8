//! The gate: the shell round the core and the ledger. Who calls, may it pass, what is held for it, what did it cost.
//!
//! Owns the rates, the counters of refusals and the configuration in force. Must not: know HTTP or SQL.

mod active;
mod admit;
mod circuit;
mod enter;
mod idempotency;
mod live;
mod policy;
mod refuse;
mod servers;
mod settle;
mod stored;
mod tight;
mod tokens;
mod tool;

pub use active::{Active, Card, PermissionsInForce, Source};
pub use admit::{Asked, Brings, CALL_LASTS, Decision, Exempt, Hold, Sending, Turned, Unmet, admit, exempt};
pub use enter::{Entered, Refused};
pub use idempotency::{Answer, Begun, KeyLimits, KeyedCall, Recorder, Ticket};
pub use live::Call;
pub use policy::InForce;
pub use refuse::Evidence;
pub use servers::ToolsDone;
pub use settle::{Ended, Passed, Uncounted, settle, settle_and_go_on};
pub use tight::Tight;
pub use tool::{ToolEnded, ToolGuard, ToolHold, ToolWanted, Weighed};

use crate::config::{ConfigErrors, ProviderKind};
use crate::ledger::{Ledger, LedgerFault, Writer};
use crate::os::clock;
use crate::tools::registry::Registry;
use aex_core::event::{By, Event};
use aex_core::paths::Paths;
use aex_core::rate::{Counted, Rates, TokenRates, WINDOW_MS};
use aex_proto::value::{RequestId, Stamp};
use arc_swap::ArcSwap;
use enter::AuthLimiter;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What is known of the daemon once it listens.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Where the proxy listens.
    pub listen: SocketAddr,
    /// The folder of its files.
    pub home: PathBuf,
    /// When it started.
    pub started_at: Stamp,
    /// The same by the machine's own clock, which is never set: microseconds since it booted.
    pub started_boot_us: i64,
}

/// A handle on the gate. Clones share it.
#[derive(Clone, Debug)]
pub struct Gate {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ledger: Ledger,
    active: ArcSwap<Active>,
    source: Source,
    reloading: tokio::sync::Mutex<()>,
    rates: Mutex<Rates>,
    tokens: Mutex<TokenRates>,
    failed_auth: AuthLimiter,
    refusals: Mutex<refuse::Refusals>,
    /// A refusal is the first of its kind: repeats are counted from now on.
    refusal: tokio::sync::Notify,
    requests: AtomicU64,
    live: live::Live,
    keys: idempotency::Keys,
    tool_cards: Mutex<tool::Cards>,
}

impl Gate {
    /// Puts a checked configuration in force over an open ledger, and rebuilds the rates from the calls of the last minute.
    ///
    /// # Errors
    /// When the ledger cannot be read or written.
    pub async fn open(ledger: Ledger, source: Source, active: Active) -> Result<Gate, LedgerFault> {
        let now_ms = clock::mono_ms();
        let now = clock::wall();
        let window_us = i64::try_from(WINDOW_MS).unwrap_or(0).saturating_mul(1_000);
        let held = ledger.read(move |reader| reader.held_around(now, window_us)).await?;
        let (mut rates, mut tokens) = (Rates::default(), TokenRates::default());
        for call in held {
            let age_ms = u64::try_from(now.since(call.at)).unwrap_or(0) / 1_000;
            // A call counts on every account above it; that of a run which is over, on its agent still.
            let directory = ledger.directory();
            let accounts = &directory.accounts;
            let at_ms = now_ms.saturating_sub(age_ms);
            if let Some(view) = accounts.get(&call.account).or_else(|| accounts.get(&call.above?)) {
                for (above, limits) in &view.limits {
                    // A request counts once, however often it was tried.
                    if call.is_first {
                        rates.recall(*above, at_ms);
                    }
                    if limits.tpm.is_some() {
                        tokens.recall(Counted::Account(*above), call.tokens, at_ms);
                    }
                }
            }
            if active.card(&call.model).is_some_and(|card| card.card.max_tokens_per_minute.is_some()) {
                tokens.recall(Counted::Model(call.model), call.tokens, at_ms);
            }
        }
        let inner = Inner {
            ledger,
            active: ArcSwap::from_pointee(active),
            source,
            reloading: tokio::sync::Mutex::new(()),
            rates: Mutex::new(rates),
            tokens: Mutex::new(tokens),
            failed_auth: enter::auth_limiter(),
            refusals: Mutex::default(),
            refusal: tokio::sync::Notify::new(),
            requests: AtomicU64::new(0),
            live: live::Live::default(),
            keys: idempotency::Keys::default(),
            tool_cards: Mutex::default(),
        };
        let gate = Gate { inner: Arc::new(inner) };
        let active = gate.active();
        gate.record_config(&active, None).await?;
        gate.record_servers(&active.config.tools, &Registry::default(), None, None).await?;
        Ok(gate)
    }

    /// The ledger.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.inner.ledger
    }

    /// The configuration in force. A call keeps the one that it began with.
    #[must_use]
    pub fn active(&self) -> Arc<Active> {
        self.inner.active.load_full()
    }

    /// What the configuration is read from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.inner.source
    }

    /// Where the daemon's files are.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.inner.source.paths
    }

    /// Reads the configuration anew and puts it in force whole; a bad one leaves the old one in force.
    ///
    /// # Errors
    /// All that is wrong with the new one, or the ledger's fault, as text.
    pub async fn reload(&self, by: Option<By>) -> Result<Arc<Active>, String> {
        self.reload_after(by, None).await
    }

    async fn reload_after(&self, by: Option<By>, done: Option<ToolsDone>) -> Result<Arc<Active>, String> {
        let _one_at_a_time = self.inner.reloading.lock().await;
        let source = self.inner.source.clone();
        let generation = self.active().generation + 1;
        let read = tokio::task::spawn_blocking(move || source.load(generation)).await;
        let active = read.map_err(|fault| fault.to_string())?.map_err(|errors| errors.to_string())?;
        // A daemon that runs has better ones in force than none.
        let wrong = [active.config.permissions_errors.clone(), active.config.tools_errors.clone()].concat();
        if !wrong.is_empty() {
            return Err(ConfigErrors(wrong).to_string());
        }
        if let Some(twice) = self.bound_twice(&active) {
            return Err(twice);
        }
        // The prices are in the ledger before a call can be held by them.
        self.record_config(&active, by.clone()).await.map_err(|fault| fault.to_string())?;
        let before = self.active();
        let recorded = self.record_servers(&active.config.tools, &before.config.tools, by, done).await;
        recorded.map_err(|fault| fault.to_string())?;
        self.inner.active.store(Arc::new(active));
        Ok(self.active())
    }

    /// The text of policy.yaml as it lies on the disk.
    ///
    /// # Errors
    /// What keeps it from being read.
    pub async fn policy_text(&self) -> Result<String, String> {
        let paths = self.inner.source.paths.clone();
        let read = tokio::task::spawn_blocking(move || crate::config::policy_text(&paths)).await;
        read.map_err(|fault| fault.to_string())?.map_err(|errors| errors.to_string())
    }

    async fn record_config(&self, active: &Active, by: Option<By>) -> Result<(), LedgerFault> {
        let cards = active.config.catalog.models.clone();
        let default_model = Some(active.config.catalog.default_model.clone());
        let charged = active.config.settings.charge_on_gateway_error.value;
        let away = active.config.catalog.providers.values().filter(|provider| provider.kind != ProviderKind::Echo);
        let places = away.flat_map(|provider| std::iter::once(provider).chain(provider.other.as_deref()));
        let providers =
            places.map(|provider| (provider.name.clone(), provider.base_url.to_string().trim_end_matches('/').to_owned())).collect();
        let permissions = Arc::clone(&active.permissions.snapshot);
        let loaded = move |writer: &mut Writer<'_>| {
            writer.keep(&permissions)?;
            writer.config_loaded(&cards, default_model, charged, providers, by).map(Ok)
        };
        let done = self.inner.ledger.admin(loaded).await?;
        done.map_err(|refused| LedgerFault::Broken(refused.to_string()))
    }

    /// Records an event that changes nothing in the books; its number.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn note(&self, event: Event) -> Result<i64, LedgerFault> {
        let noted = self.inner.ledger.admin(move |writer| writer.note(&event).map(Ok)).await?;
        noted.map_err(|refused| LedgerFault::Broken(refused.to_string()))
    }

    /// The newest request's id: every later one is greater.
    #[must_use]
    pub fn last_request(&self) -> RequestId {
        RequestId::new(self.inner.ledger.epoch(), self.inner.requests.load(Ordering::Relaxed))
    }

    /// A new request's id.
    #[must_use]
    pub fn next_request(&self) -> RequestId {
        RequestId::new(self.inner.ledger.epoch(), self.inner.requests.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
