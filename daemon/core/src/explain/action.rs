//! The story of an event that is no call: who did it, what it changed from what to what, what came of it.

use super::{actor, caller, json, seen};
use crate::decision::AccountState;
use crate::event::{By, ConfigLoaded, Event};
use crate::verify::{Audit, Record, Standing};
use aex_proto::explain::{ActionStory, Changed};
use aex_proto::value::{AccountId, Digest, Pico};
use serde_json::{Map, Value};

/// Changes that are told; more are counted.
const CHANGES: usize = 200;

/// All that is known of one event.
#[derive(Debug)]
pub struct ActionDossier<'a> {
    /// The event.
    pub record: &'a Record,
    /// The account that it is about, just before it.
    pub before: &'a Standing,
    /// Just after it.
    pub after: &'a Standing,
    /// The event before it about the same thing.
    pub previous: Option<&'a Record>,
    /// The one after it.
    pub next: Option<&'a Record>,
    /// Events that were recorded together with it, behind it.
    pub together: &'a [Record],
    /// Knows the snapshots.
    pub audit: &'a Audit,
}

/// What an event is about: a later one of the same subject replaces what it set.
fn subject(event: &Event) -> Option<String> {
    Some(match event {
        Event::AccountStateChanged(changed) => format!("state {}", changed.account),
        Event::AccountUpdated(updated) => format!("stated {}", updated.account),
        Event::BudgetSet(set) => format!("budget {} {}", set.account, set.period.name()),
        Event::ConfigLoaded(_) => "config".to_owned(),
        Event::EpochOpened(_) | Event::EpochClosed(_) => "epoch".to_owned(),
        Event::TokenCreated(token) => format!("token {}", token.token),
        Event::TokenRevoked(token) => format!("token {}", token.token),
        Event::ToolPinned(pinned) => format!("pins {}", pinned.server),
        Event::ToolsChanged(_) => "tools".to_owned(),
        _ => return None,
    })
}

/// Finds the events before and after one that are about the same thing. It needs the events that are no calls, in their order.
#[derive(Debug)]
pub struct Neighbours {
    seq: i64,
    event: Option<Event>,
    /// The one before.
    pub previous: Option<Record>,
    /// The one after.
    pub next: Option<Record>,
}

impl Neighbours {
    /// Of an event.
    #[must_use]
    pub fn new(record: &Record) -> Neighbours {
        Neighbours { seq: record.seq, event: Event::parse(&record.kind, &record.body).ok(), previous: None, next: None }
    }

    /// Takes in an event.
    pub fn take(&mut self, record: &Record) {
        let Some(own) = &self.event else { return };
        let Ok(other) = Event::parse(&record.kind, &record.body) else { return };
        let alike = subject(own).is_some_and(|own| subject(&other).as_ref() == Some(&own));
        let closes = matches!((own, &other), (Event::AccountCreated(created), Event::AccountStateChanged(changed))
            if changed.account == created.account && changed.to == AccountState::Closed);
        if record.seq < self.seq && alike && other.kind() == own.kind() {
            self.previous = Some(record.clone());
        } else if record.seq > self.seq && (alike || closes) && self.next.is_none() {
            self.next = Some(record.clone());
        }
    }
}

/// The account that an event is about.
#[must_use]
pub fn account_of(record: &Record) -> Option<AccountId> {
    let body: Value = serde_json::from_str(&record.body).ok()?;
    body.get("account").and_then(Value::as_i64).map(AccountId::new)
}

/// Tells it.
///
/// # Errors
/// When its body is no JSON.
pub fn action(dossier: &ActionDossier<'_>) -> Result<ActionStory, String> {
    let record = dossier.record;
    let body: Value = serde_json::from_str(&record.body).map_err(|fault| format!("event {}: {fault}", record.seq))?;
    let by: Option<By> = body.get("by").and_then(|by| serde_json::from_value(by.clone()).ok());
    let standing = if dossier.before.path.is_empty() { dossier.after } else { dossier.before };
    Ok(ActionStory {
        event: seen(record),
        by: actor(by.as_ref()),
        account: (!standing.path.is_empty()).then(|| caller(standing)),
        reason: body.get("reason").and_then(Value::as_str).filter(|reason| !reason.is_empty()).map(str::to_owned),
        changes: changes(dossier, &body),
        body,
        together: dossier.together.iter().map(seen).collect(),
        next: dossier.next.map(seen),
    })
}

