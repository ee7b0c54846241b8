//! `agent.update`: what an agent states, its limits and its budgets, changed while it lives.

use super::{act_on, check_budget, check_models, find, one, view};
use crate::control::budgets::{budget_added, warning, windows_turn};
use crate::control::fault::{Answer, broken, unfit};
use crate::gate::Gate;
use crate::ledger::{BudgetChange, Refused};
use aex_core::books::Limits;
use aex_core::event::By;
use aex_core::policy::Fields;
use aex_proto::account::{AgentPolicy, AgentUpdate, AgentUpdated};

/// How often a change is tried when a new window begins meanwhile.
const TRIES: u32 = 3;

pub(in crate::control) async fn update(gate: &Gate, by: By, wanted: AgentUpdate) -> Answer<AgentUpdated> {
    check_budget(wanted.budget_pico)?;
    check_models(&gate.active().config.catalog, wanted.policy.allowed_models.as_deref())?;
    let changes_account = wanted.rpm.is_some()
        || wanted.tpm.is_some()
        || wanted.max_concurrent.is_some()
        || !wanted.clear.is_empty()
        || wanted.policy != AgentPolicy::silent();
    if !changes_account && wanted.budget_pico.is_none() {
        return Err(unfit("nothing is to be changed").hint("aexctl agent update --help"));
    }
    check_clear(&wanted)?;
    let mut added = None;
    for _ in 0..TRIES {
        let account = find(gate, &wanted.name).await?;
        let past = match wanted.budget_pico {
            Some(_) => {
                added = budget_added(&one(gate, account).await?.budgets, wanted.per);
                gate.ledger().past(account, wanted.per).await.map_err(|fault| broken(&fault))?
            }
            None => None,
        };
        let (wanted, by, per) = (wanted.clone(), by.clone(), wanted.per);
        let done = act_on(gate, wanted.name.clone(), move |writer, account| {
            if wanted.budget_pico.is_some() && !writer.is_past(account.id, wanted.per, past.as_ref())? {
                return Ok(Ok(None));
            }
            if changes_account {
                let Some(own) = writer.policy(account.id).cloned() else {
                    return Ok(Err(Refused::State(format!("the stored policy of agent '{}' cannot be read", account.name))));
                };
                let (stated, limits) = changed(&wanted, own, account.limits);
                writer.update_account(&account, &stated, limits, wanted.reason.clone(), Some(by.clone()))?;
            }
            if let Some(limit) = wanted.budget_pico {
                let change = BudgetChange { account: account.id, period: wanted.per, limit: Some(limit), reason: wanted.reason };
                writer.set_budget(&change, past.as_ref(), Some(by))?;
            }
            Ok(Ok(Some(account.id)))
        });
        if let Some(id) = done.await? {
            let agent = one(gate, id).await?;
            let warnings = agent.budgets.iter().filter(|budget| budget.period == per).filter_map(warning).chain(added).collect();
            return Ok(AgentUpdated { agent, warnings });
        }
    }
    Err(windows_turn())
}

/// What is cleared must be there to be cleared, and not be set by the same request.
fn check_clear(wanted: &AgentUpdate) -> Answer<()> {
    let set = view::stored_policy(wanted.policy.clone());
    let stated = Fields::NAMES.into_iter().zip(set.stated()).filter(|(_, stated)| *stated).map(|(name, _)| name);
    let limits = [("rpm", wanted.rpm), ("tpm", wanted.tpm), ("max_concurrent", wanted.max_concurrent)];
    let set: Vec<&str> = stated.chain(limits.iter().filter(|(_, limit)| limit.is_some()).map(|(name, _)| *name)).collect();
    for name in &wanted.clear {
        if set.contains(&name.as_str()) {
            return Err(unfit(format!("`{name}` is to be set and cleared at once")));
        }
        if !Fields::NAMES.contains(&name.as_str()) && limits.iter().all(|(limit, _)| limit != name) {
            let known: Vec<&str> = Fields::NAMES.into_iter().chain(limits.iter().map(|(name, _)| *name)).collect();
            return Err(unfit(format!("`{name}` cannot be cleared; {} can", known.join(", "))));
        }
    }
    Ok(())
}

fn changed(wanted: &AgentUpdate, mut own: Fields, mut limits: Limits) -> (Fields, Limits) {
    for name in &wanted.clear {
        match name.as_str() {
            "rpm" => limits.rpm = None,
            "tpm" => limits.tpm = None,
            "max_concurrent" => limits.concurrent = None,
            field => _ = own.clear(field),
        }
    }
    let limits =
        Limits { concurrent: wanted.max_concurrent.or(limits.concurrent), rpm: wanted.rpm.or(limits.rpm), tpm: wanted.tpm.or(limits.tpm) };
    (view::stored_policy(wanted.policy.clone()).over(own), limits)
}
