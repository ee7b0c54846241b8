//! PURE: rows of the ledger as the protocol shows an agent.

use crate::ledger::{AccountRow, BalanceRow, LedgerFault, Reader, TokenRow};
use aex_core::policy::{Effective, Fields, Policy, Profile, Profiles, Stated, sources};
use aex_core::window::Window;
use aex_proto::account::{AccountState, Agent, AgentPolicy, Budget, Period};
use aex_proto::token::{Scope, Token};
use aex_proto::value::{Pico, Stamp};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// All rows of one agent.
pub(super) struct Parts {
    pub(super) row: AccountRow,
    pub(super) budgets: BTreeMap<Period, Pico>,
    /// Names of the groups above it, the nearest first.
    pub(super) groups: Vec<String>,
    pub(super) tokens: Vec<TokenRow>,
    pub(super) last_activity: Option<Stamp>,
}

impl Parts {
    pub(super) fn agent(self, now: Stamp, zone: &TimeZone, profiles: &Profiles) -> Agent {
        let Parts { row, budgets, groups, tokens, last_activity } = self;
        let newest = tokens.iter().find(|token| is_living(token, now));
        let bound = profiles.bound_to(&row.name, &groups);
        let why_closed = match (&row.policy, &bound) {
            (None, _) => Some("its stored policy cannot be read, so every call is denied".to_owned()),
            (_, Err([first, second])) => Some(format!("two profiles are bound to it, {first} and {second}, so every call is denied")),
            _ => None,
        };
        let profile = bound.ok().flatten();
        let reason = Some(row.reason).filter(|reason| row.state != AccountState::Active && !reason.is_empty());
        Agent {
            id: row.id,
            name: row.name,
            group: groups.into_iter().next(),
            state: row.state,
            state_reason: reason.or(why_closed),
            scope: newest.map(scope),
            token_expires_at: newest.and_then(ends_at),
            budgets: budgets.into_iter().map(|(period, limit)| budget(period, limit, &row.balances, now, zone)).collect(),
            rpm: row.limits.rpm,
            tpm: row.limits.tpm,
            max_concurrent: row.limits.concurrent,
            policy_from: row.policy.as_ref().map(|own| stated_by(own, profile)).unwrap_or_default(),
            profile: profile.map(|profile| profile.origin.name.clone()),
            policy: row.policy.map_or_else(closed_policy, |own| shown_policy(Effective::of(own, profile).fields)),
            created_at: row.created_at,
            last_activity_at: last_activity,
        }
    }
}

/// The budgets of any account.
pub(in crate::control) fn budgets_of(
    reader: &Reader<'_>,
    row: &AccountRow,
    now: Stamp,
    zone: &TimeZone,
) -> Result<Vec<Budget>, LedgerFault> {
    Ok(reader.budgets(row.id)?.into_iter().map(|(period, limit)| budget(period, limit, &row.balances, now, zone)).collect())
}

/// A budget whose window no call has opened yet is whole.
fn budget(period: Period, limit: Pico, balances: &[BalanceRow], now: Stamp, zone: &TimeZone) -> Budget {
    let balance = balances.iter().find(|balance| balance.period == period);
    let window = balance.map(|balance| balance.window).or_else(|| Window::of(period, now, zone));
    let since = window.filter(|window| window.end.is_some()).map(|window| window.start);
    let (spent, reserved) = balance.map_or((Pico::ZERO, Pico::ZERO), |balance| (balance.spent, balance.reserved));
    Budget::new(period, limit, spent, reserved, since, window.and_then(|window| window.end))
}

/// What an account has spent in all.
pub(in crate::control) fn spent_in_all(balances: &[BalanceRow]) -> Pico {
    balances.iter().find(|balance| balance.period == Period::Total).map_or(Pico::ZERO, |balance| balance.spent)
}

fn is_living(token: &TokenRow, now: Stamp) -> bool {
    ends_at(token).is_none_or(|end| now < end)
}

/// The earlier of its expiry and its revocation.
fn ends_at(token: &TokenRow) -> Option<Stamp> {
    [token.expires_at, token.revoked_at].into_iter().flatten().min()
}

fn scope(token: &TokenRow) -> Scope {
    if token.read_only { Scope::ReadOnly } else { Scope::Execution }
}

/// The scope that a rotation keeps: that of the newest living token, or of the newest one when none lives.
pub(super) fn scope_to_keep(newest_first: &[TokenRow], now: Stamp) -> Scope {
    let kept = newest_first.iter().find(|token| is_living(token, now)).or(newest_first.first());
    kept.map_or(Scope::Execution, scope)
}

/// A revocation that lies ahead is an expiry: until then the token passes.
pub(in crate::control) fn token(row: &TokenRow, now: Stamp) -> Token {
    let is_revoked = row.revoked_at.is_some_and(|revoked| revoked <= now);
    Token {
        hash_prefix: row.hash.short(),
        label: row.label.clone(),
        scope: scope(row),
        created_at: row.created_at,
        expires_at: if is_revoked { row.expires_at } else { ends_at(row) },
        revoked_at: row.revoked_at.filter(|_| is_revoked),
    }
}

pub(super) fn stored_policy(policy: AgentPolicy) -> Fields {
    Fields {
        allow_function_calling: policy.allow_function_calling,
        allow_passthrough: policy.allow_passthrough,
        allow_streaming: policy.allow_streaming,
        allow_tools: policy.allow_tools,
        allow_vision: policy.allow_vision,
        allowed_models: policy.allowed_models,
        allowed_tool_names: policy.allowed_tool_names,
        max_input_tokens: policy.max_input_tokens,
        max_output_tokens: policy.max_output_tokens,
        strict: policy.strict,
    }
}

