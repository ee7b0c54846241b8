//! Agents: made, listed, paused, given new tokens, deleted.

mod update;
mod view;

pub(super) use update::update;
pub(super) use view::{budgets_of, shown_policy, spent_in_all, stated_by, token as token_view};

use super::fault::{Answer, act, no_agent, no_group, read, settled, tallied, unfit};
use super::groups::above;
use crate::config::{Catalog, Config};
use crate::gate::Gate;
use crate::ledger::{AccountRow, LedgerFault, NewAccount, NewTokenRow, Reader, Refused, Tallied, Writer};
use crate::os::clock;
use aex_core::books::{AccountKind, Limits};
use aex_core::decision::AccountState;
use aex_core::event::By;
use aex_proto::account::{
    Agent, AgentChange, AgentCreate, AgentCreated, AgentDeleted, AgentInspection, AgentList, AgentName, AgentRef, AgentRotateToken,
    check_new_name,
};
use aex_proto::rpc::{ErrorObject, Fault};
use aex_proto::token::{Rotated, Scope};
use aex_proto::value::{AccountId, NewToken, Pico, Stamp, TokenHash, token_text};

/// Longest life of a token or a run: a hundred years, within the calendar of every reader.
const MAX_TTL_MS: u64 = 100 * 365 * 24 * 3_600_000;
/// Why the accounts of a deleted agent are closed.
pub(super) const DELETED: &str = "deleted";
/// Why the old tokens of an agent that got a new one are revoked.
const ROTATED: &str = "rotated";
/// Most bytes of a reason or a label: they stand in events, and a reason in denials, too.
const MAX_TEXT: usize = 500;

pub(super) async fn create(gate: &Gate, by: By, wanted: AgentCreate) -> Answer<AgentCreated> {
    check_new_name(wanted.name.as_str(), "an agent").map_err(unfit)?;
    check_budget(Some(wanted.budget_pico))?;
    check_models(&gate.active().config.catalog, wanted.policy.allowed_models.as_deref())?;
    let groups = match &wanted.group {
        Some(group) => {
            settled(gate).await?;
            let above = gate.ledger().directory().named(AccountKind::Group, group.as_str()).map(|view| view.groups.clone());
            above.ok_or_else(|| no_group(group.as_str()))?
        }
        None => Vec::new(),
    };
    if let Err([first, second]) = gate.active().config.profiles.bound_to(wanted.name.as_str(), &groups) {
        return Err(unfit(format!("two profiles bind that name, {first} and {second}")).hint("aexctl policy check"));
    }
    let lasts_us = lasts_us(wanted.ttl_ms)?;
    let reason = said(wanted.reason, "reason")?;
    let (token, hash) = new_token()?;
    let group = wanted.group;
    let mut account = NewAccount {
        parent: AccountId::ROOT,
        kind: AccountKind::Agent,
        name: wanted.name.to_string(),
        limits: Limits { rpm: Some(wanted.rpm), concurrent: wanted.max_concurrent, tpm: wanted.tpm },
        policy: view::stored_policy(wanted.policy),
        budgets: vec![(wanted.per, wanted.budget_pico)],
        reason,
    };
    let row = NewTokenRow { hash, read_only: wanted.scope == Scope::ReadOnly, lasts_us, label: String::new(), reason: None };
    let id = act(gate, move |writer| {
        account.parent = match above(writer, group.as_ref()) {
            Ok(parent) => parent,
            Err(refused) => return Ok(Err(refused)),
        };
        let id = match writer.create_account(&account, Some(by.clone()))? {
            Ok(id) => id,
            Err(refused) => return Ok(Err(refused)),
        };
        writer.create_token(id, &row, Some(by))?;
        Ok(Ok(id))
    });
    let id = id.await.map_err(|error| if error.which() == Some(Fault::Conflict) { error.hint("aexctl agent list") } else { error })?;
    Ok(AgentCreated { agent: one(gate, id).await?, token })
}

pub(super) async fn list(gate: &Gate) -> Answer<AgentList> {
    let active = gate.active();
    let tally = tallied(gate).await?;
    let agents = read(gate, move |reader| living(reader, clock::wall(), &active.config, &tally)).await?;
    Ok(AgentList { agents })
}