fn changes(dossier: &ActionDossier<'_>, body: &Value) -> Vec<Changed> {
    let Ok(event) = Event::parse(&dossier.record.kind, &dossier.record.body) else { return facts(body) };
    let holder = dossier.before.path.first();
    match event {
        Event::AccountCreated(created) => {
            let above = dossier.after.path.get(1).map(|above| above.name.clone());
            let fresh = serde_json::json!({
                "above": above,
                "kind": created.kind,
                "limits": created.limits,
                "name": created.name,
                "spent_before": created.imported.as_ref().map(|imported| imported.spent.to_string()),
                "states": dossier.audit.fields(&created.policy),
            });
            difference(&Value::Null, &fresh)
        }
        Event::AccountUpdated(updated) => {
            let stated = |digest: &Digest| dossier.audit.fields(digest).map(json);
            let old = holder.map(|holder| serde_json::json!({"limits": holder.limits, "states": stated(&holder.policy)}));
            let new = serde_json::json!({"limits": updated.limits, "states": stated(&updated.policy)});
            difference(&old.unwrap_or_default(), &new)
        }
        Event::AccountStateChanged(changed) => {
            vec![changed_to("state", Some(changed.from.name().to_owned()), Some(changed.to.name().to_owned()))]
        }
        Event::BudgetSet(set) => {
            let purse = holder.and_then(|holder| holder.purses.iter().find(|purse| purse.period == set.period));
            let from = purse.and_then(|purse| purse.limit).map(|limit| limit.to_string());
            let mut all = vec![changed_to(&format!("budget by {}", set.period.name()), from, set.limit.map(|limit| limit.to_string()))];
            all.extend(set.spent.map(|spent| changed_to("spent in it already", None, Some(spent.to_string()))));
            all
        }
        Event::ConfigLoaded(loaded) => {
            let old = dossier.previous.and_then(|previous| serde_json::from_str::<ConfigLoaded>(&previous.body).ok());
            difference(&old.map(|old| configuration(dossier.audit, &old)).unwrap_or_default(), &configuration(dossier.audit, &loaded))
        }
        Event::EpochOpened(_) => {
            let mut now = body.clone();
            let mut before = dossier.previous.and_then(|previous| serde_json::from_str(&previous.body).ok()).unwrap_or_default();
            // How long the machine had been up is told by no difference to the start before.
            for body in [&mut before, &mut now].into_iter().filter_map(Value::as_object_mut) {
                drop(body.remove("boot_us"));
            }
            difference(&before, &now)
        }
        _ => facts(body),
    }
}

fn configuration(audit: &Audit, loaded: &ConfigLoaded) -> Value {
    let card = |digest: &Digest| audit.card(digest).map_or_else(|| json(digest), json);
    let models: Map<String, Value> = loaded.cards.iter().map(|(name, digest)| (name.clone(), card(digest))).collect();
    serde_json::json!({
        "default_model": loaded.default_model,
        "gateway_errors_charged": loaded.gateway_errors_charged,
        "models": models,
        "providers": loaded.providers,
    })
}

fn changed_to(what: &str, from: Option<String>, to: Option<String>) -> Changed {
    Changed { what: what.to_owned(), from, to }
}

/// What an event states, where nothing was before.
fn facts(body: &Value) -> Vec<Changed> {
    let mut body = body.clone();
    if let Value::Object(members) = &mut body {
        ["account", "by", "reason"].iter().for_each(|told| drop(members.remove(*told)));
    }
    difference(&Value::Null, &body)
}

/// The leaves in which two values differ, by their path.
fn difference(old: &Value, new: &Value) -> Vec<Changed> {
    let mut found = Vec::new();
    compare(&mut found, String::new(), old, new);
    let surplus = found.len().saturating_sub(CHANGES);
    if surplus > 0 {
        found.truncate(CHANGES);
        found.push(changed_to("and more", None, Some(surplus.to_string())));
    }
    found
}

fn compare(found: &mut Vec<Changed>, path: String, old: &Value, new: &Value) {
    if old == new {
        return;
    }
    let empty = Map::new();
    let members = |value: &'_ Value| value.as_object().cloned();
    if old.is_object() || new.is_object() {
        let (old, new) = (members(old).unwrap_or_else(|| empty.clone()), members(new).unwrap_or(empty));
        let mut names: Vec<&String> = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))).collect();
        names.sort_unstable();
        for name in names {
            let deeper = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            compare(found, deeper, old.get(name).unwrap_or(&Value::Null), new.get(name).unwrap_or(&Value::Null));
        }
        return;
    }
    let (from, to) = (leaf(&path, old), leaf(&path, new));
    if from.is_some() || to.is_some() {
        found.push(Changed { what: path, from, to });
    }
}

/// A leaf as a person reads it; money as dollars.
fn leaf(path: &str, value: &Value) -> Option<String> {
    let is_money = path.contains(".price.") || ["limit", "spent", "spent_before"].contains(&path);
    match value {
        Value::Null => None,
        Value::String(text) if is_money => Some(text.parse().map_or_else(|_| text.clone(), |pico| Pico::new(pico).to_string())),
        Value::String(text) => Some(text.clone()),
        Value::Array(values) => Some(values.iter().filter_map(|value| leaf("", value)).collect::<Vec<_>>().join(", ")),
        other => Some(other.to_string()),
    }
}