pub(in crate::control) fn shown_policy(policy: Policy) -> AgentPolicy {
    AgentPolicy {
        allowed_models: policy.allowed_models,
        max_input_tokens: policy.max_input_tokens,
        max_output_tokens: policy.max_output_tokens,
        allow_streaming: Some(policy.allow_streaming),
        allow_tools: Some(policy.allow_tools),
        allowed_tool_names: policy.allowed_tool_names,
        allow_function_calling: Some(policy.allow_function_calling),
        allow_vision: Some(policy.allow_vision),
        strict: Some(policy.strict),
        allow_passthrough: Some(policy.allow_passthrough),
    }
}

/// Who states the values that hold; built-in defaults are left out.
pub(in crate::control) fn stated_by(own: &Fields, profile: Option<&Profile>) -> BTreeMap<String, String> {
    let none = Fields::default();
    let sources = sources(own, profile.map_or(&none, |profile| &profile.fields));
    let word = |stated| match stated {
        Stated::Agent => Some("agent"),
        Stated::Profile => Some("profile"),
        Stated::Default => None,
    };
    sources.into_iter().filter_map(|(name, stated)| Some((name.to_owned(), word(stated)?.to_owned()))).collect()
}

/// What holds for an agent whose policy cannot be read.
fn closed_policy() -> AgentPolicy {
    AgentPolicy {
        allowed_models: Some(Vec::new()),
        max_input_tokens: Some(0),
        max_output_tokens: Some(0),
        allow_streaming: Some(false),
        allow_tools: Some(false),
        allowed_tool_names: Some(Vec::new()),
        allow_function_calling: Some(false),
        allow_vision: Some(false),
        strict: Some(true),
        allow_passthrough: Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_core::books::{AccountKind, Limits};
    use aex_proto::value::{AccountId, TokenHash};

    const NOW: Stamp = Stamp::new(1_000_000);

    fn row(created: i64, expires: Option<i64>, revoked: Option<i64>, read_only: bool) -> TokenRow {
        let hash = TokenHash::from_bytes([7; 32]);
        TokenRow {
            hash,
            read_only,
            created_at: Stamp::new(created),
            expires_at: expires.map(Stamp::new),
            revoked_at: revoked.map(Stamp::new),
            label: String::new(),
        }
    }

    #[test]
    fn a_revocation_that_lies_ahead_is_shown_as_an_expiry() {
        let rows = [
            (row(0, None, None, false), None, None),
            (row(0, None, Some(2_000_000), false), Some(2_000_000), None),
            (row(0, Some(1_500_000), Some(2_000_000), false), Some(1_500_000), None),
            (row(0, Some(5), Some(1_000_000), false), Some(5), Some(1_000_000)),
        ];
        for (stored, expires, revoked) in rows {
            let shown = token(&stored, NOW);
            assert_eq!((shown.expires_at, shown.revoked_at), (expires.map(Stamp::new), revoked.map(Stamp::new)), "{stored:?}");
        }
    }

    #[test]
    fn a_rotation_keeps_the_scope_of_the_newest_living_token() {
        let old = row(1, None, None, false);
        let revoked = row(2, None, Some(3), true);
        assert_eq!(scope_to_keep(&[revoked.clone(), old], NOW), Scope::Execution);
        assert_eq!(scope_to_keep(&[revoked], NOW), Scope::ReadOnly);
        assert_eq!(scope_to_keep(&[], NOW), Scope::Execution);
    }

    fn parts(policy: Option<Fields>) -> Parts {
        let row = AccountRow {
            id: AccountId::new(2),
            parent: Some(AccountId::ROOT),
            kind: AccountKind::Agent,
            name: "a".to_owned(),
            state: AccountState::Active,
            reason: String::new(),
            limits: Limits { rpm: Some(3), concurrent: None, tpm: None },
            policy,
            created_at: Stamp::new(0),
            balances: Vec::new(),
        };
        let budgets = BTreeMap::from([(Period::Day, Pico::new(9))]);
        Parts { row, budgets, groups: vec!["near".to_owned(), "far".to_owned()], tokens: Vec::new(), last_activity: None }
    }

    #[test]
    fn a_window_that_no_call_has_opened_is_shown_whole_with_its_span() {
        let agent = parts(Some(Fields::default())).agent(NOW, &TimeZone::UTC, &Profiles::default());
        let budget = &agent.budgets[0];
        assert_eq!(
            (budget.remaining_pico, budget.since, budget.resets_at),
            (Pico::new(9), Some(Stamp::new(0)), Some(Stamp::new(86_400_000_000)))
        );
        assert_eq!((agent.policy.clone(), agent.group.as_deref()), (AgentPolicy::seed(), Some("near")));
        assert_eq!(stored_policy(agent.policy).resolve(), Policy::seed());
    }

    #[test]
    fn a_policy_that_cannot_be_read_is_shown_as_one_that_allows_nothing() {
        let agent = parts(None).agent(NOW, &TimeZone::UTC, &Profiles::default());
        assert_eq!(agent.policy.allowed_models, Some(Vec::new()));
        assert!(agent.state_reason.is_some_and(|reason| reason.contains("cannot be read")));
    }
}