pub(super) async fn inspect(gate: &Gate, named: AgentRef) -> Answer<AgentInspection> {
    let id = find(gate, &named.name).await?;
    let counts = tallied(gate).await?.of(id);
    let agent = one(gate, id).await?;
    read(gate, move |reader| {
        let now = clock::wall();
        let runs = reader.accounts(AccountKind::Run, now)?.iter().filter(|run| run.parent == Some(id)).count();
        Ok(AgentInspection {
            agent,
            tokens: reader.token_rows(id)?.iter().map(|token| view::token(token, now)).collect(),
            calls: counts.ends.charged(),
            denials: counts.denied(),
            active_runs: u32::try_from(runs).unwrap_or(u32::MAX),
        })
    })
    .await
}

pub(super) async fn delete(gate: &Gate, by: By, wanted: AgentChange) -> Answer<AgentDeleted> {
    let name = wanted.name.to_string();
    let reason = because(DELETED, said(wanted.reason, "reason")?);
    let (id, closed) = act_on(gate, wanted.name, move |writer, account| {
        let closed = writer.close_account(account.id, &reason, Some(&by))?;
        Ok(Ok((account.id, closed)))
    })
    .await?;
    let spent =
        read(gate, move |reader| Ok(reader.account(id, clock::wall())?.map_or(Pico::ZERO, |row| spent_in_all(&row.balances)))).await?;
    let runs = closed.len().saturating_sub(1);
    Ok(AgentDeleted { id, name, spent_pico: spent, spent_usd: spent.usd(), runs_ended: u32::try_from(runs).unwrap_or(u32::MAX) })
}

pub(super) async fn rotate_token(gate: &Gate, by: By, wanted: AgentRotateToken) -> Answer<Rotated> {
    let lasts_us = lasts_us(wanted.ttl_ms)?;
    let grace_us = wanted.grace_ms.filter(|grace| *grace > 0).map(micros).transpose()?;
    let id = find(gate, &wanted.name).await?;
    let scope = read(gate, move |reader| Ok(view::scope_to_keep(&reader.token_rows(id)?, clock::wall()))).await?;
    let (token, hash) = new_token()?;
    let reason = said(wanted.reason, "reason")?;
    let rotated = because(ROTATED, reason.clone());
    let row = NewTokenRow { hash, read_only: scope == Scope::ReadOnly, lasts_us, label: String::new(), reason };
    let agent = wanted.name.to_string();
    let (expires_at, old_until, old) = act_on(gate, wanted.name, move |writer, account| {
        let until = writer.now().offset(grace_us.unwrap_or(0));
        let old = writer.revoke_tokens(account.id, until, &rotated, Some(&by))?;
        let expires_at = writer.create_token(account.id, &row, Some(by))?;
        Ok(Ok((expires_at, grace_us.map(|_| until), old)))
    })
    .await?;
    Ok(Rotated { agent, token, scope, expires_at, old_until, old_tokens: u32::try_from(old).unwrap_or(u32::MAX) })
}

pub(super) async fn pause(gate: &Gate, by: By, wanted: AgentChange) -> Answer<Agent> {
    let reason = said(wanted.reason, "reason")?.unwrap_or_default();
    let id = act_on(gate, wanted.name, move |writer, account| match account.state {
        AccountState::Active => writer.set_state(&account, AccountState::Paused, &reason, Some(by)).map(|()| Ok(account.id)),
        AccountState::Paused => Ok(Ok(account.id)),
        // A pause would lift the other, and a resume after it both.
        other => Ok(Err(Refused::State(format!("agent '{}' is {} already", account.name, other.name())))),
    })
    .await?;
    one(gate, id).await
}

pub(super) async fn resume(gate: &Gate, by: By, wanted: AgentChange) -> Answer<Agent> {
    let reason = said(wanted.reason, "reason")?.unwrap_or_default();
    let id = act_on(gate, wanted.name, move |writer, account| {
        writer.set_state(&account, AccountState::Active, &reason, Some(by))?;
        Ok(Ok(account.id))
    })
    .await?;
    one(gate, id).await
}

