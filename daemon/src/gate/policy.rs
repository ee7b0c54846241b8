//! The policy in force of each agent: put together once per configuration and agent, then one look-up a call.

use super::Active;
use crate::ledger::{AccountView, LedgerFault, Snapshot};
use crate::os::clock;
use aex_core::books::AccountKind;
use aex_core::decision::Denial;
use aex_core::policy::{Effective, Facts};
use aex_core::window;
use aex_proto::value::{AccountId, Digest};
use std::collections::HashMap;
use std::sync::{Arc, RwLock};

/// Agents whose policies are kept ready; deleted ones are among them.
const MAX_KEPT: usize = 16_384;

/// What holds for an agent.
#[derive(Debug)]
pub struct InForce {
    /// Fields and rules.
    pub effective: Effective,
    /// The same, as events name it.
    pub snapshot: Arc<Snapshot>,
}

/// Policies that have been put together, by agent; the digest is that of what the agent stated then.
#[derive(Debug, Default)]
pub(super) struct Ready(RwLock<HashMap<AccountId, (Digest, Arc<InForce>)>>);

impl Active {
    /// What holds for an account's calls.
    ///
    /// # Errors
    /// The denial of every call: what is stored cannot be read, or two profiles are bound.
    pub fn policy_of(&self, view: &AccountView) -> Result<Arc<InForce>, Denial> {
        let ready = self.ready.0.read().ok().and_then(|ready| ready.get(&view.agent.id).cloned());
        if let Some((digest, policy)) = ready
            && digest == view.policy_digest
        {
            return Ok(policy);
        }
        let policy = Arc::new(self.put_together(view)?);
        if let Ok(mut ready) = self.ready.0.write() {
            if ready.len() >= MAX_KEPT {
                ready.clear();
            }
            ready.insert(view.agent.id, (view.policy_digest, Arc::clone(&policy)));
        }
        Ok(policy)
    }

    fn put_together(&self, view: &AccountView) -> Result<InForce, Denial> {
        let unreadable = || Denial::Malformed { message: "the agent's stored policy cannot be read".to_owned(), param: None };
        let own = view.policy.as_deref().cloned().ok_or_else(unreadable)?;
        let profile = self.config.profiles.bound_to(&view.agent.name, &view.groups);
        let effective = Effective::of(own, profile.map_err(|profiles| Denial::TwoProfiles { profiles })?);
        let (text, digest) = effective.snapshot();
        Ok(InForce { effective, snapshot: Arc::new(Snapshot { kind: "policy", digest, text }) })
    }
}

impl super::Gate {
    /// The first living agent that two profiles of a configuration are bound to, in words.
    pub(super) fn bound_twice(&self, active: &Active) -> Option<String> {
        let directory = self.ledger().directory();
        let agents = directory.accounts.values().filter(|view| view.kind == AccountKind::Agent);
        let twice = |view: &Arc<AccountView>| {
            let [first, second] = active.config.profiles.bound_to(&view.named.name, &view.groups).err()?;
            Some(format!("agent '{}' is bound to two profiles, {first} and {second}", view.named.name))
        };
        agents.into_iter().find_map(twice)
    }
}

/// What the rules of a policy look at; `None` where there are none.
pub(super) async fn facts(
    gate: &super::Gate,
    active: &Active,
    view: &AccountView,
    policy: &Effective,
) -> Result<Option<Facts>, LedgerFault> {
    if !policy.has_rules() {
        return Ok(None);
    }
    let budget_share_percent = if policy.asks_for_budgets() { Some(gate.ledger().budget_share(view.named.id).await?) } else { None };
    let hour = window::hour(clock::wall(), &active.config.settings.zone.value);
    Ok(Some(Facts { agent: view.agent.name.clone(), budget_share_percent, groups: view.groups.clone(), hour }))
}
