//! The configuration in force, with what a call looks up in it.

use super::circuit::Circuit;
use crate::config::{Config, ConfigErrors, Overrides, Provider, Retries, Route};
use crate::ledger::Snapshot;
use aex_core::breaker::Standing;
use aex_core::paths::Paths;
use aex_core::price::ModelCard;
use aex_core::tool::Permissions;
use aex_proto::value::Digest;
use http::HeaderValue;
use std::collections::HashMap;
use std::sync::Arc;

/// A model that can be called.
#[derive(Debug)]
pub struct Card {
    /// What a decision knows of it.
    pub card: ModelCard,
    /// The digest of that.
    pub digest: Digest,
    /// Who serves it.
    pub provider: Arc<Provider>,
    /// What may be tried for its calls.
    pub route: Route,
    /// The breaker of its provider.
    pub circuit: Arc<Circuit>,
    /// Its name as a header's value.
    pub shown: Option<HeaderValue>,
}

/// The permissions in force, as events name them.
#[derive(Debug)]
pub struct PermissionsInForce {
    /// What they say.
    pub permissions: Permissions,
    /// The same, as events name it.
    pub snapshot: Arc<Snapshot>,
}

/// One configuration, never changed. A reload makes another.
#[derive(Debug)]
pub struct Active {
    /// Counts reloads; connections to providers belong to one generation.
    pub generation: u64,
    /// As it was checked.
    pub config: Config,
    /// Which calls of tools may be made.
    pub permissions: Arc<PermissionsInForce>,
    cards: HashMap<String, Arc<Card>>,
    circuits: HashMap<String, Arc<Circuit>>,
    pub(super) ready: super::policy::Ready,
}

impl Active {
    /// Indexes a configuration.
    #[must_use]
    pub fn new(config: Config, generation: u64) -> Active {
        let providers: HashMap<&str, Arc<Provider>> =
            config.catalog.providers.iter().map(|(name, provider)| (name.as_str(), Arc::new(provider.clone()))).collect();
        let circuit = |(name, provider): (&String, &Provider)| (name.clone(), Arc::new(Circuit::new(name, provider.breaker)));
        let circuits: HashMap<String, Arc<Circuit>> = config.catalog.providers.iter().map(circuit).collect();
        let mut cards = HashMap::new();
        for card in &config.catalog.models {
            if let (Some(provider), Some(circuit)) = (providers.get(card.provider.as_str()), circuits.get(&card.provider)) {
                let (_, digest) = card.snapshot();
                let route =
                    config.catalog.routes.get(&card.name).cloned().unwrap_or(Route { retries: Retries::NONE, fallbacks: Vec::new() });
                let (provider, circuit) = (Arc::clone(provider), Arc::clone(circuit));
                let shown = HeaderValue::from_bytes(card.name.as_bytes()).ok();
                let entry = Card { card: card.clone(), digest, provider, route, circuit, shown };
                cards.insert(card.name.clone(), Arc::new(entry));
            }
        }
        let (text, digest) = config.permissions.snapshot();
        let snapshot = Arc::new(Snapshot { kind: "permissions", digest, text });
        let permissions = Arc::new(PermissionsInForce { permissions: config.permissions.clone(), snapshot });
        Active { generation, permissions, cards, circuits, config, ready: super::policy::Ready::default() }
    }

    /// The model of a name; the default one when the request names none.
    #[must_use]
    pub fn card(&self, name: &str) -> Option<&Arc<Card>> {
        let name = if name.is_empty() { self.config.catalog.default_model.as_str() } else { name };
        self.cards.get(name)
    }

    /// The providers by name, and whether the breaker of each is not closed.
    #[must_use]
    pub fn providers_down(&self) -> Vec<(String, bool)> {
        let names = self.config.catalog.providers.keys();
        names.map(|name| (name.clone(), self.standing(name) != Standing::Closed)).collect()
    }

    /// How the breaker of a provider stands.
    #[must_use]
    pub fn standing(&self, provider: &str) -> Standing {
        self.circuits.get(provider).map_or(Standing::Closed, |circuit| circuit.standing())
    }
}

/// Where the configuration is read from, again at each reload. The environment is the daemon's own, as it was at its start.
#[derive(Clone, Debug)]
pub struct Source {
    /// The files.
    pub paths: Paths,
    /// The environment.
    pub environment: Arc<HashMap<String, String>>,
    /// The command line.
    pub overrides: Overrides,
}

impl Source {
    /// Reads and checks all of it.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(&self, generation: u64) -> Result<Active, ConfigErrors> {
        let config = Config::load(&self.paths, |name| self.environment.get(name).cloned(), &self.overrides)?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        Ok(Active::new(config, generation))
    }
}