/// Runs an admin action on the living agent of a name.
async fn act_on<T, F>(gate: &Gate, name: AgentName, action: F) -> Answer<T>
where
    T: Send + 'static,
    F: FnOnce(&mut Writer<'_>, aex_core::books::Account) -> Result<Result<T, Refused>, LedgerFault> + Send + 'static,
{
    let wanted = name.clone();
    let done = act(gate, move |writer| match writer.find(AccountKind::Agent, wanted.as_str()) {
        Ok(account) => action(writer, account),
        Err(refused) => Ok(Err(refused)),
    });
    done.await.map_err(|error| if error.which() == Some(Fault::NotFound) { no_agent(name.as_str()) } else { error })
}

/// The account of the living agent of a name.
pub(super) async fn find(gate: &Gate, name: &AgentName) -> Answer<AccountId> {
    settled(gate).await?;
    let found = gate.ledger().directory().named(AccountKind::Agent, name.as_str()).map(|view| view.named.id);
    found.ok_or_else(|| no_agent(name.as_str()))
}

async fn one(gate: &Gate, id: AccountId) -> Answer<Agent> {
    let active = gate.active();
    let tally = tallied(gate).await?;
    let found = read(gate, move |reader| {
        let now = clock::wall();
        let row = reader.account(id, now)?;
        let config = &active.config;
        row.map(|row| parts(reader, row, &tally).map(|parts| parts.agent(now, &config.settings.zone.value, &config.profiles))).transpose()
    });
    found.await?.ok_or_else(|| ErrorObject::fault(Fault::NotFound, format!("account {id} does not exist")))
}

/// All living agents, in the order in which they were made.
pub(super) fn living(reader: &Reader<'_>, now: Stamp, config: &Config, tally: &Tallied) -> Result<Vec<Agent>, LedgerFault> {
    let rows = reader.accounts(AccountKind::Agent, now)?.into_iter();
    rows.map(|row| parts(reader, row, tally).map(|parts| parts.agent(now, &config.settings.zone.value, &config.profiles))).collect()
}

fn parts(reader: &Reader<'_>, row: AccountRow, tally: &Tallied) -> Result<view::Parts, LedgerFault> {
    let last_activity = tally.last_activity(row.id);
    let (budgets, groups) = (reader.budgets(row.id)?, reader.groups_above(row.id)?);
    Ok(view::Parts { budgets, groups, tokens: reader.token_rows(row.id)?, last_activity, row })
}

/// What a person says of an action: printable, short, and `None` when it is nothing.
pub(super) fn said(text: Option<String>, what: &str) -> Answer<Option<String>> {
    let Some(text) = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        return Err(unfit(format!("a {what} is one line of at most {MAX_TEXT} bytes")));
    }
    Ok(Some(text))
}

/// A word that programs read, and what a person said.
pub(super) fn because(word: &str, said: Option<String>) -> String {
    said.map_or_else(|| word.to_owned(), |said| format!("{word}: {said}"))
}

/// A token that nobody has seen, and the digest that is stored of it.
pub(super) fn new_token() -> Answer<(NewToken, TokenHash)> {
    let mut random = [0; 32];
    let drawn = getrandom::fill(&mut random).map_err(|fault| fault.to_string());
    let token = drawn.map(|()| token_text(&random));
    let made = token.and_then(|token| TokenHash::of(token.expose()).map(|hash| (token, hash)).map_err(|fault| fault.to_string()));
    made.map_err(|fault| ErrorObject::fault(Fault::Unavailable, format!("no token can be made: {fault}")))
}

/// A time to live, in microseconds.
pub(super) fn lasts_us(ttl_ms: Option<u64>) -> Answer<Option<i64>> {
    if ttl_ms == Some(0) {
        return Err(unfit("a time to live of 0 is over at once"));
    }
    ttl_ms.map(micros).transpose()
}

fn micros(ms: u64) -> Answer<i64> {
    if ms > MAX_TTL_MS {
        return Err(unfit("a time of more than 100 years is longer than can be kept"));
    }
    i64::try_from(ms.saturating_mul(1_000)).map_err(|fault| unfit(fault.to_string()))
}

/// Zero denies every call; less is no budget.
pub(super) fn check_budget(budget: Option<Pico>) -> Answer<()> {
    if budget.is_some_and(Pico::is_negative) { Err(unfit("a budget cannot be negative")) } else { Ok(()) }
}

fn check_models(catalog: &Catalog, allowed: Option<&[String]>) -> Answer<()> {
    let unknown = allowed.unwrap_or_default().iter().find(|name| catalog.model(name).is_none());
    unknown.map_or(Ok(()), |name| Err(unfit(format!("no model '{name}' is configured")).hint("aexctl models list")))
}
